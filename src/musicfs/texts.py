"""Makes untrusted text (tags, names, what servers say) fit for one line of output and for a file's name."""

from __future__ import annotations

import re
import unicodedata

SAID_MOST = 200
"""Characters of what a server says that a message repeats."""

# Marks that change the direction of text, and invisible characters: with them, a text is not what it looks like.
_HIDDEN = "\u00ad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f"
_MARKS_MOST = 30
_CONTROLS = "\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
_JOINERS = "\u200c\u200d"
_JOINED = ("L", "M", "N", "So", "Sk")

_PLAIN = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b`\u00b4\u2032"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033"), '"'),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"), "-"),
}
_SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u205f]")
_UNPRINTABLE = re.compile(f"[{_CONTROLS}{_HIDDEN}{_JOINERS}]")
_HIDDEN_ONLY = re.compile(f"[{_HIDDEN}]")
_JOINER = re.compile(f"[{_JOINERS}]")


def printable(text: str) -> str:
    r"""Escapes what would break the line, control the terminal, mislead the reader or be invalid Unicode.

    The escapes are "\n", "\x1b", "\u202e", and "\xff" for a byte that was not UTF-8. Joiners stay where scripts and
    emoji need them.
    """
    return text if text.isascii() and text.isprintable() else _UNPRINTABLE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character in _JOINERS and _joins(found):
        return character
    raw = ord(character) - 0xDC00
    if 0x80 <= raw <= 0xFF:  # a byte that was no UTF-8; see os.fsdecode
        return f"\\x{raw:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode()


def _joins(found: re.Match[str]) -> bool:
    """Whether a joiner is between letters, marks, digits or pictures, as in Persian, in Indic scripts and in emoji."""
    text, at = found.string, found.start()
    return 0 < at < len(text) - 1 and all(
        unicodedata.category(neighbour).startswith(_JOINED) for neighbour in (text[at - 1], text[at + 1])
    )


def normalised(text: str) -> str:
    """Returns the text in form NFC, with at most 30 marks on each letter, the limit of the stream-safe format (UAX 15).

    Sorting marks takes the square of their number; no script has more.
    """
    if text.isascii():
        return text
    marks = 0
    kept = []
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= _MARKS_MOST:
            kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept))


def without_hidden(text: str) -> str:
    """Returns the text without invisible characters; joiners stay where they join."""
    if text.isascii():
        return text
    return _JOINER.sub(lambda found: found[0] if _joins(found) else "", _HIDDEN_ONLY.sub("", text))


def fold(text: str) -> str:
    """The form in which two names are the same name to a person, and to a filesystem that ignores case."""
    if text.isascii():
        return text.casefold()
    return normalised(normalised(_SPACES.sub(" ", without_hidden(text))).casefold())


def alike(text: str) -> str:
    """The form in which two ways to write a title are equal: in width, ligatures, quotes, dashes and final dots."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", normalised(text.translate(_PLAIN)))
    folded = " ".join(fold(plain).split())
    return folded.rstrip(". ") or folded or fold(text)


def with_plain_spaces(text: str) -> str:
    """Returns the text with ordinary spaces for those that only differ in width or in where lines break."""
    return text if text.isascii() else _SPACES.sub(" ", text)


def said(text: object, most: int = SAID_MOST) -> str:
    """Returns what a server or a library says, for a message: one line of at most `most` characters."""
    line = printable(" ".join(str(text)[: 4 * most].split()))
    return line if len(line) <= most else line[: most - 1] + "…"
