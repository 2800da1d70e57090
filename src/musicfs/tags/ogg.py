"""Packets of Ogg streams that are read in places, so that the pages of a picture stay unread."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from musicfs.tags.containers import MAX_PAGES, ByteSource, OggPage, ogg_page

_MAX_HEADER = 4096
_MAX_FAILED_SKIPS = 8
_MAX_STREAMS = 16
_AUDIO = b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   "


class _Stretch(NamedTuple):
    """A stretch of the packet that lies in one page. offset: in the packet. at: in the file."""

    offset: int
    at: int
    length: int


class OggPacket:
    """A packet, whose pages are found as it is read; reads must not go backwards over what a read has skipped.

    Each page alone says how long it is, but programs write a large packet in pages of one size. So a page is skipped
    to where another must be if all between are as large as this one, and its number proves that they are.

    Args:
        file: The file.
        page: Where the packet begins, in its `number`-th piece.
        number: Of the piece.
    """

    def __init__(self, file: ByteSource, page: OggPage, number: int = 0) -> None:
        self.size = file.size
        """No packet is larger."""
        self._file = file
        self._stretches: list[_Stretch] = []
        self._reached = 0
        self._is_whole = False
        self._steps = 0
        self._failed_skips = 0
        self._add(page, number)

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes at `offset` of the packet, fewer at its end."""
        while self._reached < offset + size and not self._is_whole:
            if not self._skip_towards(offset):
                self._step()
        data, end = bytearray(), min(offset + size, self._reached)
        index = bisect_right(self._stretches, offset, key=lambda stretch: stretch.offset) - 1
        for stretch in self._stretches[max(index, 0) :]:
            at = offset + len(data) - stretch.offset
            if not 0 <= at < stretch.length or offset + len(data) >= end:
                break
            data += self._file.read_at(stretch.at + at, min(stretch.length - at, end - offset - len(data)))
        return bytes(data)

    def place(self, offset: int) -> int:
        """Where the byte at `offset` lies in the file, if all pages behind those that were read are of one size."""
        index = bisect_right(self._stretches, offset, key=lambda stretch: stretch.offset) - 1
        stretch = self._stretches[max(index, 0)]
        beyond = max(offset - self._reached, 0)
        headers = self._page.start - self._page.at
        pages = -(-beyond // max(self._page.stop - self._page.start, 1))
        return stretch.at + offset - stretch.offset + pages * headers

    def following(self) -> OggPacket | None:
        """The packet behind it; None: the file ends before."""
        while not self._is_whole:
            self._step()
        if self._number + 1 < sum(1 for _ in self._page.pieces()):
            return OggPacket(self._file, self._page, self._number + 1)
        page = self._next_page()
        return None if page is None else OggPacket(self._file, page)

    def _add(self, page: OggPage, number: int) -> None:
        at = page.start
        for index, (length, ends) in enumerate(page.pieces()):
            if index == number:
                self._stretches.append(_Stretch(self._reached, at, length))
                self._reached += length
                self._is_whole = ends
                break
            at += length
        self._page, self._number = page, number

    def _step(self) -> None:
        page = self._next_page()
        if page is None:
            self._is_whole = True
        else:
            self._add(page, 0)

    def _next_page(self) -> OggPage | None:
        """The next page of the stream."""
        at = self._page.stop
        while self._steps < MAX_PAGES:
            self._steps += 1
            page = ogg_page(self._file, at)
            if page is None or page.serial == self._page.serial:
                return page
            at = page.stop
        return None

    def _skip_towards(self, offset: int) -> bool:
        """Goes to the page that should hold `offset`. Returns False if that page can't be known."""
        page = self._page
        held = page.stop - page.start
        if offset <= self._reached or not held or page.lacing.strip(b"\xff") or self._failed_skips > _MAX_FAILED_SKIPS:
            return False
        skipped = most = (offset - self._reached) // held
        while skipped:
            there = ogg_page(self._file, page.stop + skipped * (page.stop - page.at))
            number = (page.number + 1 + skipped) % 2**32
            if there is not None and there.is_continued and (there.serial, there.number) == (page.serial, number):
                self._reached += skipped * held
                self._add(there, 0)
                return True
            # The last page of a packet may be larger than those before it.
            skipped = skipped - 1 if skipped == most else skipped // 8
            self._failed_skips += 1
        return False


class OggHeaders(NamedTuple):
    """The start of the first packet of a stream, which describes it, and the second packet: the comments.

    is_alone: no other stream begins with it.
    """

    stream: bytes
    comments: OggPacket
    serial: int
    is_alone: bool


def ogg_headers(file: ByteSource, at: int = 0) -> OggHeaders:
    """The first two packets of the first stream of audio among those that begin together at `at`, else of any.

    Raises:
        ValueError: There are no two.
    """
    pages = list(islice(_first_pages(file, at), _MAX_STREAMS))
    heads = [(page, OggPacket(file, page)) for page in pages]
    if heads:
        page, first = min(heads, key=lambda head: not head[1].read_at(0, 8).startswith(_AUDIO))
        stream = first.read_at(0, _MAX_HEADER)
        comments = first.following()
        if comments is not None:
            return OggHeaders(stream, comments, page.serial, len(pages) == 1)
    raise ValueError("the Ogg headers are cut short")


def _first_pages(file: ByteSource, at: int) -> Iterator[OggPage]:
    """Those of a cover or a video, a skeleton and the audio: all of them are before any other page."""
    page = ogg_page(file, at)
    while page is not None:
        yield page
        page = ogg_page(file, page.stop)
        if page is not None and not page.is_first:
            return
