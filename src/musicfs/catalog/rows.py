"""The catalogue's rows as plain values, for modules without SQL."""

from __future__ import annotations

from typing import NamedTuple

from musicfs.model import Fingerprint, Owner, Stat


class FolderFile(NamedTuple):
    """One replica of an album folder. tags: JSON; None: it has none."""

    replica: int
    origin: str
    path: str
    role: str
    content: int
    tags: str | None


class TreeEntry(NamedTuple):
    """Where one replica asks to appear in the tree; see `entries` in schema.sql."""

    replica: int
    dir: str
    name: str
    disc_name: str
    discs: bool
    key: str
    content: int


class Copy(NamedTuple):
    """One replica of a content, as ranking variants needs it."""

    content: int
    origin: str
    path: str
    folder: bytes
    replica: int
    reachable: bool
    priority: int
    size: int
    mtime_ns: int
    owner: Owner | None = None


NO_OWNER = (None, None, None)
"""The columns uid, gid and mode of a row without an `Owner`."""

ALSO_WITHOUT_OWNER = 0o1000
"""In the mode of a node: it also has a copy at an origin without owners."""


class Shape(NamedTuple):
    """A node without its name and its content. size in bytes; mtime_ns since the epoch; uid, gid, mode: see
    ownership.sql."""

    shown: bool
    size: int
    mtime_ns: int
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None


class FileRow(NamedTuple):
    """One file of the tree."""

    ino: int
    name: str
    content: int
    shape: Shape


class FreshFile(NamedTuple):
    """A file that the catalogue does not have in this version. is_changed: it has another version."""

    stat: Stat
    is_changed: bool


class OwnerChange(NamedTuple):
    """The new owner of the replica with this number."""

    replica: int
    owner: Owner | None


class Compared(NamedTuple):
    """How an origin's files differ from the catalogue. known: the numbers of the replicas that it has of them."""

    fresh: list[FreshFile]
    known: list[int]
    owners: list[OwnerChange]


class Touched(NamedTuple):
    """What a change of replicas touches: album folders, and directories of the tree."""

    folders: set[bytes]
    dirs: set[str]


class ScannedFile(NamedTuple):
    """What a scan learned of one file."""

    stat: Stat
    folder: str
    role: str
    fingerprint: Fingerprint
    tags: str | None
    problem: str | None
