"""One random reader, a program of its own: what it did goes to standard output, one JSON object a line.

Usage: python -m bench.soak.reader MOUNT TRUTH SEED. TRUTH is a folder that has every file as it must be. Ends when
its standard input does.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import select
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHUNK = 128 << 10
_REAL_TIME = 1.15e6
"""Bytes per second: what uncompressed stereo of 24 bits at 192 kHz takes."""
_MAX_REAL_TIME_SECS = 20.0


class Reader:
    def __init__(self, mount: Path, truth: Path, dice: random.Random) -> None:
        self._mount = mount
        self._truth = truth
        self._dice = dice
        self._longest = 0.0

    def step(self) -> dict[str, Any]:
        """Does one thing; what it did and found."""
        draw = self._dice.random()
        started, self._longest = time.monotonic(), 0.0
        if draw < 0.04:
            found = self._list()
        elif draw < 0.06:
            found = self._write()
        else:
            found = self._read()
        return found | {"started": started, "ended": time.monotonic(), "longest": self._longest}

    def _call(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """One request; remembers the slowest."""
        began = time.monotonic()
        try:
            return work(*arguments)
        finally:
            self._longest = max(self._longest, time.monotonic() - began)

    def _any_track(self) -> tuple[str, bytes]:
        """Its path, and the bytes that it must have."""
        while True:
            with contextlib.suppress(FileNotFoundError):  # an album has just gone
                path = self._dice.choice(sorted(_files(self._truth)))
                return path, (self._truth / path).read_bytes()

    def _read(self) -> dict[str, Any]:
        """A piece of a track or all of it, sometimes as slowly as it plays, past the kernel's cache."""
        path, right = self._any_track()
        start = self._dice.choice((0, self._dice.randrange(len(right))))
        end = min(len(right), start + self._dice.choice((len(right), 4096, 300_000)))
        pace = self._dice.choice((0.0, 0.0, _REAL_TIME))
        found: dict[str, Any] = {"did": "read", "path": path, "error": 0, "wrong": -1, "bytes": 0}
        began, position = time.monotonic(), start
        try:
            file = self._call(os.open, self._mount / path, os.O_RDONLY)
            try:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                while position < end and time.monotonic() < began + _MAX_REAL_TIME_SECS:
                    data = self._call(os.pread, file, min(_CHUNK, end - position), position)
                    if not data or data != right[position : position + len(data)]:
                        found["wrong"] = position
                        break
                    position += len(data)
                    if pace:
                        time.sleep(max(0.0, began + (position - start) / pace - time.monotonic()))
            finally:
                os.close(file)
        except OSError as problem:
            found["error"] = problem.errno or errno.EIO
        return found | {"bytes": position - start}

    def _list(self) -> dict[str, Any]:
        """Everything, with its size, against what must be there."""
        wanted = _files(self._truth)
        found: dict[str, Any] = {"did": "list", "error": 0, "missing": [], "surplus": [], "resized": []}
        try:
            listed = self._listed(self._mount)
        except OSError as problem:
            return found | {"error": problem.errno or errno.EIO, "path": str(problem.filename)}
        later = _files(self._truth)
        return found | {
            "missing": sorted(wanted.keys() & later.keys() - listed.keys()),
            "surplus": sorted(listed.keys() - wanted.keys() - later.keys()),
            "resized": sorted(path for path, size in listed.items() if wanted.get(path, size) != size),
        }

    def _listed(self, folder: Path) -> dict[str, int]:
        listed: dict[str, int] = {}
        for name in self._call(os.listdir, folder):
            path = folder / name
            try:
                state = self._call(os.lstat, path)
                if stat.S_ISDIR(state.st_mode):
                    listed |= self._listed(path)
                else:
                    listed[str(path.relative_to(self._mount))] = state.st_size
            except FileNotFoundError:
                continue  # it went meanwhile: its origin was taken out, or not: `missing` tells
        return listed

    def _write(self) -> dict[str, Any]:
        """Each way of writing; those that were not refused as they should be."""
        path = self._mount / self._any_track()[0]
        ways: dict[str, Callable[[], Any]] = {
            "open": lambda: os.close(os.open(path, os.O_WRONLY)),
            "unlink": path.unlink,
            "rename": lambda: path.rename(path.with_name("other")),
            "mkdir": (path.parent / "new").mkdir,
            "truncate": lambda: os.truncate(path, 0),
        }
        allowed = []
        for name, way in ways.items():
            try:
                self._call(way)
            except OSError as problem:
                if problem.errno in (errno.EROFS, errno.ENOENT):
                    continue
            allowed.append(name)
        return {"did": "write", "path": str(path.relative_to(self._mount)), "allowed": allowed, "error": 0}


def _files(folder: Path) -> dict[str, int]:
    """Every file below it, with its size."""
    found = {}
    for here, _, names in os.walk(folder):
        for path in (Path(here) / name for name in names):
            with contextlib.suppress(FileNotFoundError):
                found[str(path.relative_to(folder))] = path.stat().st_size
    return found


def main() -> None:
    reader = Reader(Path(sys.argv[1]), Path(sys.argv[2]), random.Random(int(sys.argv[3])))
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        os.write(1, json.dumps(reader.step()).encode() + b"\n")


if __name__ == "__main__":
    main()
