"""Origins that count or break off, and a catalogue as an earlier version left it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from sqlite3 import Connection

from musicfs.model import Replica, Stat
from musicfs.origin import Origin
from musicfs.testing.scanned_library import ScannedLibrary, scanned_library

__all__ = ["BreakingOrigin", "CountingOrigin", "ScannedLibrary", "scanned_library", "take_ownership_out"]


def take_ownership_out(db: Connection) -> None:
    """Makes the catalogue one of a version that knew of no owners and of no links that are left out."""
    db.execute("DROP TABLE left_out")
    columns = {"origins": ("left_out", "hidden"), "replicas": ("uid", "gid", "mode"), "nodes": ("uid", "gid", "mode")}
    for table, names in columns.items():
        for name in names:
            db.execute(f"ALTER TABLE {table} DROP COLUMN {name}")


class CountingOrigin:
    """Counts what is read of the origin behind it, which nothing reads past it."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self.bytes_read = 0
        self.files: set[str] = set()

    def __getattr__(self, name: str) -> object:
        if name in ("folder_on_disk", "read_ranges", "scan_observed"):
            raise AttributeError(name)
        return getattr(self._origin, name)

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        data = await self._origin.read(replica, offset, size)
        self.bytes_read += len(data)
        self.files.add(replica.path)
        return data


class BreakingOrigin:
    """Breaks off its listing after some files with `error`."""

    def __init__(self, origin: Origin, after: int, error: Exception) -> None:
        self._origin = origin
        self._after = after
        self._error = error

    def __getattr__(self, name: str) -> object:
        if name == "scan_observed":
            raise AttributeError(name)
        return getattr(self._origin, name)

    async def scan(self, under: str = "") -> AsyncIterator[Stat]:
        count = 0
        async for stat in self._origin.scan(under):
            if count == self._after:
                raise self._error
            count += 1
            yield stat
