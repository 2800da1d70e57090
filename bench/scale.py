"""Libraries of a thousand to a million tracks: what a mount costs must not grow with them.

Every file is there, as a link to one of a few, so that the scan after the mount is a real one. The catalogue is written
by catalogue.py. Where a library says `scanned`, it is made of real files with tags of their own, and by a real scan.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.catalogue import BIG_ALBUM, LinkedTrack, make_catalogue, make_links
from bench.contenders import MusicFS
from bench.library import Track, make_library
from bench.local import timed
from musicfs.catalog.database import CATALOG
from musicfs.control.client import ControlClient
from musicfs.system.runtime import control_socket

_LOOKED_UP = 1000
_RESOLVED = 50
"""Of each artist's hundred tracks the one whose whole path is resolved; its lookup is not measured again."""
_REST_SECS = 35.0  # the worker goes to rest when it has been idle for 30 s
_SCAN_SECS = 900.0
_SETTLED_SECS = 3.5
"""A folder's time counts at the second listing, if that is so long after the first."""

Values = dict[str, list[float]]


@dataclass(frozen=True)
class _Scaled(MusicFS):
    def options(self) -> list[str]:
        return ["--origin", f"music={self.folders[0]}", "--cache-dir", str(self.cache_dir)]


@dataclass(frozen=True)
class _Library:
    """tracks: of which class its tracks are; the first of them are of one folder, if they are linked."""

    name: str
    count: int
    mount: _Scaled
    linked: bool

    def track(self, number: int) -> Track:
        return LinkedTrack(number) if self.linked else Track(number)


def measure_scale(base: Path, sizes: Sequence[int], scanned: Sequence[int], rounds: int) -> dict[str, Values]:
    """The rows, each with the values of every library: seconds, microseconds, megabytes as the row's name says."""
    here = base / "scale"
    libraries = [*(_linked(here, size) for size in sizes), *(_scanned(here, size) for size in scanned)]
    rows: dict[str, Values] = {}

    def add(row: str, library: _Library, value: float) -> None:
        rows.setdefault(row, {}).setdefault(library.name, []).append(value)

    for number in range(rounds):
        for library in libraries:
            _say(f"scale, round {number + 1} of {rounds}: {library.name}")
            add("until mounted and listed, s", library, _until_listed(library))
    for number in range(min(rounds, 2)):
        for library in libraries:
            _say(f"scale, lookups, round {number + 1}: {library.name}")
            with _quiet(library.mount) as folder:
                for row, value in _lookups(library, folder, here).items():
                    add(row, library, value)
    for library in libraries:
        _say(f"scale, memory and scans: {library.name}")
        for row, value in _rest(library).items():
            add(row, library, value)
    return rows


def _linked(here: Path, count: int) -> _Library:
    folder = here / f"linked-{count}"
    folder.mkdir(parents=True, exist_ok=True)
    _say(f"making {count:,} tracks")
    make_links(folder / "music", count)
    mount = _Scaled([folder / "music"], here / "mnt", folder / "cache")
    make_catalogue(folder / "cache" / CATALOG, "music", folder / "music", count)
    return _Library(f"{count:,}", count, mount, True)


def _scanned(here: Path, count: int) -> _Library:
    folder = here / f"scanned-{count}"
    make_library(folder / "music", range(count))
    mount = _Scaled([folder / "music"], here / "mnt", folder / "cache")
    if not (folder / "scanned").exists():
        _say(f"scanning {count:,} tracks")
        mount.forget()
        mount.scan()
        (folder / "scanned").touch()
    return _Library(f"{count:,} scanned", count, mount, False)


def _until_listed(library: _Library) -> float:
    """From the command to the first name; the scan that follows is not waited for."""
    mount = library.mount
    started = time.perf_counter()
    mount.start()
    next(mount.mount_point.iterdir())
    taken = time.perf_counter() - started
    mount.unmount()
    return taken


