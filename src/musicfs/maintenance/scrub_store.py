"""How far the comparison of replicas has come and what it found: a SQLite database that outlives restarts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from musicfs.model import OriginId, decode_path, encode_path
from musicfs.system.sqlite import Database, transaction

_SCHEMA = """
CREATE TABLE run (                          -- one row at most: the scrub under way, else the last
    number     INTEGER NOT NULL,
    path       TEXT NOT NULL,               -- below the mount point; '' is all of it
    rate       INTEGER NOT NULL,            -- bytes per second
    metered    INTEGER NOT NULL,            -- 1: origins whose reads cost money, too
    state      TEXT NOT NULL,               -- 'running', 'stopped' or 'done'
    position   BLOB NOT NULL,               -- fingerprint of the last content that was compared
    files      INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    done_files INTEGER NOT NULL,
    done_bytes INTEGER NOT NULL,
    begun_at   REAL NOT NULL,
    ended_at   REAL
);
CREATE TABLE finds (
    origin  TEXT NOT NULL,
    path    BLOB NOT NULL,                  -- at the origin; bytes, for not every name is UTF-8
    file    TEXT,                           -- in the tree
    block   INTEGER NOT NULL,
    against TEXT,
    PRIMARY KEY (origin, path)
) WITHOUT ROWID;
CREATE TABLE unchecked (
    origin TEXT NOT NULL,
    reason TEXT NOT NULL,
    files  INTEGER NOT NULL,
    bytes  INTEGER NOT NULL,
    PRIMARY KEY (origin, reason)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class ScrubRun:
    """One scrub. Times are in seconds since the epoch.

    Args:
        number: 1 for the first.
        path: Relative to the mount point; "" is all of it.
        rate: Bytes per second.
        metered: Whether it also reads origins whose reads cost money.
        state: "running", "stopped" or "done".
        position: The fingerprint of the last content that is compared.
        files: The replicas when it started.
        bytes: Their size.
        done_files: The replicas that are compared.
        done_bytes: Their size.
    """

    number: int
    path: str
    rate: int
    metered: bool
    state: str
    position: bytes
    files: int
    bytes: int
    done_files: int
    done_bytes: int
    begun_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class ScrubFind:
    """A replica that differs, and the first block that shows it.

    Args:
        path: The path at the origin.
        file: The path in the tree; None when the tree does not show it.
        against: The origin whose copy it disagrees with, when nothing shows which is right; None: its bytes are wrong.
    """

    origin: OriginId
    path: str
    file: str | None
    block: int
    against: OriginId | None


@dataclass(frozen=True, slots=True)
class Unchecked:
    """The replicas at one origin that were not read to their end, for one reason."""

    origin: OriginId
    reason: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class SavedScrub:
    run: ScrubRun
    finds: list[ScrubFind]
    unchecked: list[Unchecked]


class ScrubStore:
    """The file at `path`. Every call opens it and blocks.

    All methods raise `SqliteError` when the file is damaged or its disk fails.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = Database(path, (_SCHEMA,), wal=False)

    def load(self) -> SavedScrub | None:
        """Returns the last scrub; None before the first."""
        with closing(self._database.open()) as db:
            row = db.execute("SELECT * FROM run").fetchone()
            if row is None:
                return None
            run = ScrubRun(*row)
            finds = db.execute("SELECT origin, path, file, block, against FROM finds ORDER BY origin, path")
            unchecked = db.execute("SELECT origin, reason, files, bytes FROM unchecked ORDER BY origin, reason")
            return SavedScrub(
                replace(run, metered=bool(run.metered)),
                [
                    ScrubFind(OriginId(o), decode_path(path), file, block, a and OriginId(a))
                    for o, path, file, block, a in finds
                ],
                [Unchecked(OriginId(row[0]), *row[1:]) for row in unchecked],
            )

    def save(
        self, run: ScrubRun, finds: Sequence[ScrubFind], unchecked: Iterable[Unchecked], *, restarted: bool
    ) -> None:
        """Saves a scrub in one transaction.

        Args:
            run: The scrub.
            finds: The finds since the last call.
            unchecked: All of them.
            restarted: Whether it is another scrub than in the last call.
        """
        with self._writing() as db:
            if restarted:
                db.execute("DELETE FROM finds")
            db.execute("DELETE FROM run")
            db.execute(
                "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    run.number, run.path, run.rate, run.metered, run.state, run.position, run.files, run.bytes,
                    run.done_files, run.done_bytes, run.begun_at, run.ended_at,
                ),
            )  # fmt: skip
            rows = [(f.origin, encode_path(f.path), f.file, f.block, f.against) for f in finds]
            db.executemany("INSERT OR REPLACE INTO finds VALUES (?, ?, ?, ?, ?)", rows)
            db.execute("DELETE FROM unchecked")
            db.executemany(
                "INSERT INTO unchecked VALUES (?, ?, ?, ?)", [(u.origin, u.reason, u.files, u.bytes) for u in unchecked]
            )

    def remove(self) -> None:
        self._database.remove()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with closing(self._database.open()) as db, transaction(db):
            yield db
