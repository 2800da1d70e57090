"""Where the audio lies in a file, between its tags: what stays the same when a file gets new tags.

FLAC, MPEG and MP4. Not Ogg: a larger comment header renumbers every page after it, and with that changes all checksums.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import islice

from musicfs.tags.containers import atoms, flac_block, id3_tags, trailing_tags
from musicfs.tags.range_file import NeedRange

_MAX_STEPS = 64
_FRAGMENTS = frozenset({b"moof", b"mfra", b"sidx"})
_PAGE = 4096


class Unavailable(Exception):
    """Bytes that are needed can't be had."""


class FilePages:
    """A file that is read in pages of 4 KiB, each once.

    Args:
        size: Of the file, in bytes.
        get: Reads `size` bytes at `offset`: (offset, size) -> bytes. May raise `Unavailable`.
    """

    def __init__(self, size: int, get: Callable[[int, int], Awaitable[bytes]]) -> None:
        self.size = size
        self._get = get
        self._pages: dict[int, bytes | None] = {}

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes at `offset`, fewer at the end of the file.

        Raises:
            NeedRange: A page of them was not read yet; `load` reads it.
            Unavailable: A page of them can't be had.
        """
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        numbers = range(offset // _PAGE, (end - 1) // _PAGE + 1)
        base = numbers[0] * _PAGE
        return b"".join(map(self._page, numbers))[offset - base : end - base]

    def _page(self, number: int) -> bytes:
        if number not in self._pages:
            raise NeedRange(number * _PAGE, min(_PAGE, self.size - number * _PAGE))
        page = self._pages[number]
        if page is None:
            raise Unavailable
        return page

    async def load(self, need: NeedRange) -> None:
        """Reads the page that `read_at` asked for. Raises what `get` raises, except `Unavailable`."""
        try:
            self._pages[need.offset // _PAGE] = await self._get(need.offset, need.size)
        except Unavailable:
            self._pages[need.offset // _PAGE] = None


@dataclass(frozen=True, slots=True)
class AudioRegion:
    """The bytes from `start` to `end`. identity: the format, and what its header says of the audio as a whole; where
    that differs, so does the audio."""

    start: int
    end: int
    identity: bytes

    @property
    def length(self) -> int:
        return self.end - self.start


async def find_audio(file: FilePages) -> AudioRegion | None:
    """The audio of the file; None: its format has no such region, or the file is damaged.

    Raises:
        Unavailable: Bytes that decide it can't be had.
        Exception: Whatever else the file's `get` raises.
    """
    while True:
        try:
            return _find(file)
        except NeedRange as need:
            await file.load(need)


def _find(file: FilePages) -> AudioRegion | None:
    if file.read_at(4, 4) == b"ftyp":
        return _mp4(file)
    start = 0
    for tag in id3_tags(file):
        start = tag.stop
    head = file.read_at(start, 4)
    if head == b"fLaC":
        return _flac(file, start)
    if len(head) == 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return _region(start, _before_tags(file), b"mpeg")
    return None


def _region(start: int, end: int, identity: bytes) -> AudioRegion | None:
    return AudioRegion(start, end, identity) if start < end else None


def _before_tags(file: FilePages) -> int:
    """Where the tags at the end of the file start.

    Where the end can't be had, they count as audio: at worst, two regions differ in length then.
    """
    end = file.size
    try:
        for tag in trailing_tags(file):
            end = tag.start
    except Unavailable:
        pass
    return end


def _flac(file: FilePages, start: int) -> AudioRegion | None:
    at, identity = start + 4, b""
    for _ in range(_MAX_STEPS):
        block = flac_block(file, at)
        if block is None:
            return None
        if block.kind == 0:
            # the sizes of its blocks and frames, the number of its samples, and the MD5 of them
            identity = b"flac" + file.read_at(block.start, 34)
        if block.is_last:
            return _region(block.stop, _before_tags(file), identity) if identity else None
        at = block.stop
    return None


def _mp4(file: FilePages) -> AudioRegion | None:
    """The only `mdat`. `moov` says where in it each frame lies, and changes whenever that grows."""
    at, found = 0, None
    try:
        for atom in islice(atoms(file, 0, file.size), _MAX_STEPS):
            at = atom.stop
            if at > file.size or atom.name in _FRAGMENTS:
                return None
            if atom.name == b"mdat":
                if found is not None:
                    return None
                found = _region(atom.start, atom.stop, b"mp4")
    except Unavailable:
        if found is None:
            raise
        return found
    is_whole = file.size - at < 8  # else an atom makes no sense, or there are too many
    return found if is_whole else None
