"""`musicfs problems`: which files and folders are not shown as they should be, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from musicfs.cli.options import PATH, json_option, real
from musicfs.cli.output import Word, counted, say, say_json, table
from musicfs.errors import UserError
from musicfs.problems import Reason

if TYPE_CHECKING:
    from musicfs.control.client import ControlClient

_MAX = 100_000
_REASONS = click.Choice([reason.value for reason in Reason])


@click.command(short_help="Show what is left out of the tree or lacks its tags, and why.")
@click.argument("where", required=False)
@click.option("--mount", "mount_point", type=PATH, metavar="MOUNT_POINT", help="Of this mount, not of the only one.")
@click.option("--reason", type=_REASONS, metavar="REASON", help="Only problems of this kind, such as damaged.")
@click.option("--all", "everything", is_flag=True, help="Also those that were dismissed.")
@click.option("--dismiss", is_flag=True, help="Dismiss them: `musicfs status` no longer mentions them.")
@click.option("--undismiss", is_flag=True, help="Take a dismissal back.")
@json_option
def problems(
    where: str | None,
    mount_point: Path | None,
    reason: str | None,
    everything: bool,
    dismiss: bool,
    undismiss: bool,
    as_json: bool,
) -> None:
    """Show the files and folders that are left out of the tree or lack their tags, and why.

    WHERE is an origin, a path at an origin as ORIGIN:PATH, a file or folder of a local origin, or the mount or
    a file of it.

    \b
    Examples:
      musicfs problems
      musicfs problems nas:Incoming
      musicfs problems --reason unknown-kind --dismiss
    """
    from musicfs.control.client import find_mount

    if dismiss and undismiss:
        raise click.UsageError("Use either --dismiss or --undismiss.")
    client = find_mount(mount_point) if mount_point is not None or not where else _mount_of(where)
    places = _places(client, where) if where else [("", "")]
    if dismiss or undismiss:
        _dismiss(client, places, reason, dismissed=dismiss, as_json=as_json)
        return
    found = [_list(client, origin, path, reason, everything) for origin, path in places]
    view = found[0] | {
        "problems": [problem for each in found for problem in each["problems"]],
        "more": any(each["more"] for each in found),
    }
    if as_json:
        say_json(view)
    else:
        _print(view, everywhere=not where and reason is None)


def _mount_of(where: str) -> ControlClient:
    from musicfs.control.client import NotRunning, find_mount

    try:
        return find_mount(Path(where))
    except NotRunning:
        return find_mount(None)


def _list(client: ControlClient, origin: str, path: str, reason: str | None, everything: bool) -> dict[str, Any]:
    wanted = {"origin": origin, "path": path, "reason": reason or "", "dismissed": "true" if everything else ""}
    return client.get("/problems", {"most": str(_MAX)} | {name: value for name, value in wanted.items() if value})


def _dismiss(
    client: ControlClient, places: list[tuple[str, str]], reason: str | None, *, dismissed: bool, as_json: bool
) -> None:
    changed = 0
    for origin, path in places:
        body = {"origin": origin or None, "path": path, "reason": reason, "dismissed": dismissed}
        changed += client.post("/problems/dismiss", body)["changed"]
    if as_json:
        say_json({"changed": changed})
        return
    say(f"{counted(changed, 'problem')} {'dismissed' if dismissed else 'no longer dismissed'}.")


def _places(client: ControlClient, where: str) -> list[tuple[str, str]]:
    """Returns the origins and the paths there that `where` means.

    Raises:
        UserError: It means nothing.
    """
    origins = client.get("/origins")["origins"]
    id, _, path = where.partition(":")
    if any(origin["id"] == id for origin in origins):
        return [(id, path.strip("/"))]
    full = real(Path(where))
    if full == client.mount_point:
        return [("", "")]
    if client.mount_point is not None and full.is_relative_to(client.mount_point):
        inside = str(full.relative_to(client.mount_point))
        variants = client.get("/why", {"path": inside})["variants"]
        return [(each["origin"], each["path"]) for variant in variants for each in variant["replicas"]]
    found = [
        (origin["id"], str(full.relative_to(origin["location"])))
        for origin in origins
        if origin["kind"] == "local" and full.is_relative_to(origin["location"])
    ]
    if not found:
        names = ", ".join(origin["id"] for origin in origins)
        raise UserError(f"{where} is no origin, and lies in none; write ORIGIN or ORIGIN:PATH. Origins: {names}.")
    return [(id, "" if path == "." else path) for id, path in found]


def _print(view: dict[str, Any], *, everywhere: bool) -> None:
    rows = [
        (
            problem["origin"], problem["path"], Word(problem["reason"], "dim" if problem["dismissed"] else "yellow"),
            problem["detail"] or ("listed under its own name" if problem["shown"] else ""),
        )
        for problem in view["problems"]
    ]  # fmt: skip
    if rows:
        table(("ORIGIN", "PATH", "REASON", "WHAT WAS SAID"), rows)
    if view["more"]:
        say(f"There are more than {_MAX:,}; name an origin and a path.")
    notes = [count for count in view["counts"] if count["subject"]] if everywhere else []
    for count in notes:
        say(f"{count['origin']}: {count['number']:,} {_NOTED.get(count['reason'], count['reason'])} {count['subject']}")
    if not rows and not notes:
        say(Word("There are no problems." if everywhere else "There are no such problems.", "green"))


_NOTED = {
    "unknown-kind": "left out of the unknown kind", "hidden": "hidden music left out:",
    "unplaced": "left out, beside no music or beside a better picture:",
}  # fmt: skip
