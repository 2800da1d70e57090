"""The log's form (for a terminal, a file, systemd's journal, or as JSON) and its level, part by part."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from musicfs.texts import printable

if TYPE_CHECKING:
    from musicfs.config.models import LogConfig

Place = Literal["terminal", "journal", "file"]

_PACKAGE = "musicfs"
# Syslog's priorities by the lowest level of each; see sd-daemon(3).
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))
_TEXT: Mapping[Place, str] = {
    "terminal": "%(levelname)s: %(message)s",
    "journal": "%(part)s: %(message)s",
    "file": "%(asctime)s %(levelname)s %(name)s: %(message)s",
}


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How the log is written.

    Args:
        level: The level of loggers without one of their own.
        levels: The levels of single loggers, by name.
        as_json: Whether each record is a JSON object.
        place: Where the log goes; decides what a line leaves out.
    """

    level: int = logging.WARNING
    levels: tuple[tuple[str, int], ...] = ()
    as_json: bool = False
    place: Place = "terminal"


def settings_of(config: LogConfig, place: Place) -> LogSettings:
    levels = tuple((f"{_PACKAGE}.{logger}", _number(level)) for logger, level in config.of_loggers().items())
    return LogSettings(_number(config.level), levels, config.format == "json", place)


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def place_of_stderr(environ: Mapping[str, str] = os.environ) -> Place:
    """The journal if systemd has connected standard error to it, else a terminal; see systemd.exec(5)."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return "terminal"
    return "journal" if environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}" else "terminal"


def begin(settings: LogSettings, handler: logging.Handler | None = None) -> None:
    """Sends the log to `handler`, else to standard error. Has no effect when the log already has a handler."""
    handler = handler or logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(settings))
    logging.basicConfig(level=settings.level, handlers=[handler])
    for name, level in settings.levels:
        logging.getLogger(name).setLevel(level)


def current() -> LogSettings:
    """Returns the settings that `begin` got, for child processes."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, _Formatter):
            return handler.formatter.settings
    return LogSettings(logging.getLogger().getEffectiveLevel())


def _inset(text: str) -> str:
    """Indents the lines of a traceback, so that none looks like a record: an error's text may come from outside."""
    return "\n".join(f"  | {printable(line)}" for line in text.split("\n"))


class _Formatter(logging.Formatter):
    """Writes one line for each record and escapes text from outside. Only our own tracebacks add indented lines."""

    def __init__(self, settings: LogSettings) -> None:
        super().__init__(_TEXT[settings.place])
        self.settings = settings

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return _inset(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        return _inset(super().formatStack(stack_info))

    def format(self, record: logging.LogRecord) -> str:
        record.part = record.name.removeprefix(f"{_PACKAGE}.")
        text = self._json(record) if self.settings.as_json else super().format(record)
        if self.settings.place != "journal":
            return text
        # The journal takes each line as a message and the number as its priority. It adds the time itself.
        priority = next(number for least, number in _PRIORITIES if record.levelno >= least)
        return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))

    def _json(self, record: logging.LogRecord) -> str:
        record_fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (origin := getattr(record, "origin", None)) is not None:
            record_fields["origin"] = str(origin)
        if record.exc_info:
            record_fields["exception"] = super().formatException(record.exc_info)
        return json.dumps(record_fields)
