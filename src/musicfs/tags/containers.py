"""The containers' skeletons: finds in a file the few bytes that a tag parser needs, and leaves the rest unread.

Embedded pictures are most of what lies between a remote file and its tags. What is here steps over them, and
over everything else that no tag needs, by the lengths that the containers themselves record. It also bounds
what a parser gets to see, so that a garbage length can cost neither time nor memory.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from musicfs.tags.fields import VALUES_MOST, WANTED
from musicfs.tags.range_file import MAX_AT_ONCE, RangeFile

TEXT_MOST = 64 * 1024
BODY_MOST = 1024 * 1024
STEPS_MOST = 1000
PAGES_MOST = 5000

# How many frames of each kind are kept; no other is asked for. In version 2.2 their names have three letters.
_ID3_FRAMES: Mapping[bytes, int] = dict.fromkeys(
    b"TIT2 TPE1 TPE2 TALB TDRC TDRL TYER TDAT TIME TRDA TORY TDOR TRCK TPOS TSST TCON TCOM TCMP"
    b" TT2 TP1 TP2 TAL TYE TDA TIM TRD TOR TRK TPA TCO TCM TCP".split(),
    8,
) | dict.fromkeys(b"TXXX TXX UFID UFI".split(), 300)
_FRAME_ID = re.compile(rb"[A-Z][A-Z0-9]{2,3} ?")
_ATOM_PARENTS = frozenset((b"moov", b"udta", b"trak", b"mdia", b"minf", b"stbl", b"meta", b"ilst"))
_ATOM_LEAVES = frozenset((b"mvhd", b"hdlr", b"mdhd", b"stsd"))


def id3(file: RangeFile, offset: int) -> tuple[bytes, int]:
    """The ID3v2 tag at `offset` with the frames alone that tags are made of, and the full size that it takes there.

    (b"", 0) when there is none. Compressed frames are left out: what they expand to has no bound. So are frames with
    hundreds of values, and all but a few of one kind: what a parser does with them takes the square of their number.
    """
    head = file.read_at(offset, 10)
    if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
        return b"", 0
    major, flags = head[3], head[5]
    size = syncsafe(head[6:10])
    full = size + (20 if flags & 0x10 else 10)
    start, end = offset + 10, min(offset + 10 + size, file.size)
    if flags & 0x80 and major < 4:  # the whole tag is unsynchronised, its frame sizes are of the original
        plain = file.read_at(start, size).replace(b"\xff\x00", b"\xff")
        file, start, end = RangeFile(len(plain), {0: plain}), 0, len(plain)
    if flags & 0x40:
        start += _extended_header(file.read_at(start, 4), major)
    unsynchronised = major == 4 and bool(flags & 0x80)
    body, clean = _frames(file, start, end, major, major == 4, unsynchronised)
    if not clean and major == 4:  # some writers put plain sizes into version 2.4
        body = max(body, _frames(file, start, end, major, False, unsynchronised)[0], key=len)
    # As version 2.3: in version 2.4 a parser guesses how sizes are written, and might see other frames than these.
    return b"ID3" + bytes((min(major, 3), 0, 0)) + _to_syncsafe(len(body)) + body, full


def _extended_header(start: bytes, major: int) -> int:
    if _FRAME_ID.fullmatch(start) or len(start) < 4:  # announced, but not there
        return 0
    return syncsafe(start) if major == 4 else int.from_bytes(start, "big") + 4


def _frames(
    file: RangeFile, at: int, end: int, major: int, safe: bool, unsynchronised: bool = False
) -> tuple[bytes, bool]:
    """The frames worth keeping, in the form of version 2.3 or 2.2, and whether the walk ended at the tag's end or in
    its padding."""
    width, letters = (6, 3) if major == 2 else (10, 4)
    body = bytearray()
    kept: Counter[bytes] = Counter()
    while at + width <= end and len(body) < BODY_MOST:
        head = file.read_at(at, width)
        ident, length = head[:letters], head[letters : 2 * letters]
        if not _FRAME_ID.fullmatch(ident) or (safe and max(length) > 127):
            return bytes(body), not any(head)
        size = syncsafe(length) if safe else int.from_bytes(length, "big")
        name = ident.rstrip()
        if name in _ID3_FRAMES and kept[name] < _ID3_FRAMES[name] and size <= min(TEXT_MOST, end - at - width):
            kept[name] += 1
            flags = head[9] if major != 2 else 0
            plain = _plain_frame(file.read_at(at + width, size), flags, major, unsynchronised)
            if plain is not None:
                body += ident + len(plain).to_bytes(letters, "big") + bytes(width - 2 * letters) + plain
        at += width + size
    return bytes(body), at <= end


def _plain_frame(data: bytes, flags: int, major: int, unsynchronised: bool) -> bytes | None:
    """What a frame holds, without what its flags say was done to it.

    None: it is compressed, and what it expands to has no bound; or encrypted; or it holds more values than any tag.
    """
    if flags & (0x0C if major == 4 else 0xC0):
        return None
    if major == 4 and flags & 0x01:  # how long it was before
        data = data[4:]
    if major == 4 and (flags & 0x02 or unsynchronised):
        data = data.replace(b"\xff\x00", b"\xff")
    separator = b"\0\0" if data[:1] in (b"\1", b"\2") else b"\0"  # UTF-16, or not
    return data if data.count(separator) <= 2 * VALUES_MOST else None


def syncsafe(data: bytes) -> int:
    return sum((byte & 127) << shift for byte, shift in zip(data, (21, 14, 7, 0), strict=True))


def _to_syncsafe(number: int) -> bytes:
    return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))


def ape_items(file: RangeFile) -> dict[str, list[str]]:
    """The text items of an APEv2 tag at the end of the file, by lower-case key; empty when there is none."""
    end = file.size - (128 if file.read_at(max(file.size - 128, 0), 3) == b"TAG" else 0)
    footer = file.read_at(max(end - 32, 0), 32)
    if len(footer) < 32 or footer[:8] != b"APETAGEX":
        return {}
    size, count = struct.unpack("<II", footer[12:20])
    at, end = max(end - size, 0), end - 32
    items: dict[str, list[str]] = {}
    for _ in range(min(count, STEPS_MOST)):
        head = file.read_at(at, min(8 + 256, end - at))
        stop = head.find(b"\0", 8)
        if stop < 0:
            break
        length, flags = struct.unpack("<II", head[:8])
        if flags >> 1 & 3 == 0 and length <= TEXT_MOST:
            text = file.read_at(at + stop + 1, min(length, end - at - stop - 1)).decode("utf-8", "replace")
            key = head[8:stop].decode("latin-1").lower()
            if key in WANTED and len(texts := items.setdefault(key, [])) < VALUES_MOST:
                texts.extend(text.split("\0", VALUES_MOST)[:VALUES_MOST])
        at += stop + 1 + length
    return items


def mp4(file: RangeFile) -> bytes:
    """A minimal MP4 file with what `file` says of its tracks and tags; empty when there is no `moov`."""
    for name, start, stop in _atoms(file, 0, file.size):
        if name == b"moov":
            return _atom(b"ftyp", b"M4A \0\0\0\0") + _atom(b"moov", _lean_atoms(file, name, start, stop))
    return b""


def _lean_atoms(file: RangeFile, parent: bytes, start: int, stop: int, depth: int = 0) -> bytes:
    body = bytearray()
    if parent == b"meta":
        body += file.read_at(start, 4)
        start += 4
    for name, first, last in _atoms(file, start, stop):
        if len(body) > BODY_MOST:
            break
        if name in _ATOM_PARENTS and depth < 8:
            body += _atom(name, _lean_atoms(file, name, first, last, depth + 1))
        elif _is_wanted(name, parent) and last - first <= TEXT_MOST:
            body += _atom(name, file.read_at(first, last - first))
    return bytes(body)


def _is_wanted(name: bytes, parent: bytes) -> bool:
    return name in _ATOM_LEAVES or (parent == b"ilst" and name != b"covr")


def _atoms(file: RangeFile, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, stop) of the content of each atom in a row, as far as it goes."""
    for _ in range(STEPS_MOST):
        head = file.read_at(at, 8)
        if len(head) < 8 or at + 8 > end:
            return
        size, start = int.from_bytes(head[:4], "big"), at + 8
        if size == 1:
            size, start = int.from_bytes(file.read_at(start, 8), "big"), at + 16
        stop = end if size == 0 else at + size
        if stop < start:
            return
        yield head[4:], start, min(stop, end)
        at = stop


