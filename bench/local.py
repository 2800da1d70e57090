"""Local origins against mergerfs and the plain folder: reading and listing, cold and warm.

Cold is a fresh mount (nothing of it in the page cache, none of its names known to the kernel) over files that are in
memory; warm is the same work again at once.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.contenders import Contender, Mergerfs, MusicFS, Plain
from bench.library import Track, make_big_file, make_library

_SMALL_FILES = 2000


@dataclass
class Row:
    """One measure: the seconds of every round, by contender."""

    name: str
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, contender: str) -> float:
        return statistics.median(self.seconds[contender])


def timed(work: str, folder: Path, argument: str) -> float:
    command = [sys.executable, "-m", "bench.readers", work, str(folder), argument]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _folders(base: Path, tracks: int, big: int) -> list[Path]:
    """Two folders that overlap in a fifth of the tracks."""
    first, second = base / f"library-{tracks}" / "a", base / f"library-{tracks}" / "b"
    make_library(first, range(tracks * 6 // 10))
    make_library(second, range(tracks * 4 // 10, tracks))
    make_big_file(first / "big.wav", big)
    return [first, second]


def _round(contender: Contender, base: Path, tracks: int, rows: dict[str, Row]) -> None:
    def measure(name: str, work: str, argument: str = "") -> None:
        row = rows.setdefault(name, Row(name))
        row.seconds.setdefault(contender.name, []).append(timed(work, folder, argument))

    # Only what every contender has: the plain folder is the first of the two.
    step = max(1, tracks * 6 // 10 // _SMALL_FILES)
    chosen = [Track(n) for n in range(0, step * _SMALL_FILES, step)]
    listing = base / f"{contender.name.replace(' ', '-')}.list"
    listing.write_text("\n".join(map(contender.path, chosen)))
    with contender.mounted() as folder:
        measure("find, cold", "find")
        measure("find, warm", "find")
    with contender.mounted() as folder:
        measure("2,000 small files, cold", "small_files", str(listing))
        measure("2,000 small files, warm", "small_files", str(listing))
    with contender.mounted() as folder:
        measure("sequential, cold", "sequential", contender.big())
        measure("sequential, warm", "sequential", contender.big())
    with contender.mounted() as folder:
        measure("10,000 random 4 KiB, cold", "random_4k", contender.big())


def measure_local(base: Path, tracks: int, rounds: int, big: int) -> tuple[list[Row], list[str]]:
    """The rows, and the contenders in the order of the table's columns."""
    folders = _folders(base, tracks, big)
    for folder in folders:
        timed("find", folder, "")
    subprocess.run(["cat", str(folders[0] / "big.wav")], check=True, stdout=subprocess.DEVNULL)
    ours = MusicFS(folders, base / "mnt-musicfs", base / f"cache-{tracks}")
    contenders: list[Contender] = [Plain(folders), Mergerfs(folders, base / "mnt-mergerfs"), ours]
    ours.scan()
    rows: dict[str, Row] = {}
    for number in range(rounds):
        for contender in contenders:
            print(f"round {number + 1} of {rounds}: {contender.name}", file=sys.stderr)
            _round(contender, base, tracks, rows)
    return list(rows.values()), [contender.name for contender in contenders]


def measure_start(base: Path, sizes: tuple[int, ...], rounds: int, big: int) -> dict[int, float]:
    """Seconds from the command to a mount that can be listed, by size of the catalogue in tracks; medians."""
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    mounts = {}
    for size in sizes:
        mounts[size] = MusicFS(_folders(base, size, big), base / "mnt-start", base / f"cache-{size}")
        mounts[size].scan()
    for _ in range(rounds):
        for size, mount in mounts.items():
            started = time.perf_counter()
            mount.start()
            next(mount.mount_point.iterdir())
            taken[size].append(time.perf_counter() - started)
            mount.settle()
            subprocess.run(mount.command("unmount", str(mount.mount_point)), check=True, stdout=subprocess.DEVNULL)
    return {size: statistics.median(seconds) for size, seconds in taken.items()}


def measure_memory(base: Path, tracks: int, big: int) -> dict[str, float]:
    """Resident megabytes of the daemon and its children: idle after the rescan, and after `find`."""
    ours = MusicFS(_folders(base, tracks, big), base / "mnt-memory", base / f"cache-{tracks}")
    ours.scan()

    def resident() -> float:
        return float(sum(process.memory_info().rss for process in ours.processes())) / 1e6

    found = {}
    with ours.mounted() as folder:
        time.sleep(35)  # the worker goes to rest when it has been idle for 30 s
        found["idle"] = resident()
        timed("find", folder, "")
        found["after find"] = resident()
    return found
