"""What a parse process does: fingerprints and tags, from bytes that it receives or reads from a disk.

It imports little on purpose: each of the processes imports it before its first file.
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

# A file whose tags take more than this appears under its own name: no tag is worth its transfer.
_MAX_BYTES = 64 * 1024 * 1024
_MAX_ROUNDS = 64
_AHEAD = 4
"""At most so many files are open at once."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What one file is. tags: JSON; None: see `problem`. A sidecar has neither."""

    fingerprint: Fingerprint
    tags: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class MissingBytes:
    """The bytes that the parser needs next."""

    offset: int
    size: int


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

    @property
    def give_up(self) -> bool:
        return self.rounds > _MAX_ROUNDS or sum(map(len, self.ranges.values())) > _MAX_BYTES


def dump_tags(tags: Mapping[str, object]) -> str:
    """The JSON that the catalogue keeps."""
    return json.dumps(tags, separators=(",", ":"))


def examine(name: str, role: str, size: int, ranges: Mapping[int, bytes], give_up: bool) -> Examined | MissingBytes:
    """Fingerprints a file and parses its tags.

    Args:
        name: Of the file.
        role: "audio", or "sidecar" for a file without tags.
        size: Of the file, in bytes.
        ranges: The bytes that are here: offset -> bytes.
        give_up: Whether too many bytes are here already to read the tags.
    """
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
    """Reads and examines files below a folder of this machine, so that no process sends their bytes to another.

    Returns:
        One result for each file. None: it can't be opened, is another version, or lies on another mount; reading it
        through its origin finds out what that means.
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
            # The kernel starts to read the next files, so that the disk never waits for their parsing.
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
    """Examines an open file and closes it. None: see `examine_files`."""
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
    """None: the file is shorter than it was."""
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


def start_process(owner: int) -> None:
    """Prepares a parse process: low priority, and it ends with the pool's owner (a process id), even if that is
    killed."""
    hardening.hide_memory()  # the environment may hold passwords
    os.nice(5)
    end_with_parent()
    if os.getppid() != owner:
        os._exit(0)
