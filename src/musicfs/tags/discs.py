"""Which disc of an album a track is on, where the name of a folder or of the album says it."""

from __future__ import annotations

import re
from typing import NamedTuple

_NUMBERS = {
    word: number
    for words in ("one two three four five six seven eight nine ten", "i ii iii iv v vi vii viii ix x")
    for number, word in enumerate(words.split(), 1)
}
_WORDS = "|".join(_NUMBERS)
_FOLDER = re.compile(
    r"[\[(]?(?:(?:cd|dvd|sacd|dis[ck]|vinyl|digital media)"
    rf"(?:\s*(?:[-_.#]\s*)?0*([1-9]\d?)|(?:\s+|\s*[-_.#]\s*)({_WORDS}))|side[\s\-_]?([a-h]))"
    r"(?:$|[\s\-_.,:;)\]])",
    re.IGNORECASE,
)
_DISC = rf"(?:cd|dis[ck])(?:\s*[-_.#]?\s*0*([1-9]\d?)|(?:\s+|\s*[-_.#]\s*)({_WORDS}))(?:\s*(?:of|/)\s*\d{{1,2}})?"
_AT_END = re.compile(
    rf"(?<=\S)(?:[\s_]*[\[(]{_DISC}(?:\s*[-:,\u2013]\s*([^\[\]()]*))?[\])]|(?:\s*[-,:_\u2013]\s*|\s+){_DISC})\s*$",
    re.IGNORECASE,
)
_MAX_NAME = 500  # characters


class NamedDisc(NamedTuple):
    """What the name of one disc says. album: the name without the disc. title: of the disc, as in "(Disc 2: Live)"."""

    album: str
    disc: int
    title: str | None


def disc_at_end(name: str) -> NamedDisc | None:
    """The disc that an album's or a folder's name ends with, as `Hits (Disc 1)`, `Hits - CD2` and `Hits CD 2` do."""
    match = _AT_END.search(name) if len(name) <= _MAX_NAME else None
    if match is None:
        return None
    digits, word, title, bare_digits, bare_word = match.groups()
    number = digits or bare_digits
    return NamedDisc(
        name[: match.start()].rstrip(" _"),
        int(number) if number else _NUMBERS[(word or bare_word).lower()],
        (title or "").strip() or None,
    )


def disc_from_folder(path: str) -> int | None:
    """The disc number that the file's folder names, as `CD1`, `Disc Two`, `Disc 2 - Live` and `Side B` do."""
    match = _FOLDER.match(path.rpartition("/")[0].rpartition("/")[2])
    if match is None:
        return None
    digits, word, side = match.groups()
    return int(digits) if digits else _NUMBERS[word.lower()] if word else ord(side.lower()) - ord("a") + 1


def album_folder(path: str) -> str:
    """The folder of the file's album: its own, or the one above a disc's; "" for the root."""
    folder = path.rpartition("/")[0]
    return folder.rpartition("/")[0] if disc_from_folder(path) is not None else folder
