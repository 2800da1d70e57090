"""The values that every part speaks in: no I/O, no behaviour beyond their own consistency."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import ClassVar, NamedTuple, NewType

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
    """A time in nanoseconds since the epoch as it is kept and compared: a signed number of 64 bits.

    Times before 1677 and after 2262 become the nearest that fits, and what is no number becomes 0: a broken clock costs
    no file.
    """
    if _MIN_NS <= ns <= _MAX_NS:
        return int(ns)
    if ns != ns:
        return 0
    return _MIN_NS if ns < 0 else _MAX_NS


def ns_of(when: datetime) -> int:
    """A date in nanoseconds since the epoch, in whole seconds; one without a time zone is in UTC."""
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return stored_ns((aware - _EPOCH) // timedelta(seconds=1) * 10**9)


class HealthStatus(Enum):
    """What is known of an origin. UNKNOWN ranks as DEGRADED does."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class Owner(NamedTuple):
    """Whom a file belongs to, and which of these may read it. mode: of the bits 0o400, 0o040 and 0o004 those that hold
    with all folders above the file taken into account."""

    uid: int
    gid: int
    mode: int


@dataclass(frozen=True, slots=True)
class Stat:
    """One file as an origin lists it.

    path: relative to the origin's root, "/"-separated, without a leading slash; bytes that are not UTF-8
    are kept as surrogate escapes. size: bytes. mtime_ns: nanoseconds since the epoch, as `stored_ns` makes them of
    whatever time is given. etag: the store's own version of the bytes, where it has one. owner: where the origin has
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

    def problem(self) -> str | None:
        """Why neither the catalogue nor the kernel can hold this file ("size is negative ..."); None: they can."""
        if type(self.size) is not int or not 0 <= self.size <= MAX_SIZE:
            return "size is negative or above 2^63-1 bytes"
        try:
            path = encode_path(self.path)
        except UnicodeEncodeError:
            return "name is no Unicode"
        if len(path) > _MAX_PATH or (len(path) > _MAX_NAME and max(map(len, path.split(b"/"))) > _MAX_NAME):
            return "name has more than 255 bytes, or their path more than 4096"
        if b"\0" in path or not _NO_NAMES.isdisjoint(path.split(b"/")):
            return "name is no path of a file"
        return None


@dataclass(frozen=True, slots=True)
class Replica:
    """One file at one origin, in the version that was scanned. A driver refuses to read any other version.

    uid: set while a scan reads it: the user that it was listed as belonging to, so that nothing else is read for it.
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
    """The root of an origin on a disk of this machine. through_links: whether its files may be opened by way of
    symbolic links, those that lead out of it aside."""

    path: str
    through_links: bool


@dataclass(frozen=True, slots=True)
class Content:
    """One exact sequence of bytes, and the catalogue's number for it. Its replicas are interchangeable."""

    id: int
    fingerprint: Fingerprint
    size: int
