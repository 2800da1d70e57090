"""Where replicas ask to appear in the tree, as the catalogue's one writer sees it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable

from musicfs.catalog.copies import execute_in_chunks
from musicfs.catalog.rows import BY_TAGS, TreeEntry
from musicfs.catalog.spellings import SpellingTable

_ENTRY = ", ".join(TreeEntry._fields)


class EntryTable:
    """Reads and writes entries. The caller calls every method that writes inside a transaction.

    spellings: how the entries spell their directories.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.spellings = SpellingTable(db)

    def of_contents(self, contents: Iterable[int]) -> dict[int, list[TreeEntry]]:
        """The entries by content."""
        found: dict[int, list[TreeEntry]] = {}
        for row in execute_in_chunks(self._db, f"SELECT {_ENTRY} FROM entries WHERE content IN (%s)", contents):
            entry = TreeEntry(*row)
            found.setdefault(entry.content, []).append(entry)
        return found

    def of_replicas(self, numbers: Iterable[int]) -> list[TreeEntry]:
        rows = execute_in_chunks(self._db, f"SELECT {_ENTRY} FROM entries WHERE replica IN (%s)", numbers)
        return [TreeEntry(*row) for row in rows]

    def of_folder(self, folder: bytes) -> set[TreeEntry]:
        """The entries of the replicas in one album folder."""
        sql = f"SELECT {_ENTRY} FROM entries WHERE replica IN (SELECT id FROM replicas WHERE folder = ?)"
        return {TreeEntry(*row) for row in self._db.execute(sql, (folder,))}

    def of_dir(self, folded: str) -> list[TreeEntry]:
        """The entries of one directory of the tree, under all its spellings."""
        sql = (
            f"SELECT {_ENTRY} FROM entries WHERE dir IN"
            " (SELECT dir FROM spellings WHERE folded = ?1 UNION ALL SELECT ?1 WHERE ?1 = '')"
        )
        return [TreeEntry(*row) for row in self._db.execute(sql, (folded,))]

    def any_in(self, folded: str) -> bool:
        """Whether any entry is in the directory itself."""
        sql = (
            "SELECT EXISTS (SELECT 1 FROM entries WHERE dir IN"
            " (SELECT dir FROM spellings WHERE folded = ?1 UNION ALL SELECT ?1 WHERE ?1 = ''))"
        )
        return bool(self._db.execute(sql, (folded,)).fetchone()[0])

    def replace(self, old: Collection[TreeEntry], new: Collection[TreeEntry], folded: Callable[[str], str]) -> None:
        """Removes the old entries and adds the new ones. folded: what all spellings of a directory have in common."""
        self.remove(old)
        self._db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", new)
        self.spellings.add(new, folded)

    def remove(self, entries: Collection[TreeEntry]) -> None:
        self._db.executemany("DELETE FROM entries WHERE replica = ? AND dir = ?", ((e.replica, e.dir) for e in entries))
        self.spellings.subtract(entries)

    def dirs_by_tags(self, contents: Iterable[int]) -> set[str]:
        """The directories of the tree in which one entry stands for all copies of one of the contents."""
        sql = f"SELECT DISTINCT dir FROM entries WHERE content IN (%s) AND key GLOB '{BY_TAGS}*'"
        return {row[0] for row in execute_in_chunks(self._db, sql, contents)}

    def dirs_with_variants(self) -> set[str]:
        """The directories of the tree in which some track has several contents."""
        rows = self._db.execute(
            "SELECT DISTINCT dir FROM entries WHERE content IN"
            " (SELECT i.content FROM names n JOIN inodes i ON i.ino = n.ino WHERE n.hidden > 0"
            " AND NOT EXISTS (SELECT 1 FROM renderings r WHERE r.content = i.content AND r.parent = n.parent))"
        )
        return {row[0] for row in rows}
