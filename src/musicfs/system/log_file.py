"""The log file of a mount in the background, which several processes write to at once."""

from __future__ import annotations

import contextlib
import io
import logging.handlers
import os
import shutil
from pathlib import Path

from musicfs.system.ownership import open_private

_MAX_BYTES = 2_000_000
_OLD_ONES = 2


class LogFile(logging.handlers.RotatingFileHandler):
    """A file of 2 MB at most, and the two before it.

    When it is full, its content goes to another file and it becomes empty: it stays the same file. For it is also the
    standard error of this process and of those that it has started, whose lines would go on to the old one otherwise.
    """

    def __init__(self, path: Path, max_bytes: int = _MAX_BYTES) -> None:
        super().__init__(path, maxBytes=max_bytes, backupCount=_OLD_ONES)

    def _open(self) -> io.TextIOWrapper:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return os.fdopen(open_private(Path(self.baseFilename), flags), "a", encoding="utf-8", errors="backslashreplace")

    def rotate(self, source: str, dest: str) -> None:
        """Also where the disk is full: then the lines of `source` are lost, but it does not grow without end."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(dest)  # noqa: PTH108
        with os.fdopen(open_private(Path(source), os.O_RDWR), "rb") as old:
            try:
                new = open_private(Path(dest), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                with os.fdopen(new, "wb") as file:
                    shutil.copyfileobj(old, file)
            finally:
                os.ftruncate(old.fileno(), 0)
