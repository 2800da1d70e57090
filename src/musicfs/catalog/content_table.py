"""The contents as the catalogue's one writer sees them: their tags, the parser of these, and whose track they are."""

from __future__ import annotations

import sqlite3
import time
from typing import NamedTuple

from musicfs.catalog.database import storable
from musicfs.catalog.lineages import forget_departed, lineage_of
from musicfs.catalog.rows import ScannedFile, StaleFile
from musicfs.model import Owner, Stat, decode_path
from musicfs.tags.tags import PARSER_VERSION, Role


class StoredContent(NamedTuple):
    """The number of a content. has_other_tags: it was there, and a later parser has read other tags in it."""

    number: int
    has_other_tags: bool


class ContentTable:
    """Writes contents. The caller calls every method inside a transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def store(self, item: ScannedFile, before: int | None) -> StoredContent:
        """Adds the file's content, or brings its tags to the present `PARSER_VERSION`.

        Args:
            item: The file, which has just been read.
            before: The content that it held until now; None: it is new.
        """
        is_audio = item.role == Role.AUDIO.value
        row = self._db.execute(
            "SELECT id, lineage, parser, tags, problem FROM contents WHERE fingerprint = ?", (item.fingerprint,)
        ).fetchone()
        if row is None:
            return StoredContent(self._insert(item, before, is_audio), False)
        number, lineage, parser, *known = row
        if not is_audio or (lineage is not None and parser >= PARSER_VERSION):
            return StoredContent(number, False)
        # A parser that fails where an earlier one did not takes no tags away.
        tags, problem = known if item.tags is None else (item.tags, None)
        self._db.execute(
            "UPDATE contents SET tags = ?, problem = ?, lineage = ?, parser = ? WHERE id = ?",
            (tags, problem, lineage or self._lineage(item, before), PARSER_VERSION, number),
        )
        return StoredContent(number, tags != known[0])

    def _insert(self, item: ScannedFile, before: int | None, is_audio: bool) -> int:
        lineage = self._lineage(item, before) if is_audio else None
        problem = item.problem and storable(item.problem)
        cursor = self._db.execute(
            "INSERT INTO contents (fingerprint, size, tags, problem, lineage, parser) VALUES (?, ?, ?, ?, ?, ?)",
            (item.fingerprint, item.stat.size, item.tags, problem, lineage, PARSER_VERSION),
        )
        self._db.execute("DELETE FROM departed WHERE fingerprint = ?", (item.fingerprint,))
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _lineage(self, item: ScannedFile, before: int | None) -> int:
        return lineage_of(self._db, item.fingerprint, before, time.time())

    def stale(self, origin: int, limit: int, after: int) -> list[StaleFile]:
        """See `Catalog.stale_contents`. origin: its number."""
        rows = self._db.execute(
            "SELECT c.id, r.path, r.size, r.mtime_ns, r.etag, r.uid, r.gid, r.mode FROM contents c"
            " JOIN replicas r ON r.content = c.id AND r.origin = ? AND r.role = 'audio'"
            " WHERE c.parser < ? AND c.lineage IS NOT NULL AND c.id > ? GROUP BY c.id ORDER BY c.id LIMIT ?",
            (origin, PARSER_VERSION, after, limit),
        )
        return [
            StaleFile(number, Stat(decode_path(path), size, mtime_ns, etag, None if its[0] is None else Owner(*its)))
            for number, path, size, mtime_ns, etag, *its in rows
        ]

    def remove_unused(self) -> None:
        """Removes contents without replicas. Their fingerprints stay known for a while: see lineages.py."""
        self._db.execute(
            "DELETE FROM contents WHERE NOT EXISTS (SELECT 1 FROM replicas r WHERE r.content = contents.id)"
        )
        forget_departed(self._db)
