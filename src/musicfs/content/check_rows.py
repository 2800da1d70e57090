"""Keeps rows of the checksum file in memory, so that the first read of a file mostly needs no thread."""

from __future__ import annotations

from collections.abc import Iterable

Row = tuple[bytes, bytes, bytes, bytes]
"""A content's digests, block checksums and witnesses of its blocks, and the witnesses of its copies (witnesses.py)."""

_ROOM = 8_000_000  # bytes
_OVERHEAD = 330  # bytes of objects around a row's own


class CheckRows:
    """Knows the rows that came first, as many as fit in 8 MB. Each is always as it was written last. Belongs to the
    event loop's thread."""

    def __init__(self) -> None:
        self._rows: dict[bytes, Row] = {}
        self._room = _ROOM
        self.is_whole = False
        """Whether these are all rows, so that a content without one has none in the file either."""
        self.get = self._rows.get

    def add(self, page: Iterable[tuple[bytes, Row]], *, is_last: bool) -> None:
        """Adds rows that were read from the file, except those that have been written since. is_last: all are here."""
        for fingerprint, row in page:
            if fingerprint not in self._rows:
                self.put(fingerprint, row)
        self.is_whole = is_last and self._room > 0

    def put(self, fingerprint: bytes, row: Row) -> None:
        """Replaces a row by what is about to be written. A new row is added if there is room."""
        if fingerprint not in self._rows:
            self._room -= _OVERHEAD + sum(map(len, row))
            if self._room <= 0:
                self._room, self.is_whole = 0, False
                return
        self._rows[fingerprint] = row

    @property
    def is_full(self) -> bool:
        return self._room <= 0
