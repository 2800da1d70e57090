"""Which contents a file had before the one it has now: what is cached of them may serve again (content/retag.py)."""

from __future__ import annotations

import sqlite3

from musicfs.model import Content, Fingerprint

_MAX = 4


def note_predecessor(db: sqlite3.Connection, content: int, before: int) -> None:
    """The file that held `before` holds `content` now."""
    db.execute(
        "INSERT OR REPLACE INTO predecessors (content, fingerprint, size)"
        " SELECT ?, p.fingerprint, p.size FROM predecessors p JOIN contents c ON c.id = ?"
        " WHERE p.content = ? AND p.fingerprint <> c.fingerprint ORDER BY p.id",
        (content, content, before),
    )
    db.execute(
        "INSERT OR REPLACE INTO predecessors (content, fingerprint, size) SELECT ?, fingerprint, size FROM contents"
        " WHERE id = ?",
        (content, before),
    )
    db.execute(
        "DELETE FROM predecessors WHERE content = ? AND id NOT IN"
        " (SELECT id FROM predecessors WHERE content = ? ORDER BY id DESC LIMIT ?)",
        (content, content, _MAX),
    )


def find_predecessors(db: sqlite3.Connection, content: int) -> list[Content]:
    """The latest first. They may be in the catalogue no more: their id is 0."""
    rows = db.execute("SELECT fingerprint, size FROM predecessors WHERE content = ? ORDER BY id DESC", (content,))
    return [Content(0, Fingerprint(fingerprint), size) for fingerprint, size in rows]
