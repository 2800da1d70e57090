"""Lists of checksums (MD5, SHA, SFV, FFP), as text and the files that they name."""

from __future__ import annotations

import re

from musicfs.tags.text_files import MAX_LINE, Notation, Pieces, Reference

_HASH_FIRST = re.compile(r"([0-9A-Fa-f]{32,128} [ *])(.+)")
_BSD = re.compile(r"([A-Z0-9-]{2,12} \()(.+)(\) = [0-9A-Fa-f]{8,128}\s{0,9})")
_SFV = re.compile(r"()([^;\s].*\S)(\s{1,99}[0-9A-Fa-f]{8}\s{0,9})")
_FFP = re.compile(r"()(.+)(:[0-9A-Fa-f]{32}\s{0,9})")


def parse_hashes(text: str) -> Pieces:
    """Parses what md5sum, sha256sum and their kind write."""
    return _lines(text, _HASH_FIRST, _BSD)


def parse_sfv(text: str) -> Pieces:
    """Parses a list of CRC-32s: `NAME CRC`."""
    return _lines(text, _SFV)


def parse_ffp(text: str) -> Pieces:
    """Parses FLAC's fingerprints: `NAME:MD5`."""
    return _lines(text, _FFP)


def _lines(text: str, *patterns: re.Pattern[str]) -> Pieces:
    pieces: list[str | Reference] = []
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        matches = (pattern.fullmatch(bare) for pattern in patterns) if len(bare) <= MAX_LINE else ()
        found = next((match for match in matches if match), None)
        if found is None:
            pieces.append(line)
            continue
        pieces += [line[: found.start(2)], Reference(found[2], Notation.PLAIN, found[2]), line[found.end(2) :]]
    return pieces
