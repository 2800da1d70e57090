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
    for name, share in (("big.wav", 1), ("random.wav", 4), ("again.wav", 4), *((name, 8) for name in _EIGHT)):
        make_big_file(first / name, big // share)
    return [first, second]


class Round:
    """What one contender does in a round, and where the figures go.

    folders: what is shown. tracks: how many they have. table: takes seconds.
    """

    def __init__(self, contender: Contender, folders: Sequence[Path], base: Path, tracks: int, table: Table) -> None:
        self._contender = contender
        self._folders = folders
        self._base = base
        self._table = table
        # Only what every contender has: the plain folder is the first of the two.
        step = max(1, tracks * 6 // 10 // _SMALL_FILES)
        self._small = [Track(number) for number in range(0, step * _SMALL_FILES, step)]

    def measure(self) -> None:
        for title, work in (("`find`", "find"), ("`ls -lR`", "list_all"), ("stat of all", "stat_tree")):
            with self._contender.mounted() as folder:
                self._take(folder, title, work, warm=True)
        if isinstance(self._contender, MusicFS):
            self._contender.forget_checksums()
            with self._contender.mounted() as folder:
                self._measure_reads(folder, ", first time ever")
        with self._contender.mounted() as folder:
            self._measure_reads(folder)
        with self._contender.mounted() as folder:
            self._take(folder, "2,000 random 128 KiB", "random_128k_often", *self._file("big.wav"))

    def _measure_reads(self, folder: Path, when: str = "") -> None:
        """Each work has files of its own, so that it finds them cold."""
        self._take(folder, f"2,000 small files{when}", "small_files", *self._small_files(), warm=True)
        self._take(folder, f"in sequence{when}", "sequential", *self._file("big.wav"), warm=True)
        eight = self._listing("eight", map(self._contender.file, _EIGHT))
        self._take(folder, f"eight readers at once{when}", "eight_readers", eight, self._listing("plain", _EIGHT))
        self._take(folder, f"10,000 random 4 KiB{when}", "random_4k", *self._file("random.wav"))
        self._take(
            folder, f"10,000 random 4 KiB of a file just read{when}", "random_4k_again", *self._file("again.wav")
        )

    def _file(self, name: str) -> tuple[str, str]:
        return self._contender.file(name), name

    def _small_files(self) -> tuple[str, str]:
        plain = Plain(self._folders)
        theirs = self._listing("small", map(self._contender.path, self._small))
        return theirs, self._listing("small-plain", map(plain.path, self._small))

    def _listing(self, name: str, paths: Iterable[str]) -> str:
        path = self._base / f"{name}.list"
        path.write_text("\n".join(paths))
        return str(path)

    def _take(
        self, folder: Path, title: str, work: str, argument: str = "", source: str = "", *, warm: bool = False
    ) -> None:
        for each in self._folders if not source else self._folders[:1]:
            timed(work, each, source)
        name = self._contender.name
        self._table.add(f"{title}, cold", name, timed(work, folder, argument))
        if warm:
            self._table.add(f"{title}, warm", name, timed(work, folder, argument))


def measure_local(base: Path, sizes: Sequence[int], rounds: int, big: int) -> list[Table]:
    """Seconds, by contender; a table for each size in tracks. The contenders take turns within each round."""
    tables = []
    for tracks in sizes:
        folders = make_folders(base, tracks, big)
        ours = MusicFS(folders, base / "mnt-musicfs", base / f"cache-{tracks}")
        contenders: list[Contender] = [Plain(folders), bare(folders, base), *unions(folders, base), ours]
        ours.scan()
        table = Table(f"seconds, {tracks:,} tracks")
        for number in range(rounds):
            for contender in contenders:
                print(f"local, round {number + 1} of {rounds}: {contender.name}", file=sys.stderr, flush=True)
                Round(contender, folders, base, tracks, table).measure()
        tables.append(table)
    return tables


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
