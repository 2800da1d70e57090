"""How the log is written: for a terminal, a file, systemd's journal, or as JSON; and how much of it, part by part."""

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
# Of syslog, by the least level that each stands for; see sd-daemon(3).
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))
_TEXT: Mapping[Place, str] = {
    "terminal": "%(levelname)s: %(message)s",
    "journal": "%(part)s: %(message)s",
    "file": "%(asctime)s %(levelname)s %(name)s: %(message)s",
}


@dataclass(frozen=True, slots=True)
class LogSettings:
    """levels: of single loggers, by name. place: who reads it, and so what it need not say."""

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
    """What is logged from now on goes to `handler`, else to standard error; not if somebody has seen to it before."""
    handler = handler or logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(settings))
    logging.basicConfig(level=settings.level, handlers=[handler])
    for name, level in settings.levels:
        logging.getLogger(name).setLevel(level)


def current() -> LogSettings:
    """Those that `begin` was called with, for the processes that we start."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, _Formatter):
            return handler.formatter.settings
    return LogSettings(logging.getLogger().getEffectiveLevel())


def _inset(text: str) -> str:
    """The lines of a traceback, none of which can be taken for a record: the text of an error may come from outside."""
    return "\n".join(f"  | {printable(line)}" for line in text.split("\n"))


class _Formatter(logging.Formatter):
    """One record, one line; what comes from outside is escaped. Only our own tracebacks have more lines, set in."""

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
        # The journal takes each line for a message, and the number for its priority. It has the time.
        priority = next(number for least, number in _PRIORITIES if record.levelno >= least)
        return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))

    def _json(self, record: logging.LogRecord) -> str:
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (origin := getattr(record, "origin", None)) is not None:
            told["origin"] = str(origin)
        if record.exc_info:
            told["exception"] = super().formatException(record.exc_info)
        return json.dumps(told)
