"""Playlists: M3U, PLS and XSPF, as text and the files that they name."""

from __future__ import annotations

import html
import re

from musicfs.tags.text_files import Notation, Pieces, Reference

_PLS_FILE = re.compile(r"\s{0,99}file\d{1,9}\s{0,99}=", re.IGNORECASE)
_XSPF_TAG = re.compile(r"<(/?)(?:[\w.-]{1,99}:)?(track|location)\b[^<>]{0,999}>", re.IGNORECASE)
_XML_ENCODING = re.compile(r"(<\?xml\b[^<>?]{0,200}?encoding\s{0,9}=\s{0,9}[\"'])[\w.:-]{1,40}", re.IGNORECASE)


def parse_m3u(text: str) -> Pieces:
    """Parses an M3U playlist: each line that is no comment is a name."""
    pieces: list[str | Reference] = []
    for line in text.splitlines(keepends=True):
        _add(pieces, line, len(line) if line.lstrip().startswith("#") else 0)
    return pieces


def parse_pls(text: str) -> Pieces:
    """Parses a PLS playlist: lines `FileN=NAME`."""
    pieces: list[str | Reference] = []
    for line in text.splitlines(keepends=True):
        found = _PLS_FILE.match(line)
        _add(pieces, line, found.end() if found else len(line))
    return pieces


def parse_xspf(text: str) -> Pieces:
    """Parses an XSPF playlist: a URI in the `location` of each `track`. What encloses these stays as it is.

    https://www.xspf.org/spec
    """
    text = _XML_ENCODING.sub(r"\g<1>UTF-8", text, count=1)
    pieces: list[str | Reference] = []
    done, in_track, start = 0, False, None
    for tag in _XSPF_TAG.finditer(text):
        closes, name = bool(tag[1]), tag[2].lower()
        if name == "track":
            in_track, start = not closes, None
        elif not closes:
            start = tag.end() if in_track else None
        elif start is not None:
            written = text[start : tag.start()]
            pieces += [text[done:start], Reference(html.unescape(written).strip(), Notation.URI, written)]
            done, start = tag.start(), None
    pieces.append(text[done:])
    return pieces


def _add(pieces: list[str | Reference], line: str, start: int) -> None:
    """Adds a line whose name begins at `start`."""
    target = line[start:].strip()
    if not target:
        pieces.append(line)
        return
    at = line.index(target, start)
    end = at + len(target)
    pieces += [line[:at], Reference(target, Notation.PLAIN, target), line[end:]]
