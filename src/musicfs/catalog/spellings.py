"""How entries spell the directories of the tree: names that differ in letters' case are one directory's."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from musicfs.catalog.rows import BESIDE, FOLLOWS, TreeEntry

_IS_MUSIC = f"key NOT GLOB '{FOLLOWS}*' AND key NOT GLOB '{BESIDE}*'"


class Spelling(NamedTuple):
    """One spelling of a directory. entries: how many in and below it use it. tracks: how many of them are music."""

    dir: str
    entries: int
    tracks: int


class SpellingTable:
    """Counts entries by the spelling of their directory, and of each directory above it. The root has none.

    The caller calls every method inside a transaction. A spelling without entries stays until `remove_unused`: the
    tree may still show it.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add(self, entries: Iterable[TreeEntry], folded: Callable[[str], str]) -> None:
        """Counts entries. folded: what all spellings of one directory have in common."""
        rows = [
            (dir, folded_dir, count, tracks)
            for leaf, (count, tracks) in _by_dir(entries).items()
            for dir, folded_dir in zip(_with_above(leaf), _with_above(folded(leaf)), strict=True)
        ]
        self._insert(rows)

    def subtract(self, entries: Iterable[TreeEntry]) -> None:
        """Counts entries no longer."""
        self._db.executemany(
            "UPDATE spellings SET entries = entries - ?, tracks = tracks - ? WHERE dir = ?",
            ((*counts, dir) for leaf, counts in _by_dir(entries).items() for dir in _with_above(leaf)),
        )

    def count_again(self, folded: Callable[[str], str]) -> None:
        """Counts all entries of the catalogue, as another `folded` demands it."""
        self._db.execute("DELETE FROM spellings")
        rows = self._db.execute(f"SELECT dir, count(*), sum({_IS_MUSIC}) FROM entries GROUP BY dir")
        for leaf, count, tracks in rows.fetchall():
            dirs = zip(_with_above(leaf), _with_above(folded(leaf)), strict=True)
            self._insert([(dir, folded_dir, count, tracks) for dir, folded_dir in dirs])

    def of(self, folded: str) -> list[Spelling]:
        """The spellings of one directory."""
        rows = self._db.execute("SELECT dir, entries, tracks FROM spellings WHERE folded = ?", (folded,))
        return [Spelling(*row) for row in rows]

    def remove_unused(self) -> None:
        """Forgets spellings without entries, once the tree shows none of them."""
        self._db.execute("DELETE FROM spellings WHERE entries = 0")

    def _insert(self, rows: list[tuple[str, str, int, int]]) -> None:
        self._db.executemany(
            "INSERT INTO spellings (dir, folded, entries, tracks) VALUES (?, ?, ?, ?) ON CONFLICT (dir) DO UPDATE"
            " SET entries = entries + excluded.entries, tracks = tracks + excluded.tracks",
            rows,
        )


def _by_dir(entries: Iterable[TreeEntry]) -> dict[str, tuple[int, int]]:
    """How many entries there are by directory, and how many of them are music."""
    counts: Counter[str] = Counter()
    tracks: Counter[str] = Counter()
    for entry in entries:
        counts[entry.dir] += 1
        tracks[entry.dir] += entry.is_music
    return {dir: (count, tracks[dir]) for dir, count in counts.items()}


def _with_above(dir: str) -> Iterator[str]:
    while dir:
        yield dir
        dir = dir.rpartition("/")[0]
