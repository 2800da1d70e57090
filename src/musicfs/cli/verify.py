"""`musicfs verify`: has the mount read all copies and compare them, and looks on."""

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

_LOOK_EVERY_SECS = 0.5
_BEGINNING_SECS = 60.0
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
@click.option("--rate", metavar="RATE", callback=_rate, help="Read at most so much, such as 40MB/s.  [default: 10MB/s]")
@click.option("--metered", is_flag=True, help="Read also where that costs money, such as a bucket of S3.")
@click.option("--anew", is_flag=True, help="Begin at the beginning, and not where it was stopped.")
@click.option("--no-wait", is_flag=True, help="Return at once; it goes on in the background.")
@click.option("--status", "look", is_flag=True, help="Show how far it is and what it has found; begin nothing.")
@click.option("--stop", is_flag=True, help="End it; the next `verify` of the same PATH goes on where it was.")
@json_option
@click.pass_context
def verify(
    context: click.Context,
    path: Path | None,
    rate: int | None,
    metered: bool,
    anew: bool,
    no_wait: bool,
    look: bool,
    stop: bool,
    as_json: bool,
) -> None:
    """Read every copy of what is at or below PATH and compare the copies block by block, to find rotten ones.

    The mount does it in the background, slowly and after whatever is played, and goes on after a restart; without PATH
    it reads all there is. Ctrl-C stops looking on, and nothing else. What is found to be damaged serves no more until
    its file changes. Origins that are away are left out, and named at the end. The exit code is 1 if anything differs.

    Not to be confused with `musicfs cache verify`, which reads the cache on this disk.

    \b
    Examples:
      musicfs verify
      musicfs verify ~/Tunes/Artist/Album --rate 40MB/s
      musicfs verify --status
    """
    if look + stop + no_wait > 1:
        raise UsageError("Use one of --no-wait, --status and --stop.")
    client, inside = _mount_of(path)
    if look:
        view = client.get("/verify")
    elif stop:
        view = client.post("/verify/stop")
    else:
        wanted = {"path": inside, "rate": rate, "metered": metered, "anew": anew}
        view = client.post("/verify", wanted, timeout_secs=_BEGINNING_SECS)
        if not no_wait:
            view = _watch(client, view["number"])
    if as_json:
        say_json(view)
    else:
        _print(view)
    if view["found"]:
        context.exit(1)


def _mount_of(path: Path | None) -> tuple[ControlClient, str]:
    """The mount that the path is in, and the path below its mount point."""
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
                time.sleep(_LOOK_EVERY_SECS)
    except NotRunning as error:
        raise UserError("The mount has ended; the next one goes on verifying where it was.") from error
    except KeyboardInterrupt:
        warn("the mount goes on verifying; `musicfs verify --status` looks again, `musicfs verify --stop` ends it.")
        raise
    return view


def _print(view: dict[str, Any]) -> None:
    if view["state"] == "never":
        say("Nothing has been verified yet; `musicfs verify` begins.")
        return
    what = view["path"] or "the whole mount"
    done, size = counted(view["done_files"], "copy", "copies"), size_text(view["done_bytes"])
    if view["state"] == "done":
        say(f"{done} of {what} gone through, {size}, {_ago(view['ended_at'])}.")
    else:
        word = "Under way" if view["state"] == "running" else "Stopped"
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
        say(Word("All that was read is as it ought to be.", "green"))


def _ago(at: float | None) -> str:
    return "" if at is None else f"{duration_text(time.time() - at)} ago"


@contextmanager
def _progress() -> Iterator[Show]:
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda view: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("verifying"), BarColumn(bar_width=24), TextColumn("{task.fields[told]}", markup=False),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None, told="")

        def show(view: dict[str, Any]) -> None:
            total = max(view["bytes"], view["done_bytes"]) or None
            told = f"{view['done_files']:,} of {counted(view['files'], 'copy', 'copies')}, {view['found']:,} differ"
            bars.update(task, total=total, completed=view["done_bytes"], told=told)

        yield show
