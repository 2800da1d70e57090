"""Ranges of numbers, durations and dates, as queries write them: `1990..1999`, `..4:30`, `2008-12..`, `-60d..`."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from musicfs.query.fields import FieldKind

_NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?)([kmg]?)", re.IGNORECASE)
_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_DURATION = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)")
_RELATIVE = re.compile(r"([+-]?)(\d{1,6})([dwmy])")
_DAYS = {"d": 1, "w": 7, "m": 30, "y": 365}
_DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2})(?:[T ](\d{1,2})(?::(\d{2})(?::(\d{2}))?)?)?)?)?")


class Range(NamedTuple):
    """Both ends are part of it; None: it has no end on that side."""

    low: float | None
    high: float | None


def parse_range(kind: FieldKind, text: str, now: datetime) -> Range:
    """Returns the range that the text means: `A..B`, `A..`, `..B`, or one value.

    A date stands for the whole of its year, month, day, hour or minute, in local time. now: of relative dates.

    Raises:
        ValueError: The text is no range of that kind; the message says what is expected.
    """
    read = _READERS[kind]
    low, dots, high = text.partition("..")
    if not dots:
        return read(low, now)
    return Range(read(low, now).low if low else None, read(high, now).high if high else None)


def _number(text: str, now: datetime) -> Range:
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise ValueError("a number such as 1959, or a range such as 1950..1959, ..1959 or 1959..")
    value = float(found[1]) * _FACTORS[found[2].lower()]
    return Range(value, value)


def _duration(text: str, now: datetime) -> Range:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError("a duration in seconds or as 4:30, or a range such as 4:00..5:30")
    value = int(found[1] or 0) * 3600 + int(found[2] or 0) * 60 + float(found[3])
    # Files are some fractions of a second longer than what players show.
    return Range(value, value if "." in found[3] else value + 0.999)


def _date(text: str, now: datetime) -> Range:
    if (relative := _RELATIVE.fullmatch(text)) is not None:
        return _relative_day(relative, now)
    found = _DATE.fullmatch(text)
    if found is not None:
        try:
            return _period(*(None if part is None else int(part) for part in found.groups()))
        except (ValueError, OverflowError):
            pass
    raise ValueError("a date such as 2024, 2024-05 or 2024-05-31, or a range such as 2023.. or -60d..")


def _relative_day(found: re.Match[str], now: datetime) -> Range:
    days = int(found[2]) * _DAYS[found[3]] * (1 if found[1] == "+" else -1)
    try:
        moment = (now + timedelta(days=days)).timestamp()
    except (OverflowError, ValueError, OSError):
        raise ValueError("a relative date such as -60d, -3w, -6m or -2y") from None
    return Range(moment, moment)


def _period(
    year: int | None, month: int | None, day: int | None, hour: int | None, minute: int | None, second: int | None
) -> Range:
    assert year is not None
    start = datetime(year, month or 1, day or 1, hour or 0, minute or 0, second or 0)
    if month is None:
        end = start.replace(year=year + 1)
    elif day is None:
        end = start.replace(year=year + month // 12, month=month % 12 + 1)
    elif hour is None:
        end = start + timedelta(days=1)
    else:
        end = start + timedelta(seconds=3600 if minute is None else 60 if second is None else 1)
    return Range(start.timestamp(), end.timestamp() - 0.000001)


def _flag(text: str, now: datetime) -> Range:
    if text.lower() in ("1", "true", "yes", "on"):
        return Range(1, 1)
    if text.lower() in ("0", "false", "no", "off"):
        return Range(0, 0)
    raise ValueError("true or false")


_READERS: dict[FieldKind, Callable[[str, datetime], Range]] = {
    FieldKind.NUMBER: _number, FieldKind.DURATION: _duration, FieldKind.DATE: _date, FieldKind.FLAG: _flag,
}  # fmt: skip
