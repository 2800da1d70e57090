"""Skeletons of files: the few bytes that a tag parser needs, without what lies between them.

Embedded pictures are most of what lies between a remote file and its tags. These functions step over them, and over
everything else that no tag needs. They also bound what a parser sees, so that a garbage length costs neither time nor
memory.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Mapping

from musicfs.tags.containers import (
    MAX_STEPS,
    Id3Tag,
    atoms,
    from_syncsafe,
    id3_tag,
    to_syncsafe,
)
from musicfs.tags.fields import MAX_VALUES, WANTED
from musicfs.tags.range_file import RangeFile

MAX_TEXT = 64 * 1024
"""Bytes: no tag is longer."""
_MAX_BODY = 1024 * 1024

# How many frames of each kind are kept; no other is asked for. In version 2.2 their names have three letters.
_ID3_FRAMES: Mapping[bytes, int] = dict.fromkeys(
    b"TIT2 TPE1 TPE2 TALB TDRC TDRL TYER TDAT TIME TRDA TORY TDOR TRCK TPOS TSST TCON TCOM TCMP"
    b" TPUB TSRC TMED TLAN TBPM"
    b" TT2 TP1 TP2 TAL TYE TDA TIM TRD TOR TRK TPA TCO TCM TCP TPB TRC TMT TLA TBP".split(),
    8,
) | dict.fromkeys(b"TXXX TXX UFID UFI".split(), 300)
_FRAME_ID = re.compile(rb"[A-Z][A-Z0-9]{2,3} ?")
_ATOM_PARENTS = frozenset((b"moov", b"udta", b"trak", b"mdia", b"minf", b"stbl", b"meta", b"ilst"))
_ATOM_LEAVES = frozenset((b"mvhd", b"hdlr", b"mdhd", b"stsd"))


def id3(file: RangeFile, offset: int) -> bytes:
    """The ID3v2 tag at `offset` with only the frames that hold tags; b"" if there is none.

    Compressed frames are left out: what they expand to has no bound. So are frames with hundreds of values, and all
    but a few of one kind: a parser takes the square of their number in time.
    """
    tag = id3_tag(file, offset)
    return _lean_id3(file, tag) if tag is not None else b""


def _lean_id3(file: RangeFile, tag: Id3Tag) -> bytes:
    major, flags = tag.major, tag.flags
    start, end = tag.body, min(tag.end, file.size)
    if flags & 0x80 and major < 4:
        # The whole tag is unsynchronised, and its frame sizes are of the original: nothing in it can be skipped, so
        # only its start is read.
        plain = file.read_at(start, min(tag.end - start, _MAX_BODY)).replace(b"\xff\x00", b"\xff")
        file, start, end = RangeFile(len(plain), {0: plain}), 0, len(plain)
    if flags & 0x40:
        start += _extended_header(file.read_at(start, 4), major)
    unsynchronised = major == 4 and bool(flags & 0x80)
    body, clean = _frames(file, start, end, major, major == 4, unsynchronised)
    if not clean and major == 4:  # some writers put plain sizes into version 2.4
        body = max(body, _frames(file, start, end, major, False, unsynchronised)[0], key=len)
    # As version 2.3: in version 2.4 a parser guesses how sizes are written, and might see other frames than these.
    return b"ID3" + bytes((min(major, 3), 0, 0)) + to_syncsafe(len(body)) + body


def _extended_header(start: bytes, major: int) -> int:
    if _FRAME_ID.fullmatch(start) or len(start) < 4:  # announced, but not there
        return 0
    return from_syncsafe(start) if major == 4 else int.from_bytes(start, "big") + 4


def _frames(
    file: RangeFile, at: int, end: int, major: int, safe: bool, unsynchronised: bool = False
) -> tuple[bytes, bool]:
    """The frames that hold tags, in the form of version 2.3 or 2.2.

    Args:
        file: The file.
        at: Where the first frame is.
        end: Where the tag ends.
        major: The tag's version: 2, 3 or 4.
        safe: Whether sizes have seven bits a byte.
        unsynchronised: Whether all frames are.

    Returns:
        The frames, and whether the walk ended at the tag's end or in its padding.
    """
    width, letters = (6, 3) if major == 2 else (10, 4)
    body = bytearray()
    kept: Counter[bytes] = Counter()
    while at + width <= end and len(body) < _MAX_BODY:
        head = file.read_at(at, width)
        ident, length = head[:letters], head[letters : 2 * letters]
        if not _FRAME_ID.fullmatch(ident) or (safe and max(length) > 127):
            return bytes(body), not any(head)
        size = from_syncsafe(length) if safe else int.from_bytes(length, "big")
        name = ident.rstrip()
        if name in _ID3_FRAMES and kept[name] < _ID3_FRAMES[name] and size <= min(MAX_TEXT, end - at - width):
            kept[name] += 1
            flags = head[9] if major != 2 else 0
            plain = _plain_frame(file.read_at(at + width, size), flags, major, unsynchronised)
            if plain is not None:
                body += ident + len(plain).to_bytes(letters, "big") + bytes(width - 2 * letters) + plain
        at += width + size
    return bytes(body), at <= end


def _plain_frame(data: bytes, flags: int, major: int, unsynchronised: bool) -> bytes | None:
    """What a frame held before the changes that its flags name.

    None: it is compressed, and what it expands to has no bound; or encrypted; or it holds more values than any tag.
    """
    if flags & (0x0C if major == 4 else 0xC0):
        return None
    if major == 4 and flags & 0x01:  # how long it was before
        data = data[4:]
    if major == 4 and (flags & 0x02 or unsynchronised):
        data = data.replace(b"\xff\x00", b"\xff")
    separator = b"\0\0" if data[:1] in (b"\1", b"\2") else b"\0"  # UTF-16, or not
    return data if data.count(separator) <= 2 * MAX_VALUES else None


def ape_items(file: RangeFile, at: int, end: int, count: int = MAX_STEPS) -> dict[str, list[str]]:
    """The text items of an APEv2 tag, by lower-case key; they lie from `at` to `end`, and are `count` at most."""
    at = max(at, 0)
    items: dict[str, list[str]] = {}
    for _ in range(min(count, MAX_STEPS)):
        head = file.read_at(at, min(8 + 256, end - at))
        stop = head.find(b"\0", 8)
        if stop < 0:
            break
        length, flags = struct.unpack("<II", head[:8])
        if flags >> 1 & 3 == 0 and length <= MAX_TEXT:
            text = file.read_at(at + stop + 1, min(length, end - at - stop - 1)).decode("utf-8", "replace")
            key = head[8:stop].decode("latin-1").lower()
            if key in WANTED and len(texts := items.setdefault(key, [])) < MAX_VALUES:
                texts.extend(text.split("\0", MAX_VALUES)[:MAX_VALUES])
        at += stop + 1 + length
    return items


def mp4(file: RangeFile, at: int) -> bytes:
    """A minimal MP4 file with the tracks and tags of what begins at `at`; b"" if it has no `moov`."""
    for name, start, stop in atoms(file, at, file.size):
        if name == b"moov":
            lean = _lean_atoms(file, name, start, min(stop, file.size))
            return _atom(b"ftyp", b"M4A \0\0\0\0") + _atom(b"moov", lean)
    return b""


def _lean_atoms(file: RangeFile, parent: bytes, start: int, stop: int, depth: int = 0) -> bytes:
    body = bytearray()
    if parent == b"meta":
        body += file.read_at(start, 4)
        start += 4
    for name, first, claimed in atoms(file, start, stop):
        last = min(claimed, stop)
        if len(body) > _MAX_BODY:
            break
        if name in _ATOM_PARENTS and depth < 8:
            body += _atom(name, _lean_atoms(file, name, first, last, depth + 1))
        elif _is_wanted(name, parent) and last - first <= MAX_TEXT:
            body += _atom(name, file.read_at(first, last - first))
    return bytes(body)


def _is_wanted(name: bytes, parent: bytes) -> bool:
    return name in _ATOM_LEAVES or (parent == b"ilst" and name != b"covr")


def _atom(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, name) + body
