"""Scans a library with and without odd files, folders and links in it, and counts what becomes of each.

Usage: python -m bench.odd [--tracks 100000] [--rounds 3] [--folder F]. One track in a hundred becomes something odd:
damaged, empty, closed, dated far away, hidden, misnamed, a link to nowhere, a playlist that names what is not there.
Every album also has one cover for all. The scans run without the right to read what is closed, also as root.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.library import Track, make_library

_COVER = b"\xff\xd8\xff\xe0" + b"cover of every album" * 150
_FAR = 2**33  # seconds: the year 2242; and doubled: beyond what 64 bits of nanoseconds hold
_NOBODY = 65534


def _closed(path: Path) -> None:
    path.chmod(0)


def _closed_folder(path: Path) -> None:
    folder = path.with_suffix(".closed")
    folder.mkdir()
    path.rename(folder / path.name)
    folder.chmod(0)


def _moved(name: str) -> Callable[[Path], None]:
    def move(path: Path) -> None:
        folder = path.parent / name
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)

    return move


def _renamed(name: bytes) -> Callable[[Path], None]:
    def rename(path: Path) -> None:
        path.rename(path.with_name(path.stem[:2] + os.fsdecode(name)))

    return rename


def _deep(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 220, dir_fd=folder)
        below = os.open("d" * 220, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)


ODDITIES: Sequence[tuple[str, Callable[[Path], None]]] = (
    ("truncated", lambda path: os.truncate(path, 20)),
    ("empty", lambda path: os.truncate(path, 0)),
    ("noise", lambda path: _write(path, b"no music" * 100)),
    ("closed file", _closed),
    ("closed folder", _closed_folder),
    ("far future", lambda path: os.utime(path, (2 * _FAR, 2 * _FAR))),
    ("before 1970", lambda path: os.utime(path, (-_FAR, -_FAR))),
    ("recycled", _moved("#recycle")),
    ("snapshot", _moved(".snapshot")),
    ("hidden folder", _moved(".old")),
    ("two dots", _moved("..And More")),
    ("not UTF-8", _renamed(b"\xe9t\xe9.flac")),
    ("control characters", _renamed(b"\x1b[2J\n.flac")),
    ("unknown kind", _renamed(b".xyz")),
    ("link to nowhere", lambda path: (path.parent / "nowhere.flac").symlink_to("gone.flac")),
    ("link in a circle", lambda path: (path.parent / "circle").symlink_to(".")),
    ("playlist", lambda path: _write(path.with_suffix(".m3u"), "C:\\Music\\gone.flac\r\n".encode("cp1252"))),
    ("pipe", lambda path: os.mkfifo(path.with_suffix(".flac.pipe.flac"))),
)


def _write(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)  # the plain library has the same file
    path.write_bytes(data)


def make_odd(plain: Path, odd: Path, tracks: int) -> Counter[str]:
    """Copies the library, with something odd in the place of each hundredth track. Returns how many of each kind."""
    shutil.copytree(plain, odd, symlinks=True)
    made: Counter[str] = Counter()
    for number in range(7, tracks, 100):
        name, make = ODDITIES[number // 100 % len(ODDITIES)]
        make(odd / Track(number).source)
        made[name] += 1
    _deep(odd / Track(0).source)
    return made


@dataclass
class Scanned:
    """What scans of one library took, and what the last of them found."""

    secs: list[float] = field(default_factory=list)
    cpu_secs: list[float] = field(default_factory=list)
    result: dict[str, int] = field(default_factory=dict)
    files: int = 0
    problems: dict[str, int] = field(default_factory=dict)


def scan(library: Path, cache: Path, into: Scanned) -> None:
    """Scans the library into a new catalogue."""
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir()
    command = [
        sys.executable,
        "-m",
        "musicfs",
        "scan",
        "--origin",
        f"music={library}",
        "--cache-dir",
        str(cache),
        "--json",
    ]
    if os.geteuid() == 0:  # may read everything, unless it gives that up
        capabilities = "-dac_override,-dac_read_search"
        command = ["setpriv", "--bounding-set", capabilities, "--inh-caps", capabilities, *command]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"HOME": str(cache)})
    into.secs.append(time.perf_counter() - started)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    into.cpu_secs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    if done.returncode != 0:
        raise SystemExit(f"the scan failed: {done.stdout}{done.stderr}")
    into.result = json.loads(done.stdout)["scans"][0]
    with sqlite3.connect(cache / "catalog.sqlite") as db:
        into.files = db.execute("SELECT files FROM totals").fetchone()[0]
        into.problems = dict(db.execute("SELECT reason, count(*) FROM problems GROUP BY reason"))
        counted = db.execute("SELECT reason || ' ' || subject, files FROM left_out_counts").fetchall()
    into.problems |= dict(counted)


def _report(name: str, scanned: Scanned) -> str:
    secs, cpu = median(scanned.secs), median(scanned.cpu_secs)
    return f"| {name} | {secs:.1f} | {cpu:.1f} | {scanned.files:,} | {scanned.result['unreadable']:,} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracks", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="for the libraries; by default a temporary one")
    given = parser.parse_args()
    base = given.folder or Path(tempfile.mkdtemp(prefix="musicfs-odd-"))
    base.mkdir(exist_ok=True)
    base.chmod(0o755)
    plain, odd = base / "plain", base / "odd"
    make_library(plain, range(given.tracks))
    for number in range(0, given.tracks, 10):
        (plain / Track(number).source).with_name("folder.jpg").write_bytes(_COVER)
    made = make_odd(plain, odd, given.tracks)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{_NOBODY}:{_NOBODY}", odd], check=True)
    found = {plain: Scanned(), odd: Scanned()}
    for number in range(given.rounds):
        for library in (plain, odd)[:: 1 if number % 2 == 0 else -1]:
            print(f"round {number + 1} of {given.rounds}: {library.name}", file=sys.stderr, flush=True)
            scan(library, base / "cache", found[library])
    print("| library | seconds | CPU seconds | files shown | unreadable |\n|---|---|---|---|---|")
    for library, scanned in found.items():
        print(_report(library.name, scanned))
    ratio = median(found[odd].secs) / median(found[plain].secs)
    print(f"\nodd / plain: {ratio:.2f} of the time\nmade odd: {dict(made)}\nproblems: {found[odd].problems}")
    if given.folder is None:
        subprocess.run(["chmod", "-R", "u+rwx", base], check=False)
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
