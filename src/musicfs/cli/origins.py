"""`musicfs origin`: the places that music comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from musicfs.cli.options import (
    PATH,
    complete_origin,
    config_file_of,
    config_option,
    configured,
    json_option,
    load,
    load_with,
)
from musicfs.cli.output import Word, counted, ms_text, say, say_json, size_text, table
from musicfs.errors import ConfigError, UsageError, UserError

if TYPE_CHECKING:
    from musicfs.config.edit import ConfigFile
    from musicfs.config.models import Config
    from musicfs.control.client import Answer, ControlClient

F = TypeVar("F", bound=Callable[..., Any])

_CHECK_SECS = 120.0
_CHANGE_SECS = 60.0
STYLES = {"healthy": "green", "degraded": "yellow", "unhealthy": "red", "unknown": "dim", "disabled": "dim"}


def _target_options(command: F) -> F:
    mount = click.option("--mount", "mount_point", type=PATH, metavar="M", help="Ask this mount, if several run.")
    return mount(config_option(command))


def _target(mount_point: Path | None, config_file: Path | None) -> ControlClient | Config:
    """Returns the mount to ask, or the configuration if the command line names one and no mount."""
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
    """List, check and change the places that your music comes from."""


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


@origin.command(short_help="Check now whether origins answer.")
@click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=complete_origin)
@_target_options
@json_option
@click.pass_context
def check(
    context: click.Context, ids: Sequence[str], mount_point: Path | None, config_file: Path | None, as_json: bool
) -> None:
    """Check now whether each origin ID answers, or every origin. The exit code is 1 if one is not healthy.

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


def _path(id: str, action: str = "") -> str:
    from urllib.parse import quote

    return f"/origins/{quote(id, safe='')}" + (f"/{action}" if action else "")


def _details(state: dict[str, Any]) -> str:
    if state["reason"]:
        return f": {state['reason']}"
    return f", answered in {ms_text(state['latency_ms'])}" if state["latency_ms"] is not None else ""


@origin.command("accept-removals", short_help="Remove from the tree what is gone from an origin.")
@click.argument("id", shell_complete=complete_origin)
@_target_options
@json_option
def accept_removals(id: str, mount_point: Path | None, config_file: Path | None, as_json: bool) -> None:
    """Confirm that what is gone from the origin ID may leave the tree, and scan the origin.

    When many files vanish from an origin at once, MusicFS keeps them in the tree until you confirm.

    \b
    Example:
      musicfs origin accept-removals nas
    """
    from musicfs.cli.scan import ShowNothing, follow, print_results, scan_here_or_by_mount
    from musicfs.control.client import ControlClient

    target = _target(mount_point, config_file)
    if isinstance(target, ControlClient):
        started = target.post(_path(id, "accept-removals"))
        if not as_json:
            say(f"Scanning {id}; {counted(started['removals_held'], 'file')} that MusicFS kept may go now.")
        results = follow(target, {id: started["scan"]}, ShowNothing())
    else:
        if id not in [o.id for o in target.origins if o.enabled]:
            raise UserError(f"There is no origin {id!r}; there are: {', '.join(o.id for o in target.origins)}.")
        results = scan_here_or_by_mount(target, [id], accept_removals=True)
    print_results(results, as_json)
    if results[0]["error"]:
        click.get_current_context().exit(1)


@origin.command(short_help="Add an origin to the mount and to its configuration file.")
@click.argument("where", metavar="URL")
@click.option("--id", "id_", metavar="ID", help="Its name. The default is made from the URL.")
@click.option(
    "--priority",
    type=click.IntRange(0, 255),
    metavar="N",
    help="Lower is preferred. The default puts it after all others.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Another setting, as in the file. Repeat it for more."
)
@_target_options
def add(
    where: str,
    id_: str | None,
    priority: int | None,
    settings: Sequence[str],
    mount_point: Path | None,
    config_file: Path | None,
) -> None:
    """Add the origin at URL, or in a folder, to a running mount and to its configuration file.

    Without a mount, the command only changes the file. Files that are already in the tree keep their names.

    \b
    Examples:
      musicfs origin add /mnt/nas/music --id nas
      musicfs origin add sftp://me@server/music --priority 20 --set password_file=/home/me/.server-password
    """
    from musicfs.app.live_config import lowest_priority
    from musicfs.config.load import origin_from_argument

    def table(ids: Sequence[str]) -> dict[str, object]:
        found = origin_from_argument(where if id_ is None else f"{id_}={where}", ids) | _settings(settings)
        del found["priority"]  # it ranks several --origin options among each other
        return found if priority is None else found | {"priority": priority}

    def ask(mount: ControlClient) -> Answer:
        new = table([o["id"] for o in mount.get("/origins")["origins"]])
        body = {key: str(value) if isinstance(value, Path) else value for key, value in new.items()}
        return mount.post("/origins", body, timeout_secs=_CHANGE_SECS)

    def edit(file: ConfigFile, config: Config) -> str:
        new = {"priority": lowest_priority(config.origins)} | table([origin.id for origin in config.origins])
        file.add(new)
        return f"Origin {new['id']!r} is added to {file.path}."

    _change(mount_point, config_file, ask, edit)


