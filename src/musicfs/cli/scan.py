"""`musicfs scan`: asks the mount to scan and shows the progress; without a mount, scans in this process."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from musicfs.cli.options import PATH, configured, json_option, load, settings_options
from musicfs.cli.output import Word, counted, say, say_json, table, warn
from musicfs.errors import UsageError, UserError
from musicfs.texts import printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from musicfs.config.models import Config
    from musicfs.control.client import ControlClient
    from musicfs.events import Event


class Show(Protocol):
    """Shows the progress of scans."""

    def __call__(self, origin: str, listed: int, read: int, unreadable: int) -> None:
        """Shows the counts of an origin's scan so far."""
        ...

    def end(self, origin: str, error: str | None) -> None:
        """Shows that the origin's scan has ended, while others may go on. error: why it did not complete."""
        ...


_POLL_SECS = 0.25
_SCAN_SECS = 60.0
_REPARSING_SECS = 600.0


@click.command()
@click.argument("mount_point", type=PATH, required=False)
@settings_options
@click.option("--allow-other", is_flag=True, help="Scan as for a mount with this option, which follows fewer links.")
@click.option("--reparse", is_flag=True, help="Read again what an earlier version read, also where reads cost money.")
@click.option("--estimate", "estimated", is_flag=True, help="Scan nothing; say what a first scan takes of each origin.")
@click.option("--explain", "explained", type=PATH, metavar="FILE", help="Scan nothing; explain what becomes of FILE.")
@click.option(
    "--bundle", type=PATH, metavar="OUT", help="With --explain: write what was used of FILE, for a bug report."
)
@json_option
@click.pass_context
def scan(
    context: click.Context,
    /,
    mount_point: Path | None,
    reparse: bool,
    estimated: bool,
    explained: Path | None,
    bundle: Path | None,
    as_json: bool,
    config_file: Path | None,
    **settings: Any,
) -> None:
    """Find new, changed and removed music now.

    If a mount runs, it scans. Otherwise this command scans the origins of the options or the configuration, and the
    next mount starts with what it found. A scan reads only new and changed files.

    \b
    Examples:
      musicfs scan
      musicfs scan ~/Tunes
      musicfs scan --config ~/.config/musicfs.toml
      musicfs scan ~/Tunes --origin ~/Music --origin /mnt/nas/music
      musicfs scan --origin s3://bucket/music --estimate
      musicfs scan --explain ~/Music/odd.mp3 --bundle odd.bundle
    """
    from musicfs.control.client import find_mount

    if explained is not None:
        from musicfs.cli.explain import explain

        explain(explained, bundle, as_json=as_json)
        return
    if reparse:
        _reparse(find_mount(mount_point), as_json=as_json)
        return
    if bundle is not None:
        raise UsageError("--bundle needs --explain FILE.")
    if estimated and not (configured(config_file) or settings["origins"]):
        raise UsageError("--estimate needs to know the origins: give --config FILE, or --origin for each.")
    if not (configured(config_file) or settings["origins"]):
        with _progress({}) as show:
            results = scan_by_mount(find_mount(mount_point), None, show)
    else:
        loaded = load(mount_point=mount_point, config_file=config_file, **settings)
        for warning in loaded.warnings:
            warn(f"warning: {warning}")
        if estimated:
            from musicfs.cli.estimate import print_estimates

            context.exit(0 if print_estimates(loaded.config, as_json=as_json) else 1)
        results = _scan_configured(loaded.config)
    print_results(results, as_json)
    if any(result["error"] for result in results):
        context.exit(1)


def _reparse(client: ControlClient, *, as_json: bool) -> None:
    """Reads tags again until none of an earlier version is left."""
    origins = [origin["id"] for origin in client.get("/origins")["origins"] if origin["enabled"]]
    found = {}
    for id in origins:
        found[id] = 0
        done = False
        while not done:
            answer = client.post(f"/origins/{id}/reparse", timeout_secs=_REPARSING_SECS)
            found[id] += answer["read"]
            done = answer["done"]
        if not as_json:
            say(f"{id}: {counted(found[id], 'file')} read again.")
    if as_json:
        say_json({"read": found})


def _scan_configured(config: Config) -> list[dict[str, Any]]:
    ids = [origin.id for origin in config.origins if origin.enabled]
    return scan_here_or_by_mount(config, ids)


def scan_here_or_by_mount(config: Config, ids: Sequence[str], *, accept_removals: bool = False) -> list[dict[str, Any]]:
    """Scans in this process; if a mount uses the cache folder, that mount scans."""
    from musicfs.cli.offline import catalogued, scan_origins
    from musicfs.events import ScanFinished, ScanProgress
    from musicfs.model import OriginId

    known: dict[str, int] = {row.id: row.files for row in catalogued(config).values()}
    if sys.stderr.isatty() and any(origin.metered and not known.get(origin.id) for origin in config.origins):
        from musicfs.cli.estimate import warn_of_cost

        warn_of_cost(config, [OriginId(id) for id in ids if not known.get(id)])
    with _progress(known) as show:

        def listen(event: Event) -> None:
            if isinstance(event, ScanProgress):
                show(event.origin, event.listed, event.read, event.unreadable)
            elif isinstance(event, ScanFinished):
                show.end(event.origin, event.error)

        try:
            return scan_origins(config, [OriginId(id) for id in ids], listen, accept_removals=accept_removals)
        except UserError:
            client = _mount_that_uses(config.cache_dir)
            if client is None or accept_removals:
                raise
            return scan_by_mount(client, None, show)


