"""`musicfs cache`: the music that is cached on this machine's disk."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from musicfs.cli.options import PATH, json_option
from musicfs.cli.output import Word, counted, say, say_json, size_text, warn

_POLL_SECS = 0.25
_CLEARING_SECS = 300.0


@click.group()
def cache() -> None:
    """Show, clear or check the cache on disk."""


@cache.command()
@click.argument("mount_point", type=PATH, required=False)
@json_option
def stats(mount_point: Path | None, as_json: bool) -> None:
    """Show how much is cached, and how often the cache helped.

    \b
    Example:
      musicfs cache stats
    """
    from musicfs.control.client import find_mount

    view = find_mount(mount_point).get("/cache")
    if as_json:
        say_json(view)
        return
    if not view["working"]:
        say(Word(f"The cache does not work ({view['problem']}): music plays on uncached.", "bold yellow"))
    share = view["bytes"] / view["limit"] if view["limit"] else 0
    say(f"{size_text(view['bytes'])} of {size_text(view['limit'])} ({share:.0%}) in {counted(view['blocks'], 'block')}")
    say(f"of {counted(view['contents'], 'file')}; {size_text(view['pinned_bytes'])} of it pinned.")
    asked = view["hits"] + view["misses"]
    rate = f" ({view['hits'] / asked:.0%} came from the cache)" if asked else ""
    say(f"Since the mount: {counted(view['hits'], 'hit')}, {counted(view['misses'], 'miss', 'misses')}{rate},")
    say(f"{counted(view['skipped'], 'block')} not kept, {counted(view['corrupt'], 'damaged block')} dropped.")


@cache.command()
@click.argument("mount_point", type=PATH, required=False)
@click.option("--all", "everything", is_flag=True, help="Also remove what is pinned; it stays pinned.")
@json_option
def clear(mount_point: Path | None, everything: bool, as_json: bool) -> None:
    """Remove what is cached, but not what is pinned.

    \b
    Examples:
      musicfs cache clear
      musicfs cache clear --all
    """
    from musicfs.control.client import find_mount

    answer = find_mount(mount_point).post("/cache/clear", {"all": everything}, timeout_secs=_CLEARING_SECS)
    if as_json:
        say_json(answer)
        return
    kept = f"; {size_text(answer['bytes'])} are kept" if answer["bytes"] else ""
    say(f"Removed {size_text(answer['removed_bytes'])}{kept}.")


@cache.command(short_help="Read everything that is cached, and drop damaged blocks.")
@click.argument("mount_point", type=PATH, required=False)
@json_option
@click.pass_context
def verify(context: click.Context, mount_point: Path | None, as_json: bool) -> None:
    """Read everything that is cached, and drop damaged blocks. The exit code is 1 if a block was damaged.

    MusicFS fetches a dropped block again when it is played.

    \b
    Example:
      musicfs cache verify
    """
    from musicfs.control.client import find_mount

    client = find_mount(mount_point)
    number = client.post("/cache/verify")["completed"]
    while (view := client.get("/cache/verify"))["completed"] < number:
        _show(view)
        time.sleep(_POLL_SECS)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if as_json:
        say_json({name: view[name] for name in ("checked", "corrupt", "error")})
    elif view["error"]:
        warn(f"The cache could not be read to its end: {view['error']}.")
    elif view["corrupt"]:
        say(
            Word(
                f"{view['corrupt']:,} of {counted(view['checked'], 'block')} were damaged, and MusicFS dropped them.",
                "red",
            )
        )
    else:
        say(f"{counted(view['checked'], 'block')} checked; none is damaged.")
    if view["error"] or view["corrupt"]:
        context.exit(1)


def _show(view: dict[str, Any]) -> None:
    if sys.stderr.isatty():
        text = f"{view['checked']:,} of {counted(view['blocks'], 'block')} checked, {view['corrupt']:,} damaged"
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
