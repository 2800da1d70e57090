"""Track numbers that only a file's name has, and those that are no plain numbers, such as the sides of a record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_END = r"[\])]?(?!\d)(?:\s*[-\u2013\u2014._:)~]+\s*|\s+)(?=\S)"
_PLAIN = re.compile(r"[\[(#]?(?:(\d{1,2})[-.])?(\d{1,3}|0\d{3})" + _END + r"(?!\d+[-.])")
_DISC_FIRST = re.compile(
    r"[\[(]?(?:cd|dis[ck]|d)\s*[-.]?(\d{1,2})[\])]?(?:\s*[-.,]\s*|\s+|t)(?:track\s*)?(\d{1,3})(?:" + _END + "|$)",
    re.IGNORECASE,
)
_SIDE = re.compile(r"[\[(]?([A-Za-z]{1,2}\d{1,2})" + _END)
_INNER = re.compile(r"\s-\s(?:(\d{1,2})[-.])?(\d{1,3})(?!\d)(?:\s*[-._]+\s*|\s+)(?=\S)")
_ALONE = re.compile(r"(?:(?:audio ?)?track[ .-]*)(\d{1,3})|(\d{1,2}|0\d{2,3})", re.IGNORECASE)
_LABEL = re.compile(r"([A-Za-z]{1,2})[-.\s]?(\d{0,3})([a-z]?)")
_NEXT = re.compile(r"(\d{1,3}|0\d{3})(?!\d)")


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
    text = _spaced(stem)
    letters = _letters(text)
    if _begins(letters, _letters(title)) or _begins(_letters(title), letters):
        return None
    of_artist = _letters(artist or "")
    if not (of_artist and letters.startswith(of_artist)):
        if match := _DISC_FIRST.match(text) or _PLAIN.match(text):
            return NumberInName(int(match[1]) if match[1] else None, int(match[2]))
        if match := _ALONE.fullmatch(text):
            return NumberInName(None, int(match[1] or match[2]))
        if match := _SIDE.match(text):
            return NumberInName(None, None, match[1].upper())
    match = _INNER.search(text)
    return NumberInName(int(match[1]) if match[1] else None, int(match[2])) if match else None


def numbers_after_common_start(names: Sequence[tuple[str, str]]) -> list[int]:
    """The numbers that follow what all names begin with, as in "Chapter 01 ..."; empty: they are no track numbers.

    They are none where two are equal, or where one is a part of its title.

    Args:
        names: (stem, title) of each file.
    """
    if len(names) < 2:
        return []
    texts = [_spaced(stem).casefold() for stem, _ in names]
    start = _common_start(min(texts), max(texts)).rstrip("0123456789")
    numbers: list[int] = []
    for text, (_, title) in zip(texts, names, strict=True):
        match = _NEXT.match(text, len(start))
        if match is None or _is_of_title(text, match.start(), _letters(title), needs_title=not start):
            return []
        numbers.append(int(match[1]))
    return numbers if len(set(numbers)) == len(numbers) else []


def padded_label(label: str, width: int) -> str | None:
    """The label with its number in `width` digits, so that names sort as they play; None: it is no label of a side."""
    match = _LABEL.fullmatch(label.strip())
    return f"{match[1].upper()}{match[2].zfill(width) if match[2] else ''}{match[3]}" if match else None


def label_width(label: str) -> int:
    """How many digits the label's number has."""
    match = _LABEL.fullmatch(label.strip())
    return len(match[2].lstrip("0")) if match else 0


def _common_start(one: str, other: str) -> str:
    length = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


def _spaced(stem: str) -> str:
    return stem.replace("_", " ").strip()


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _begins(start: str, whole: str) -> bool:
    """Whether the second text begins with the first, and not in the middle of a number."""
    if not start or not whole.startswith(start):
        return False
    return not (start[-1].isdigit() and whole[len(start) : len(start) + 1].isdigit())


def _is_of_title(text: str, at: int, title: str, *, needs_title: bool) -> bool:
    """Whether the number at `at` is a part of the title. needs_title: so it is where the title is not in the text."""
    before = len(_letters(text[:at]))
    found = _letters(text).rfind(title) if title else -1
    if found < 0:
        return needs_title
    return found <= before < found + len(title) or (needs_title and found < before)