def _mount_that_uses(cache_dir: Path) -> ControlClient | None:
    from musicfs.control.client import running_mounts

    for client in running_mounts():
        if client.get("/status")["cache_dir"] == str(cache_dir):
            return client
    return None


def scan_by_mount(client: ControlClient, origin: str | None, show: Show) -> list[dict[str, Any]]:
    """Makes the mount scan one origin, or all, and returns the results when it is done."""
    started = client.post("/scan", {} if origin is None else {"origin": origin})["scans"]
    return follow(client, {scan["origin"]: scan["completed"] for scan in started}, show)


def follow(client: ControlClient, wanted: Mapping[str, int], show: Show) -> list[dict[str, Any]]:
    """Waits until each origin has completed the wanted number of scans, and returns the last results."""
    for origin in wanted:
        show(origin, 0, 0, 0)
    while True:
        scans = {scan["origin"]: scan for scan in client.get("/scan")["scans"]}
        for origin, scan in scans.items():
            if origin in wanted and scan["completed"] >= wanted[origin]:
                show.end(origin, scan["error"])
            elif origin in wanted and scan["state"] == "scanning":
                show(origin, scan["listed"], scan["read"], scan["unreadable"])
        if all(origin not in scans or scans[origin]["completed"] >= number for origin, number in wanted.items()):
            return [_result(origin, scans.get(origin)) for origin in wanted]
        time.sleep(_POLL_SECS)


def _result(origin: str, scan: dict[str, Any] | None) -> dict[str, Any]:
    from musicfs.control.views import unfinished

    if scan is None:
        return {"origin": origin, **unfinished("the origin was removed during the scan")}
    return {"origin": origin, **(scan["last"] or unfinished(scan["error"] or "it did not complete"))}


def print_results(results: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    if as_json:
        say_json({"scans": results})
        return
    columns = ("listed", "read", "added", "changed", "removed", "unreadable")
    header = ("ORIGIN", *(name.upper() for name in columns), "KEPT", "RESULT")
    rows = [
        (
            result["origin"],
            *(f"{result[name]:,}" for name in (*columns, "removals_held")),
            Word("failed", "red") if result["error"] else Word("done", "green"),
        )
        for result in results
    ]
    table(header, rows, right=range(1, 8))
    for result in results:
        if result["error"]:
            say(Word(f"{result['error']}.", "red"), " Nothing was removed.")
        if held := result["removals_held"]:
            say(f"{held:,} files are gone from {result['origin']} but kept, because that is many at once.")
            say(f"  If you removed them: `musicfs origin accept-removals {result['origin']}`.")
        if links := result["links_left_out"]:
            said = (
                f"{counted(links, 'symbolic link')} of {result['origin']} {'is' if links == 1 else 'are'} not followed"
            )
            say(f"{said}, because of its setting `links`; `musicfs status` says more.")
        if problems := result["problems"]:
            say(_problems(result["origin"], problems, result["folders_unlisted"]))


def _problems(origin: str, number: int, unlisted: int) -> str:
    """Returns how many files, links and folders of an origin are not shown as they should be."""
    sentence = f"{counted(number, 'problem')} at {origin}: that many files, links or folders are left out or lack tags;"
    sentence += " `musicfs problems` lists them."
    if unlisted:
        sentence += f" {counted(unlisted, 'folder')} could not be listed; nothing below was removed."
    return sentence


@contextmanager
def _progress(expected: Mapping[str, int]) -> Iterator[Show]:
    """Shows the progress of scans: a bar for each origin on a terminal, a line for each origin elsewhere.

    Args:
        expected: How many files of each origin the catalogue knew before.
    """
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=24),
        TextColumn("{task.fields[counts]}", markup=False), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Bars(bars, expected)


class ShowNothing:
    """For a caller that shows only the results."""

    def __call__(self, origin: str, listed: int, read: int, unreadable: int) -> None: ...

    def end(self, origin: str, error: str | None) -> None: ...


class _Bars:
    """Shows a bar for each origin."""

    def __init__(self, bars: Progress, expected: Mapping[str, int]) -> None:
        self._bars = bars
        self._expected = expected
        self._tasks: dict[str, Any] = {}

    def __call__(self, origin: str, listed: int, read: int, unreadable: int) -> None:
        total = self._expected.get(origin) or None
        if origin not in self._tasks:
            self._tasks[origin] = self._bars.add_task(printable(origin), total=total, counts="")
        counts = f"{listed:,} listed, {read:,} read" + (f", {unreadable:,} unreadable" if unreadable else "")
        self._bars.update(self._tasks[origin], completed=listed, total=total and max(total, listed), counts=counts)

    def end(self, origin: str, error: str | None) -> None:
        if origin in self._tasks:
            self._bars.update(self._tasks[origin], counts="failed" if error else "done")
            self._bars.stop_task(self._tasks[origin])


class _Lines:
    """Prints one line for each origin when its scan starts, and one when it ends."""

    def __init__(self) -> None:
        self._printed: set[str] = set()
        self._ended: set[str] = set()

    def __call__(self, origin: str, listed: int, read: int, unreadable: int) -> None:
        if origin not in self._printed:
            self._printed.add(origin)
            warn(f"scanning {origin}")

    def end(self, origin: str, error: str | None) -> None:
        if origin not in self._ended:
            self._ended.add(origin)
            warn(f"scanning {origin}: {'done' if error is None else 'it ended early'}")
