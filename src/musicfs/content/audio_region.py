"""Where the audio lies in a file, between its tags: what stays the same when the file is tagged anew.

FLAC, MPEG and MP4. Not Ogg: a larger comment header renumbers every page after it, and with that changes all checksums.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

_STEPS_MOST = 64
_TAGS_MOST = 4
_FRAGMENTS = frozenset({b"moof", b"mfra", b"sidx"})
_PAGE = 4096


class Unavailable(Exception):
    """Bytes that are needed can't be had."""


class FilePages:
    """A file of `size` bytes, read in pages, each once. get: (offset, size) -> these bytes; may raise `Unavailable`."""

    def __init__(self, size: int, get: Callable[[int, int], Awaitable[bytes]]) -> None:
        self.size = size
        self._get = get
        self._pages: dict[int, bytes] = {}

    async def read_at(self, offset: int, size: int) -> bytes:
        """Fewer at the end of the file."""
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        numbers = range(offset // _PAGE, (end - 1) // _PAGE + 1)
        for number in numbers:
            if number not in self._pages:
                self._pages[number] = await self._get(number * _PAGE, min(_PAGE, self.size - number * _PAGE))
        base = numbers[0] * _PAGE
        return b"".join(self._pages[number] for number in numbers)[offset - base : end - base]


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
    """None: the format has no such region, or the file is not as it should be. Raises what its reads do."""
    if await file.read_at(4, 4) == b"ftyp":
        return await _mp4(file)
    start = await _after_id3(file)
    head = await file.read_at(start, 4)
    if head == b"fLaC":
        return await _flac(file, start)
    if len(head) == 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return _region(start, await _before_tags(file), b"mpeg")
    return None


def _region(start: int, end: int, identity: bytes) -> AudioRegion | None:
    return AudioRegion(start, end, identity) if start < end else None


async def _after_id3(file: FilePages) -> int:
    at = 0
    for _ in range(_TAGS_MOST):
        head = await file.read_at(at, 10)
        if head[:3] != b"ID3" or len(head) < 10:
            break
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        at += 10 + size + (10 if head[5] & 0x10 else 0)
    return at


async def _before_tags(file: FilePages) -> int:
    """Where the ID3v1 and APEv2 tags at the end begin, in whatever order they are; none are if the end is not here:
    the worst that does is that two regions are not as long as each other."""
    end = file.size
    for _ in range(_TAGS_MOST):
        try:
            last = await file.read_at(max(end - 160, 0), min(160, end))
        except Unavailable:
            return end
        footer = last[-32:]
        if last[-128:-125] == b"TAG":
            end -= 128
        elif footer[:8] == b"APETAGEX":
            flags = int.from_bytes(footer[20:24], "little")
            end -= int.from_bytes(footer[12:16], "little") + (32 if flags >> 31 else 0)
        else:
            break
    return end


async def _flac(file: FilePages, start: int) -> AudioRegion | None:
    at, identity = start + 4, b""
    for _ in range(_STEPS_MOST):
        head = await file.read_at(at, 4)
        if len(head) < 4:
            return None
        if head[0] & 0x7F == 0:
            # the sizes of its blocks and frames, the number of its samples, and the MD5 of them
            identity = b"flac" + await file.read_at(at + 4, 34)
        at += 4 + int.from_bytes(head[1:], "big")
        if head[0] & 0x80:
            return _region(at, await _before_tags(file), identity) if identity else None
    return None


async def _mp4(file: FilePages) -> AudioRegion | None:
    """The only `mdat`. What is in `moov` tells where in it each frame lies, and changes whenever that grows."""
    at, found = 0, None
    for _ in range(_STEPS_MOST):
        try:
            head = await file.read_at(at, 16)
        except Unavailable:
            if found is None:
                raise
            return found
        if len(head) < 8:
            break
        size, name, own = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:
            size, own = int.from_bytes(head[8:], "big"), 16
        end = at + size if size else file.size
        if (size and size < own) or end > file.size or name in _FRAGMENTS:
            return None
        if name == b"mdat":
            if found is not None:
                return None
            found = _region(at + own, end, b"mp4")
        at = end
    return found
