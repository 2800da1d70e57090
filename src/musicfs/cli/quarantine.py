"""`musicfs quarantine`: the copies that do not serve because their bytes are wrong or disputed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from musicfs.cli.options import PATH, json_option
from musicfs.cli.output import counted, say, say_json, size_text, table
from musicfs.errors import UserError

F = TypeVar("F", bound=Callable[..., Any])


def _mount_option(command: F) -> F:
    text = "Of this mount, not of the only one."
    return click.option("--mount", "mount_point", type=PATH, metavar="MOUNT_POINT", help=text)(command)


def _complete_copy(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes the copies in quarantine of the running mounts."""
    from musicfs.control.client import running_mounts

    copies: set[str] = set()
    for mount in running_mounts():
        with contextlib.suppress(UserError):
            held = mount.get("/quarantine", timeout_secs=1)["quarantined"]
            copies.update(f"{each['origin']}:{each['path']}" for each in held)
    return [CompletionItem(copy) for copy in sorted(copies) if copy.startswith(incomplete)]


@click.group()
def quarantine() -> None:
    """List or release the copies that no longer serve."""


@quarantine.command("list")
@_mount_option
@json_option
def list_(mount_point: Path | None, as_json: bool) -> None:
    """List the copies that do not serve because their bytes are wrong or disputed, and why.

    \b
    Example:
      musicfs quarantine list
    """
    from musicfs.control.client import find_mount

    view = find_mount(mount_point).get("/quarantine")
    if as_json:
        say_json(view)
        return
    held = view["quarantined"]
    if not held:
        say("No copy is in quarantine.")
        return
    rows = [[each["origin"], each["path"], size_text(each["size"]), _reason(each)] for each in held]
    table(["ORIGIN", "PATH", "SIZE", "WHY"], rows, right=(2,))


def _reason(each: dict[str, Any]) -> str:
    match each["reason"]:
        case "damaged":
            return f"block {each['block']} is not what it was, or what other copies have"
        case "disputed":
            return f"block {each['block']} differs from the copy at {each['against']}; either may be right"
        case _:
            return f"it only looks like the file at {each['against']}"


@quarantine.command()
@click.argument("copy", metavar="ORIGIN:PATH", required=False, shell_complete=_complete_copy)
@click.option("--all", "everything", is_flag=True, help="Release all copies.")
@_mount_option
@json_option
def release(copy: str | None, everything: bool, mount_point: Path | None, as_json: bool) -> None:
    """Let the copy ORIGIN:PATH serve again. If its bytes still differ when they are read, it is quarantined again.

    \b
    Examples:
      musicfs quarantine release nas:Artist/Album/01.flac
      musicfs quarantine release --all
    """
    from musicfs.control.client import find_mount

    if everything == (copy is not None):
        raise click.UsageError("Name a copy as ORIGIN:PATH, or use --all.")
    origin, colon, path = (copy or "").partition(":")
    if copy is not None and not (origin and colon and path):
        raise click.UsageError(f"{copy!r} is no ORIGIN:PATH; `musicfs quarantine list` shows both.")
    body = {"all": True} if everything else {"origin": origin, "path": path}
    answer = find_mount(mount_point).post("/quarantine/release", body)
    if as_json:
        say_json(answer)
        return
    say(f"Released {counted(answer['released'], 'copy', 'copies')}.")
