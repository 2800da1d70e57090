"""The file in which checksums and the quarantine outlive restarts; its SQL is here and nowhere else."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import threading
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from musicfs.content.witnesses import SECRET_SIZE
from musicfs.federation.quarantine import SetAside
from musicfs.model import OriginId, Replica, decode_path, encode_path
from musicfs.system.sqlite import Database, SqliteError, is_damage, transaction

Row = tuple[bytes, bytes, bytes, bytes]
"""A content's digests, block checksums and witnesses of its blocks, and the witnesses of its copies (witnesses.py)."""

_CLOSING_SECS = 1.0
_SCHEMA = """
-- What is known of a content's blocks. digests: 16 bytes each; seals: their checksums, 8 bytes each; vouchers: their
-- witnesses, 1 byte each, see records.py.
CREATE TABLE contents (
    fingerprint BLOB PRIMARY KEY,
    digests     BLOB NOT NULL,
    seals       BLOB NOT NULL,
    vouchers    BLOB NOT NULL
) WITHOUT ROWID;
-- The origins that the numbers of witnesses stand for; a number is never used for another origin.
CREATE TABLE origins (
    num INTEGER PRIMARY KEY,
    id  TEXT NOT NULL
);
CREATE TABLE quarantine (
    origin   TEXT NOT NULL,
    path     BLOB NOT NULL,
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    etag     TEXT,
    block    INTEGER NOT NULL,
    against  TEXT,                -- NULL: its bytes are wrong; else the origin that it differs from
    PRIMARY KEY (origin, path)
) WITHOUT ROWID;
"""

_WITNESSES = """
-- What the copies of a content showed at a secret place: see witnesses.py.
CREATE TABLE witnesses (
    fingerprint BLOB PRIMARY KEY,
    shown       BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE secret (bytes BLOB NOT NULL);
"""
_COLUMNS = "coalesce(c.digests, x''), coalesce(c.seals, x''), coalesce(c.vouchers, x''), coalesce(w.shown, x'')"


class CheckStore:
    """Reads and writes the file. All methods block.

    `write` may be called from any thread, one at a time, and so may `load`; everything else belongs to the
    thread that called `open`. All methods raise `SqliteError` when the file is damaged or its disk fails.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = Database(path, (_SCHEMA, _WITNESSES), cache_kb=1024)
        self._reading: sqlite3.Connection | None = None
        self._writing: sqlite3.Connection | None = None
        self._loading = threading.Lock()

    def open(self) -> str | None:
        """Opens the file. Replaces one that is damaged or of another version, and returns a warning then."""
        damage = self._database.prepare(keep=False)
        self._writing = self._database.connect()
        self._reading = self._database.connect()
        if damage is None:
            return None
        return f"The checksums in {self.path} can't be used ({damage.error}); they are recorded again."

    def close(self) -> None:
        """Closes the file. A load that hangs keeps its connection."""
        is_free = self._loading.acquire(timeout=_CLOSING_SECS)
        for connection in (self._reading if is_free else None, self._writing):
            if connection is not None:
                with contextlib.suppress(SqliteError):
                    connection.close()
        self._reading = self._writing = None
        if is_free:
            self._loading.release()

    def give_up(self, error: SqliteError) -> None:
        """Closes the file, and removes it if it is what failed: the next start makes another."""
        self.close()
        if is_damage(error):
            self._database.remove()

    def load(self, fingerprints: Sequence[bytes]) -> dict[bytes, Row]:
        """Returns what is recorded of these contents; those of which nothing is recorded are left out."""
        query = (
            f"WITH wanted (key) AS (VALUES {', '.join(['(?)'] * len(fingerprints))}) SELECT key, {_COLUMNS} FROM wanted"
            " LEFT JOIN contents c ON c.fingerprint = key LEFT JOIN witnesses w ON w.fingerprint = key"
            " WHERE c.fingerprint IS NOT NULL OR w.fingerprint IS NOT NULL"
        )
        with self._loading:
            if self._reading is None:
                raise sqlite3.OperationalError("the file is closed")
            return {row[0]: row[1:] for row in self._reading.execute(query, fingerprints)}

    def origins(self) -> list[str]:
        """Returns the origins in the order of their numbers, which start at 1."""
        assert self._reading is not None
        return [row[0] for row in self._reading.execute("SELECT id FROM origins ORDER BY num")]

    def secret(self) -> bytes:
        """Returns what decides where copies show their witnesses; makes it at the first call."""
        assert self._writing is not None
        with transaction(self._writing):
            row = self._writing.execute("SELECT bytes FROM secret").fetchone()
            if row is None:
                row = (secrets.token_bytes(SECRET_SIZE),)
                self._writing.execute("INSERT INTO secret VALUES (?)", row)
        return bytes(row[0])

    def set_aside(self) -> list[SetAside]:
        assert self._reading is not None
        rows = self._reading.execute("SELECT origin, path, size, mtime_ns, etag, block, against FROM quarantine")
        return [
            SetAside(Replica(OriginId(row[0]), decode_path(row[1]), *row[2:5]), row[5], row[6] and OriginId(row[6]))
            for row in rows
        ]

    def write(
        self,
        contents: Collection[tuple[bytes, Row]],
        origins: Iterable[str],
        quarantine: Sequence[SetAside] | None,
    ) -> None:
        """Writes in one transaction.

        Args:
            contents: the fingerprints of those that changed, and their rows.
            origins: all that have a number, in that order.
            quarantine: all that is in it; None: it has not changed.
        """
        assert self._writing is not None
        with transaction(self._writing):
            self._writing.executemany("INSERT OR IGNORE INTO origins VALUES (?, ?)", enumerate(origins, 1))
            known = [(key, *blocks) for key, (*blocks, _) in contents if blocks[2]]
            self._writing.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?)", known)
            unknown = [(key,) for key, row in contents if not row[2]]
            self._writing.executemany("DELETE FROM contents WHERE fingerprint = ?", unknown)
            shown = [(key, row[3]) for key, row in contents if row[3]]
            self._writing.executemany("INSERT OR REPLACE INTO witnesses VALUES (?, ?)", shown)
            if quarantine is not None:
                self._writing.execute("DELETE FROM quarantine")
                rows = [
                    (r.origin, encode_path(r.path), r.size, r.mtime_ns, r.etag, each.block, each.against)
                    for each in quarantine
                    for r in (each.replica,)
                ]
                self._writing.executemany("INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
