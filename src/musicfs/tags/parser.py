"""What a parse process does: fingerprints and tags, from the bytes that it is given, or that it reads from a disk.

It imports little on purpose: each of the processes does so before its first file.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from musicfs.model import DiskFolder, Fingerprint, stored_ns
from musicfs.system import hardening
from musicfs.system.linux import end_with_parent, open_within
from musicfs.tags.fingerprint import fingerprint, sample_ranges
from musicfs.tags.range_file import NeedRange, RangeFile, Unreadable
from musicfs.tags.tags import read_tags

# A file whose tags ask for more than this is listed under its own name: no tag is worth its transfer.
_MAX_BYTES = 64 * 1024 * 1024
_MAX_ROUNDS = 64
_AHEAD = 4
"""So many files are open at once."""


@dataclass(frozen=True, slots=True)
class Examined:
    """tags is JSON, or None with the reason in `problem`; a sidecar has neither."""

    fingerprint: Fingerprint
    tags: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class MissingBytes:
    """The bytes that are missing to go on."""

    offset: int
    size: int


class FileOnDisk(NamedTuple):
    """A file in the version that is to be examined; its path is relative to the origin's folder. uid: whose it was when
    it was listed; None: that does not matter."""

    path: str
    role: str
    size: int
    mtime_ns: int
    uid: int | None = None


@dataclass(slots=True)
class Gathered:
    """What is here of one file (offset -> bytes), and what is to be read next, as (offset, length) pairs."""

    ranges: dict[int, bytes]
    wanted: Sequence[tuple[int, int]]
    rounds: int = field(default=0)

    @classmethod
    def nothing(cls, size: int) -> Gathered:
        """Of a file of `size` bytes: the fingerprint's samples come first."""
        return cls({}, sample_ranges(size))

    def add(self, pieces: Sequence[bytes]) -> None:
        """Takes what was read of each of the ranges wanted."""
        for (offset, _), data in zip(self.wanted, pieces, strict=True):
            if len(data) > len(self.ranges.get(offset, b"")):
                self.ranges[offset] = data
        self.rounds += 1

    @property
    def give_up(self) -> bool:
        return self.rounds > _MAX_ROUNDS or sum(map(len, self.ranges.values())) > _MAX_BYTES


def dump_tags(tags: Mapping[str, object]) -> str:
    """As the catalogue keeps them."""
    return json.dumps(tags, separators=(",", ":"))


def examine(name: str, role: str, size: int, ranges: Mapping[int, bytes], give_up: bool) -> Examined | MissingBytes:
    """Fingerprints a file and parses its tags from the ranges that are here (offset -> bytes)."""
    try:
        return _examine(fingerprint(size, ranges), name, role, size, ranges, give_up)
    except NeedRange as need:
        return MissingBytes(need.offset, need.size)


def _examine(
    identity: Fingerprint, name: str, role: str, size: int, ranges: Mapping[int, bytes], give_up: bool
) -> Examined:
    """Raises `NeedRange` for bytes that are not here."""
    if role != "audio":
        return Examined(identity, None, None)
    if give_up:
        return Examined(identity, None, "its tags are larger than can be read")
    try:
        tags = read_tags(RangeFile(size, ranges), name)
    except Unreadable as error:
        return Examined(identity, None, str(error))
    return Examined(identity, dump_tags(tags.to_json()), None)


def examine_files(folder: DiskFolder, files: Sequence[FileOnDisk]) -> list[Examined | None]:
    """Examines files below a folder of this machine, which it reads itself: that spares their bytes the way here.

    None stands for a file that can't be opened as it should, is not this version of it, or lies on another mount:
    reading it through its origin tells what that means.
    """
    try:
        root = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return [None] * len(files)
    opened: deque[int | None] = deque()
    following = iter(files)
    found: list[Examined | None] = []
    try:
        for file in files:
            # The disk is told what will be wanted of some files, so that it never waits for their parsing.
            while len(opened) < _AHEAD and (another := next(following, None)) is not None:
                opened.append(_open(root, another, folder.through_links))
            found.append(_examine_file(opened.popleft(), file))
    finally:
        for fd in (root, *opened):
            if fd is not None:
                os.close(fd)
    return found


def _open(root: int, file: FileOnDisk, through_links: bool) -> int | None:
    try:
        fd = open_within(root, file.path, through_links=through_links)
    except (OSError, ValueError):
        return None
    with contextlib.suppress(OSError):  # of a pipe, say
        for offset, size in sample_ranges(file.size):
            os.posix_fadvise(fd, offset, size, os.POSIX_FADV_WILLNEED)
    return fd


def _examine_file(fd: int | None, file: FileOnDisk) -> Examined | None:
    """Closes it."""
    if fd is None:
        return None
    try:
        found = _examine_open(fd, file) if _is_version(fd, file) else None
        return found if _is_version(fd, file) else None  # what was read until now is then of that version
    except OSError:
        return None
    finally:
        os.close(fd)


def _examine_open(fd: int, file: FileOnDisk) -> Examined | None:
    """None: it is shorter than it was."""
    gathered, identity = Gathered.nothing(file.size), None
    while True:
        gathered.add([os.pread(fd, size, offset) for offset, size in gathered.wanted])
        try:
            identity = identity or fingerprint(file.size, gathered.ranges)
            return _examine(identity, file.path, file.role, file.size, gathered.ranges, gathered.give_up)
        except NeedRange as need:
            if identity is None:
                return None
            gathered.wanted = [(need.offset, need.size)]


def _is_version(fd: int, file: FileOnDisk) -> bool:
    about = os.fstat(fd)
    version = about.st_size, stored_ns(about.st_mtime_ns)
    same_user = file.uid is None or about.st_uid == file.uid
    return stat.S_ISREG(about.st_mode) and version == (file.size, file.mtime_ns) and same_user


def begin(owner: int) -> None:
    """At low priority, and no longer than the pool's owner lives: nobody tells the pool when that is killed."""
    hardening.hide_memory()  # the environment may hold passwords
    os.nice(5)
    end_with_parent()
    if os.getppid() != owner:
        os._exit(0)