def _settings(arguments: Sequence[str]) -> dict[str, object]:
    pairs = [text.partition("=") for text in arguments]
    for key, equals, _ in pairs:
        if not equals:
            raise UsageError(f"--set {key}: write KEY=VALUE.")
    return {key: value for key, _, value in pairs}


@origin.command(short_help="Remove an origin from the mount and from its configuration file.")
@click.argument("id", shell_complete=complete_origin)
@_target_options
def remove(id: str, mount_point: Path | None, config_file: Path | None) -> None:
    """Remove the origin ID from a running mount and from its configuration file.

    What plays from it continues from another origin that has the same file. Tracks that only it had leave the tree,
    and come back with it. Nothing at the origin itself changes.

    \b
    Example:
      musicfs origin remove nas
    """

    def edit(file: ConfigFile, config: Config) -> str:
        file.remove(id)
        return f"Origin {id!r} is removed from {file.path}."

    _change(mount_point, config_file, lambda mount: mount.delete(_path(id), timeout_secs=_CHANGE_SECS), edit, id)


@origin.command(short_help="Use a disabled origin again.")
@click.argument("id", shell_complete=complete_origin)
@_target_options
def enable(id: str, mount_point: Path | None, config_file: Path | None) -> None:
    """Use the origin ID again, in a running mount and in its configuration file.

    \b
    Example:
      musicfs origin enable nas
    """
    _set(id, "enable", None, ("enabled", True), mount_point, config_file)


@origin.command(short_help="Stop using an origin, but keep its settings.")
@click.argument("id", shell_complete=complete_origin)
@_target_options
def disable(id: str, mount_point: Path | None, config_file: Path | None) -> None:
    """Stop using the origin ID, as `remove` does, but keep its settings for `enable`.

    \b
    Example:
      musicfs origin disable nas
    """
    _set(id, "disable", None, ("enabled", False), mount_point, config_file)


@origin.command("set-priority", short_help="Set which origin is preferred.")
@click.argument("id", shell_complete=complete_origin)
@click.argument("priority", type=click.IntRange(0, 255), metavar="N")
@_target_options
def set_priority(id: str, priority: int, mount_point: Path | None, config_file: Path | None) -> None:
    """Give the origin ID the priority N, from 0 to 255. Lower is preferred. Open files follow it, too.

    \b
    Example:
      musicfs origin set-priority nas 1
    """
    _set(id, "priority", {"priority": priority}, ("priority", priority), mount_point, config_file)


def _set(
    id: str,
    action: str,
    body: dict[str, Any] | None,
    setting: tuple[str, int | bool],
    mount_point: Path | None,
    config_file: Path | None,
) -> None:
    """Changes one setting of an origin, in the mount or in the file.

    Args:
        id: The origin.
        action: The last part of the path of the request to the mount.
        body: The body of that request.
        setting: The key and the value that the request writes into the file.
        mount_point: The mount that the command line names.
        config_file: The configuration file that the command line names.
    """
    key, value = setting

    def edit(file: ConfigFile, config: Config) -> str:
        file.set(id, key, value)
        return f"{file.path} now has {key} = {str(value).lower()} for origin {id!r}."

    _change(mount_point, config_file, lambda m: m.post(_path(id, action), body, timeout_secs=_CHANGE_SECS), edit, id)


def _change(
    mount_point: Path | None,
    config_file: Path | None,
    ask: Callable[[ControlClient], Answer],
    edit: Callable[[ConfigFile, Config], str],
    id: str | None = None,
) -> None:
    """Makes a change: the running mount makes it and writes it to its file; without a mount, this edits the file.

    Args:
        mount_point: The mount that the command line names.
        config_file: The configuration file that the command line names.
        ask: Asks the mount to make the change.
        edit: Makes the change in the file, and returns a sentence that says so.
        id: The origin that the file must have.
    """
    from musicfs.config.edit import ConfigFile

    mount = _mount_to_change(mount_point, config_file)
    if mount is not None:
        for sentence in ask(mount)["done"]:
            say(sentence)
        return
    path = config_file_of(config_file)
    config = load_with(path, {}).config
    if id is not None and id not in [origin.id for origin in config.origins]:
        raise UserError(f"There is no origin {id!r} in {path}; there are: {', '.join(o.id for o in config.origins)}.")
    file = ConfigFile.read(path)
    done = edit(file, config)

    def check(new: Path) -> None:
        try:
            load_with(new, {})
        except ConfigError as error:
            raise ConfigError([problem.replace(str(new), str(path)) for problem in error.problems]) from None

    file.save(check)
    say(done)


def _mount_to_change(mount_point: Path | None, config_file: Path | None) -> ControlClient | None:
    """Returns the mount that the command line names, or that of the configuration; None if there is only the file."""
    from musicfs.control.client import NotRunning, find_mount

    if mount_point is None and config_file is not None:
        mount_point = load_with(config_file, {}).config.mount_point
        if mount_point is None:
            return None
    try:
        mount = find_mount(mount_point)
        mount.get("/scan")
    except NotRunning:
        if configured(config_file):
            return None
        raise
    return mount
