"""The index of the cache on disk, by content and block: a SQLite database beside the files.

A block is in the index only after its bytes are in the file, and leaves the index before they leave the file. So a
kill, at any instant, leaves at worst bytes in a file that the index does not know. No block is synced to the disk: a
power cut may damage the files, and the piece checksums find that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.model import Fingerprint
from musicfs.system.sqlite import Database, transaction

_DISK_UNIT = 4096
_SCHEMA = """
CREATE TABLE contents (
    id          INTEGER PRIMARY KEY,
    fingerprint BLOB NOT NULL UNIQUE,
    size        INTEGER NOT NULL,            -- of the whole content, in bytes
    used        REAL NOT NULL,               -- seconds since the epoch
    pinned      INTEGER NOT NULL DEFAULT 0,  -- 1: never evicted; has a row even with no block
    blocks      INTEGER NOT NULL DEFAULT 0,  -- how many the cache has
    edge        INTEGER NOT NULL DEFAULT 0,  -- bytes on disk of the first and the last of all blocks
    middle      INTEGER NOT NULL DEFAULT 0   -- and of those between them
);
CREATE INDEX contents_with_middle ON contents (used) WHERE pinned = 0 AND middle > 0;
CREATE INDEX contents_with_edge ON contents (used) WHERE pinned = 0 AND edge > 0;
CREATE INDEX contents_pinned ON contents (id) WHERE pinned = 1;

CREATE TABLE blocks (
    content INTEGER NOT NULL REFERENCES contents (id),
    number  INTEGER NOT NULL,
    seals   BLOB NOT NULL,                   -- see block_checksums.py
    PRIMARY KEY (content, number)
) WITHOUT ROWID;

CREATE TABLE state (clean INTEGER NOT NULL); -- 1: the last process that wrote here ended in order
INSERT INTO state VALUES (1);
"""


def index_database(path: Path) -> Database:
    return Database(path, (_SCHEMA,))


def on_disk(size: int, number: int) -> int:
    """Returns the bytes that a block takes on disk, of a content of `size` bytes."""
    return -(-min(BLOCK_SIZE, size - number * BLOCK_SIZE) // _DISK_UNIT) * _DISK_UNIT


def all_on_disk(size: int) -> int:
    """Returns the bytes that all blocks of a content of `size` bytes take on disk: all but the last are whole units."""
    return -(-size // _DISK_UNIT) * _DISK_UNIT


def last_block(size: int) -> int:
    return max(0, (size - 1) // BLOCK_SIZE)


def _is_edge(size: int, number: int) -> bool:
    """Whether it is the first or the last block, which programs that read tags touch."""
    return number in (0, last_block(size))


class Indexed(NamedTuple):
    """A content in the index.

    size: of all of it, in bytes. blocks: how many of its blocks the cache has. taken: the bytes that they take on disk.
    """

    id: int
    fingerprint: Fingerprint
    size: int
    pinned: bool
    blocks: int
    taken: int


class IndexTotals(NamedTuple):
    """Sums over the index; bytes are those on disk."""

    contents: int
    blocks: int
    edge: int
    middle: int
    pinned: int


_COLUMNS = "id, fingerprint, size, pinned, blocks, edge + middle"


class BlockIndexView:
    """Reads the index, from any thread. All methods block and raise sqlite3.Error."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """db: of an index; this closes it."""
        self._db = db

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens the index at `path`."""
        return cls(index_database(path).connect())

    def close(self) -> None:
        self._db.close()

    def find(self, fingerprint: Fingerprint) -> Indexed | None:
        row = self._db.execute(f"SELECT {_COLUMNS} FROM contents WHERE fingerprint = ?", (fingerprint,)).fetchone()
        return Indexed(*row) if row else None

    def blocks(self, content: int) -> list[tuple[int, bytes]]:
        """Returns (number, piece checksums) of each block that the cache has."""
        return self._db.execute("SELECT number, seals FROM blocks WHERE content = ?", (content,)).fetchall()

    def after(self, content: int, count: int) -> list[Indexed]:
        """Returns the next `count` contents with a higher id, by id."""
        sql = f"SELECT {_COLUMNS} FROM contents WHERE id > ? ORDER BY id LIMIT ?"
        return [Indexed(*row) for row in self._db.execute(sql, (content, count))]

    def pinned(self) -> set[Fingerprint]:
        return {Fingerprint(row[0]) for row in self._db.execute("SELECT fingerprint FROM contents WHERE pinned = 1")}

    def whole(self) -> set[Fingerprint]:
        """All contents of which every block is there."""
        sql = "SELECT fingerprint FROM contents WHERE blocks > 0 AND blocks = (size + ? - 1) / ?"
        return {Fingerprint(row[0]) for row in self._db.execute(sql, (BLOCK_SIZE, BLOCK_SIZE))}

    def totals(self) -> IndexTotals:
        sums = "count(*), total(blocks), total(edge), total(middle), total((edge + middle) * pinned)"
        row = self._db.execute(f"SELECT {sums} FROM contents WHERE blocks > 0").fetchone()
        return IndexTotals(*map(int, row))


