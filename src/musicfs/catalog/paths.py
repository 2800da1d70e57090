"""Walks through the tree: from a path to an inode number, and back."""

from __future__ import annotations

from sqlite3 import Connection

from musicfs.catalog.database import ROOT_INO

NAMES_OF = "(SELECT * FROM names WHERE ino = ? LIMIT 100)"
"""The names of an inode, as far as questions about all of them look: a picture may have thousands."""


def find_inode(db: Connection, path: str) -> int | None:
    """The inode number of what the tree shows at the path, which is relative to the mount point; None: nothing.

    Empty parts do not count: "" and "/" are the root.
    """
    ino = ROOT_INO
    for name in filter(None, path.split("/")):
        try:
            sql = "SELECT ino FROM names WHERE parent = ? AND name = ? AND hidden = 0"
            row = db.execute(sql, (ino, name)).fetchone()
        except UnicodeEncodeError:  # the tree has no names that are not Unicode
            row = None
        if row is None:
            return None
        ino = row[0]
    return ino


def find_path(db: Connection, ino: int) -> str:
    """The path of an inode, relative to the mount point; "" for the root and for an inode that has left the tree.

    Of several paths, it is that of `find_name`.
    """
    names: list[str] = []
    while ino != ROOT_INO and (found := find_name(db, ino)) is not None:
        ino, name = found
        names.append(name)
    return "/".join(reversed(names))


def find_name(db: Connection, ino: int) -> tuple[int, str] | None:
    """The parent and the name of an inode; None: it has no name. Of several, a shown one, and the first by name."""
    found: tuple[int, str] | None = db.execute(
        f"SELECT parent, name FROM {NAMES_OF} ORDER BY hidden > 0, view, name, parent LIMIT 1", (ino,)
    ).fetchone()
    return found
