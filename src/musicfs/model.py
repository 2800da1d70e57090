"""The values that every part uses: no I/O, no behaviour beyond their own consistency."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import ClassVar, NamedTuple, NewType

from musicfs.problems import Problem, Reason

OriginId = NewType("OriginId", str)
"""The name that the user gave an origin; unique within a configuration."""

Fingerprint = NewType("Fingerprint", bytes)
"""32 bytes that stand for one exact sequence of bytes (see tags/fingerprint.py)."""


class OriginType(str):
    """The kind of an origin: one of the five built in, or the name that a plugin registered.

    A string rather than an enumeration, because plugins add kinds at run time.
    """

    __slots__ = ()

    LOCAL: ClassVar[OriginType]
    NFS: ClassVar[OriginType]
    SMB: ClassVar[OriginType]
    S3: ClassVar[OriginType]
    SFTP: ClassVar[OriginType]


OriginType.LOCAL = OriginType("local")
OriginType.NFS = OriginType("nfs")
OriginType.SMB = OriginType("smb")
OriginType.S3 = OriginType("s3")
OriginType.SFTP = OriginType("sftp")


_MIN_NS, _MAX_NS = -(2**63), 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_SIZE = 2**63 - 1
"""The largest size of a file, in bytes: what the kernel and the catalogue can hold."""
_MAX_NAME = 255  # bytes
_MAX_PATH = 4096
_NO_NAMES = frozenset((b"", b".", b".."))


def encode_path(path: str) -> bytes:
    """The bytes of a path at an origin or in the catalogue; surrogate escapes become the bytes that they stand for.

    On a disk of this machine names are in the system's encoding: `os.fsencode` is for them.

    Raises:
        UnicodeEncodeError: The path has a surrogate that stands for no byte.
    """
    return path.encode("utf-8", "surrogateescape")


def decode_path(path: bytes) -> str:
    """The inverse of `encode_path`: bytes that are not UTF-8 become surrogate escapes."""
    return path.decode("utf-8", "surrogateescape")


def stored_ns(ns: float) -> int:
    """Clamps a time in nanoseconds since the epoch to a signed number of 64 bits, as it is stored and compared.

    Times before 1677 and after 2262 become the nearest that fits, and NaN becomes 0: a broken clock hides no file.
    """
    if _MIN_NS <= ns <= _MAX_NS:
        return int(ns)
    if ns != ns:
        return 0
    return _MIN_NS if ns < 0 else _MAX_NS


def ns_of(when: datetime) -> int:
    """Returns a date in nanoseconds since the epoch, in whole seconds; a date without a time zone is in UTC."""
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return stored_ns((aware - _EPOCH) // timedelta(seconds=1) * 10**9)


class HealthStatus(Enum):
    """The health of an origin. UNKNOWN ranks as DEGRADED does."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class Owner(NamedTuple):
    """A file's owner and group, and who may read it.

    mode: those of the bits 0o400, 0o040 and 0o004 that hold when all folders above the file are taken into account.
    """

    uid: int
    gid: int
    mode: int


@dataclass(frozen=True, slots=True)
class Stat:
    """One file as an origin lists it.

    path: relative to the origin's root, "/"-separated, without a leading slash; bytes that are not UTF-8
    are kept as surrogate escapes. size: bytes. mtime_ns: nanoseconds since the epoch, as `stored_ns` makes them
    of any time. etag: the store's own version of the bytes, where it has one. owner: where the origin has
    users as this machine has them; it is no part of the version.
    """

    path: str
    size: int
    mtime_ns: int
    etag: str | None = None
    owner: Owner | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if type(self.mtime_ns) is not int or not _MIN_NS <= self.mtime_ns <= _MAX_NS:
            object.__setattr__(self, "mtime_ns", stored_ns(self.mtime_ns))

    def problem(self) -> Problem | None:
        """Returns why neither the catalogue nor the kernel can hold this file, or None."""
        if type(self.size) is not int or not 0 <= self.size <= MAX_SIZE:
            return Problem(self.path, Reason.BAD_SIZE, "the size is negative or above 2^63-1 bytes")
        try:
            path = encode_path(self.path)
        except UnicodeEncodeError:
            return Problem(self.path, Reason.BAD_NAME, "the name is no Unicode")
        if len(path) > _MAX_PATH or (len(path) > _MAX_NAME and max(map(len, path.split(b"/"))) > _MAX_NAME):
            return Problem(self.path, Reason.BAD_NAME, "the name has more than 255 bytes, or the path more than 4096")
        if b"\0" in path or not _NO_NAMES.isdisjoint(path.split(b"/")):
            return Problem(self.path, Reason.BAD_NAME, "the name is no path of a file")
        return None


@dataclass(frozen=True, slots=True)
class Replica:
    """One file at one origin, in the version that was scanned. A driver refuses to read any other version.

    uid: set while a scan reads the file: the owner in the listing, so that no other user's file is read for it.
    """

    origin: OriginId
    path: str
    size: int
    mtime_ns: int
    etag: str | None = None
    uid: int | None = field(default=None, compare=False)

    @classmethod
    def of(cls, origin: OriginId, stat: Stat) -> Replica:
        uid = None if stat.owner is None else stat.owner.uid
        return cls(origin, stat.path, stat.size, stat.mtime_ns, stat.etag, uid)

    def is_version(self, stat: Stat) -> bool:
        """Whether `stat` describes the bytes that were scanned: by ETag where both have one, else size and mtime."""
        if self.etag is not None and stat.etag is not None:
            return self.etag == stat.etag
        return self.size == stat.size and self.mtime_ns == stat.mtime_ns


class DiskFolder(NamedTuple):
    """The root of an origin on a disk of this machine.

    through_links: whether its files may be opened through symbolic links that stay inside it.
    """

    path: str
    through_links: bool


@dataclass(frozen=True, slots=True)
class Content:
    """One exact sequence of bytes, and its number in the catalogue. Its replicas are interchangeable."""

    id: int
    fingerprint: Fingerprint
    size: int
