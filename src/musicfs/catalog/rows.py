"""What the catalogue takes and gives: rows as plain values, for whoever places, ranks or scans without SQL."""

from __future__ import annotations

from typing import NamedTuple

from musicfs.model import Fingerprint, Owner, Stat


class FolderFile(NamedTuple):
    """One replica of a folder, with what its content is known to be."""

    replica: int
    origin: str
    path: str
    role: str
    content: int
    tags: str | None


class TreeEntry(NamedTuple):
    """Where one replica asks to appear; see `entries` in schema.sql."""

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
"""What stands in a row for `Owner` where there is none."""

ALSO_WITHOUT_OWNER = 0o1000
"""In the mode of a node: a copy of it is at an origin that knows of no owners."""


class Shape(NamedTuple):
    """What a node says of its file, besides its name and its content. uid, gid, mode: see ownership.sql."""

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


class Compared(NamedTuple):
    """How an origin's files differ from what the catalogue has of them.

    fresh: files that it does not have in this version, with whether it has another version. known: the numbers of the
    replicas that it has in any version. owners: the new owner of each replica, by its number, that changed hands.
    """

    fresh: list[tuple[Stat, bool]]
    known: list[int]
    owners: list[tuple[int, Owner | None]]


class ScannedFile(NamedTuple):
    """What a scan learned of one file."""

    stat: Stat
    folder: str
    role: str
    fingerprint: Fingerprint
    tags: str | None
    problem: str | None
