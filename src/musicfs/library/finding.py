"""What lies below paths of the tree, and which contents the catalogue still knows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from sqlite3 import Connection

from musicfs.library.database import ROOT_INO, connect
from musicfs.model import Content, Fingerprint

_CACHE_MB = 2
_BELOW = """
WITH RECURSIVE below (ino, content) AS (
    SELECT ino, content FROM nodes WHERE ino = ?
    UNION ALL
    SELECT n.ino, n.content FROM nodes n JOIN below b ON n.parent = b.ino WHERE n.shown = 1 AND b.content IS NULL
)
SELECT DISTINCT c.id, c.fingerprint, c.size FROM below b JOIN contents c ON c.id = b.content ORDER BY b.ino
"""


def find_contents(
    catalog: Path, paths: Sequence[str], fingerprints: Sequence[Fingerprint]
) -> tuple[dict[str, list[Content]], dict[Fingerprint, Content]]:
    """The contents at or below each path that the tree has, and those of `fingerprints` that a file has. Blocks."""
    below: dict[str, list[Content]] = {}
    known: dict[Fingerprint, Content] = {}
    with closing(connect(catalog, cache_mb=_CACHE_MB)) as db:
        for path in paths:
            ino = _find(db, path)
            if ino is not None:
                rows = db.execute(_BELOW, (ino,))
                below[path] = [Content(id, Fingerprint(fingerprint), size) for id, fingerprint, size in rows]
        for fingerprint in fingerprints:
            row = db.execute(
                "SELECT id, size FROM contents c WHERE fingerprint = ?"
                " AND EXISTS (SELECT 1 FROM replicas r WHERE r.content = c.id)",
                (fingerprint,),
            ).fetchone()
            if row is not None:
                known[fingerprint] = Content(row[0], fingerprint, row[1])
    return below, known


def _find(db: Connection, path: str) -> int | None:
    ino = ROOT_INO
    for name in filter(None, path.split("/")):
        try:
            sql = "SELECT ino FROM nodes WHERE parent = ? AND name = ? AND shown = 1"
            row = db.execute(sql, (ino, name)).fetchone()
        except UnicodeEncodeError:  # the tree has no names that are not Unicode
            row = None
        if row is None:
            return None
        ino = row[0]
    return ino
