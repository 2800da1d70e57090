"""Walks through the tree: from a path to an inode number, and back."""

from __future__ import annotations

from sqlite3 import Connection

from musicfs.catalog.database import ROOT_INO


def find_inode(db: Connection, path: str) -> int | None:
    """The inode number of what the tree shows at the path, which is relative to the mount point; None: nothing.

    Empty parts do not count: "" and "/" are the root.
    """
    ino = ROOT_INO
    for name in filter(None, path.split("/")):
        try:
            sql = "SELECT ino FROM nodes WHERE parent = ? AND name = ? AND shown = 1"
            row = db.execute(sql, (ino, name)).fetchone()
        except UnicodeEncodeError:  # the tree has no names that are not Unicode
            row = None
        if row is None:
            return None
        ino = row[0]
    return ino


def find_path(db: Connection, ino: int) -> str:
    """The path of an inode, relative to the mount point; "" for the root and for an inode that has left the tree."""
    names: list[str] = []
    while ino != ROOT_INO:
        row = db.execute("SELECT parent, name FROM nodes WHERE ino = ?", (ino,)).fetchone()
        if row is None:
            break
        ino, name = row
        names.append(name)
    return "/".join(reversed(names))
