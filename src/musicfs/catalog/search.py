"""Searches: which tracks or albums of the tree a query means. It blocks, so it belongs into a process of its own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicfs.catalog.database import connect
from musicfs.catalog.paths import find_path
from musicfs.catalog.search_conditions import SIZE, SqlConditions
from musicfs.catalog.search_index import COLUMNS
from musicfs.catalog.search_texts import Correction, range_of
from musicfs.errors import UserError
from musicfs.query.conditions import Condition, Order, Query
from musicfs.system.sqlite import SqliteError, is_damage

_CACHE_MB = 32
_FEW = 5000
"""Up to so many results are sorted; of more, the first are looked for in their order."""
_NAMED = " JOIN main.inodes i ON i.content = t.content JOIN main.names n ON n.ino = i.ino"
_NAMED_IN_ORDER = _NAMED.replace("JOIN", "CROSS JOIN")  # SQLite reads the tables in this order
_SHOWN = "n.hidden = 0 AND n.view = 1"
_IS_SHOWN = (
    f"EXISTS (SELECT 1 FROM main.inodes i JOIN main.names n ON n.ino = i.ino WHERE i.content = t.content AND {_SHOWN})"
)
_NAME = f"SELECT n.parent, n.name FROM (SELECT ? AS content) t{_NAMED} WHERE {_SHOWN} ORDER BY n.name, n.parent LIMIT 1"


@dataclass(frozen=True, slots=True)
class FoundTrack:
    """One track. path: in the tree. tags: the fields of `Tags` that its file has. added: seconds since the epoch."""

    path: str
    tags: dict[str, Any]
    added: float | None
    size: int


@dataclass(frozen=True, slots=True)
class FoundAlbum:
    """One folder of the tree with tracks that were found. tags: of the first of them."""

    path: str
    tracks: int
    tags: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """What a query found. more: whether there is more than was asked for. instead: what was looked for in place of
    words that nothing has. pending: how many tracks the index has not taken yet."""

    tracks: tuple[FoundTrack, ...] = ()
    albums: tuple[FoundAlbum, ...] = ()
    more: bool = False
    instead: tuple[tuple[str, str], ...] = ()
    pending: int = 0


class LibrarySearch:
    """Runs queries on a catalogue and its search index. Its methods block, and may be called from one thread."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """db: of the catalogue, with the index attached as `search`."""
        self._db = db

    def tracks(self, query: Query, most: int) -> Found:
        """Returns the tracks that the query means, at most `most`."""
        correction = Correction(self._db)
        chosen = self._chosen(correction.of(query.condition))
        keys = ", ".join([*map(_ordered, query.orders), "t.place", "t.content"])
        by = "" if query.orders or chosen.are_few else " INDEXED BY tracks_by_place"
        rows = self._db.execute(
            f"SELECT t.content FROM search.tracks t{by} WHERE {chosen.where} AND {_IS_SHOWN}"
            f" ORDER BY {keys} LIMIT {most + 1}",
            chosen.parameters,
        )
        contents = [content for (content,) in rows]
        found = tuple(track for content in contents[:most] if (track := self._track(content)) is not None)
        return self._found(correction, len(contents) > most, tracks=found)

    def albums(self, query: Query, most: int) -> Found:
        """Returns the folders with tracks that the query means, at most `most`."""
        correction = Correction(self._db)
        chosen = self._chosen(correction.of(query.condition))
        if query.orders or chosen.are_few:
            folders = self._sorted_folders(chosen, query.orders, most + 1)
        else:
            folders = self._first_folders(chosen, most + 1)
        return self._found(correction, len(folders) > most, albums=self._albums(folders[:most], chosen))

    def _found(
        self,
        correction: Correction,
        more: bool,
        tracks: tuple[FoundTrack, ...] = (),
        albums: tuple[FoundAlbum, ...] = (),
    ) -> Found:
        (pending,) = self._db.execute("SELECT count(*) FROM main.search_pending").fetchone()
        return Found(tracks, albums, more, tuple(correction.instead), pending)

    def _chosen(self, condition: Condition) -> _Chosen:
        """Which tracks the condition means. If they are few, they are found now, and not again for each question."""
        sql = SqlConditions(self._db)
        where = sql.of(condition)
        rows = self._db.execute(
            f"SELECT t.content FROM search.tracks t WHERE {where} LIMIT {_FEW + 1}", sql.parameters
        ).fetchall()
        if len(rows) > _FEW:
            return _Chosen(where, sql.parameters, False)
        contents = json.dumps([content for (content,) in rows])
        return _Chosen("t.content IN (SELECT value FROM json_each(:few))", {"few": contents}, True)

    def _sorted_folders(self, chosen: _Chosen, orders: Sequence[Order], most: int) -> list[int]:
        keys = [f"{'max' if order.descending else 'min'}({_key(order)}){_direction(order)}" for order in orders]
        rows = self._db.execute(
            f"SELECT n.parent FROM search.tracks t{_NAMED} WHERE {_SHOWN} AND {chosen.where} GROUP BY n.parent"
            f" ORDER BY {', '.join([*keys, 'min(t.place)', 'n.parent'])} LIMIT {most}",
            chosen.parameters,
        )
        return [folder for (folder,) in rows]

    def _first_folders(self, chosen: _Chosen, most: int) -> list[int]:
        """The folders in the order of their first tracks: the index of the order is walked until there are enough."""
        rows = self._db.execute(
            f"SELECT DISTINCT n.parent FROM search.tracks t INDEXED BY tracks_by_place{_NAMED_IN_ORDER}"
            f" WHERE {_SHOWN} AND {chosen.where} ORDER BY t.place LIMIT {most}",
            chosen.parameters,
        )
        return [folder for (folder,) in rows]

    def _albums(self, folders: Sequence[int], chosen: _Chosen) -> tuple[FoundAlbum, ...]:
        rows = self._db.execute(
            "SELECT n.parent, count(*), min(t.content) FROM json_each(:folders) f"
            " CROSS JOIN main.names n ON n.parent = f.value CROSS JOIN main.inodes i ON i.ino = n.ino"
            " CROSS JOIN search.tracks t ON t.content = i.content"
            f" WHERE {_SHOWN} AND {chosen.where} GROUP BY n.parent",
            chosen.parameters | {"folders": json.dumps(folders)},
        )
        found = {folder: (tracks, content) for folder, tracks, content in rows}
        return tuple(
            FoundAlbum(find_path(self._db, folder), found[folder][0], self._tags(found[folder][1]))
            for folder in folders
        )

    def _track(self, content: int) -> FoundTrack | None:
        row = self._db.execute(_NAME, (content,)).fetchone()
        if row is None:
            return None
        parent = find_path(self._db, row[0])
        added, size = self._db.execute(
            f"SELECT t.added, {SIZE} FROM search.tracks t WHERE t.content = ?", (content,)
        ).fetchone()
        return FoundTrack(f"{parent}/{row[1]}" if parent else row[1], self._tags(content), added, size)

    def _tags(self, content: int) -> dict[str, Any]:
        row = self._db.execute("SELECT tags FROM main.contents WHERE id = ?", (content,)).fetchone()
        return json.loads(row[0]) if row and row[0] else {}


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The tracks that a query means, as a condition on `t` with its values."""

    where: str
    parameters: dict[str, object]
    are_few: bool


