"""`musicfs mount`, `unmount`, `shutdown` and `reload`."""

from __future__ import annotations

import os
import select
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from musicfs.cli.options import (
    PATH,
    json_option,
    load,
    load_with,
    log_options,
    overrides_of,
    settings_options,
    source_of,
)
from musicfs.cli.output import counted, say, say_json, warn
from musicfs.errors import UsageError, UserError
from musicfs.system.processes import WORKING_FOLDER

if TYPE_CHECKING:
    from musicfs.app.live_config import ConfigSource
    from musicfs.config.models import Config

_LEAVING_SECS = 30.0
_RELOADING_SECS = 60.0


@click.command()
@click.argument("mount_point", type=PATH, required=False)
@settings_options
@click.option("--foreground", is_flag=True, help="Stay in this terminal until Ctrl-C, which unmounts.")
@click.option("--allow-other", is_flag=True, help="Let other users, such as a media server's, read it too.")
@log_options
def mount(mount_point: Path | None, foreground: bool, config_file: Path | None, **settings: Any) -> None:
    """Mount your music on MOUNT_POINT, an empty or new folder.

    You can browse it at once. The command returns; MusicFS goes on serving and scanning in the background.

    \b
    Examples:
      musicfs mount ~/Tunes --origin ~/Music
      musicfs mount ~/Tunes --origin laptop=~/Music --origin nas=/mnt/nas/music
      musicfs mount ~/Tunes --origin ~/Music --template '$genre/$artist/$album/$track - $title.$format'
      musicfs mount --config ~/.config/musicfs.toml
      musicfs mount ~/Tunes --origin ~/Music --log-level info --log-level origins.sftp=debug
    """
    from musicfs.config.kinds import missing_libraries
    from musicfs.config.load import check_paths
    from musicfs.system.runtime import runtime_dir

    source = source_of(config_file, overrides_of(mount_point=mount_point, **settings))
    loaded = load_with(source.file, source.overrides)
    config = loaded.config
    if config.mount_point is None:
        raise UsageError("Say where to mount: musicfs mount FOLDER, or mount_point in the configuration.")
    for warning in (*loaded.warnings, *check_paths(config), *missing_libraries(config)):
        warn(f"warning: {warning}")
    runtime_dir()  # now: it warns here, and not in the log of the mount
    if foreground:
        _in_foreground(config, source)
    else:
        _in_background(config, source)


def _in_foreground(config: Config, source: ConfigSource) -> None:
    from musicfs.daemon.process import log_to_stderr, serve

    log_to_stderr(config)
    os.chdir(WORKING_FOLDER)  # As in the background: a mount must not depend on the folder where it started.
    serve(config, lambda app: click.echo(f"Mounted on {config.mount_point}; Ctrl-C unmounts it."), source=source)


def _in_background(config: Config, source: ConfigSource) -> None:
    from musicfs.daemon.process import serve_in_background

    assert config.mount_point is not None
    say(_greeting(config.mount_point, serve_in_background(config, source)))


def _greeting(mount_point: Path, files: int) -> str:
    known = (
        f"{counted(files, 'file')} known, scanning for changes" if files else "your music appears while the scan runs"
    )
    return f"Mounted on {mount_point}: {known}. Next: `ls {shlex.quote(str(mount_point))}`, `musicfs status`."


@click.command(short_help="Read the configuration file again, and apply what changed.")
@click.argument("mount_point", type=PATH, required=False)
@click.option("--config", "config_file", type=PATH, metavar="FILE", help="Find the mount by its configuration.")
def reload(mount_point: Path | None, config_file: Path | None) -> None:
    """Make the mount on MOUNT_POINT, or the only mount, read its configuration file again.

    New, removed and changed origins, priorities, and the settings of health and retry take effect at once. If the file
    has a problem, nothing changes.

    \b
    Examples:
      musicfs reload
      musicfs reload --config ~/.config/musicfs.toml
    """
    from musicfs.control.client import find_mount

    for sentence in find_mount(_place(mount_point, config_file)).post("/reload", timeout_secs=_RELOADING_SECS)["done"]:
        say(sentence)


