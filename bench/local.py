"""Local origins against other unions of folders and the plain folder: reading and listing, cold and warm.

Cold is a fresh mount (nothing of it in the page cache, none of its names known to the kernel) over files that are in
memory; warm is the same work again at once.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.contenders import Contender, MusicFS, Plain, unions
from bench.library import Track, make_big_file, make_library
from bench.tables import Table

_SMALL_FILES = 2000
_EIGHT = [f"part-{number}.wav" for number in range(8)]


def timed(work: str, folder: Path, argument: str) -> float:
    command = [sys.executable, "-m", "bench.readers", work, str(folder), argument]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _folders(base: Path, tracks: int, big: int) -> list[Path]:
    """Two folders that overlap in a fifth of the tracks."""
    first, second = base / f"library-{tracks}" / "a", base / f"library-{tracks}" / "b"
    make_library(first, range(tracks * 6 // 10))
    make_library(second, range(tracks * 4 // 10, tracks))
    for name, share in (("big.wav", 1), ("random.wav", 4), *((name, 8) for name in _EIGHT)):
        make_big_file(first / name, big // share)
    return [first, second]


def _round(contender: Contender, base: Path, tracks: int, table: Table) -> None:
    def measure(name: str, work: str, argument: str = "") -> None:
        table.add(name, contender.name, timed(work, folder, argument))

    # Only what every contender has: the plain folder is the first of the two.
    step = max(1, tracks * 6 // 10 // _SMALL_FILES)
    small, eight = base / "small.list", base / "eight.list"
    small.write_text("\n".join(contender.path(Track(n)) for n in range(0, step * _SMALL_FILES, step)))
    eight.write_text("\n".join(map(contender.file, _EIGHT)))
    for title, work in (("`find`", "find"), ("`ls -lR`", "list_all")):
        with contender.mounted() as folder:
            measure(f"{title}, cold", work)
            measure(f"{title}, warm", work)
    with contender.mounted() as folder:  # each work has files of its own, so that it finds them cold
        measure("2,000 small files, cold", "small_files", str(small))
        measure("2,000 small files, warm", "small_files", str(small))
        measure("in sequence, cold", "sequential", contender.file("big.wav"))
        measure("in sequence, warm", "sequential", contender.file("big.wav"))
        measure("eight readers at once, cold", "eight_readers", str(eight))
        measure("10,000 random 4 KiB, cold", "random_4k", contender.file("random.wav"))
    with contender.mounted() as folder:
        measure("2,000 random 128 KiB, cold", "random_128k_often", contender.file("big.wav"))


def measure_local(base: Path, tracks: int, rounds: int, big: int) -> Table:
    """Seconds, by contender."""
    folders = _folders(base, tracks, big)
    for folder in folders:
        timed("find", folder, "")
    for file in folders[0].glob("*.wav"):
        timed("sequential", folders[0], file.name)
    ours = MusicFS(folders, base / "mnt-musicfs", base / f"cache-{tracks}")
    contenders: list[Contender] = [Plain(folders), *unions(folders, base), ours]
    ours.scan()
    table = Table(f"seconds, {tracks:,} tracks")
    for number in range(rounds):
        for contender in contenders:
            print(f"local, round {number + 1} of {rounds}: {contender.name}", file=sys.stderr, flush=True)
            _round(contender, base, tracks, table)
    return table


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
