"""Track numbers that only a file's name has, and those that are no plain numbers, such as the sides of a record."""

from __future__ import annotations

import re
from typing import NamedTuple

_END = r"[\])]?(?!\d)(?:\s*[-._:)]+\s*|\s+)(?=\S)"
_PLAIN = re.compile(r"[\[(]?(?:(\d{1,2})[-.])?(\d{1,3})" + _END + r"(?!\d+[-.])")
_SIDE = re.compile(r"[\[(]?([A-Za-z]{1,2}\d{1,2})" + _END)
_INNER = re.compile(r"\s-\s(?:(\d{1,2})[-.])?(\d{1,3})(?!\d)(?:\s*[-._]+\s*|\s+)(?=\S)")
_LABEL = re.compile(r"([A-Za-z]{1,2})[-.\s]?(\d{0,3})([a-z]?)")


class NumberInName(NamedTuple):
    """What the name of a file says. label: a side and a number, such as "A1", and then no track."""

    disc: int | None
    track: int | None
    label: str | None = None


def number_in_name(stem: str, title: str, artist: str | None) -> NumberInName | None:
    """The number that the file's name has; None: it has none, or what looks like one is a part of the title or artist.

    Args:
        stem: The file's name without its extension.
        title: The track's title: `99 Luftballons` has no number.
        artist: The track's artist: neither has `50 Cent - Candy Shop`.
    """
    text = stem.replace("_", " ").strip()
    letters = _letters(text)
    if letters == _letters(title):
        return None
    of_artist = _letters(artist or "")
    if not (of_artist and letters.startswith(of_artist)):
        if match := _PLAIN.match(text):
            return NumberInName(int(match[1]) if match[1] else None, int(match[2]))
        if match := _SIDE.match(text):
            return NumberInName(None, None, match[1].upper())
    match = _INNER.search(text)
    return NumberInName(int(match[1]) if match[1] else None, int(match[2])) if match else None


def padded_label(label: str, width: int) -> str | None:
    """The label with its number in `width` digits, so that names sort as they play; None: it is no label of a side."""
    match = _LABEL.fullmatch(label.strip())
    return f"{match[1].upper()}{match[2].zfill(width) if match[2] else ''}{match[3]}" if match else None


def label_width(label: str) -> int:
    """How many digits the label's number has."""
    match = _LABEL.fullmatch(label.strip())
    return len(match[2].lstrip("0")) if match else 0


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))
