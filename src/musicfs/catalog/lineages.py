"""Whose track a content is: what is known of a piece of music stays when its file moves, is retagged, or comes back."""

from __future__ import annotations

import sqlite3

MAX_DEPARTED = 100_000
"""Fingerprints of files that are gone; the oldest are forgotten."""


def lineage_of(db: sqlite3.Connection, fingerprint: bytes, before: int | None, now: float) -> int:
    """The lineage of a content that the catalogue does not have yet.

    Args:
        db: Of the catalogue's writer, in a transaction.
        fingerprint: Of the content. If it has departed, it is the track that it was.
        before: The content that its file held until now: it was retagged, or replaced by a better copy. None: it is a
            new file.
        now: When a new lineage is first seen, seconds since the epoch.
    """
    row = db.execute(
        "SELECT lineage FROM departed WHERE fingerprint = ?"
        " UNION ALL SELECT lineage FROM contents WHERE id = ? AND lineage IS NOT NULL",
        (fingerprint, before),
    ).fetchone()
    if row is not None:
        return int(row[0])
    cursor = db.execute("INSERT INTO lineages (first_seen) VALUES (?)", (now,))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def forget_departed(db: sqlite3.Connection) -> None:
    """Keeps `MAX_DEPARTED` of the contents that are gone. Their triggers forget lineages that nothing else has."""
    db.execute(
        "DELETE FROM departed WHERE fingerprint IN"
        " (SELECT fingerprint FROM departed ORDER BY left_at DESC LIMIT -1 OFFSET ?)",
        (MAX_DEPARTED,),
    )


def first_seen(db: sqlite3.Connection, content: int) -> float | None:
    """When a scan first found the music, in this content or an earlier one, seconds since the epoch; None: no music."""
    row = db.execute("SELECT first_seen FROM contents c JOIN lineages l ON l.id = c.lineage WHERE c.id = ?", (content,))
    found = row.fetchone()
    return found[0] if found else None
