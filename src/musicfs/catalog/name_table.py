"""The tree as its one writer sees it: names in folders, and the inodes that they lead to."""

from __future__ import annotations

import sqlite3

from musicfs.catalog.database import ROOT_INO
from musicfs.catalog.paths import find_inode
from musicfs.catalog.rows import Attributes, NamedFile

_ATTRIBUTES = "i.size, i.mtime_ns, i.uid, i.gid, i.mode"
_SHOWN_DIRECTORIES = (
    "SELECT n.ino, n.name FROM names n CROSS JOIN inodes i ON i.ino = n.ino"
    " WHERE n.parent = ? AND n.hidden = 0 AND i.content IS NULL AND i.rendering IS NULL"
)


class NameTable:
    """Writes names and inodes. A file's inode stays as long as its content does, a directory's until it is empty."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    # directories

    def directory(self, parent: int, name: str) -> int | None:
        """The inode number of the directory `name` in `parent`; None: there is none."""
        row = self._db.execute(f"{_SHOWN_DIRECTORIES} AND n.name = ?", (parent, name)).fetchone()
        return row[0] if row else None

    def directories(self, parent: int) -> set[str]:
        """The names of the directories in `parent`."""
        return {name for _, name in self._db.execute(_SHOWN_DIRECTORIES, (parent,))}

    def find_directory(self, path: str) -> int | None:
        """The inode number of the directory that is shown at the path; None: there is none."""
        return find_inode(self._db, path)

    def add_directory(self, parent: int, name: str, mtime_ns: int) -> int:
        """Returns its new inode number."""
        ino = self._insert_inode(None, Attributes(0, mtime_ns))
        self._insert_name(parent, name, ino, shown=True)
        return ino

    def rename_directory(self, parent: int, name: str, to: str) -> None:
        """Gives a directory another name in the same parent. It keeps its inode number and all that is in it."""
        self._db.execute("UPDATE names SET name = ? WHERE parent = ? AND name = ? AND hidden = 0", (to, parent, name))

    def remove_directory(self, ino: int) -> tuple[int, str]:
        """Removes an empty directory. Returns its parent and name."""
        parent, name = self._db.execute("SELECT parent, name FROM names WHERE ino = ?", (ino,)).fetchone()
        self.remove(parent, name, ino)
        self._db.execute("DELETE FROM inodes WHERE ino = ?", (ino,))
        return parent, name

    def touch_directory(self, ino: int, now_ns: int) -> None:
        """Gives a directory a later time of change than it had, whatever the clock says.

        The kernel takes its cached listing for the present one as long as the time is the same.
        """
        self._db.execute("UPDATE inodes SET mtime_ns = max(?, mtime_ns + 1) WHERE ino = ?", (now_ns, ino))

    def is_empty(self, ino: int) -> bool:
        return self._db.execute("SELECT 1 FROM names WHERE parent = ? LIMIT 1", (ino,)).fetchone() is None

    def parent(self, ino: int) -> int:
        """The inode number of the directory that a directory is in; the root's, if it is in none or gone."""
        row = self._db.execute("SELECT parent FROM names WHERE ino = ? LIMIT 1", (ino,)).fetchone()
        return row[0] if row else ROOT_INO

    # files

    def files(self, parent: int) -> list[NamedFile]:
        """Every file in the directory `parent`, with hidden variants."""
        rows = self._db.execute(
            f"SELECT n.name, n.hidden, n.ino, i.content, {_ATTRIBUTES} FROM names n"
            " CROSS JOIN inodes i ON i.ino = n.ino WHERE n.parent = ? AND i.content IS NOT NULL",
            (parent,),
        )
        return [
            NamedFile(name, not hidden, ino, content, Attributes(*its)) for name, hidden, ino, content, *its in rows
        ]

    def has_file(self, parent: int, name: str) -> bool:
        """Whether the directory shows a file of this name. It has hidden variants of a name only if it shows one."""
        sql = (
            "SELECT 1 FROM names n CROSS JOIN inodes i ON i.ino = n.ino"
            " WHERE n.parent = ? AND n.name = ? AND n.hidden = 0"
            " AND (i.content IS NOT NULL OR i.rendering IS NOT NULL)"
        )
        return self._db.execute(sql, (parent, name)).fetchone() is not None

    def add_file(self, parent: int, name: str, content: int, attributes: Attributes, *, shown: bool) -> int:
        """Adds a name of the content. Returns its inode number: that which the content has, the lowest of several."""
        row = self._db.execute(
            f"SELECT i.ino, {_ATTRIBUTES} FROM inodes i WHERE i.content = ? ORDER BY i.ino LIMIT 1", (content,)
        ).fetchone()
        ino = int(row[0]) if row else self._insert_inode(content, attributes)
        if row and row[1:] != attributes:
            self.set_attributes(ino, attributes)
        self._insert_name(parent, name, ino, shown=shown)
        return ino

    def show(self, parent: int, name: str, ino: int, shown: bool) -> None:
        """Shows or hides one variant of a name. Another one that is shown must be hidden before."""
        before, after = (ino, 0) if shown else (0, ino)
        self._db.execute(
            "UPDATE names SET hidden = ? WHERE parent = ? AND name = ? AND hidden = ?", (after, parent, name, before)
        )

    def remove(self, parent: int, name: str, ino: int) -> None:
        """Removes one variant of a name; the inode stays."""
        self._db.execute("DELETE FROM names WHERE parent = ? AND name = ? AND ino = ?", (parent, name, ino))

    def refresh(self, content: int, attributes: Attributes) -> set[int]:
        """Gives the inodes of the content these attributes. Returns the numbers of those that had others.

        All inodes of a content have the same, so that the first one shows whether any must change. There may be
        thousands in a catalogue from before hard links.
        """
        first = self._db.execute(
            f"SELECT {_ATTRIBUTES} FROM inodes i WHERE i.content = ? ORDER BY i.ino LIMIT 1", (content,)
        ).fetchone()
        if first is None or first == attributes:
            return set()
        inodes = {ino for (ino,) in self._db.execute("SELECT ino FROM inodes WHERE content = ?", (content,))}
        for ino in inodes:
            self.set_attributes(ino, attributes)
        return inodes

    def remove_rendering(self, parent: int, name: str) -> None:
        """Removes what the name shows instead of a text, if it does; the text stays hidden. Its inode goes, too."""
        row = self._db.execute(
            "SELECT n.ino, i.rendering FROM names n CROSS JOIN inodes i ON i.ino = n.ino"
            " WHERE n.parent = ? AND n.name = ? AND n.hidden = 0 AND i.rendering IS NOT NULL",
            (parent, name),
        ).fetchone()
        if row is not None:
            self.remove(parent, name, row[0])
            self._db.execute("DELETE FROM renderings WHERE id = ?", (row[1],))
            self._db.execute("DELETE FROM inodes WHERE ino = ?", (row[0],))

    def set_attributes(self, ino: int, attributes: Attributes) -> None:
        self._db.execute(
            "UPDATE inodes SET size = ?, mtime_ns = ?, uid = ?, gid = ?, mode = ? WHERE ino = ?", (*attributes, ino)
        )

    def places(self, ino: int) -> set[tuple[int, int]]:
        """The inode numbers of each directory that shows the inode, and its own."""
        return set(self._db.execute("SELECT parent, ino FROM names WHERE ino = ? AND hidden = 0", (ino,)))

    def _insert_inode(self, content: int | None, attributes: Attributes) -> int:
        cursor = self._db.execute(
            "INSERT INTO inodes (content, size, mtime_ns, uid, gid, mode) VALUES (?, ?, ?, ?, ?, ?)",
            (content, *attributes),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _insert_name(self, parent: int, name: str, ino: int, *, shown: bool) -> None:
        self._db.execute(
            "INSERT INTO names (parent, name, hidden, ino, position) VALUES (:parent, :name, :hidden, :ino,"
            " (SELECT coalesce(max(position), 0) + 1 FROM names WHERE parent = :parent))",
            {"parent": parent, "name": name, "hidden": 0 if shown else ino, "ino": ino},
        )