class BlockIndex(BlockIndexView):
    """Reads and writes the index: one object only, in one thread at a time. edge, middle: sums of the columns."""

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__(db)
        self.clean = False
        """Whether the last one that wrote was closed."""
        self.edge = self.middle = 0

    @classmethod
    def open(cls, path: Path) -> Self:
        """Also makes the index if it is missing. From here on it is not clean until `leave` says so."""
        index = cls(index_database(path).open())
        try:
            index._begin()
        except BaseException:
            index.close()
            raise
        return index

    def _begin(self) -> None:
        self.clean = bool(self._db.execute("SELECT clean FROM state").fetchone()[0])
        self._db.execute("UPDATE state SET clean = 0")
        totals = self.totals()
        self.edge, self.middle = totals.edge, totals.middle

    def leave(self, *, clean: bool) -> None:
        """Closes the index. clean: the files hold the blocks in it and nothing else."""
        try:
            self._db.execute("UPDATE state SET clean = ?", (clean,))
        finally:
            self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        before = self.edge, self.middle
        try:
            with transaction(self._db):
                yield
        except BaseException:
            self.edge, self.middle = before
            raise

    @property
    def taken(self) -> int:
        """Bytes on disk."""
        return self.edge + self.middle

    def numbers(self, content: int) -> list[int]:
        return [row[0] for row in self._db.execute("SELECT number FROM blocks WHERE content = ?", (content,))]

    def has(self, fingerprint: Fingerprint, number: int) -> bool:
        sql = "SELECT 1 FROM contents c JOIN blocks b ON b.content = c.id WHERE c.fingerprint = ? AND b.number = ?"
        return self._db.execute(sql, (fingerprint, number)).fetchone() is not None

    # Within a transaction:

    def add(self, fingerprint: Fingerprint, size: int, number: int, sums: bytes, used: float) -> None:
        """Adds a block that is not in the index yet.

        Args:
            fingerprint: of the content.
            size: of the content, in bytes.
            number: of the block.
            sums: its piece checksums.
            used: when the content was used last, in seconds since the epoch.
        """
        content = self._row_of(fingerprint, size, used)
        self._db.execute("INSERT INTO blocks (content, number, seals) VALUES (?, ?, ?)", (content, number, sums))
        self._account(content, size, [number], +1)

    def remove(self, content: Indexed, numbers: Sequence[int]) -> bool:
        """Removes blocks that are in the index; returns True if none is left of the content."""
        self._db.executemany(
            "DELETE FROM blocks WHERE content = ? AND number = ?", [(content.id, number) for number in numbers]
        )
        self._account(content.id, content.size, numbers, -1)
        self._db.execute("DELETE FROM contents WHERE id = ? AND pinned = 0 AND blocks = 0", (content.id,))
        return not self._db.execute("SELECT 1 FROM blocks WHERE content = ?", (content.id,)).fetchone()

    def oldest(self, *, edges: bool) -> tuple[Indexed, list[int]] | None:
        """Returns what to evict first: the content used longest ago that has edges, or other blocks, and these."""
        part = "edge" if edges else "middle"
        sql = f"SELECT {_COLUMNS} FROM contents WHERE pinned = 0 AND {part} > 0 ORDER BY used LIMIT 1"
        row = self._db.execute(sql).fetchone()
        if row is None:
            return None
        content = Indexed(*row)
        return content, [n for n in self.numbers(content.id) if _is_edge(content.size, n) == edges]

    def touch(self, used: Mapping[Fingerprint, float]) -> None:
        """Records when contents were used last; leaves out those that are not in the index."""
        rows = [(when, fingerprint) for fingerprint, when in used.items()]
        self._db.executemany("UPDATE contents SET used = ? WHERE fingerprint = ?", rows)

    def pin(self, fingerprint: Fingerprint, size: int, used: float) -> None:
        self._db.execute("UPDATE contents SET pinned = 1 WHERE id = ?", (self._row_of(fingerprint, size, used),))

    def unpin(self, fingerprint: Fingerprint) -> None:
        self._db.execute("UPDATE contents SET pinned = 0 WHERE fingerprint = ?", (fingerprint,))
        self._db.execute("DELETE FROM contents WHERE fingerprint = ? AND blocks = 0", (fingerprint,))

    def _row_of(self, fingerprint: Fingerprint, size: int, used: float) -> int:
        row = self._db.execute(
            "INSERT INTO contents (fingerprint, size, used) VALUES (?, ?, ?)"
            " ON CONFLICT (fingerprint) DO UPDATE SET used = excluded.used RETURNING id",
            (fingerprint, size, used),
        ).fetchone()
        return int(row[0])

    def _account(self, content: int, size: int, numbers: Sequence[int], sign: int) -> None:
        edge = sum(on_disk(size, number) for number in numbers if _is_edge(size, number))
        middle = sum(on_disk(size, number) for number in numbers) - edge
        self.edge += sign * edge
        self.middle += sign * middle
        sql = "UPDATE contents SET blocks = blocks + ?, edge = edge + ?, middle = middle + ? WHERE id = ?"
        self._db.execute(sql, (sign * len(numbers), sign * edge, sign * middle, content))
