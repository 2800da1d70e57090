"""The work that is timed: run as a program of its own, so that what measures does not weigh on what is measured.

Usage: python -m bench.readers WORK FOLDER ARGUMENT. Prints the seconds it took, or what
it measured itself.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def sequential(folder: str, big: str) -> None:
    """One big file, from its start to its end, 128 KiB at a time, as `cat` does."""
    descriptor = os.open(f"{folder}/{big}", os.O_RDONLY)
    while os.read(descriptor, 128 * 1024):
        pass
    os.close(descriptor)


def random_4k(folder: str, big: str) -> None:
    """10,000 reads of 4 KiB anywhere in the big file."""
    descriptor = os.open(f"{folder}/{big}", os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    blocks = os.fstat(descriptor).st_size // 4096
    chance = random.Random(0)
    for _ in range(10_000):
        os.pread(descriptor, 4096, chance.randrange(blocks) * 4096)
    os.close(descriptor)


def random_4k_again(folder: str, big: str) -> float:
    """10,000 reads of 4 KiB of a file that was read whole since it was opened, and that the kernel no longer holds."""
    descriptor = os.open(f"{folder}/{big}", os.O_RDONLY)
    while os.read(descriptor, 128 * 1024):
        pass
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    blocks = os.fstat(descriptor).st_size // 4096
    chance = random.Random(0)
    started = time.perf_counter()
    for _ in range(10_000):
        os.pread(descriptor, 4096, chance.randrange(blocks) * 4096)
    taken = time.perf_counter() - started
    os.close(descriptor)
    return taken


def random_128k(folder: str, big: str, count: int = 200) -> None:
    """200 reads of 128 KiB anywhere in the big file, as by a player whose user seeks."""
    descriptor = os.open(f"{folder}/{big}", os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    pieces = os.fstat(descriptor).st_size // (128 * 1024)
    chance = random.Random(0)
    for _ in range(count):
        os.pread(descriptor, 128 * 1024, chance.randrange(pieces) * 128 * 1024)
    os.close(descriptor)


def player(folder: str, big: str) -> float:
    """The first 12 MB of the big file, 16 KiB at a time and at 3 MB/s, more than the densest music needs; the longest
    wait for bytes behind the first 256 KiB."""
    descriptor = os.open(f"{folder}/{big}", os.O_RDONLY)
    done, longest, began = 0, 0.0, 0.0
    while done < 12_000_000:
        asked = time.perf_counter()
        done += len(os.read(descriptor, 16 << 10))
        now = time.perf_counter()
        if done <= 256 << 10:
            began = now - done / 3e6
        else:
            longest = max(longest, now - asked)
        time.sleep(max(0.0, began + done / 3e6 - now))
    os.close(descriptor)
    return longest


def random_128k_often(folder: str, big: str) -> None:
    """The same, 2,000 times: where 200 take no time."""
    random_128k(folder, big, 2000)


def first_bytes(folder: str, listing: str) -> float:
    """The beginning of each file of the list, opened and 64 KiB read; the mean time of one.

    It pauses between files, so that the read-ahead of one file does not delay the next.
    """
    taken = []
    for name in Path(listing).read_text().splitlines():
        started = time.perf_counter()
        descriptor = os.open(f"{folder}/{name}", os.O_RDONLY)
        os.read(descriptor, 64 * 1024)
        taken.append(time.perf_counter() - started)
        os.close(descriptor)
        time.sleep(0.05)
    return sum(taken) / len(taken)


def heads(folder: str, listing: str) -> None:
    """`head -c 100000` of each file of the list."""
    for name in Path(listing).read_text().splitlines():
        subprocess.run(["head", "-c", "100000", f"{folder}/{name}"], check=True, stdout=subprocess.DEVNULL)


def small_files(folder: str, listing: str) -> None:
    """Each file of the list, opened, read to its end and closed."""
    for name in Path(listing).read_text().splitlines():
        descriptor = os.open(f"{folder}/{name}", os.O_RDONLY)
        while os.read(descriptor, 64 * 1024):
            pass
        os.close(descriptor)


def find(folder: str, _: str) -> None:
    """Everything below the folder, with its kind and size."""
    subprocess.run(["find", folder, "-type", "f", "-size", "+0"], check=True, stdout=subprocess.DEVNULL)


def list_all(folder: str, _: str) -> None:
    """`ls -lR`: every name, with its attributes, sorted and formatted."""
    subprocess.run(["ls", "-lR", folder], check=True, stdout=subprocess.DEVNULL)


def stat_tree(folder: str, _: str) -> None:
    """Everything below the folder, and its attributes, as a program asks for them: all names of a folder first."""
    for path, _folders, names in os.walk(folder):
        for name in names:
            os.stat(f"{path}/{name}")  # noqa: PTH116 — what is timed is the system call


def stat_all(folder: str, name: str) -> None:
    """Every name of one folder, and its attributes."""
    with os.scandir(f"{folder}/{name}") as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)


def lookups(folder: str, listing: str) -> float:
    """Attributes of each file of the list, when its folder is known and it is not; the median time of one."""
    taken = []
    for name in Path(listing).read_text().splitlines():
        path = f"{folder}/{name}"
        os.stat(path.rpartition("/")[0])  # noqa: PTH116 — what is timed is the system call
        started = time.perf_counter()
        os.stat(path)  # noqa: PTH116
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def resolving(folder: str, listing: str) -> float:
    """Attributes of each file of the list, when none of its path is known; the median time of one."""
    taken = []
    for name in Path(listing).read_text().splitlines():
        started = time.perf_counter()
        os.stat(f"{folder}/{name}")  # noqa: PTH116
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def eight_readers(folder: str, listing: str) -> None:
    """Eight threads, each of them reading every eighth file of the list from its start to its end."""
    names = Path(listing).read_text().splitlines()

    def read(number: int) -> None:
        for name in names[number::8]:
            sequential(folder, name)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(8)))


_ALL = (
    sequential, player, random_4k, random_4k_again, random_128k, random_128k_often, first_bytes, heads, small_files,
    find, list_all, stat_tree, stat_all, lookups, resolving, eight_readers,
)  # fmt: skip
WORK: dict[str, Callable[[str, str], float | None]] = {work.__name__: work for work in _ALL}


def main() -> None:
    work = WORK[sys.argv[1]]
    started = time.perf_counter()
    measured = work(*sys.argv[2:4])
    print(time.perf_counter() - started if measured is None else measured)


if __name__ == "__main__":
    main()