def _atom(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, name) + body


def chunks(file: RangeFile, order: str) -> Iterator[tuple[bytes, int, int]]:
    """(id, offset, length) of the content of each chunk of a RIFF (`order` "<") or AIFF (">") file."""
    at = 12
    for _ in range(STEPS_MOST):
        head = file.read_at(at, 8)
        if len(head) < 8:
            return
        size = struct.unpack(f"{order}I", head[4:])[0]
        yield head[:4], at + 8, min(size, file.size - at - 8)
        at += 8 + size + size % 2


class OggHeaders(NamedTuple):
    """size: how many bytes the comments take in the file, what was left out of them included."""

    stream: bytes
    comments: bytes
    size: int
    serial: int


def ogg_headers(file: RangeFile) -> OggHeaders:
    """The first two packets of the first logical stream.

    Pages can't be stepped over, their lengths are known only one by one; but a picture that is the last comment,
    as it mostly is, is left out and its pages unread.
    Raises `ValueError` when the pages don't hold together.
    """
    at, serial, packets, part, looked = 0, None, list[bytes](), bytearray(), 0
    for _ in range(PAGES_MOST):
        head = file.read_at(at, 27 + 255)
        if len(head) < 27 or head[:4] != b"OggS":
            break
        lacing = head[27 : 27 + head[26]]
        at += 27 + len(lacing)
        serial = serial or head[14:18]
        for length, ends in _segments(lacing):
            if head[14:18] == serial:
                part += file.read_at(at, length)
                if ends:
                    packets.append(bytes(part))
                    part.clear()
                if len(packets) == 2:
                    return OggHeaders(packets[0], packets[1], len(packets[1]), int.from_bytes(serial, "little"))
            at += length
        # Each look goes through all comments so far: so there is one for each doubling.
        if packets and len(part) >= 2 * looked:
            looked = len(part)
            if short := _without_last_picture(bytes(part), packets[0]):
                return OggHeaders(packets[0], *short, int.from_bytes(serial, "little"))
        if len(part) > MAX_AT_ONCE:
            break
    raise ValueError("the Ogg headers are cut short")


