"""`musicfs origin ...`: the places that music comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from musicfs.cli.output import Word, counted, ms_text, say, say_json, size_text, table
from musicfs.cli.settings import PATH, config_option, configured, json_option, load
from musicfs.errors import UserError

if TYPE_CHECKING:
    from musicfs.config import Config
    from musicfs.control.client import ControlClient

F = TypeVar("F", bound=Callable[..., Any])

_CHECK_SECS = 120.0
STYLES = {"healthy": "green", "degraded": "yellow", "unhealthy": "red", "unknown": "dim", "disabled": "dim"}


def _target_options(command: F) -> F:
    mount = click.option("--mount", "mount_point", type=PATH, metavar="M", help="The mount to ask, if several run.")
    return mount(config_option(command))


def _target(mount_point: Path | None, config_file: Path | None) -> ControlClient | Config:
    """The mount to ask, or the configuration to work with if one was named and no mount was."""
    from musicfs.control.client import NotRunning, find_mount

    if mount_point is None and config_file is not None:
        return load(config_file=config_file).config
    try:
        return find_mount(mount_point)
    except NotRunning:
        if mount_point is None and configured(config_file):
            return load().config
        raise


@click.group()
def origin() -> None:
    """The places that your music comes from."""


@origin.command("list", short_help="List the origins, preferred ones first.")
@_target_options
@json_option
def list_(mount_point: Path | None, config_file: Path | None, as_json: bool) -> None:
    """List the origins of the mount, or of a configuration, preferred ones first.

    \b
    Examples:
      musicfs origin list
      musicfs origin list --config ~/.config/musicfs.toml --json
    """
    from musicfs.control.client import ControlClient

    target = _target(mount_point, config_file)
    if isinstance(target, ControlClient):
        origins = target.get("/origins")["origins"]
    else:
        from musicfs.cli.offline import list_origins

        origins = list_origins(target)
    if as_json:
        say_json({"origins": origins})
        return
    header = ("ID", "KIND", "PRIORITY", "HEALTH", "FILES", "SIZE", "LOCATION")
    rows = [
        (
            o["id"], o["kind"], str(o["priority"]), health_word(o), f"{o['files']:,}", size_text(o["bytes"]),
            o["location"],
        )
        for o in origins
    ]  # fmt: skip
    table(header, rows, right=(2, 4, 5))


def health_word(origin: dict[str, Any]) -> Word:
    text = origin["health"] if origin.get("enabled", True) else "disabled"
    return Word(text, STYLES[text])


@origin.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_target_options
@json_option
@click.pass_context
def check(
    context: click.Context, ids: Sequence[str], mount_point: Path | None, config_file: Path | None, as_json: bool
) -> None:
    """Look now whether the origins answer: those named, or all. The exit code is 1 if one is not healthy.

    \b
    Examples:
      musicfs origin check nas
      musicfs origin check --config ~/.config/musicfs.toml
    """
    from musicfs.control.client import ControlClient

    target = _target(mount_point, config_file)
    if isinstance(target, ControlClient):
        ids = ids or [o["id"] for o in target.get("/origins")["origins"] if o["enabled"]]
        checks = [target.post(_path(id, "check"), timeout_secs=_CHECK_SECS) for id in ids]
    else:
        from musicfs.cli.offline import check_origins

        checks = check_origins(target, ids or [o.id for o in target.origins if o.enabled])
    if as_json:
        say_json({"origins": checks})
    else:
        for state in checks:
            say(f"{state['id']}: ", health_word(state), _details(state))
    if not all(state["healthy"] for state in checks):
        context.exit(1)


def _path(id: str, action: str) -> str:
    from urllib.parse import quote

    return f"/origins/{quote(id, safe='')}/{action}"


def _details(state: dict[str, Any]) -> str:
    if state["reason"]:
        return f": {state['reason']}"
    return f", answered in {ms_text(state['latency_ms'])}" if state["latency_ms"] is not None else ""


@origin.command("accept-removals", short_help="Let what is gone from an origin go from the tree.")
@click.argument("id")
@_target_options
def accept_removals(id: str, mount_point: Path | None, config_file: Path | None) -> None:
    """Confirm that what is gone from the origin ID may go from the tree, and scan it.

    When many files vanish from an origin at once, MusicFS keeps them in the tree until you say so.
    """
    from musicfs.cli.scanning import follow, print_results, scan_here_or_by_mount
    from musicfs.control.client import ControlClient

    target = _target(mount_point, config_file)
    if isinstance(target, ControlClient):
        begun = target.post(_path(id, "accept-removals"))
        say(f"Scanning {id}; {counted(begun['removals_held'], 'file')} that were kept may go now.")
        results = follow(target, {id: begun["scan"]}, lambda *_: None)
    else:
        if id not in [o.id for o in target.origins if o.enabled]:
            raise UserError(f"There is no origin {id!r}; there are: {', '.join(o.id for o in target.origins)}.")
        results = scan_here_or_by_mount(target, [id], accept_removals=True)
    print_results(results, as_json=False)
    if results[0]["error"]:
        click.get_current_context().exit(1)
