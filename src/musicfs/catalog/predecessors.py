"""Which contents a file had before its present one: cached blocks of them may serve again (content/retag.py)."""

from __future__ import annotations

import sqlite3

from musicfs.model import Content, Fingerprint

_MAX = 4


def record_predecessor(db: sqlite3.Connection, content: int, before: int) -> None:
    """Records that a file that held the content `before` now holds `content`. Both are ids of contents."""
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
    """What files that hold the content held before, the latest first. Their id is 0: the catalogue may no longer have
    them."""
    rows = db.execute("SELECT fingerprint, size FROM predecessors WHERE content = ? ORDER BY id DESC", (content,))
    return [Content(0, Fingerprint(fingerprint), size) for fingerprint, size in rows]
