"""Queries beside the tree's: what lies below paths, which contents are known, what can be reached."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection
from threading import Lock
from typing import NamedTuple

from musicfs.catalog.database import ROOT_INO, connect
from musicfs.catalog.paths import find_inode, find_path
from musicfs.model import Content, Fingerprint, OriginId

_CACHE_MB = 2
_BELOW = """
WITH RECURSIVE below (ino, content) AS (
    SELECT ino, content FROM inodes WHERE ino = ?
    UNION ALL
    SELECT i.ino, i.content FROM below b CROSS JOIN names n ON n.parent = b.ino CROSS JOIN inodes i ON i.ino = n.ino
    WHERE n.hidden = 0 AND b.content IS NULL
)
SELECT DISTINCT c.id, c.fingerprint, c.size FROM below b JOIN contents c ON c.id = b.content ORDER BY b.ino
"""

# As above, with all variants of what is shown.
_ALL_BELOW = """
WITH RECURSIVE below (ino, content) AS (
    SELECT i.ino, i.content FROM names n JOIN names v ON v.parent = n.parent AND v.name = n.name
    JOIN inodes i ON i.ino = v.ino WHERE n.ino = :ino
    UNION ALL
    SELECT i.ino, i.content FROM below b CROSS JOIN names n ON n.parent = b.ino CROSS JOIN inodes i ON i.ino = n.ino
    WHERE b.content IS NULL
), wanted (id) AS (SELECT content FROM below WHERE content IS NOT NULL)
"""
_REPLICAS = "replicas r JOIN configured o ON o.num = r.origin"


class FoundContents(NamedTuple):
    """below: the contents at or below each path that the tree has. known: those that a file has, by fingerprint."""

    below: dict[str, list[Content]]
    known: dict[Fingerprint, Content]


class ReplicaTotals(NamedTuple):
    """How many replicas there are, and their bytes."""

    files: int
    bytes: int


def find_contents(catalog: Path, paths: Sequence[str], fingerprints: Sequence[Fingerprint]) -> FoundContents:
    """Finds contents by paths of the tree, and by fingerprints. Blocks."""
    below: dict[str, list[Content]] = {}
    known: dict[Fingerprint, Content] = {}
    with closing(connect(catalog, cache_mb=_CACHE_MB)) as db:
        for path in paths:
            ino = find_inode(db, path)
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
    return FoundContents(below, known)


def count_replicas(catalog: Path, path: str) -> ReplicaTotals | None:
    """Counts the replicas, at the configured origins, of what the tree has at or below the path, with all variants.

    Blocks. "" counts all that there are. None: there is no such path.
    """
    with closing(connect(catalog, cache_mb=_CACHE_MB)) as db:
        ino = find_inode(db, path)
        if ino is None:
            return None
        sql = f"SELECT count(*), CAST(total(r.size) AS INTEGER) FROM {_REPLICAS}"
        if ino != ROOT_INO:
            sql = f"{_ALL_BELOW} {sql} WHERE r.content IN wanted"
        return ReplicaTotals(*db.execute(sql, {"ino": ino}).fetchone())


def shared_contents(catalog: Path, size: int, above: int, most: int) -> list[Content]:
    """Returns at most `most` contents that several configured origins have, by their number. Blocks.

    Args:
        catalog: The catalogue's file.
        size: Only contents of more bytes.
        above: Only contents with a higher number.
        most: How many, at most.
    """
    sql = (
        "SELECT c.id, c.fingerprint, c.size FROM contents c WHERE c.id > ? AND c.size > ?"
        f" AND (SELECT count(DISTINCT r.origin) FROM {_REPLICAS} WHERE r.content = c.id) > 1 ORDER BY c.id LIMIT ?"
    )
    with closing(connect(catalog, cache_mb=_CACHE_MB)) as db:
        rows = db.execute(sql, (above, size, most))
        return [Content(id, Fingerprint(fingerprint), size) for id, fingerprint, size in rows]


class ContentPages:
    """The contents below a path of the tree in the order of their fingerprints, page by page.

    The first page finds what is below the path and keeps it in a temporary file, so that a page costs the same in any
    library. What a scan adds below the path later is not in it. All methods block, and may be called from any thread.
    """

    def __init__(self, catalog: Path, path: str) -> None:
        self._catalog = catalog
        self._path = path
        self._db: Connection | None = None
        self._is_all = False
        self._turn = Lock()
        self._closed = False

    def after(self, fingerprint: bytes, limit: int) -> list[Content]:
        """At most `limit` contents with a fingerprint above the given one; none if the path is gone."""
        with self._turn:
            if self._closed:
                return []
            if self._db is None:
                self._db = self._open()
            sql = (
                "SELECT c.id, c.fingerprint, c.size FROM contents c WHERE c.fingerprint > ? AND"
                f" EXISTS (SELECT 1 FROM {_REPLICAS} WHERE r.content = c.id) ORDER BY c.fingerprint LIMIT ?"
                if self._is_all
                else "SELECT id, fingerprint, size FROM temp.wanted WHERE fingerprint > ? ORDER BY fingerprint LIMIT ?"
            )
            rows = self._db.execute(sql, (fingerprint, limit))
            return [Content(id, Fingerprint(fingerprint), size) for id, fingerprint, size in rows]

    def close(self) -> None:
        with self._turn:
            self._closed = True
            if self._db is not None:
                self._db.close()

    def _open(self) -> Connection:
        db = connect(self._catalog, cache_mb=_CACHE_MB)
        db.execute("PRAGMA temp_store = FILE")
        db.execute(
            "CREATE TEMP TABLE wanted (fingerprint BLOB PRIMARY KEY, id INTEGER NOT NULL, size INTEGER NOT NULL)"
            " WITHOUT ROWID"
        )
        ino = find_inode(db, self._path)
        self._is_all = ino == ROOT_INO
        if ino is not None and not self._is_all:
            db.execute(
                f"INSERT INTO temp.wanted {_ALL_BELOW} SELECT c.fingerprint, c.id, c.size FROM contents c"
                f" WHERE c.id IN wanted AND EXISTS (SELECT 1 FROM {_REPLICAS} WHERE r.content = c.id)",
                {"ino": ino},
            )
        return db


def path_of(catalog: Path, content: int) -> str | None:
    """The path of the content in the tree, preferably where it is shown; None: the tree no longer has it. Blocks."""
    with closing(connect(catalog, cache_mb=_CACHE_MB)) as db:
        return shown_at(db, content)


def shown_at(db: Connection, content: int) -> str | None:
    """The path of the content in the tree, preferably where it is shown; None: the tree no longer has it."""
    row = db.execute(
        "SELECT n.parent, n.name FROM inodes i JOIN names n ON n.ino = i.ino WHERE i.content = ?"
        " ORDER BY n.hidden > 0, n.view, n.name, n.parent LIMIT 1",
        (content,),
    ).fetchone()
    if row is None:
        return None
    parent = find_path(db, row[0])
    return f"{parent}/{row[1]}" if parent else str(row[1])


_UNREACHED = """
SELECT count(*), count(w.fingerprint) FROM names n JOIN inodes i ON i.ino = n.ino
JOIN contents c ON c.id = i.content LEFT JOIN whole w ON w.fingerprint = c.fingerprint
WHERE n.hidden = 0 AND n.view = 1 AND i.size > 0 AND NOT EXISTS (
    SELECT 1 FROM replicas r WHERE r.content = i.content
    AND r.origin IN (SELECT num FROM configured WHERE id IN ({marks}))
)
"""


@dataclass(frozen=True, slots=True)
class Unreached:
    """Files of the tree that no answering origin has. cached: how many of them are in the cache as a whole."""

    files: int
    cached: int


def count(catalog: Path, answering: Sequence[OriginId], whole: Collection[Fingerprint]) -> Unreached:
    """Counts the files that can't be reached now. Reads the whole catalogue. Blocks.

    Args:
        catalog: The catalogue's file.
        answering: The origins that answer.
        whole: The contents that are in the cache as a whole.
    """
    rows: Iterable[tuple[bytes]] = ((fingerprint,) for fingerprint in whole)
    with closing(connect(catalog, cache_mb=_CACHE_MB)) as db:
        db.execute("CREATE TEMP TABLE whole (fingerprint BLOB PRIMARY KEY) WITHOUT ROWID")
        db.execute("BEGIN")
        db.executemany("INSERT INTO whole VALUES (?)", rows)
        found = db.execute(_UNREACHED.format(marks=",".join("?" * len(answering))), answering).fetchone()
        return Unreached(*found)
