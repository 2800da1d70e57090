"""The catalogue as its readers see it: the tree that the mount shows, and what the control API reports.

One SQLite connection in WAL mode, so that readers never wait for the writer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection
from typing import NamedTuple

from musicfs.catalog.database import ROOT_INO, connect
from musicfs.catalog.folder_files import FolderFiles
from musicfs.catalog.lineages import first_seen
from musicfs.catalog.paths import NAMES_OF, find_inode, find_name, find_path
from musicfs.catalog.predecessors import find_predecessors
from musicfs.model import Content, Fingerprint, OriginId, Replica, decode_path

_OWNER = ", i.uid, i.gid, i.mode"
_CONTENT = "coalesce(i.content, -i.rendering)"
"""The id of a content, a rendering's id below 0, or NULL for a directory."""


def _lookup(more: str = "") -> str:
    return (
        # CROSS JOIN: SQLite reads the tables in this order.
        f"SELECT i.ino, {_CONTENT}, i.size, i.mtime_ns{more} FROM names n CROSS JOIN inodes i ON i.ino = n.ino"
        " WHERE n.parent = ? AND n.name = ? AND n.hidden = 0"
    )


def _children(more: str = "") -> str:
    return (
        f"SELECT n.ino, n.name, {_CONTENT}, i.size, i.mtime_ns, n.position{more} FROM names n"
        " INDEXED BY names_by_position CROSS JOIN inodes i ON i.ino = n.ino"
        " WHERE n.parent = ? AND n.hidden = 0 AND n.position > ? ORDER BY n.position LIMIT ?"
    )


_INODE = f"SELECT ino, {_CONTENT}, size, mtime_ns FROM inodes i WHERE ino = ?"
_OWNED_INODE = f"SELECT ino, {_CONTENT}, size, mtime_ns, uid, gid, mode FROM inodes i WHERE ino = ?"
_LOOKUP, _OWNED_LOOKUP = _lookup(), _lookup(_OWNER)
_CHILDREN, _OWNED_CHILDREN = _children(), _children(_OWNER)


class Inode(NamedTuple):
    """What the kernel knows by number. content: its id; None: a directory; below 0: a text that is rendered (see
    `TreeView.generated`). size in bytes; mtime_ns since the epoch."""

    ino: int
    content: int | None
    size: int
    mtime_ns: int


class OwnedInode(NamedTuple):
    """An `Inode` with its owner and who may read it: see ownership.sql."""

    ino: int
    content: int | None
    size: int
    mtime_ns: int
    uid: int | None
    gid: int | None
    mode: int | None


ListedRow = tuple[int, str, int | None, int, int, int]
"""Inode number, name, content, size, mtime_ns, and the position in its folder's listing, which is above 0."""

OwnedListedRow = tuple[int, str, int | None, int, int, int, int | None, int | None, int | None]
"""A `ListedRow` with the owner."""

InodeRow = tuple[int, int | None, int, int]
"""The fields of an `Inode`."""

OwnedInodeRow = tuple[int, int | None, int, int, int | None, int | None, int | None]
"""The fields of an `OwnedInode`."""


class GeneratedFile(NamedTuple):
    """A file that no origin has. source: the id of the content that it is made of; mtime_ns since the epoch."""

    data: bytes
    mtime_ns: int
    source: int


class OriginRow(NamedTuple):
    """One origin in the catalogue. scanned_at: seconds since the epoch; None: no scan has completed. held: files that
    are gone there but stay in the tree until the user confirms."""

    id: OriginId
    priority: int
    enabled: bool
    reachable: bool
    scanned_at: float | None
    held: int
    files: int
    bytes: int
    left_out: int
    """Symbolic links that are not followed."""
    hidden: int
    """Files that were shown before these links were left out."""


@dataclass(frozen=True, slots=True)
class TreeTotals:
    """The shown tree in numbers."""

    files: int
    directories: int
    bytes: int


