"""Origins that count or break off."""

from __future__ import annotations

from collections.abc import AsyncIterator

from musicfs.model import Replica, Stat
from musicfs.origin import Origin
from musicfs.testing.scanned_library import ScannedLibrary, scanned_library

__all__ = ["BreakingOrigin", "CountingOrigin", "ScannedLibrary", "scanned_library"]


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
