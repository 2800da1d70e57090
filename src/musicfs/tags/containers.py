"""Walks through the containers of audio files: where their blocks, atoms, chunks, pages and tags begin and end.

A walk reads headers only, a few bytes each, and steps over the rest by the lengths that the headers record. It follows
what a damaged file says within bounds: it ends after a number of steps, and where a length leads backwards. Positions
may lie behind the end of a file that was cut short. Walks raise what the file's `read_at` raises.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

MAX_STEPS = 1000
MAX_PAGES = 5000
_MAX_TAGS = 4
_ID3_HEADER = 10
_ID3V1_SIZE = 128
_APE_FOOTER = 32
_LYRICS_END = 15
_MAX_LYRICS = 5100 + 20
_OGG_HEADER = 27
_MAX_INDEX = 1024 * 1024
_AFTER_FRAGMENTS = 64 * 1024
"""Bytes: indexes at the end of the file."""
_SIZE_ELSEWHERE = 0xFFFFFFFF


class ByteSource(Protocol):
    """A file that can be read in places."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes at `offset`, fewer at the end of the file."""
        ...


# ID3v2, ID3v1 and APEv2


class Id3Tag(NamedTuple):
    """An ID3v2 tag: its frames lie between `body` and `end`, and what follows it begins at `stop`."""

    start: int
    body: int
    end: int
    stop: int
    major: int
    flags: int


def id3_tag(file: ByteSource, offset: int) -> Id3Tag | None:
    """The ID3v2 tag at `offset`; None: there is none."""
    head = file.read_at(offset, _ID3_HEADER)
    if len(head) < _ID3_HEADER or head[:3] != b"ID3" or max(head[6:10]) > 127:
        return None
    body = offset + _ID3_HEADER
    end = body + from_syncsafe(head[6:10])
    stop = end + (_ID3_HEADER if head[5] & 0x10 else 0)  # a footer repeats the header
    return Id3Tag(offset, body, end, stop, head[3], head[5])


def id3_tags(file: ByteSource) -> Iterator[Id3Tag]:
    """The ID3v2 tags at the start of the file: some programs put a second one before the first."""
    at = 0
    for _ in range(_MAX_TAGS):
        tag = id3_tag(file, at)
        if tag is None:
            return
        yield tag
        at = tag.stop


def from_syncsafe(data: bytes) -> int:
    """The number that four bytes of seven bits each hold."""
    return sum((byte & 127) << shift for byte, shift in zip(data, (21, 14, 7, 0), strict=True))


def to_syncsafe(number: int) -> bytes:
    """The inverse of `from_syncsafe`."""
    return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))


class ApeTag(NamedTuple):
    """An APEv2 tag: its items lie between `items` and `end`, and what follows it begins at `stop`."""

    items: int
    end: int
    stop: int


def leading_ape_tag(file: ByteSource, at: int) -> ApeTag | None:
    """The APEv2 tag whose header is at `at`; None: there is none."""
    head = file.read_at(at, _APE_FOOTER)
    if len(head) < _APE_FOOTER or head[:8] != b"APETAGEX":
        return None
    size, flags = int.from_bytes(head[12:16], "little"), int.from_bytes(head[20:24], "little")
    stop = at + _APE_FOOTER + size
    return ApeTag(at + _APE_FOOTER, stop - (0 if flags >> 30 & 1 else _APE_FOOTER), stop)


class TrailingTag(NamedTuple):
    """A tag at the end of a file. items: where an APEv2 tag's items begin, behind its header if it has one."""

    name: bytes
    start: int
    items: int
    stop: int


def trailing_tags(file: ByteSource) -> Iterator[TrailingTag]:
    """The tags at the end of the file, in whatever order, the last first.

    They are ID3v1 (`TAG`), APEv2 (`APETAGEX`), ID3v2 with a footer (`3DI`), and lyrics (`LYRICS200`, `LYRICSEND`).
    """
    stop = file.size
    for _ in range(_MAX_TAGS):
        last = file.read_at(max(stop - _ID3V1_SIZE, 0), min(_ID3V1_SIZE, stop))
        tag = _trailing_tag(file, last, stop)
        if tag is None:
            return
        yield tag
        stop = tag.start
        if stop < 0:
            return


