"""The list of pins, in a SQLite database beside the cache: the paths that the user named and their contents."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from musicfs.model import Content, Fingerprint
from musicfs.system.sqlite import Database, SqliteError, transaction

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS pins (
    id   INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE                 -- below the mount point; '' is all of it
);
CREATE TABLE IF NOT EXISTS contents (
    pin         INTEGER NOT NULL REFERENCES pins (id),
    fingerprint BLOB NOT NULL,
    size        INTEGER NOT NULL,
    PRIMARY KEY (pin, fingerprint)
) WITHOUT ROWID;
"""


class PinStore:
    """The file at `path`. Every call opens it, blocks, and raises `SqliteError` when the disk fails."""

    def __init__(self, path: Path) -> None:
        # Files of the first versions have these tables and the version 0.
        self._database = Database(path, (_SCHEMA,), wal=False)

    def load(self) -> dict[str, dict[Fingerprint, Content]]:
        """Returns the pins, oldest first. Their contents have the id 0, because the catalogue's ids are not known here.

        A damaged file is set aside, and the list is empty.
        """
        try:
            return self._load()
        except SqliteError as error:
            damage = self._database.replace(error, keep=True)
            log.warning(
                "The list of pins can't be used (%s); it was kept as %s, and nothing is pinned now: pin again what must"
                " stay on this disk.",
                damage.error, damage.kept,
            )  # fmt: skip
            return {}

    def _load(self) -> dict[str, dict[Fingerprint, Content]]:
        with closing(self._database.open()) as db:
            pins: dict[str, dict[Fingerprint, Content]] = {
                path: {} for (path,) in db.execute("SELECT path FROM pins ORDER BY id")
            }
            rows = db.execute("SELECT p.path, c.fingerprint, c.size FROM contents c JOIN pins p ON p.id = c.pin")
            for path, fingerprint, size in rows:
                pins[path][Fingerprint(fingerprint)] = Content(0, Fingerprint(fingerprint), size)
        return pins

    def save(self, path: str, contents: Iterable[Content]) -> None:
        """Adds the pin, or replaces its contents."""
        with self._writing() as db:
            db.execute("INSERT INTO pins (path) VALUES (?) ON CONFLICT (path) DO NOTHING", (path,))
            (pin,) = db.execute("SELECT id FROM pins WHERE path = ?", (path,)).fetchone()
            db.execute("DELETE FROM contents WHERE pin = ?", (pin,))
            rows = [(pin, content.fingerprint, content.size) for content in contents]
            db.executemany("INSERT OR IGNORE INTO contents (pin, fingerprint, size) VALUES (?, ?, ?)", rows)

    def remove(self, path: str) -> None:
        with self._writing() as db:
            db.execute("DELETE FROM contents WHERE pin = (SELECT id FROM pins WHERE path = ?)", (path,))
            db.execute("DELETE FROM pins WHERE path = ?", (path,))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with closing(self._database.open()) as db, transaction(db):
            yield db
