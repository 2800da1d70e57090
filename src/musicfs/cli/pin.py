"""`musicfs pin`, `unpin` and `pins`: what stays on this machine's disk, whatever happens to its origins."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from musicfs.cli.options import PATH, json_option
from musicfs.cli.output import counted, say, say_json, size_text, table
from musicfs.errors import UserError

_POLL_SECS = 0.25
_PINNING_SECS = 120.0

_paths = click.argument("paths", metavar="PATH...", type=PATH, nargs=-1, required=True)


@click.command(short_help="Fetch tracks, albums or folders, and keep them on this disk.")
@_paths
@click.option("--wait", is_flag=True, help="Show the progress, and return when everything is on this disk.")
@json_option
def pin(paths: tuple[Path, ...], wait: bool, as_json: bool) -> None:
    """Fetch what is at or below each PATH of a mount, and keep it on this disk until you unpin it.

    \b
    Example:
      musicfs pin ~/Tunes/Artist/Album --wait
    """
    client, inside = _inside(paths)
    pins = _of(client.post("/pins", {"paths": inside}, timeout_secs=_PINNING_SECS), inside)
    while wait and any(each["complete"] < each["tracks"] for each in pins):
        _show(pins)
        time.sleep(_POLL_SECS)
        pins = _of(client.get("/pins"), inside)
    if wait and sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if as_json:
        say_json({"pins": pins})
        return
    for each in pins:
        say(f"{each['path'] or 'All of it'}: {_progress(each)}.")


@click.command(short_help="Let pinned files leave this disk when the room is needed.")
@_paths
@json_option
def unpin(paths: tuple[Path, ...], as_json: bool) -> None:
    """Unpin what was pinned at each PATH: it leaves this disk when the room is needed.

    \b
    Example:
      musicfs unpin ~/Tunes/Artist/Album
    """
    client, inside = _inside(paths)
    answer = client.post("/pins/remove", {"paths": inside}, timeout_secs=_PINNING_SECS)
    if as_json:
        say_json(answer)
        return
    say(f"Unpinned; {counted(len(answer['pins']), 'pin')} left.")


@click.command(short_help="Show what is pinned, and how much of it is on this disk.")
@click.argument("mount_point", type=PATH, required=False)
@json_option
def pins(mount_point: Path | None, as_json: bool) -> None:
    """Show what is pinned, and how much of it is on this disk.

    \b
    Examples:
      musicfs pins
      musicfs pins --json
    """
    from musicfs.control.client import find_mount

    answer = find_mount(mount_point).get("/pins")
    if as_json:
        say_json(answer)
        return
    if not answer["pins"]:
        say("Nothing is pinned; `musicfs pin PATH` pins an album.")
        return
    rows = [
        (
            each["path"] or ".", f"{each['complete']:,} of {each['tracks']:,}", size_text(each["cached_bytes"]),
            size_text(each["bytes"]), _share(each),
        )
        for each in answer["pins"]
    ]  # fmt: skip
    table(("PATH", "FILES", "HERE", "SIZE", "SHARE"), rows, right=(1, 2, 3, 4))


def _inside(paths: tuple[Path, ...]) -> tuple[Any, list[str]]:
    """Returns the mount that the paths are in, and the paths relative to its mount point."""
    from musicfs.cli.options import real
    from musicfs.control.client import NotRunning, find_mount

    found, inside = None, []
    for path in paths:
        try:
            client = find_mount(path)
        except NotRunning as error:
            raise UserError(f"{path} is in no mount; give the path of a file or folder inside one.") from error
        if found is not None and client.mount_point != found.mount_point:
            raise UserError("The paths are in several mounts; give the paths of one mount at a time.")
        found = client
        assert client.mount_point is not None
        relative = real(path).relative_to(client.mount_point)
        inside.append("" if relative == Path() else str(relative))
    return found, inside


def _of(answer: dict[str, Any], inside: list[str]) -> list[dict[str, Any]]:
    return [each for each in answer["pins"] if each["path"] in inside]


def _share(pin: dict[str, Any]) -> str:
    return f"{int(100 * pin['cached_bytes'] / pin['bytes']) if pin['bytes'] else 100}%"


def _progress(pin: dict[str, Any]) -> str:
    return (
        f"{pin['complete']:,} of {counted(pin['tracks'], 'file')} here,"
        f" {size_text(pin['cached_bytes'])} of {size_text(pin['bytes'])}"
    )


def _show(pins: list[dict[str, Any]]) -> None:
    if not sys.stderr.isatty():
        return
    total = {key: sum(each[key] for each in pins) for key in ("tracks", "complete", "bytes", "cached_bytes")}
    filled = int(20 * total["cached_bytes"] / total["bytes"]) if total["bytes"] else 20
    print(f"\r\x1b[K[{'#' * filled:20}] {_progress(total)}", end="", file=sys.stderr, flush=True)
