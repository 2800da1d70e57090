"""`musicfs verify`: makes the mount read all copies and compare them, and shows the progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from musicfs.cli.options import PATH, json_option
from musicfs.cli.output import Word, counted, duration_text, say, say_json, size_text, warn
from musicfs.cli.redundancy import print_differing
from musicfs.errors import UsageError, UserError

if TYPE_CHECKING:
    from musicfs.control.client import ControlClient

Show = Callable[[dict[str, Any]], None]

_POLL_SECS = 0.5
_START_SECS = 60.0
_SLOWEST, _FASTEST = 10_000, 10**12  # bytes per second


def _rate(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    from musicfs.config.models import bytes_per_second

    rate = bytes_per_second(value)
    if isinstance(rate, int) and _SLOWEST <= rate <= _FASTEST:
        return rate
    raise click.BadParameter("use bytes per second, at least 10000, or with a unit: 2MB/s")


@click.command(short_help="Read all copies in the background, and compare them.")
@click.argument("path", type=PATH, required=False)
@click.option(
    "--rate", metavar="RATE", callback=_rate, help="Read at most this much, such as 40MB/s.  [default: 10MB/s]"
)
@click.option("--metered", is_flag=True, help="Also read origins where reads cost money, such as a bucket of S3.")
@click.option("--anew", is_flag=True, help="Start from the beginning, and not where the last one stopped.")
@click.option("--no-wait", is_flag=True, help="Return at once; the mount goes on in the background.")
@click.option("--status", "only_status", is_flag=True, help="Show the progress and the results; start nothing.")
@click.option("--stop", is_flag=True, help="Stop it; the next `verify` of the same PATH continues there.")
@json_option
@click.pass_context
def verify(
    context: click.Context,
    path: Path | None,
    rate: int | None,
    metered: bool,
    anew: bool,
    no_wait: bool,
    only_status: bool,
    stop: bool,
    as_json: bool,
) -> None:
    """Read every copy of what is at or below PATH, and compare the copies block by block to find damaged ones.

    The mount does this in the background, slowly and after whatever is played, and continues after a restart. Without
    PATH it reads everything. Ctrl-C only ends this display. A damaged copy no longer serves until its file changes. The
    result names the origins that were away and not read. The exit code is 1 if a copy differs.

    Another command, `musicfs cache verify`, reads the cache on this disk.

    \b
    Examples:
      musicfs verify
      musicfs verify ~/Tunes/Artist/Album --rate 40MB/s
      musicfs verify --status
    """
    if only_status + stop + no_wait > 1:
        raise UsageError("Use one of --no-wait, --status and --stop.")
    client, inside = _mount_of(path)
    if only_status:
        view = client.get("/verify")
    elif stop:
        view = client.post("/verify/stop")
    else:
        wanted = {"path": inside, "rate": rate, "metered": metered, "anew": anew}
        view = client.post("/verify", wanted, timeout_secs=_START_SECS)
        if not no_wait:
            view = _watch(client, view["number"])
    if as_json:
        say_json(view)
    else:
        _print(view)
    if view["found"]:
        context.exit(1)


def _mount_of(path: Path | None) -> tuple[ControlClient, str]:
    """Returns the mount that the path is in, and the path relative to its mount point."""
    from musicfs.cli.options import real
    from musicfs.control.client import find_mount

    client = find_mount(path)
    if path is None:
        return client, ""
    assert client.mount_point is not None
    inside = real(path).relative_to(client.mount_point)
    return client, "" if inside == Path() else str(inside)


def _watch(client: ControlClient, number: int) -> dict[str, Any]:
    from musicfs.control.client import NotRunning

    try:
        with _progress() as show:
            while (view := client.get("/verify"))["state"] == "running" and view["number"] == number:
                show(view)
                time.sleep(_POLL_SECS)
    except NotRunning as error:
        raise UserError("The mount has ended; the next mount continues to verify where this one stopped.") from error
    except KeyboardInterrupt:
        warn("the mount goes on verifying; `musicfs verify --status` shows how far, `musicfs verify --stop` stops it.")
        raise
    return view


def _print(view: dict[str, Any]) -> None:
    if view["state"] == "never":
        say("Nothing has been verified yet; `musicfs verify` starts.")
        return
    what = view["path"] or "the whole mount"
    done, size = counted(view["done_files"], "copy", "copies"), size_text(view["done_bytes"])
    if view["state"] == "done":
        say(f"Done: {done} of {what}, {size}, {_ago(view['ended_at'])}.")
    else:
        word = "Running" if view["state"] == "running" else "Stopped"
        rate = f"{size_text(view['rate'])}/s at most"
        say(f"{word}: {view['done_files']:,} of {counted(view['files'], 'copy', 'copies')} of {what}, {size}; {rate}.")
    for each in view["unchecked"]:
        copies = counted(each["files"], "copy", "copies")
        hint = "; `--metered` reads them" if each["reason"] == "metered" else ""
        say(Word(f"Not checked: {copies} at {each['origin']} ({each['reason']}{hint}).", "yellow"))
    if view["found"]:
        differ = "differs" if view["found"] == 1 else "differ"
        say(Word(f"{counted(view['found'], 'copy', 'copies')} {differ}:", "bold red"))
        print_differing(view["finds"])
        if view["found"] > len(view["finds"]):
            say(f"and {view['found'] - len(view['finds']):,} more.")
    elif view["state"] == "done":
        say(Word("Every copy that was read is intact.", "green"))


def _ago(at: float | None) -> str:
    return "" if at is None else f"{duration_text(time.time() - at)} ago"


@contextmanager
def _progress() -> Iterator[Show]:
    """Shows a bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda view: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("verifying"), BarColumn(bar_width=24), TextColumn("{task.fields[counts]}", markup=False),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None, counts="")

        def show(view: dict[str, Any]) -> None:
            total = max(view["bytes"], view["done_bytes"]) or None
            counts = f"{view['done_files']:,} of {counted(view['files'], 'copy', 'copies')}, {view['found']:,} differ"
            bars.update(task, total=total, completed=view["done_bytes"], counts=counts)

        yield show
