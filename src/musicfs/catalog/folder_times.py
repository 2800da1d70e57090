"""Which folders of an origin a poll need not list: those whose time is the same as when a scan listed them.

A folder's time changes with the names in it, but not with the names in its folders. So a poll skips only folders
without folders in them. It lists the others, and learns the times of the folders in them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable

from musicfs.model import encode_path

_SETTLING_SECS = 3.0
_FAR_NS = 2**63 - 1


class FolderTimes:
    """The folders that one scan of everything finds. The origin calls `add`, the scan calls the others.

    Times may be coarse, and two changes within one second look like one. So a folder's time counts only if it was the
    same at two listings some seconds apart. No clock is compared with another machine's.
    """

    def __init__(self, db: sqlite3.Connection, origin: int, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._origin = origin
        self._clock = clock
        self._met = f"met_{origin:d}"  # other origins are scanned meanwhile
        db.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS {self._met}"
            " (path BLOB PRIMARY KEY, mtime_ns INTEGER, since REAL, settled INTEGER) WITHOUT ROWID"
        )
        db.execute(f"DELETE FROM {self._met}")

    def add(self, folder: str, mtime_ns: int | None) -> bool:
        """Records a folder before it is listed. Returns whether the scan can skip it: the catalogue has all in it.

        Args:
            folder: Relative to the origin's root.
            mtime_ns: The folder's time, in nanoseconds since the epoch; None: it has none.
        """
        if mtime_ns is not None and not abs(mtime_ns) < _FAR_NS:
            mtime_ns = None  # SQLite can't hold it exactly
        path, now = encode_path(folder), self._clock()
        row = self._db.execute(
            "SELECT since, settled FROM folder_times WHERE origin = ? AND path = ? AND mtime_ns = ?",
            (self._origin, path, mtime_ns),
        ).fetchone()
        since, known = row or (now, 0)
        settled = known or now - since >= _SETTLING_SECS
        self._db.execute(f"INSERT OR REPLACE INTO {self._met} VALUES (?, ?, ?, ?)", (path, mtime_ns, since, settled))
        self._leave_out([folder.rpartition("/")[0]])
        return bool(known)

    def _leave_out(self, folders: Iterable[str]) -> None:
        self._db.executemany(f"DELETE FROM {self._met} WHERE path = ?", ((encode_path(folder),) for folder in folders))

    def keep(self, unfinished: Iterable[str]) -> None:
        """Replaces the recorded folders by those of this scan, without the folders that the scan did not finish."""
        self._leave_out(unfinished)
        self._db.execute(f"DELETE FROM {self._met} WHERE mtime_ns IS NULL")
        self._db.execute(
            f"DELETE FROM folder_times WHERE origin = ? AND path NOT IN (SELECT path FROM {self._met})", (self._origin,)
        )
        self._db.execute(
            f"INSERT OR REPLACE INTO folder_times SELECT ?, path, mtime_ns, since, settled FROM {self._met}"
            " EXCEPT SELECT * FROM folder_times WHERE origin = ?",
            (self._origin, self._origin),
        )

    def forget(self, folders: Iterable[str]) -> None:
        """Makes the next poll list these folders."""
        values = ((self._origin, encode_path(folder)) for folder in folders)
        self._db.executemany("DELETE FROM folder_times WHERE origin = ? AND path = ?", values)

    def forget_all(self) -> None:
        """Makes the next poll list all folders of the origin."""
        self._db.execute("DELETE FROM folder_times WHERE origin = ?", (self._origin,))