def _trailing_tag(file: ByteSource, last: bytes, stop: int) -> TrailingTag | None:
    footer = last[-_APE_FOOTER:]
    if len(last) == _ID3V1_SIZE and last[:3] == b"TAG":
        return TrailingTag(b"TAG", stop - _ID3V1_SIZE, stop, stop)
    if len(footer) == _APE_FOOTER and footer[:8] == b"APETAGEX":
        size, flags = int.from_bytes(footer[12:16], "little"), int.from_bytes(footer[20:24], "little")
        items = stop - size
        return TrailingTag(b"APETAGEX", items - (_APE_FOOTER if flags >> 31 else 0), items, stop)
    if last[-_ID3_HEADER:][:3] == b"3DI" and max(last[-4:]) < 128:
        return _if_inside(b"3DI", stop - 2 * _ID3_HEADER - from_syncsafe(last[-4:]), stop)
    if last.endswith(b"LYRICS200") and (digits := last[-_LYRICS_END:-9]).isdigit():
        return _if_inside(b"LYRICS200", stop - _LYRICS_END - int(digits), stop)
    if last.endswith(b"LYRICSEND"):
        before = max(stop - _MAX_LYRICS, 0)
        at = file.read_at(before, stop - before).rfind(b"LYRICSBEGIN")
        return _if_inside(b"LYRICSEND", before + at if at >= 0 else -1, stop)
    return None


def _if_inside(name: bytes, start: int, stop: int) -> TrailingTag | None:
    return TrailingTag(name, start, start, stop) if start >= 0 else None


# FLAC


class FlacBlock(NamedTuple):
    """A block of metadata, by the number of its kind; what it holds lies between `start` and `stop`."""

    kind: int
    start: int
    stop: int
    is_last: bool


def flac_block(file: ByteSource, at: int) -> FlacBlock | None:
    """The block of metadata whose header is at `at`; None: the file ends there."""
    head = file.read_at(at, 4)
    if len(head) < 4:
        return None
    return FlacBlock(head[0] & 0x7F, at + 4, at + 4 + int.from_bytes(head[1:], "big"), bool(head[0] & 0x80))


def flac_picture_stop(file: ByteSource, block: FlacBlock) -> int:
    """Where a block with a picture ends. Writers cut the length of a larger block to its 24 bits, so the picture's own
    lengths count where they agree with that."""
    at = block.start + 4
    for _ in range(2):  # the type, then the description
        at += 4 + int.from_bytes(file.read_at(at, 4), "big")
    at += 16
    stop = at + 4 + int.from_bytes(file.read_at(at, 4), "big")
    is_cut = stop > block.stop and (stop - block.stop) % 2**24 == 0 and stop <= file.size
    return stop if is_cut else block.stop


# MP4, RIFF and AIFF


class Segment(NamedTuple):
    """An MP4 atom, or a RIFF or AIFF chunk: what it holds lies between `start` and `stop`."""

    name: bytes
    start: int
    stop: int


def atoms(file: ByteSource, at: int, end: int) -> Iterator[Segment]:
    """The MP4 atoms in a row between `at` and `end`. The last one may claim to reach behind `end`."""
    for _ in range(MAX_STEPS):
        head = file.read_at(at, 8)
        if len(head) < 8 or at + 8 > end:
            return
        size, start = int.from_bytes(head[:4], "big"), at + 8
        if size == 1:
            size, start = int.from_bytes(file.read_at(start, 8), "big"), at + 16
        stop = end if size == 0 else at + size
        if stop < start:
            return
        yield Segment(head[4:], start, stop)
        at = stop


def fragments_duration(file: ByteSource, at: int) -> float | None:
    """The seconds of a fragmented MP4 file that begins at `at`; None: it has no index of all its fragments."""
    # It is in front of the fragments: each of them would cost a read.
    index = next((each for each in atoms(file, at, file.size) if each.name in (b"sidx", b"moof", b"mdat")), None)
    if index is None or index.name != b"sidx" or index.stop - index.start > _MAX_INDEX:
        return None
    data = file.read_at(index.start, index.stop - index.start)
    timescale, at = int.from_bytes(data[8:12], "big"), 20 if data[:1] == b"\0" else 28
    lengths = [struct.unpack(">II", data[place : place + 8]) for place in range(at + 4, len(data) - 7, 12)]
    covered = index.stop + sum(length & 0x7FFFFFFF for length, _ in lengths)
    if not timescale or file.size - covered > _AFTER_FRAGMENTS:  # each fragment may have an index of its own
        return None
    return float(sum(duration for _, duration in lengths) / timescale)