def _key(order: Order) -> str:
    name = order.field.name
    if name in COLUMNS or name == "added":
        return f"t.{name}"
    if name == "size":
        return SIZE
    ids = range_of(name)
    return (
        "(SELECT min(x.form) FROM search.holders h JOIN search.texts x ON x.id = h.text"
        f" WHERE h.content = t.content AND h.text BETWEEN {ids['low']} AND {ids['high']})"
    )


def _ordered(order: Order) -> str:
    return _key(order) + _direction(order)


def _direction(order: Order) -> str:
    return " DESC" if order.descending else " NULLS LAST"  # SQLite has NULL last in descending order


@contextmanager
def open_search(catalog: Path, index: Path) -> Iterator[LibrarySearch]:
    """Opens a catalogue and its index for searches.

    Raises:
        UserError: One of them is missing or can't be read.
    """
    for path, what in ((catalog, "catalogue"), (index, "search index")):
        if not path.exists():
            raise UserError(
                f"There is no {what} in {path.parent}; mount your music, or run `musicfs scan`, to make it."
            )
    try:
        with closing(connect(catalog, cache_mb=_CACHE_MB)) as db:
            db.execute("ATTACH DATABASE ? AS search", (str(index),))
            db.execute("PRAGMA query_only = 1")
            db.execute("BEGIN")  # so that one search sees one state
            db.create_function("matches", 2, _Expressions().matches, deterministic=True)
            yield LibrarySearch(db)
    except SqliteError as error:
        what = "is damaged; the next mount makes it again" if is_damage(error) else "can't be read"
        raise UserError(f"The search index {index} {what} ({error}).") from error


class _Expressions:
    """Matches texts by regular expressions of RE2, whose time is linear in the text."""

    def __init__(self) -> None:
        self._compiled: dict[str, Any] = {}

    def matches(self, pattern: str, text: str) -> bool:
        compiled = self._compiled.get(pattern)
        if compiled is None:
            import re2

            compiled = self._compiled[pattern] = re2.compile(pattern)
        return compiled.search(text) is not None
