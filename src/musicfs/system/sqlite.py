"""The one way to open SQLite databases: private to this user, in the present schema, and replaced only when damaged."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from musicfs.system.ownership import Untrusted, close_to_others, open_private

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

SqliteError = sqlite3.Error
"""What every statement may raise: the file is damaged, its disk fails or is full, or another program holds a lock."""

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PRIMARY = 0xFF  # of an error code, whose other bits are details
_SIDECARS = ("-wal", "-shm", "-journal")  # what SQLite appends to the database's name for the files beside it


class UnknownVersion(sqlite3.DatabaseError):
    """A newer program has written the database, or it is some other program's."""

    def __init__(self, found: int, ours: int) -> None:
        super().__init__(f"it has version {found}, this program writes {ours}")


def is_damage(error: BaseException) -> bool:
    """Whether the file itself is unusable. A lock, a full disk or a failing disk is no damage: the file stays."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, UnknownVersion) or (code is not None and code & _PRIMARY in _DAMAGE)


def is_lock(error: BaseException) -> bool:
    """Whether another connection has held a lock for longer than a statement waits."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & _PRIMARY in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@dataclass(frozen=True, slots=True)
class Damage:
    """A database that was unusable, and was replaced by an empty one. kept: where it is now; None: it was removed."""

    error: sqlite3.Error
    kept: Path | None


@dataclass(frozen=True, slots=True)
class Database:
    """One kind of database at one path.

    Args:
        path: The file. SQLite puts others beside it, which take its mode, 0600.
        steps: SQL scripts, or files that hold them. The first makes version 1 from an empty file, the next makes
            version 2 from version 1, and so on: their number is the present version.
        wal: Many readers beside one writer. False: a rollback journal, for small files that are opened briefly.
        busy_secs: How long a statement waits for another connection's lock.
        cache_kb: The memory for pages, in KiB; None: SQLite's 2 MB.
    """

    path: Path
    steps: tuple[str | Traversable, ...] = ()
    wal: bool = True
    busy_secs: float = 5.0
    cache_kb: int | None = None

    def connect(self) -> sqlite3.Connection:
        """Opens the file as it is, and makes an empty one if it is missing. The connection may change threads.

        SQLite itself follows links; only C code can switch that off, so links are refused here.

        Raises:
            SqliteError: It can't be opened, is damaged, or is a link or another user's file.
        """
        self._make_private()
        connection = sqlite3.connect(self.path, timeout=self.busy_secs, isolation_level=None, check_same_thread=False)
        try:
            self._configure(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def open(self) -> sqlite3.Connection:
        """Opens the file in the present version.

        Raises:
            UnknownVersion: Its version is none that a step begins with.
            SqliteError: As `connect` raises it, or the file can't be written.
        """
        connection = self.connect()
        try:
            self._upgrade(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def prepare(self, *, keep: bool) -> Damage | None:
        """Brings the file to the present version, and replaces it if it is damaged or of an unknown version.

        Args:
            keep: Whether a damaged file is renamed; False removes it.

        Returns:
            What was wrong with the file before; None: nothing.

        Raises:
            SqliteError: The file is locked, its disk fails or is full, or the damaged file can't be renamed. The file
                stays as it is.
        """
        try:
            self.open().close()
        except SqliteError as error:
            return self.replace(error, keep=keep)
        return None

    def replace(self, error: sqlite3.Error, *, keep: bool) -> Damage:
        """Makes an empty database in place of one that is damaged.

        Args:
            error: What a statement on it raised. It is raised again if it is no damage.
            keep: As for `prepare`.
        """
        if not is_damage(error):
            raise error
        kept = self._set_aside(error) if keep else None
        self.remove()
        self.open().close()
        return Damage(error, kept)

    def remove(self) -> None:
        """Removes the database and the files beside it, as far as that is possible."""
        for path in (self.path, *self._beside(self.path)):
            with contextlib.suppress(OSError):
                path.unlink()

    def _make_private(self) -> None:
        try:
            for path in self._beside(self.path):
                with contextlib.suppress(FileNotFoundError):
                    close_to_others(path)
            try:
                close_to_others(self.path)
            except FileNotFoundError:
                # It is new, so closing it ends no lock of SQLite's.
                os.close(open_private(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        except Untrusted as error:
            raise sqlite3.OperationalError(error.strerror) from error
        except OSError:
            pass  # SQLite reports it in its own words

    def _configure(self, connection: sqlite3.Connection) -> None:
        if self.wal:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        if self.cache_kb is not None:
            # No mmap_size: it made nothing faster here, and memory would grow with the library.
            connection.execute(f"PRAGMA cache_size = -{self.cache_kb}")

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        found, ours = connection.execute("PRAGMA user_version").fetchone()[0], len(self.steps)
        if found == ours:
            return
        if found not in range(ours):
            raise UnknownVersion(found, ours)
        steps = [step if isinstance(step, str) else step.read_text("utf-8") for step in self.steps[found:]]
        script = "\n".join(steps)
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {ours};\nCOMMIT;")

    def _set_aside(self, error: sqlite3.Error) -> Path:
        aside = self.path.with_name(f"{self.path.name}.unusable-{time.strftime('%Y%m%d-%H%M%S')}")
        try:
            for old, new in zip((self.path, *self._beside(self.path)), (aside, *self._beside(aside)), strict=True):
                if old.exists():
                    old.rename(new)
        except OSError as failure:
            raise sqlite3.OperationalError(f"{error}, and it can't be renamed: {failure.strerror}") from error
        return aside

    @staticmethod
    def _beside(path: Path) -> tuple[Path, ...]:
        return tuple(path.with_name(path.name + suffix) for suffix in _SIDECARS)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commits all statements of the block together, or none of them if it raises. Takes the write lock at once."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
