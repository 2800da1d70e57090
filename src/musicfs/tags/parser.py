"""What a parser finds out about one file: its fingerprint and its tags.

It imports little on purpose: the library worker, which parses nothing, imports it for the values.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from musicfs.model import Fingerprint, stored_ns
from musicfs.problems import Reason
from musicfs.tags.fingerprint import fingerprint, sample_ranges
from musicfs.tags.range_file import MAX_IN_ALL, NeedRange, RangeFile, TagsTooLarge, Unreadable
from musicfs.tags.tags import read_tags

CPU_SECS = 2.0
"""A file may take so much of a processor, in all passes."""
MEMORY = 64 << 20
"""Bytes that a file may take beyond what a parser has before it."""
PATIENCE_SECS = 10.0
"""A parser that has all bytes of a file may make no progress for so long."""
MAX_TEXT = 256 * 1024
"""Bytes of JSON: all that is kept of a file."""
TOO_LARGE = f"its tags are larger than {MAX_IN_ALL >> 20} MiB"
TOO_SLOW = f"its tags took more than {CPU_SECS:.0f} s to read"
TOO_MUCH_MEMORY = f"its tags took more than {MEMORY >> 20} MiB of memory to read"
HUNG = f"its tags took more than {PATIENCE_SECS:.0f} s to read"
TOO_LONG = f"its tags have more than {MAX_TEXT // 1024} KiB of text"
_MAX_ROUNDS = 64
_TOO_SCATTERED = f"its tags take more than {_MAX_ROUNDS} reads"
_COSTLY = frozenset((TOO_LARGE, TOO_SLOW, TOO_MUCH_MEMORY, HUNG, TOO_LONG, _TOO_SCATTERED))


@dataclass(frozen=True, slots=True)
class Examined:
    """What one file is. tags: JSON; None: see `problem`. A sidecar has neither."""

    fingerprint: Fingerprint
    tags: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class MissingBytes:
    """The bytes that the parser needs next. cpu_secs: what it has used of a processor in this pass."""

    offset: int
    size: int
    cpu_secs: float = 0.0


class FileOnDisk(NamedTuple):
    """A file in the version that the scan listed. path: relative to the origin's folder. uid: its owner then; None: the
    owner does not matter."""

    path: str
    role: str
    size: int
    mtime_ns: int
    uid: int | None = None


@dataclass(slots=True)
class Gathered:
    """The bytes of one file that are here (offset -> bytes), and what to read next, as (offset, length) pairs."""

    ranges: dict[int, bytes]
    wanted: Sequence[tuple[int, int]]
    rounds: int = field(default=0)

    @classmethod
    def nothing(cls, size: int) -> Gathered:
        """The state before the first read of a file of `size` bytes: the fingerprint's samples come first."""
        return cls({}, sample_ranges(size))

    def add(self, pieces: Sequence[bytes]) -> None:
        """Adds what was read of each wanted range."""
        for (offset, _), data in zip(self.wanted, pieces, strict=True):
            if len(data) > len(self.ranges.get(offset, b"")):
                self.ranges[offset] = data
        self.rounds += 1

    def want(self, offset: int, size: int) -> str | None:
        """Makes this the next read. Returns why it must not be made, or None."""
        if sum(map(len, self.ranges.values())) + size > MAX_IN_ALL:
            return TOO_LARGE
        self.wanted = [(offset, size)]
        return _TOO_SCATTERED if self.rounds >= _MAX_ROUNDS else None


def reason_of(problem: str) -> Reason:
    """What the problem of a file without tags is called where problems are counted."""
    return Reason.TOO_COSTLY if problem in _COSTLY else Reason.DAMAGED


def dump_tags(tags: Mapping[str, object]) -> str:
    """The JSON that the catalogue keeps."""
    return json.dumps(tags, separators=(",", ":"))


def examine(name: str, role: str, size: int, ranges: Mapping[int, bytes]) -> Examined | MissingBytes:
    """Fingerprints a file and parses its tags.

    Args:
        name: Of the file.
        role: "audio", or "sidecar" for a file without tags.
        size: Of the file, in bytes.
        ranges: The bytes that are here: offset -> bytes.

    Raises:
        MemoryError: The process has no more memory.
    """
    try:
        return _examine(fingerprint(size, ranges), name, role, size, ranges)
    except NeedRange as need:
        return MissingBytes(need.offset, need.size)


def examine_open(fd: int, file: FileOnDisk) -> Examined | None:
    """Does what `examine` does for an open file, whose bytes it reads itself.

    Returns:
        What the file is. None: it is another version than was listed, or can't be read; reading it through its origin
        finds out what that means.
    """

    def fetch(offset: int, size: int) -> bytes:
        with contextlib.suppress(OSError):
            data = os.pread(fd, size, offset)
            if len(data) == size:
                return data
        raise NeedRange(offset, size)  # which no tag parser swallows

    try:
        if not _is_version(fd, file):
            return None
        ranges = {offset: fetch(offset, size) for offset, size in sample_ranges(file.size)}
        found = _examine(fingerprint(file.size, ranges), file.path, file.role, file.size, ranges, fetch)
        return found if _is_version(fd, file) else None  # what was read until now is then of that version
    except (OSError, NeedRange):
        return None


def _examine(
    identity: Fingerprint,
    name: str,
    role: str,
    size: int,
    ranges: Mapping[int, bytes],
    fetch: Callable[[int, int], bytes] | None = None,
) -> Examined:
    """Raises `NeedRange` for bytes that are not here, unless `fetch` can read them."""
    if role != "audio":
        return Examined(identity, None, None)
    try:
        tags = read_tags(RangeFile(size, ranges, fetch=fetch), name)
    except TagsTooLarge:
        return Examined(identity, None, TOO_LARGE)
    except Unreadable as error:
        return Examined(identity, None, str(error))
    except MemoryError:
        return Examined(identity, None, TOO_MUCH_MEMORY)
    return Examined(identity, dump_tags(tags.to_json()), None)


def _is_version(fd: int, file: FileOnDisk) -> bool:
    about = os.fstat(fd)
    version = about.st_size, stored_ns(about.st_mtime_ns)
    same_user = file.uid is None or about.st_uid == file.uid
    return stat.S_ISREG(about.st_mode) and version == (file.size, file.mtime_ns) and same_user
