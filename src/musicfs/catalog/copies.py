"""The copies of contents, as choosing their places in the tree and ranking variants need them.

Thousands of folders may hold copies of one cover. What an update of the tree needs to know of such a content is read
once, and in one row for each origin or owner.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from sqlite3 import Connection

from musicfs.catalog.rows import Copies, Copy
from musicfs.model import Owner, decode_path

_CHUNK = 500  # values bound in one statement; SQLite's own limit is far higher, its planner likes it small
# Of an aggregate with one min(), SQLite takes the other columns from the row that has it.
_FIRST = "r.role = 'audio' AND r.content IN (%s) GROUP BY r.content, r.origin"


def execute_in_chunks(db: Connection, sql: str, values: Iterable[object]) -> Iterator[tuple]:  # type: ignore[type-arg]
    """Runs `sql`, which has `IN (%s)`, over `values` in chunks."""
    rest = list(values)
    for start in range(0, len(rest), _CHUNK):
        chunk = rest[start : start + _CHUNK]
        yield from db.execute(sql % ",".join("?" * len(chunk)), chunk)


class CopyReader:
    """Reads copies at the origins that are configured now. It remembers what it read: make one for each update."""

    def __init__(self, db: Connection) -> None:
        self._db = db
        self._first: dict[int, list[Copy]] = {}
        self._by_owner: dict[int, list[Copies]] = {}

    def first(self, contents: Collection[int]) -> dict[int, list[Copy]]:
        """Of each content the first audio file by path at each origin, by path and origin; no content without one."""
        missing = [content for content in contents if content not in self._first]
        self._first.update({content: [] for content in missing} | self._copies(_FIRST, "min(r.path)", missing))
        return {content: self._first[content] for content in contents if self._first[content]}

    def at(self, replicas: Iterable[int]) -> dict[int, list[Copy]]:
        """These replicas by content, path and origin."""
        return self._copies("r.id IN (%s)", "r.path", replicas)

    def by_owner(self, content: int) -> list[Copies]:
        """What the copies of the content have in common, by owner; empty if it has none."""
        if content not in self._by_owner:
            self.load_owners([content])
        return self._by_owner[content]

    def load_owners(self, contents: Iterable[int]) -> None:
        """Reads together what `by_owner` returns of these contents."""
        missing = [content for content in contents if content not in self._by_owner]
        self._by_owner.update((content, []) for content in missing)
        sql = (
            "SELECT r.content, c.size, min(r.mtime_ns), r.uid, r.gid, r.mode FROM replicas r"
            " JOIN configured o ON o.num = r.origin JOIN contents c ON c.id = r.content"
            " WHERE r.content IN (%s) GROUP BY r.content, r.uid, r.gid, r.mode"
        )
        for content, size, mtime, *its in execute_in_chunks(self._db, sql, missing):
            self._by_owner[content].append(Copies(size, mtime, None if its[0] is None else Owner(*its)))

    def _copies(self, where: str, path: str, values: Iterable[int]) -> dict[int, list[Copy]]:
        found: dict[int, list[Copy]] = {}
        sql = (
            f"SELECT r.content, o.id, {path}, r.id, o.reachable, o.priority FROM replicas r"
            f" JOIN configured o ON o.num = r.origin WHERE {where}"
        )
        for content, origin, at, replica, reachable, priority in execute_in_chunks(self._db, sql, values):
            copy = Copy(content, origin, decode_path(at), replica, bool(reachable), priority)
            found.setdefault(content, []).append(copy)
        for copies in found.values():
            copies.sort(key=lambda c: (c.path, c.origin))
        return found
