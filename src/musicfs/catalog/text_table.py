"""Playlists, cue sheets and lists of checksums in the catalogue: their bytes, what they name, and their renderings."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from musicfs.catalog.database import storable
from musicfs.catalog.paths import find_path
from musicfs.catalog.rows import Attributes
from musicfs.model import Owner, Stat, decode_path, encode_path
from musicfs.texts import fold

_CHUNK = 500


class TextSource(NamedTuple):
    """A text whose bytes the catalogue does not have yet: its content's number, and a replica of it."""

    content: int
    stat: Stat


class ShownText(NamedTuple):
    """A text at one place of the tree.

    parent, name: of the place. ino, position: of the text's own name there. is_hidden: another variant, or a rendering,
    is shown. content: its number. origin, path: of the replica that asks for the place; origin is its number, path is
    relative to the origin's root.
    """

    parent: int
    name: str
    ino: int
    position: int
    is_hidden: bool
    content: int
    origin: int
    path: str


class Rendering(NamedTuple):
    """What a name shows instead of a text. ino: its inode number. content: the text's. data: its bytes."""

    ino: int
    content: int
    data: bytes


class TextTable:
    """Reads and writes texts. The caller calls every method that writes inside a transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    # sources

    def missing(self, origin: int, extensions: Collection[str], max_size: int) -> Iterator[TextSource]:
        """The texts of an origin whose bytes are not here. extensions: in lower case; max_size: in bytes."""
        rows = self._db.execute(
            "SELECT r.content, r.path, r.size, r.mtime_ns, r.etag, r.uid, r.gid, r.mode FROM replicas r"
            " WHERE r.origin = ? AND r.role = 'sidecar' AND r.size BETWEEN 1 AND ?"
            " AND NOT EXISTS (SELECT 1 FROM texts t WHERE t.content = r.content) GROUP BY r.content",
            (origin, max_size),
        )
        for content, raw, size, mtime_ns, etag, *owner in rows.fetchall():
            path = decode_path(raw)
            if path.rpartition(".")[2].lower() in extensions:
                yield TextSource(content, Stat(path, size, mtime_ns, etag, None if owner[0] is None else Owner(*owner)))

    def add(self, content: int, data: bytes) -> None:
        known = self._db.execute("SELECT 1 FROM contents WHERE id = ?", (content,)).fetchone()
        if known:  # it may have gone while it was read
            self._db.execute("INSERT OR REPLACE INTO texts (content, data) VALUES (?, ?)", (content, data))

    def data(self, content: int) -> bytes:
        return bytes(self._db.execute("SELECT data FROM texts WHERE content = ?", (content,)).fetchone()[0])

    def new(self) -> set[int]:
        """The texts that have not been rendered yet."""
        return {row[0] for row in self._db.execute("SELECT content FROM texts WHERE is_new = 1")}

    def set_rendered(self, text: int) -> None:
        self._db.execute("UPDATE texts SET is_new = 0 WHERE content = ?", (text,))

    def all(self) -> set[int]:
        return {row[0] for row in self._db.execute("SELECT content FROM texts")}

    # what they name

    def naming(self, targets: Iterable[int]) -> set[int]:
        """The texts that name one of these contents, and those of them that are texts."""
        found = set()
        for some in _chunks(targets):
            marks = ",".join("?" * len(some))
            sql = f"SELECT text FROM text_targets WHERE target IN ({marks})"
            sql += f" UNION SELECT content FROM texts WHERE content IN ({marks})"
            found |= {row[0] for row in self._db.execute(sql, (*some, *some))}
        return found

    def set_targets(self, text: int, targets: Iterable[int]) -> None:
        self._db.execute("DELETE FROM text_targets WHERE text = ?", (text,))
        self._db.executemany("INSERT OR IGNORE INTO text_targets VALUES (?, ?)", ((each, text) for each in targets))

    def missing_any(self, stem_of: Callable[[str], str], contents: Iterable[int]) -> set[int]:
        """The texts that miss a file, where a file of such a name has one of these contents now."""
        if self._db.execute("SELECT 1 FROM missing_files LIMIT 1").fetchone() is None:
            return set()
        stems = set()
        for some in _chunks(contents):
            sql = f"SELECT path FROM replicas WHERE content IN ({','.join('?' * len(some))})"
            stems |= {stem_of(decode_path(path)) for (path,) in self._db.execute(sql, some)}
        found = set()
        for some in _chunks(map(storable, stems)):
            sql = f"SELECT text FROM missing_files WHERE stem IN ({','.join('?' * len(some))})"
            found |= {row[0] for row in self._db.execute(sql, some)}
        return found

    def set_missing(self, text: int, stems: Iterable[str]) -> None:
        self._db.execute("DELETE FROM missing_files WHERE text = ?", (text,))
        self._db.executemany("INSERT OR IGNORE INTO missing_files VALUES (?, ?)", ((storable(s), text) for s in stems))

    def places(self, content: int) -> list[ShownText]:
        """Where the tree shows a text. A place that no replica asks for any longer is left out."""
        rows = self._db.execute(
            "SELECT n.parent, n.name, n.ino, n.position, n.hidden > 0 FROM inodes i JOIN names n ON n.ino = i.ino"
            " WHERE i.content = ? AND n.view = 1",
            (content,),
        ).fetchall()
        asking = self._db.execute(
            "SELECT e.dir, r.origin, r.path FROM entries e JOIN replicas r ON r.id = e.replica"
            " JOIN configured o ON o.num = r.origin WHERE e.content = ? ORDER BY o.priority DESC, r.path DESC",
            (content,),
        )
        by_dir = {fold(dir): (origin, decode_path(path)) for dir, origin, path in asking}
        found = []
        for parent, name, ino, position, is_hidden in rows:
            replica = by_dir.get(fold(find_path(self._db, parent)))
            if replica is not None:
                found.append(ShownText(parent, name, ino, position, bool(is_hidden), content, *replica))
        return found

    # renderings

    def rendering(self, parent: int, name: str) -> Rendering | None:
        """What the name shows instead of a text, if it does."""
        row = self._db.execute(
            "SELECT n.ino, r.content, r.data FROM names n CROSS JOIN inodes i ON i.ino = n.ino"
            " JOIN renderings r ON r.id = i.rendering WHERE n.parent = ? AND n.name = ? AND n.hidden = 0",
            (parent, name),
        ).fetchone()
        return Rendering(row[0], row[1], bytes(row[2])) if row else None

    def rendered_in(self, parent: int) -> dict[str, int]:
        """The names in a directory that show a rendering, with the text's content."""
        rows = self._db.execute(
            "SELECT n.name, r.content FROM renderings r JOIN inodes i ON i.rendering = r.id"
            " JOIN names n ON n.ino = i.ino WHERE r.parent = ? AND n.parent = ?",
            (parent, parent),
        )
        return dict(rows.fetchall())

    def all_rendered(self) -> list[tuple[int, str, int]]:
        """Every name that shows a rendering: parent, name, and the text's content."""
        return self._db.execute(
            "SELECT n.parent, n.name, r.content FROM renderings r JOIN inodes i ON i.rendering = r.id"
            " JOIN names n ON n.ino = i.ino"
        ).fetchall()

    def show_rendering(self, place: ShownText, data: bytes, mtime_ns: int) -> None:
        """Shows these bytes instead of the text. There must be no rendering there."""
        cursor = self._db.execute(
            "INSERT INTO renderings (content, parent, data) VALUES (?, ?, ?)", (place.content, place.parent, data)
        )
        cursor = self._db.execute(
            "INSERT INTO inodes (rendering, size, mtime_ns, uid, gid, mode)"
            " SELECT ?, ?, ?, uid, gid, mode FROM inodes WHERE ino = ?",
            (cursor.lastrowid, len(data), mtime_ns, place.ino),
        )
        self._db.execute(
            "UPDATE names SET hidden = ino WHERE parent = ? AND name = ? AND ino = ? AND hidden = 0",
            (place.parent, place.name, place.ino),
        )
        self._db.execute(
            "INSERT INTO names (parent, name, hidden, ino, position) VALUES (?, ?, 0, ?, ?)",
            (place.parent, place.name, cursor.lastrowid, place.position),
        )

    def show_source(self, parent: int, name: str, content: int) -> None:
        """Shows the text itself again."""
        self._db.execute(
            "UPDATE names SET hidden = 0 WHERE parent = ? AND name = ? AND hidden > 0"
            " AND ino IN (SELECT ino FROM inodes WHERE content = ?)",
            (parent, name, content),
        )

    def attributes(self, ino: int) -> Attributes:
        row = self._db.execute("SELECT size, mtime_ns, uid, gid, mode FROM inodes WHERE ino = ?", (ino,)).fetchone()
        return Attributes(*row)

    # the files that they name

    def contents_at(self, origin: int, paths: Iterable[str]) -> dict[str, int]:
        """The contents of the files at these paths of an origin."""
        found: dict[str, int] = {}
        for some in _chunks(_storable(paths)):
            marks = ",".join("?" * len(some))
            sql = f"SELECT path, content FROM replicas WHERE origin = ? AND path IN ({marks})"
            found |= {decode_path(path): content for path, content in self._db.execute(sql, (origin, *some))}
        return found

    def names_in_folder(self, origin: int, folder: str) -> list[str]:
        """The names of the files in a folder of an origin."""
        prefix = encode_path(f"{folder}/") if folder else b""
        bounds = (prefix, prefix[:-1] + b"0") if folder else (b"", b"\xff" * 8)
        rows = self._db.execute(
            "SELECT path FROM replicas WHERE origin = ? AND path > ? AND path < ?", (origin, *bounds)
        )
        tails = (path[len(prefix) :] for (path,) in rows)
        return [decode_path(tail) for tail in tails if b"/" not in tail]

    def paths_of(self, origin: int) -> Iterator[str]:
        """The paths of all files of an origin."""
        return (
            decode_path(path) for (path,) in self._db.execute("SELECT path FROM replicas WHERE origin = ?", (origin,))
        )

    def shown_names(self, contents: Iterable[int]) -> Mapping[int, Sequence[tuple[int, str]]]:
        """The parents and names under which the tree shows these contents or variants of them; some of many."""
        found: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
        for some in _chunks(contents):
            marks = ",".join("?" * len(some))
            sql = (
                "SELECT i.content, n.parent, n.name FROM inodes i JOIN names n ON n.ino = i.ino"
                f" WHERE n.view = 1 AND i.content IN ({marks})"
            )
            for content, parent, name in self._db.execute(sql, some):
                found[content].append((parent, name))
        return found

    def path(self, ino: int) -> str:
        """The path of a directory in the tree."""
        return find_path(self._db, ino)


def _chunks(values: Iterable[object]) -> Iterator[tuple[object, ...]]:
    rest = tuple(values)
    return (rest[start : start + _CHUNK] for start in range(0, len(rest), _CHUNK))


def _storable(paths: Iterable[str]) -> Iterator[bytes]:
    for path in paths:
        try:
            yield encode_path(path)
        except UnicodeEncodeError:  # a name of no file
            continue
