"""What the search index has not taken yet, as the catalogue's one writer sees it.

Triggers add to it: see search_pending.sql.
"""

from __future__ import annotations

import secrets
import sqlite3
from typing import NamedTuple

from musicfs.catalog.search_index import IndexedTrack

_MARK = "search_mark"


class PendingTracks(NamedTuple):
    """The oldest of the tracks that the index lacks. last: what to tell `SearchPending.clear` when it has them."""

    tracks: list[IndexedTrack]
    last: int


class SearchPending:
    """Hands out what the index lacks. The caller calls every method inside a transaction, but `oldest`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def mark(self) -> str:
        """What tells this catalogue's index from another's."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (_MARK,)).fetchone()
        if row is not None:
            return str(row[0])
        mark = secrets.token_hex(8)
        self._db.execute("INSERT INTO meta VALUES (?, ?)", (_MARK, mark))
        return mark

    def add_all(self) -> None:
        """Makes the index take everything."""
        self._db.execute("DELETE FROM search_pending")
        self._db.execute("INSERT INTO search_pending (content) SELECT id FROM contents WHERE tags IS NOT NULL")

    def oldest(self, most: int) -> PendingTracks:
        """Returns what the first `most` rows are about: contents with their tags, or without if they have gone."""
        rows = self._db.execute(
            "SELECT p.seq, p.content, c.tags, l.first_seen FROM search_pending p"
            " LEFT JOIN contents c ON c.id = p.content LEFT JOIN lineages l ON l.id = c.lineage"
            " ORDER BY p.seq LIMIT ?",
            (most,),
        ).fetchall()
        tracks = {content: IndexedTrack(content, tags, added) for _, content, tags, added in rows}
        return PendingTracks(list(tracks.values()), rows[-1][0] if rows else 0)

    def clear(self, last: int) -> None:
        """Forgets what the index has taken."""
        self._db.execute("DELETE FROM search_pending WHERE seq <= ?", (last,))
