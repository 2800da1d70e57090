"""The values that every part speaks in: no I/O, no behaviour beyond their own consistency."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, NewType

OriginId = NewType("OriginId", str)
"""The name that the user gave an origin; unique within a configuration."""

Fingerprint = NewType("Fingerprint", bytes)
"""32 bytes that stand for one exact sequence of bytes (see library/identity.py)."""


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


class HealthStatus(Enum):
    """What is known of an origin. UNKNOWN ranks as DEGRADED does."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Stat:
    """One file as an origin lists it.

    path: relative to the origin's root, "/"-separated, without a leading slash; bytes that are not UTF-8
    are kept as surrogate escapes. size: bytes. mtime_ns: nanoseconds since the epoch. etag: the store's
    own version of the bytes, where it has one.
    """

    path: str
    size: int
    mtime_ns: int
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Replica:
    """One file at one origin, in the version that was scanned. A driver refuses to read any other version."""

    origin: OriginId
    path: str
    size: int
    mtime_ns: int
    etag: str | None = None

    @classmethod
    def of(cls, origin: OriginId, stat: Stat) -> Replica:
        return cls(origin, stat.path, stat.size, stat.mtime_ns, stat.etag)

    def is_version(self, stat: Stat) -> bool:
        """Whether `stat` describes the bytes that were scanned: by ETag where both have one, else size and mtime."""
        if self.etag is not None and stat.etag is not None:
            return self.etag == stat.etag
        return self.size == stat.size and self.mtime_ns == stat.mtime_ns


@dataclass(frozen=True, slots=True)
class Content:
    """One exact sequence of bytes, and the catalogue's number for it. Its replicas are interchangeable."""

    id: int
    fingerprint: Fingerprint
    size: int
