"""What the catalogue takes and gives: rows as plain values, for whoever places, ranks or scans without SQL."""

from __future__ import annotations

from typing import NamedTuple

from musicfs.model import Fingerprint, Stat


class FolderFile(NamedTuple):
    """One replica of a folder, with what its content is known to be."""

    replica: int
    origin: str
    path: str
    role: str
    content: int
    tags: str | None


class Entry(NamedTuple):
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


class Found(NamedTuple):
    """What a scan learned of one file."""

    stat: Stat
    folder: str
    role: str
    fingerprint: Fingerprint
    tags: str | None
    problem: str | None
