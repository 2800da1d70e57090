"""Small text files that name other files (playlists, cue sheets, lists of checksums), cut into text and names.

Each format has a module of its own. All of them are linear in the length of the text.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from enum import Enum
from html import escape
from typing import NamedTuple
from urllib.parse import quote

MAX_TEXT = 1 << 20
"""Bytes of a text file. A larger one is shown as it is at its origin."""

MAX_LINE = 8192
"""Characters of a line that may have a name in it."""

AS_BYTES = "bytes"
"""Names of files that are not UTF-8 at their origin either: their bytes are surrogate escapes, as in every path."""

ENCODINGS = (
    "utf-8", "cp1252", "shift_jis", "gb18030", "cp1251", "euc_kr", "big5", "cp1250", "euc_jp", "koi8_r", "cp437",
    AS_BYTES,
)  # fmt: skip
"""What such files are written in, most likely first. The names of the files that exist show which one it is."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


class Notation(Enum):
    """How a format writes a file's name."""

    PLAIN = "plain"
    QUOTED = "quoted"
    URI = "uri"


class Reference(NamedTuple):
    """A file that a text names. target: the name, path or URL as the text has it, without quotes and XML's escapes."""

    target: str
    notation: Notation
    written: str
    """As it stands in the text."""


Pieces = Sequence[str | Reference]
"""A whole text: what stays as it is, and the names in it."""

Parse = Callable[[str], Pieces]


def encodings_of(data: bytes) -> Sequence[str]:
    """Returns the encodings that the text may be in, most likely first: only one if the text says it."""
    marked = [name for mark, name in _MARKS if data.startswith(mark)]
    return marked[:1] or ENCODINGS


def decoded(data: bytes, encoding: str) -> str | None:
    """Returns the text; None if it is in another encoding."""
    try:
        return data.decode("utf-8", "surrogateescape") if encoding is AS_BYTES else data.decode(encoding)
    except UnicodeError:
        return None


def references(pieces: Pieces) -> list[Reference]:
    return [piece for piece in pieces if isinstance(piece, Reference)]


def rendered(pieces: Pieces, path_of: Callable[[Reference], str | None]) -> bytes:
    """Returns the text in UTF-8 with other names in it.

    Args:
        pieces: The text.
        path_of: Returns the path to write for a name, relative to the folder of the text; None: it stays as it is.
    """
    parts = (piece if isinstance(piece, str) else _written(piece, path_of(piece)) for piece in pieces)
    return "".join(parts).encode("utf-8", "surrogateescape")


def _written(reference: Reference, path: str | None) -> str:
    if path is None:
        return reference.written
    if reference.notation is Notation.URI:
        return escape(quote(path, errors="surrogateescape"), quote=False)
    if reference.notation is Notation.QUOTED:
        return f'"{path}"'
    # A line that begins so is a comment in a playlist, and blanks at the ends of a line don't count.
    return f"./{path}" if path[:1] in ("#", ";", " ") else path