def _lookups(library: _Library, folder: Path, here: Path) -> dict[str, float]:
    """Of names that the kernel does not know yet."""
    first = BIG_ALBUM if library.linked else 0
    step = max(1, (library.count - first) // _LOOKED_UP)
    numbers = range(first, library.count, step)[:_LOOKED_UP]
    resolved = range(
        first + _RESOLVED, library.count, 100 * max(1, library.count // 100 // _LOOKED_UP)
    )  # of an artist each
    found = {}
    for row, work, chosen in (
        ("path of three names, µs", "resolving", resolved),
        ("lookup of one name, µs", "lookups", [number for number in numbers if number % 100 != _RESOLVED]),
    ):
        listing = here / f"{work}.list"
        listing.write_text("\n".join(library.track(number).shown for number in chosen))
        found[row] = timed(work, folder, str(listing)) * 1e6
    if library.linked:
        big = library.track(0).shown.rpartition("/")[0]
        found[f"folder of {BIG_ALBUM}, µs per entry"] = timed("stat_all", folder, big) / BIG_ALBUM * 1e6
    return found


def _rest(library: _Library) -> dict[str, float]:
    """What takes long: resting, everything by `find`, scans."""
    mount, found = library.mount, {}
    with _quiet(mount) as folder:
        time.sleep(_REST_SECS)
        found["resident when idle, MB"] = _resident(mount)
        found["find, µs per track"] = timed("find", folder, "") / library.count * 1e6
        found["resident after find, MB"] = _resident(mount)
        # The first had the catalogue read from the disk, as far as the system had taken its pages from memory.
        found["find once more, µs per track"] = timed("find", folder, "") / library.count * 1e6
    mount.scan()
    time.sleep(_SETTLED_SECS)
    found["`musicfs scan`, all folders listed, s"] = _scan(mount, 0)
    found["`musicfs scan`, nothing changed, s"] = _scan(mount, 0)
    with _one_changed(library):
        found["`musicfs scan`, one file changed, s"] = _scan(mount, 1)
    _scan(mount, 1)
    size = sum(path.stat().st_size for path in mount.cache_dir.glob(f"{CATALOG}*"))
    return found | {"catalogue, bytes per track": size / library.count}


@contextmanager
def _quiet(mount: _Scaled) -> Iterator[Path]:
    """The mount after its first scan."""
    mount.start()
    client = ControlClient(control_socket(mount.mount_point), mount.mount_point)
    try:
        _completed(client, 1)
        yield mount.mount_point
    finally:
        mount.unmount()


def _scan(mount: _Scaled, read: int) -> float:
    """Seconds. read: how many files it must have looked into."""
    started = time.perf_counter()
    result = json.loads(mount.scan("--json"))["scans"][0]
    taken = time.perf_counter() - started
    if result["read"] != read or result["error"]:
        raise AssertionError(f"the scan was to read {read} files: {result}")
    return taken


def _completed(client: ControlClient, number: int) -> None:
    until = time.monotonic() + _SCAN_SECS
    while time.monotonic() < until:
        scan = client.get("/scan", timeout_secs=60)["scans"][0]
        if scan["completed"] >= number:
            if scan["error"]:
                raise AssertionError(f"the scan failed: {scan['error']}")
            return
        time.sleep(0.01)
    raise TimeoutError(f"a scan of {client.mount_point} has not ended within {_SCAN_SECS:.0f} s")


@contextmanager
def _one_changed(library: _Library) -> Iterator[None]:
    """A file in the middle has other bytes, while it lasts."""
    path = library.mount.folders[0] / library.track(library.count // 2).source
    kept = path.with_name(".kept")
    path.rename(kept)
    shutil.copy(kept, path)
    with path.open("ab") as file:
        file.write(b"changed")
    try:
        yield
    finally:
        kept.rename(path)


def _resident(mount: MusicFS) -> float:
    return float(sum(process.memory_info().rss for process in mount.processes())) / 1e6


def scale_as_markdown(rows: dict[str, Values]) -> str:
    """The last column: the largest library's value over the smallest one's, of those that were not scanned."""
    names = list(dict.fromkeys(name for values in rows.values() for name in values))
    linked = [name for name in names if "scanned" not in name]
    lines = ["| tracks | " + " | ".join(names) + f" | {linked[-1]} / {linked[0]} |", "|---" * (len(names) + 2) + "|"]
    for row, values in rows.items():
        cells = [_cell(values.get(name, [])) for name in names]
        ratio = statistics.median(values[linked[-1]]) / statistics.median(values[linked[0]])
        lines.append(f"| {row} | " + " | ".join(cells) + f" | {ratio:.2f} |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    middle = f"{statistics.median(values):.3g}" if max(values) < 100 else f"{statistics.median(values):.0f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.3g}-{max(values):.3g})"


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
