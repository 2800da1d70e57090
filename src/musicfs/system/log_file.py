"""The log file of a mount in the background, which several processes write to at once."""

from __future__ import annotations

import contextlib
import io
import logging
import logging.handlers
import os
import shutil
import syslog
from pathlib import Path

from musicfs.system.ownership import open_private

_MAX_BYTES = 2_000_000
_OLD_ONES = 2


class LogFile(logging.handlers.RotatingFileHandler):
    """A file of at most 2 MB, and its two predecessors.

    When it is full, its content moves to another file and it becomes empty, but it stays the same file: it is also the
    standard error of this process and its children, which would otherwise keep writing to the old one.
    """

    def __init__(self, path: Path, max_bytes: int = _MAX_BYTES) -> None:
        super().__init__(path, maxBytes=max_bytes, backupCount=_OLD_ONES)

    def _open(self) -> io.TextIOWrapper:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return os.fdopen(open_private(Path(self.baseFilename), flags), "a", encoding="utf-8", errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:
        """Sends to the system's log what the file can't take, such as on a full disk. The formatted line has no
        traceback of this failure: the terminal may be long gone, and standard error is this file."""
        text = self.format(record)
        with contextlib.suppress(OSError):
            syslog.syslog(syslog.LOG_WARNING, f"musicfs[{os.getpid()}]: {text}")

    def rotate(self, source: str, dest: str) -> None:
        """Empties `source` also when the disk is full: its lines are lost then, but it does not grow without end."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(dest)  # noqa: PTH108
        with os.fdopen(open_private(Path(source), os.O_RDWR), "rb") as old:
            try:
                new = open_private(Path(dest), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                with os.fdopen(new, "wb") as file:
                    shutil.copyfileobj(old, file)
            finally:
                os.ftruncate(old.fileno(), 0)
