"""A listener while places fail, a program of its own that can be killed. Prints one JSON object.

Usage: python -m bench.listener midstream FILE FLAG, or list FOLDER, or play FOLDER LISTING.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHUNK = 128 << 10
_HEAD = 4 << 20
_PACE = 1.15e6
_PATIENCE_SECS = 60.0


def midstream(file: str, flag: str) -> dict[str, Any]:
    """Reads the beginning as slowly as it plays, makes `flag` a file, waits until that has gone, and reads the rest.

    gap: the longest wait for bytes after that, in seconds. digest: of all. error: what ended it early, or "".
    """
    digest, gap, done, error = hashlib.sha256(), 0.0, 0, ""
    descriptor = os.open(file, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    started, waited = time.monotonic(), False
    try:
        while True:
            asked = time.monotonic()
            data = os.read(descriptor, _CHUNK)
            gap = max(gap, time.monotonic() - asked) if waited else 0.0
            if not data:
                break
            digest.update(data)
            done += len(data)
            if done < _HEAD:
                time.sleep(max(0.0, started + done / _PACE - time.monotonic()))
            elif not waited:
                waited = True
                Path(flag).touch()
                while Path(flag).exists() and time.monotonic() < asked + _PATIENCE_SECS:
                    time.sleep(0.005)
    except OSError as problem:
        gap = max(gap, time.monotonic() - asked)
        error = _name(problem)
    return {"gap": gap, "digest": digest.hexdigest(), "bytes": done, "error": error}


def listing_of(folder: str) -> dict[str, Any]:
    """files: how many it saw, with their attributes."""
    started, files, error = time.monotonic(), 0, ""

    def note(problem: OSError) -> None:
        nonlocal error
        error = _name(problem)

    for here, _, names in os.walk(folder, onerror=note):
        for name in (name for name in names if not name.startswith(".")):
            try:
                files += (Path(here) / name).stat().st_size > 0
            except OSError as problem:
                note(problem)
    return {"files": files, "error": error, "seconds": time.monotonic() - started}


def play(folder: str, listing: str) -> dict[str, Any]:
    """right: how many files had the bytes that they should. The list has a digest and a path in each line."""
    started, right, error, longest = time.monotonic(), 0, "", 0.0
    lines = Path(listing).read_text().splitlines()
    for line in lines:
        digest, _, name = line.partition(" ")
        asked = time.monotonic()
        try:
            right += hashlib.sha256((Path(folder) / name).read_bytes()).hexdigest() == digest
        except OSError as problem:
            error = _name(problem)
        longest = max(longest, time.monotonic() - asked)
    taken = time.monotonic() - started
    return {"right": right, "of": len(lines), "error": error, "seconds": taken, "longest": longest}


def _name(problem: OSError) -> str:
    return errno.errorcode.get(problem.errno or 0, str(problem.errno))


if __name__ == "__main__":
    works: dict[str, Callable[..., dict[str, Any]]] = {"midstream": midstream, "list": listing_of, "play": play}
    print(json.dumps(works[sys.argv[1]](*sys.argv[2:4])))
