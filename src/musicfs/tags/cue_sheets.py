"""Cue sheets, as text and the files that they name."""

from __future__ import annotations

import re

from musicfs.tags.text_files import MAX_LINE, Notation, Pieces, Reference

_FILE = re.compile(r'(\s{0,99}FILE\s{1,99})("[^"]*"|[^"].*)', re.IGNORECASE)
_TYPE = re.compile(r"(.*\S)\s{1,99}[A-Za-z0-9]{1,20}\s{0,99}")


def parse_cue(text: str) -> Pieces:
    """Parses a cue sheet: lines `FILE "NAME" TYPE`, with or without quotes."""
    pieces: list[str | Reference] = []
    for line in text.splitlines(keepends=True):
        found = _FILE.match(line) if len(line) <= MAX_LINE else None
        written = _name_in(found[2]) if found else ""
        if found is None or not written.strip('" \r\n'):
            pieces.append(line)
            continue
        end = found.start(2) + len(written)
        pieces += [found[1], Reference(written.strip('"'), Notation.QUOTED, written), line[end:]]
    return pieces


def _name_in(rest: str) -> str:
    """What follows FILE: a name in quotes, or one without, which ends before the last word."""
    if rest.startswith('"'):
        return rest
    typed = _TYPE.fullmatch(rest.rstrip("\r\n"))
    return typed[1] if typed else rest.rstrip()
