"""Symbolic links that an origin's `links` setting leaves out: how many there are, and which files they hide."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import PurePosixPath

from musicfs.model import decode_path, encode_path

_BELOW = "(path = :path OR (path > :first AND path < :last))"


class LeftOutLinks:
    """The links that one scan leaves out. The origin calls `add`; the scan calls the others.

    A table holds them, not memory: there may be as many as there are files.
    """

    def __init__(self, db: sqlite3.Connection, origin: int) -> None:
        self._db = db
        self._origin = origin
        self._met = f"met_links_{origin:d}"  # other origins are scanned meanwhile
        db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {self._met} (path BLOB PRIMARY KEY) WITHOUT ROWID")
        db.execute(f"DELETE FROM {self._met}")

    def add(self, link: str) -> None:
        """Records a link that is left out, by its path below the origin's root."""
        self._db.execute(f"INSERT OR IGNORE INTO {self._met} VALUES (?)", (encode_path(link),))

    def hidden(self, replicas: Sequence[int]) -> set[int]:
        """Which of these replicas a left-out link leads to. Both are numbers of replicas."""
        if self._db.execute(f"SELECT 1 FROM {self._met} LIMIT 1").fetchone() is None:
            return set()
        return {number for number in replicas if self._leads_to(number)}

    def _leads_to(self, replica: int) -> bool:
        row = self._db.execute("SELECT path FROM replicas WHERE id = ?", (replica,)).fetchone()
        path = decode_path(row[0])
        places = [encode_path(place) for place in (path, *map(str, PurePosixPath(path).parents)) if place != "."]
        marks = ",".join("?" * len(places))
        found = self._db.execute(f"SELECT 1 FROM {self._met} WHERE path IN ({marks}) LIMIT 1", places).fetchone()
        return found is not None

    def keep(self, under: Sequence[str], hidden: int) -> int:
        """Replaces the recorded links at and below the scanned paths by those of this scan.

        Args:
            under: The scanned paths; "" is the whole origin.
            hidden: How many files this scan removed from the tree because of left-out links.

        Returns:
            How many links of the whole origin are left out.
        """
        db = self._db
        for path in under:
            this = encode_path(path)
            places = {"path": this, "first": this + b"/", "last": this + b"0"} if path else {}
            where = "origin = :origin" + (f" AND {_BELOW}" if path else "")
            db.execute(f"DELETE FROM left_out WHERE {where}", {"origin": self._origin, **places})
        db.execute(f"INSERT OR IGNORE INTO left_out SELECT ?, path FROM {self._met}", (self._origin,))
        left = int(db.execute("SELECT count(*) FROM left_out WHERE origin = ?", (self._origin,)).fetchone()[0])
        db.execute(
            "UPDATE origins SET left_out = ?, hidden = iif(?, hidden + ?, 0) WHERE num = ?",
            (left, left, hidden, self._origin),
        )
        return left
