"""Opening the catalogue's file, for its writer (writer.py) and its readers (view.py).

These two modules, folder_times.py, left_out.py, predecessors.py and the .sql files beside them hold all the SQL of the
catalogue.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from importlib import resources
from pathlib import Path

from musicfs.errors import UserError
from musicfs.system import sqlite
from musicfs.system.sqlite import SIDECARS, UnknownVersion, is_damage

CatalogError = sqlite3.Error
"""What every query may raise when the file is damaged or its disk fails."""

CATALOG = "catalog.sqlite"
"""Its name in the cache folder."""
SCHEMA_VERSION = 5
# From an empty file to version 1, from that to version 2, and on: inode numbers outlive a new version of the program.
_STEPS = ("schema.sql", "counts.sql", "folder_times.sql", "predecessors.sql", "ownership.sql")
ROOT_INO = 1


def encode_path(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def decode_path(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def is_of_values(error: Exception) -> bool:
    """Whether what was to be written is to blame for the error; else it is the catalogue's file, or its disk."""
    of_values = sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError
    return not isinstance(error, sqlite3.Error) or isinstance(error, of_values)


def storable(text: str) -> str:
    """Without lone surrogates, which names that are not UTF-8 bring and SQLite's text can't hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def connect(path: Path, *, cache_mb: int) -> sqlite3.Connection:
    return sqlite.connect_wal(path, busy_secs=10.0, cache_kb=cache_mb * 1024)


def _prepare(path: Path) -> None:
    with contextlib.closing(connect(path, cache_mb=2)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == SCHEMA_VERSION:
            return
        if version not in range(SCHEMA_VERSION):
            raise UnknownVersion(version, SCHEMA_VERSION)
        steps = [resources.files(__package__).joinpath(name).read_text("utf-8") for name in _STEPS[version:]]
        schema = "\n".join(steps)
        connection.executescript(f"BEGIN IMMEDIATE;\n{schema}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;")


def prepare_catalog(path: Path) -> str | None:
    """Makes sure that `path` is a catalogue this version can use, creating it if it is missing.

    A file that is damaged or of another version is set aside, never deleted, and a sentence about it is
    returned; everything in it but inode numbers is found again by the next scan. Raises `UserError` when the
    folder can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _prepare(path)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise UserError(f"The catalogue {path} can't be opened ({error}); {_remedy(error)}.") from error
        aside = path.with_name(f"{path.name}.unusable-{time.strftime('%Y%m%d-%H%M%S')}")
        for suffix in ("", *SIDECARS):
            old = path.with_name(path.name + suffix)
            if old.exists():
                old.rename(aside.with_name(aside.name + suffix))
        _prepare(path)
        return f"The catalogue {path} can't be used ({error}); it was kept as {aside.name} and a new scan begins."
    except OSError as error:
        raise UserError(
            f"The cache folder {path.parent} can't be used: {error.strerror}; name another with cache_dir."
        ) from error
    return None


def _remedy(error: sqlite3.Error) -> str:
    if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "close the other program that has it open, such as a backup"
    return "check the folder's permissions, and whether its disk is full"