def chunks(file: ByteSource, order: str, at: int = 12) -> Iterator[Segment]:
    """The chunks from `at` on of a RIFF (`order` "<") or AIFF (">") file; the last one ends with the file at most.

    In RF64 files, which may be larger than 4 GiB, a chunk in front says how long the data is.
    """
    data_size = None
    for _ in range(MAX_STEPS):
        head = file.read_at(at, 8)
        if len(head) < 8:
            return
        size = struct.unpack(f"{order}I", head[4:])[0]
        if head[:4] == b"ds64":
            data_size = int.from_bytes(file.read_at(at + 16, 8), "little")
        elif head[:4] == b"data" and size == _SIZE_ELSEWHERE and data_size:
            size = data_size
        yield Segment(head[:4], at + 8, min(at + 8 + size, file.size))
        at += 8 + size + size % 2


def large_chunks(file: ByteSource, at: int) -> Iterator[Segment]:
    """The chunks of a DSDIFF or CAF file, which have lengths of eight bytes; a negative one reaches to the end."""
    for _ in range(MAX_STEPS):
        head = file.read_at(at, 12)
        if len(head) < 12:
            return
        size = int.from_bytes(head[4:], "big", signed=True)
        stop = at + 12 + size if size >= 0 else file.size
        yield Segment(head[:4], at + 12, min(stop, file.size))
        at = stop


def guid_chunks(file: ByteSource, at: int) -> Iterator[Segment]:
    """The chunks of a W64 file, by the first four bytes of their long names; each begins at a multiple of eight."""
    for _ in range(MAX_STEPS):
        head = file.read_at(at, 24)
        size = int.from_bytes(head[16:], "little")
        if len(head) < 24 or size < 24:
            return
        yield Segment(head[:4], at + 24, min(at + size, file.size))
        at += size + -size % 8


# Ogg


class OggPage(NamedTuple):
    """A page: the numbers of its stream and of the page in it, and where what it holds begins.

    lacing: the sizes of the packets' pieces in it. is_continued: whether it begins in the middle of a packet. is_first:
    whether a stream begins with it.
    """

    serial: int
    number: int
    is_continued: bool
    is_first: bool
    start: int
    lacing: bytes

    @property
    def at(self) -> int:
        """Where its header begins."""
        return self.start - _OGG_HEADER - len(self.lacing)

    @property
    def stop(self) -> int:
        """Where the next page begins."""
        return self.start + sum(self.lacing)

    def pieces(self) -> Iterator[tuple[int, bool]]:
        """(length, whether a packet ends there) of each stretch of the page that belongs to one packet."""
        length = 0
        for value in self.lacing:
            length += value
            if value < 255:
                yield length, True
                length = 0
        if length:
            yield length, False


def ogg_page(file: ByteSource, at: int) -> OggPage | None:
    """The page whose header is at `at`; None: there is none."""
    head = file.read_at(at, _OGG_HEADER + 255)
    if len(head) < _OGG_HEADER or head[:4] != b"OggS":
        return None
    serial, number = struct.unpack("<II", head[14:22])
    lacing = head[_OGG_HEADER : _OGG_HEADER + head[26]]
    kind = head[5]
    return OggPage(serial, number, bool(kind & 1), bool(kind & 2), at + _OGG_HEADER + len(lacing), lacing)


def ogg_pages(file: ByteSource) -> Iterator[OggPage]:
    """The pages of the file, of whatever streams."""
    at = 0
    for _ in range(MAX_PAGES):
        page = ogg_page(file, at)
        if page is None:
            return
        yield page
        at = page.stop


def ogg_last_granule(file: ByteSource, serial: int) -> int | None:
    """The position that the last page of the stream in the file's last 64 KiB records; None: there is none."""
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
