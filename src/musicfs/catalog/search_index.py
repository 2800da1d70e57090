"""The search index, for its one writer, the library worker: search.sqlite beside the catalogue.

It is derived: a damaged or missing index is made again from the catalogue's tags. It lags behind the catalogue by the
rows of `search_pending`, so that a scan does not wait for it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from musicfs.catalog.database import storable
from musicfs.query.fields import FIELDS, FieldKind
from musicfs.query.folding import index_form, search_form
from musicfs.system.sqlite import Damage, Database, transaction

SEARCH = "search.sqlite"
"""Its name in the cache folder."""
FIELD_BITS = 26
"""The number of a text's field is above this many bits of its id, which so has 31 bits: SQLite stores it in 4 bytes."""
TEXT_FIELDS: dict[str, int] = {
    field.name: number
    for number, field in enumerate((field for field in FIELDS if field.tag and field.kind is FieldKind.TEXT), 1)
}
"""The numbers of the fields that `texts` has. Whoever changes them raises `_VERSION`: the index is made again."""
COLUMNS: tuple[str, ...] = tuple(
    field.name for field in FIELDS if field.tag and field.kind is not FieldKind.TEXT
)  # those of `tracks`
_VERSION = "1"
_CACHE_KB = 4096
_SEPARATOR = "\x01"
_PLACE = 40  # characters of a name
_MANY = {"artist": "artists", "albumartist": "albumartists", "genre": "genres", "composer": "composers"}


class IndexedTrack(NamedTuple):
    """One content as the index takes it. tags: as the catalogue keeps them, JSON; None: it has gone. added: when it was
    first seen, seconds since the epoch."""

    content: int
    tags: str | None
    added: float | None


def database_of(path: Path) -> Database:
    """The index at `path`, as `system.sqlite` opens it."""
    return Database(path, (resources.files(__package__).joinpath("search.sql"),), busy_secs=10.0, cache_kb=_CACHE_KB)


class SearchIndex:
    """Writes the index. All methods block; one thread at a time calls them."""

    def __init__(self, path: Path) -> None:
        self._database = database_of(path)
        self._db: sqlite3.Connection | None = None

    def open(self) -> Damage | None:
        """Opens the index, and makes an empty one in place of one that is damaged. Raises SqliteError."""
        damage = self._database.prepare(keep=False)
        self._db = self._database.connect()
        return damage

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def belongs_to(self, mark: str) -> bool:
        """Whether it was made of the catalogue with this mark, by this version."""
        return dict(self._connection.execute("SELECT key, value FROM meta")).get("mark") == f"{_VERSION} {mark}"

    def begin(self, mark: str) -> None:
        """Makes an empty index for the catalogue with this mark."""
        self.close()
        self._database.remove()
        self.open()
        with transaction(self._connection):
            self._connection.execute("INSERT INTO meta VALUES ('mark', ?)", (f"{_VERSION} {mark}",))

    def update(self, tracks: Sequence[IndexedTrack]) -> None:
        """Takes contents, or takes them again. Raises SqliteError; then it has none of them."""
        with transaction(self._connection):
            for track in tracks:
                self._remove(track.content)
                if track.tags is not None:
                    self._add(track.content, json.loads(track.tags), track.added)

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._db is not None
        return self._db

    def _add(self, content: int, tags: dict[str, Any], added: float | None) -> None:
        numbers = [_number(tags, field.name, field.tag) for field in FIELDS if field.name in COLUMNS]
        columns = ", ".join(("content", "place", "added", *COLUMNS))
        self._connection.execute(
            f"INSERT INTO tracks ({columns}) VALUES (?, ?, ?{', ?' * len(COLUMNS)})",
            (content, _place(tags), added, *numbers),
        )
        self._connection.executemany(
            "INSERT OR IGNORE INTO holders VALUES (?, ?)",
            ((self._text_id(number, text), content) for number, text in _texts(tags)),
        )

    def _text_id(self, field: int, text: str) -> int:
        low = field << FIELD_BITS
        row = self._connection.execute(
            "SELECT id FROM texts INDEXED BY texts_by_text WHERE text = ? AND id BETWEEN ? AND ?",
            (text, low, low + _SPAN),
        ).fetchone()
        if row is not None:
            return int(row[0])
        last = self._connection.execute("SELECT max(id) FROM texts WHERE id BETWEEN ? AND ?", (low, low + _SPAN))
        number = (last.fetchone()[0] or low) + 1
        form = search_form(text)
        self._connection.execute("INSERT INTO texts VALUES (?, ?, ?)", (number, text, form))
        self._connection.execute("INSERT INTO runs (rowid, form) VALUES (?, ?)", (number, index_form(form)))
        return number

    def _remove(self, content: int) -> None:
        found = [id for (id,) in self._connection.execute("SELECT text FROM holders WHERE content = ?", (content,))]
        self._connection.execute("DELETE FROM tracks WHERE content = ?", (content,))
        self._connection.execute("DELETE FROM holders WHERE content = ?", (content,))
        for id in found:
            self._remove_unused(id)

    def _remove_unused(self, id: int) -> None:
        if self._connection.execute("SELECT 1 FROM holders WHERE text = ? LIMIT 1", (id,)).fetchone():
            return
        (form,) = self._connection.execute("SELECT form FROM texts WHERE id = ?", (id,)).fetchone()
        self._connection.execute("INSERT INTO runs (runs, rowid, form) VALUES ('delete', ?, ?)", (id, index_form(form)))
        self._connection.execute("DELETE FROM texts WHERE id = ?", (id,))


_SPAN = (1 << FIELD_BITS) - 1


def _texts(tags: dict[str, Any]) -> Iterator[tuple[int, str]]:
    for field in FIELDS:
        if field.name in TEXT_FIELDS and field.tag is not None:
            values: Iterable[str | None] = tags.get(_MANY.get(field.name, "")) or [tags.get(field.tag)]
            # A name that credits several artists is looked for as it is written, too.
            written = tags.get(field.tag)
            yield from ((TEXT_FIELDS[field.name], storable(text)) for text in {*values, written} if text)


def _number(tags: dict[str, Any], name: str, tag: str | None) -> float | None:
    value = tags.get(tag or "")
    if name == "comp":
        return int(bool(value))
    if name == "original_year":
        return int(value[:4]) if isinstance(value, str) and value[:4].isdecimal() else None
    return value if isinstance(value, int | float) else None


def _place(tags: dict[str, Any]) -> str:
    """The default order of results. Numbers have as many digits as they need to sort as text."""
    artist = tags.get("albumartist") or tags.get("artist") or ""
    numbers = f"{min(tags.get('disc') or 0, 9999):04}{min(tags.get('track') or 0, 99999):05}"
    names = search_form(artist)[:_PLACE], search_form(tags.get("album") or "")[:_PLACE]
    return storable(_SEPARATOR.join((*names, numbers)))