@click.command(short_help="Unmount MOUNT_POINT, and wait until its process has ended.")
@click.argument("mount_point", type=PATH, required=False)
@click.option(
    "--lazy", is_flag=True, help="Unmount even while files are open; the process ends when the last file closes."
)
def unmount(mount_point: Path | None, lazy: bool) -> None:
    """Unmount MOUNT_POINT, or the only mount, and wait until its process has ended.

    It also removes a mount that a crash left behind.

    \b
    Example:
      musicfs unmount ~/Tunes
    """
    from musicfs.control.client import find_mount, nothing_on
    from musicfs.mount import mount_points

    client = find_mount(mount_point)
    assert client.mount_point is not None
    pid = client.pid()
    if here := mount_points.mounted(client.mount_point):
        if os.getuid() != 0 and (user := mount_points.user_of(here)) is not None:
            raise UserError(f"{client.mount_point} is mounted by the user {user}, and only that user can unmount it.")
        mount_points.unmount(client.mount_point, lazy=lazy)
    elif pid is None:
        client.socket.unlink(missing_ok=True)
        raise UserError(nothing_on(client.mount_point))
    lingers = lazy or here is None  # unmounted lazily, now or before
    if pid is None:
        client.socket.unlink(missing_ok=True)
    elif not _ended(pid, _LEAVING_SECS if not lingers else _LEAVING_SECS / 20):
        _report_running(client.mount_point, pid, lingers)
        return
    say(f"Unmounted {client.mount_point}.")


@click.command(short_help="Unmount also while files are open; running reads may finish.")
@click.argument("mount_point", type=PATH, required=False)
@click.option(
    "--drain", "drain_secs", type=click.FloatRange(0, 300), default=5.0, show_default=True, metavar="SECONDS",
    help="How long running reads may take.",
)  # fmt: skip
@click.option("--config", "config_file", type=PATH, metavar="FILE", help="Find the mount by its configuration.")
@json_option
def shutdown(mount_point: Path | None, drain_secs: float, config_file: Path | None, as_json: bool) -> None:
    """End the mount on MOUNT_POINT, or the only mount, also while its files are open.

    No file can be opened from now on, running reads may finish, and then MusicFS unmounts. Ctrl-C, or a second
    `musicfs shutdown`, ends the mount at once. `musicfs unmount` refuses while files are open.

    \b
    Example:
      musicfs shutdown ~/Tunes --drain 30
    """
    from musicfs.control.client import NotRunning, find_mount, nothing_on

    client = find_mount(_place(mount_point, config_file))
    assert client.mount_point is not None
    pid = client.pid()
    if pid is None:
        raise NotRunning(nothing_on(client.mount_point))
    client.post("/shutdown", {"drain_secs": drain_secs})
    try:
        ended = _ended(pid, drain_secs + _LEAVING_SECS)
    except KeyboardInterrupt:
        client.post("/shutdown")
        ended = _ended(pid, _LEAVING_SECS)
    if not ended:
        raise UserError(f"The process {pid} of {client.mount_point} has not ended yet; `kill {pid}` ends it.")
    if as_json:
        say_json({"mount_point": str(client.mount_point), "ended": True})
    else:
        say(f"Unmounted {client.mount_point}.")


def _place(mount_point: Path | None, config_file: Path | None) -> Path | None:
    """Returns the mount point of the command line, or else of the configuration file."""
    if mount_point is not None or config_file is None:
        return mount_point
    place = load(config_file=config_file).config.mount_point
    if place is None:
        raise UsageError(f"{config_file} has no mount_point; name the mount: `musicfs COMMAND MOUNT_POINT`.")
    return place


def _report_running(mount_point: Path, pid: int, lingers: bool) -> None:
    """lingers: the process is expected to run on, because files are open."""
    if not lingers:
        raise UserError(f"{mount_point} is unmounted, but its process {pid} has not ended yet; `kill {pid}` ends it.")
    say(
        f"Unmounted {mount_point}; process {pid} ends when the last open file is closed,"
        f" or at once by `musicfs shutdown {shlex.quote(str(mount_point))}`."
    )


def _ended(pid: int, within_secs: float) -> bool:
    try:
        process = os.pidfd_open(pid)
    except OSError:  # it has ended already, or belongs to another namespace
        return True
    try:
        return bool(select.select([process], [], [], within_secs)[0])
    finally:
        os.close(process)
