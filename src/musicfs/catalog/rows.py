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


BY_TAGS = "tags:"
"""Starts the key of an entry that stands for all copies of its content, wherever they are."""


class TreeEntry(NamedTuple):
    """Where one replica asks to appear in the tree; see `entries` in schema.sql."""

    replica: int
    dir: str
    name: str
    disc_name: str
    discs: bool
    key: str
    content: int

    @property
    def is_by_tags(self) -> bool:
        """Whether this entry stands for all copies of its content."""
        return self.key.startswith(BY_TAGS)


class Copy(NamedTuple):
    """One replica of a content, as choosing its place and ranking variants need it."""

    content: int
    origin: str
    path: str
    replica: int
    reachable: bool
    priority: int


class Copies(NamedTuple):
    """What the copies of one content that have one owner share. mtime_ns: the oldest; size in bytes."""

    size: int
    mtime_ns: int
    owner: Owner | None


NO_OWNER = (None, None, None)
"""The columns uid, gid and mode of a row without an `Owner`."""

ALSO_WITHOUT_OWNER = 0o1000
"""In the mode of an inode: it also has a copy at an origin without owners."""


class Attributes(NamedTuple):
    """What an inode shows. size in bytes; mtime_ns since the epoch; uid, gid, mode: see ownership.sql."""

    size: int
    mtime_ns: int
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None


class NamedFile(NamedTuple):
    """One name of a file in a directory of the tree."""

    name: str
    shown: bool
    ino: int
    content: int
    attributes: Attributes


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
    """What a change of replicas touches.

    folders: album folders to place. dirs: directories of the tree to resolve. contents: what has other copies, or
    copies with other owners, than before.
    """

    folders: set[bytes]
    dirs: set[str]
    contents: set[int]


class ScannedFile(NamedTuple):
    """What a scan learned of one file."""

    stat: Stat
    folder: str
    role: str
    fingerprint: Fingerprint
    tags: str | None
    problem: str | None
