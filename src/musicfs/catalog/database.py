"""The catalogue's file, for its writer (writer.py) and its readers (view.py, queries.py, redundancy.py).

The modules of this folder and the .sql files beside them hold all the SQL of the catalogue.
"""

from __future__ import annotations

import sqlite3
from importlib import resources
from pathlib import Path

from musicfs.errors import UserError
from musicfs.system.sqlite import Database, SqliteError

CATALOG = "catalog.sqlite"
"""Its name in the cache folder."""
STEPS = (
    "schema.sql", "counts.sql", "folder_times.sql", "predecessors.sql", "ownership.sql",
    "names.sql", "origins_here.sql", "lineages.sql", "problems.sql", "views.sql",
    "spellings.sql", "missing_files.sql", "search_pending.sql",
)  # fmt: skip
"""From an empty file to version 1, from version 1 to 2, and so on: inode numbers outlive new versions."""
_BUSY_SECS = 10.0
ROOT_INO = 1


def is_of_values(error: Exception) -> bool:
    """Whether the values of a statement caused the error, and not the catalogue's file or its disk."""
    of_values = sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError
    return not isinstance(error, sqlite3.Error) or isinstance(error, of_values)


def storable(text: str) -> str:
    """The text without lone surrogates, which SQLite can't hold. Names that are not UTF-8 have some."""
    return text.encode("utf-8", "backslashreplace").decode()


def connect(path: Path, *, cache_mb: int) -> sqlite3.Connection:
    """Opens a catalogue that `prepare_catalog` has made ready. cache_mb: the memory for its pages."""
    return _database(path, cache_mb).connect()


def prepare_catalog(path: Path) -> str | None:
    """Makes sure that `path` is a catalogue this version can use, and creates it if it is missing.

    A file that is damaged or of another version is renamed, never deleted. The next scan finds everything in it again,
    except inode numbers.

    Returns:
        A sentence about a file that was renamed; None: there was none.

    Raises:
        UserError: The folder can't be written, or the file can't be opened.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        damage = _database(path, cache_mb=2).prepare(keep=True)
    except SqliteError as error:
        raise UserError(f"The catalogue {path} can't be opened ({error}); {_remedy(error)}.") from error
    except OSError as error:
        raise UserError(
            f"The cache folder {path.parent} can't be used: {error.strerror}; name another with cache_dir."
        ) from error
    if damage is None or damage.kept is None:
        return None
    return (
        f"The catalogue {path} can't be used ({damage.error}); it was kept as {damage.kept.name} and a new scan begins."
    )


def _database(path: Path, cache_mb: int) -> Database:
    steps = tuple(resources.files(__package__).joinpath(name) for name in STEPS)
    return Database(path, steps, busy_secs=_BUSY_SECS, cache_kb=cache_mb * 1024)


def _remedy(error: sqlite3.Error) -> str:
    if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "close the other program that has it open, such as a backup"
    return "check the folder's permissions, and whether its disk is full"