class TreeView:
    """Reads the tree as the mount shows it. Every call is one indexed query, in microseconds.

    It shows the catalogue as it was at the last `refresh`, which must follow every commit: a transaction stays open in
    between, since one for every query would double the cost of a lookup.

    has_variants: whether some track has several contents. open_file: returns a file by its inode number, see
    `FolderFiles.find`.
    """

    def __init__(self, db: Connection) -> None:
        """db: inside a transaction; this closes it."""
        self._db = db
        self._execute = db.execute
        self.files = FolderFiles(db)
        self.open_file = self.files.find
        self.has_variants = False

    @classmethod
    def open(cls, path: Path, cache_mb: int = 8) -> TreeView:
        """Opens the catalogue at `path`. Blocks. cache_mb: the memory for its pages, in MiB."""
        db = connect(path, cache_mb=cache_mb)
        db.execute("PRAGMA query_only = 1")
        db.execute("BEGIN")
        view = cls(db)
        view.has_variants = view._any_hidden()
        return view

    def close(self) -> None:
        self._db.close()

    def release_memory(self) -> None:
        """Frees the memory for the catalogue's pages. The next queries read them again, mostly from the page cache."""
        self._db.execute("PRAGMA shrink_memory")

    def refresh(self) -> None:
        """Shows what is committed by now."""
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")
        self.files.forget()
        self.has_variants = self._any_hidden()

    def _any_hidden(self) -> bool:
        return bool(self._execute("SELECT EXISTS (SELECT 1 FROM names WHERE hidden > 0)").fetchone()[0])

    def lookup(self, parent: int, name: str) -> InodeRow | None:
        """The fields of the `Inode` called `name` in `parent`, as a bare tuple: this is the mount's hot path."""
        row: InodeRow | None = self._execute(_LOOKUP, (parent, name)).fetchone()
        return row

    def inode(self, ino: int) -> Inode | None:
        row = self._execute(_INODE, (ino,)).fetchone()
        return Inode(*row) if row else None

    def children(self, parent: int, after: int, limit: int) -> list[ListedRow]:
        """Up to `limit` children at positions above `after`, in that order."""
        return self._execute(_CHILDREN, (parent, after, limit)).fetchall()

    # The same with owners, for a mount that other users see: the queries above stay as short as they can be.

    def owned_lookup(self, parent: int, name: str) -> OwnedInodeRow | None:
        """The fields of the `OwnedInode` called `name` in `parent`, as a bare tuple."""
        row: OwnedInodeRow | None = self._execute(_OWNED_LOOKUP, (parent, name)).fetchone()
        return row

    def owned_inode(self, ino: int) -> OwnedInode | None:
        """The inode with its owner; None: there is none of this number."""
        row = self._execute(_OWNED_INODE, (ino,)).fetchone()
        return OwnedInode(*row) if row else None

    def owned_children(self, parent: int, after: int, limit: int) -> list[OwnedListedRow]:
        """Up to `limit` children at positions above `after`, in that order."""
        return self._execute(_OWNED_CHILDREN, (parent, after, limit)).fetchall()

    def parent(self, ino: int) -> int:
        row = self._execute("SELECT parent FROM names WHERE ino = ? LIMIT 1", (ino,)).fetchone()
        return int(row[0]) if row and row[0] else ROOT_INO

    def find(self, path: str) -> int | None:
        """The inode number of what is shown at the path, which is relative to the mount point; None: nothing."""
        return find_inode(self._db, path)

    def path(self, ino: int) -> str:
        """The path of an inode, relative to the mount point; "" for the root and for an inode that is gone."""
        return find_path(self._db, ino)

    def following(self, ino: int) -> int | None:
        """The file that comes next by name, in the same folder and with the same extension."""
        found = find_name(self._db, ino)
        if found is None:
            return None
        parent, name = found
        _, dot, extension = name.rpartition(".")
        row = self._execute(
            "SELECT n.ino FROM names n CROSS JOIN inodes i ON i.ino = n.ino"
            " WHERE n.parent = ? AND n.name > ? AND n.hidden = 0 AND i.content IS NOT NULL"
            " AND substr(n.name, -length(?)) = ? ORDER BY n.name LIMIT 1",
            (parent, name, dot + extension, dot + extension),
        ).fetchone()
        return row[0] if row else None

    def generated(self, ino: int) -> GeneratedFile | None:
        """The file `ino`, if its bytes are made by MusicFS: a playlist or the like with the tree's names in it."""
        row = self._execute(
            "SELECT r.data, i.mtime_ns, r.content FROM inodes i JOIN renderings r ON r.id = i.rendering"
            " WHERE i.ino = ? AND EXISTS (SELECT 1 FROM names n WHERE n.ino = i.ino)",
            (ino,),
        ).fetchone()
        return GeneratedFile(bytes(row[0]), row[1], row[2]) if row else None

    def replicas(self, content: int) -> list[Replica]:
        """Every replica of the content at the origins that are configured now."""
        rows = self._execute(
            "SELECT o.id, r.path, r.size, r.mtime_ns, r.etag FROM replicas r JOIN configured o ON o.num = r.origin"
            " WHERE r.content = ? ORDER BY o.priority, o.num, r.path",
            (content,),
        )
        return [Replica(OriginId(o), decode_path(p), size, mtime, etag) for o, p, size, mtime, etag in rows]

    def copies(self, fingerprint: Fingerprint) -> list[Replica]:
        """The replicas of the content with this fingerprint, whatever its number is by now."""
        row = self._execute("SELECT id FROM contents WHERE fingerprint = ?", (fingerprint,)).fetchone()
        return self.replicas(row[0]) if row else []

    def variants(self, ino: int) -> list[int]:
        """The contents that share a name with the file `ino`, the shown one first."""
        return [
            row[0]
            for row in self._execute(
                f"SELECT i.content FROM {NAMES_OF} n CROSS JOIN names v ON v.parent = n.parent AND v.name = n.name"
                " CROSS JOIN inodes i ON i.ino = v.ino WHERE i.content IS NOT NULL"
                " GROUP BY i.content ORDER BY min(v.hidden > 0), min(v.ino)",
                (ino,),
            )
        ]

    def places(self, ino: int) -> list[tuple[int, str]]:
        """The (parent, name) pairs that show the file `ino`; if none does, those at which it is a hidden variant."""
        rows = self._execute(f"SELECT parent, name, hidden FROM {NAMES_OF}", (ino,)).fetchall()
        hidden = all(row[2] for row in rows)
        return [(parent, name) for parent, name, is_hidden in rows if hidden or not is_hidden]

    def content(self, id: int) -> Content | None:
        row = self._execute("SELECT fingerprint, size FROM contents WHERE id = ?", (id,)).fetchone()
        return Content(id, Fingerprint(row[0]), row[1]) if row else None

    def predecessors(self, content: Content) -> list[Content]:
        """What files that hold the content held before, the latest first. Their id is 0."""
        return find_predecessors(self._db, content.id)

    def also_at(self, origin: OriginId, others: Sequence[OriginId]) -> int:
        """How many files of the origin are also at one of the others, byte for byte. Reads all rows of the origin."""
        marks = ",".join("?" * len(others))
        row = self._execute(
            "SELECT count(*) FROM replicas r JOIN origins o ON o.num = r.origin WHERE o.id = ? AND EXISTS"
            f" (SELECT 1 FROM replicas r2 JOIN origins o2 ON o2.num = r2.origin"
            f" WHERE r2.content = r.content AND o2.id IN ({marks}))",
            (origin, *others),
        ).fetchone()
        return int(row[0])

    def first_seen(self, content: int) -> float | None:
        """When a scan first found the music, whatever its file held then, seconds since the epoch; None: no music."""
        return first_seen(self._db, content)

    def problem(self, content: int) -> str | None:
        """Why the content's tags could not be read; None: they could, or it is no audio."""
        row = self._execute("SELECT problem FROM contents WHERE id = ?", (content,)).fetchone()
        return row[0] if row else None

    def origins(self) -> list[OriginRow]:
        rows = self._execute(
            "SELECT id, priority, enabled, reachable, scanned_at, held, files, bytes, left_out, hidden FROM origins"
            " JOIN origins_here ON origin = num ORDER BY priority, num"
        )
        return [OriginRow(OriginId(r[0]), r[1], bool(r[2]), bool(r[3]), *r[4:]) for r in rows]

    def populated(self) -> set[OriginId]:
        """The origins that have files in the catalogue."""
        rows = self._execute(
            "SELECT o.id FROM origins o WHERE EXISTS (SELECT 1 FROM replicas r WHERE r.origin = o.num)"
        )
        return {OriginId(row[0]) for row in rows}

    def totals(self) -> TreeTotals:
        return TreeTotals(*self._execute("SELECT files, directories, bytes FROM totals").fetchone())
