"""Local origins against other unions of folders and the plain folder: reading and listing, cold and warm.

Cold is a fresh mount (nothing of it in the page cache, none of its names known to the kernel) over files that are in
memory: each is read once more just before, because systems take memory back from idle files, and the contender after a
slow one would otherwise have to read from the disk. Warm is the same work again at once.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.contenders import Contender, MusicFS, Plain, bare, unions
from bench.library import Track, make_big_file, make_library
from bench.tables import Table

_SMALL_FILES = 2000
_EIGHT = [f"part-{number}.wav" for number in range(8)]


def timed(work: str, folder: Path, argument: str) -> float:
    command = [sys.executable, "-m", "bench.readers", work, str(folder), argument]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def make_folders(base: Path, tracks: int, big: int) -> list[Path]:
    """Two folders that overlap in a fifth of the tracks."""
    first, second = base / f"library-{tracks}" / "a", base / f"library-{tracks}" / "b"
    make_library(first, range(tracks * 6 // 10))
    make_library(second, range(tracks * 4 // 10, tracks))
    for name, share in (("big.wav", 1), ("random.wav", 4), *((name, 8) for name in _EIGHT)):
        make_big_file(first / name, big // share)
    return [first, second]


def measure_round(contender: Contender, folders: Sequence[Path], base: Path, tracks: int, table: Table) -> None:
    plain = Plain(folders)
    # Only what every contender has: the plain folder is the first of the two.
    step = max(1, tracks * 6 // 10 // _SMALL_FILES)
    small = [Track(number) for number in range(0, step * _SMALL_FILES, step)]

    def listing(name: str, paths: Iterable[str]) -> str:
        path = base / f"{name}.list"
        path.write_text("\n".join(paths))
        return str(path)

    def both(title: str, work: str, argument: str = "", source: str = "", *, warm: bool = False) -> None:
        for each in folders if not source else folders[:1]:
            timed(work, each, source)
        table.add(f"{title}, cold", contender.name, timed(work, folder, argument))
        if warm:
            table.add(f"{title}, warm", contender.name, timed(work, folder, argument))

    for title, work in (("`find`", "find"), ("`ls -lR`", "list_all")):
        with contender.mounted() as folder:
            both(title, work, warm=True)
    with contender.mounted() as folder:  # each work has files of its own, so that it finds them cold
        theirs, ours = listing("small", map(contender.path, small)), listing("small-plain", map(plain.path, small))
        both("2,000 small files", "small_files", theirs, ours, warm=True)
        both("in sequence", "sequential", contender.file("big.wav"), "big.wav", warm=True)
        eight = listing("eight", map(contender.file, _EIGHT))
        both("eight readers at once", "eight_readers", eight, listing("eight-plain", _EIGHT))
        both("10,000 random 4 KiB", "random_4k", contender.file("random.wav"), "random.wav")
    with contender.mounted() as folder:
        both("2,000 random 128 KiB", "random_128k_often", contender.file("big.wav"), "big.wav")


def measure_local(base: Path, tracks: int, rounds: int, big: int) -> Table:
    """Seconds, by contender."""
    folders = make_folders(base, tracks, big)
    ours = MusicFS(folders, base / "mnt-musicfs", base / f"cache-{tracks}")
    contenders: list[Contender] = [Plain(folders), bare(folders, base), *unions(folders, base), ours]
    ours.scan()
    table = Table(f"seconds, {tracks:,} tracks")
    for number in range(rounds):
        for contender in contenders:
            print(f"local, round {number + 1} of {rounds}: {contender.name}", file=sys.stderr, flush=True)
            measure_round(contender, folders, base, tracks, table)
    return table


def measure_start(base: Path, sizes: tuple[int, ...], rounds: int, big: int) -> dict[int, float]:
    """Seconds from the command to a mount that can be listed, by size of the catalogue in tracks; medians."""
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    mounts = {}
    for size in sizes:
        mounts[size] = MusicFS(make_folders(base, size, big), base / "mnt-start", base / f"cache-{size}")
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
    ours = MusicFS(make_folders(base, tracks, big), base / "mnt-memory", base / f"cache-{tracks}")
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
