"""Opening SQLite databases that are this user's alone, and telling damage from trouble that passes."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Literal

from musicfs.system.ownership import Untrusted, close_to_others, open_private

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PRIMARY = 0xFF  # of an error code, whose other bits are details
SIDECARS = ("-wal", "-shm", "-journal")
"""What SQLite appends to the database's name for the files beside it."""


class UnknownVersion(sqlite3.DatabaseError):
    """A newer program has written the database, or it is some other program's."""

    def __init__(self, found: int, ours: int) -> None:
        super().__init__(f"it has version {found}, this program writes {ours}")


def is_damage(error: BaseException) -> bool:
    """Whether the file itself is no good. A lock, a full disk or one that fails is no damage: the file stays."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, UnknownVersion) or (code is not None and code & _PRIMARY in _DAMAGE)


def connect(
    path: Path,
    *,
    busy_secs: float = 5.0,
    isolation_level: Literal["DEFERRED"] | None = None,
    check_same_thread: bool = False,
) -> sqlite3.Connection:
    """Opens the database, and makes it if it is missing; what SQLite puts beside it takes its mode, 0600.

    SQLite itself follows links, and can be told otherwise only from C.

    Raises:
        sqlite3.Error: It can't be opened, or is a link or another user's file.
    """
    try:
        _prepare(path)
    except Untrusted as error:
        raise sqlite3.OperationalError(error.strerror) from error
    except OSError:
        pass  # SQLite says it in its own words
    return sqlite3.connect(
        path, timeout=busy_secs, isolation_level=isolation_level, check_same_thread=check_same_thread
    )


def connect_wal(path: Path, *, busy_secs: float = 5.0, cache_kb: int | None = None) -> sqlite3.Connection:
    """As `connect`, for many readers beside one writer. cache_kb: the memory for pages, in KiB; None: SQLite's 2 MB."""
    connection = connect(path, busy_secs=busy_secs)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if cache_kb is not None:
            # No mmap_size: it made nothing faster here, and memory would grow with the library.
            connection.execute(f"PRAGMA cache_size = -{cache_kb}")
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(path: Path) -> None:
    for suffix in SIDECARS:
        with contextlib.suppress(FileNotFoundError):
            close_to_others(path.with_name(path.name + suffix))
    try:
        close_to_others(path)
    except FileNotFoundError:
        # It is new, so closing it ends no lock of SQLite's.
        os.close(open_private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))


def remove(path: Path) -> None:
    """Removes the database and the files beside it, as far as that is possible."""
    for suffix in ("", *SIDECARS):
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).unlink()