def _without_last_picture(part: bytes, header: bytes) -> tuple[bytes, int] | None:
    """The comments so far and the size of them all, if nothing but the rest of a picture is to come."""
    prefix = {b"\x01v": 7, b"Op": 8, b"\x7fF": 4}.get(header[:2], 0)
    start = at = prefix + 4 + int.from_bytes(part[prefix : prefix + 4], "little")
    count = int.from_bytes(part[at : at + 4], "little")
    at += 4
    for left in range(min(count, STEPS_MOST), 0, -1):
        end = at + 4 + int.from_bytes(part[at : at + 4], "little")
        if end > len(part):
            picture = part[at + 4 : at + 40].lower().startswith((b"metadata_block_picture=", b"coverart="))
            if not picture or left > 1 or count > STEPS_MOST:
                return None
            return part[:start] + (count - 1).to_bytes(4, "little") + part[start + 4 : at], end
        at = end
    return None


def _segments(lacing: bytes) -> Iterator[tuple[int, bool]]:
    """(length, whether a packet ends there) of the stretches of one page that belong to one packet each."""
    length = 0
    for value in lacing:
        length += value
        if value < 255:
            yield length, True
            length = 0
    if length:
        yield length, False


def ogg_last_granule(file: RangeFile, serial: int) -> int | None:
    """The position that the last page of the stream in the file's last 64 KiB records; None when there is none."""
    start = max(file.size - 64 * 1024, 0)
    tail = file.read_at(start, 64 * 1024)
    at = len(tail)
    while (at := tail.rfind(b"OggS", 0, at)) >= 0:
        head = tail[at : at + 18]
        if len(head) == 18:
            granule, number = struct.unpack("<6xqI", head)
            if number == serial and granule >= 0:
                return int(granule)
    return None
