"""A file of which only some byte ranges are here, and the request for the next one.

Tag parsers need a seekable file; a file at a remote origin is a few ranges of bytes that cost a round trip each.
`RangeFile` is the file, `NeedRange` the request. The caller, who has the origin, reads that range and calls again:

    ranges = {}
    while True:
        try:
            return read_tags(RangeFile(size, ranges), name)
        except NeedRange as need:
            ranges[need.offset] = await origin.read(replica, need.offset, need.size)

A caller that can read at once passes `fetch` instead, and no pass has to be made again.
"""

from __future__ import annotations

import errno
import io
from bisect import bisect_right
from collections.abc import Callable, Mapping

PAGE = 4096
AHEAD = 64 * 1024
"""The least that one request covers; as large as the head and the tail that fingerprint.py samples."""
MAX_AHEAD = 1024 * 1024
MAX_IN_ALL = 4 * 1024 * 1024
"""So many bytes of a file are read in all: no tag is worth more."""
MAX_AT_ONCE = MAX_IN_ALL
"""No tag needs a larger read: its length is garbage."""
MAX_READS = 5_000
"""Bounds the time a parser spends on a file that sends it in circles."""


class NeedRange(BaseException):
    """A request for bytes that a read needs: `size` bytes at `offset`, all within the file.

    Not an `Exception`, because tag parsers swallow those.
    """

    def __init__(self, offset: int, size: int) -> None:
        super().__init__(f"{size} bytes at {offset} are not here yet")
        self.offset = offset
        self.size = size


class TagsTooLarge(BaseException):
    """The tags take more bytes than may be read. Not an `Exception`, for the reason that `NeedRange` is none."""


class Unreadable(Exception):
    """The file can't be parsed; the message is one sentence that says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RangeFile(io.RawIOBase):
    """A read-only file of which some ranges are here. Reading anything else raises `NeedRange`.

    It raises `OSError`, as a file would, for reads that no honest file leads to, and `TagsTooLarge` for those that go
    beyond `MAX_IN_ALL`.

    Args:
        size: Of the file, in bytes.
        ranges: The bytes that are here: offset -> bytes. They may overlap.
        name: Of the file, for parsers that read it.
        ahead: How many bytes a request covers at least. After a long run of known bytes it covers more, so that a
            sequential reader needs few requests; 0 makes requests exact.
        fetch: Reads exactly so many bytes at an offset; it is called instead of raising `NeedRange`.
    """

    def __init__(
        self,
        size: int,
        ranges: Mapping[int, bytes],
        name: str = "",
        *,
        ahead: int = AHEAD,
        fetch: Callable[[int, int], bytes] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.size = size
        self._ahead = ahead
        self._fetch = fetch
        self._at = 0
        self._reads = 0
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._data: list[memoryview] = []
        self._store(ranges)

    def _store(self, ranges: Mapping[int, bytes]) -> None:
        """Keeps the ranges sorted and disjoint, without copying them."""
        covered = 0
        for start, data in sorted(ranges.items()):
            end = min(start + len(data), self.size)
            if end > max(start, covered):
                first = max(start, covered)
                self._starts.append(first)
                self._ends.append(end)
                self._data.append(memoryview(data)[first - start : end - start])
                covered = end

    @property
    def known(self) -> int:
        """How many bytes are here."""
        return sum(map(len, self._data))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "seek before the start of the file")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = self.size if size is None or size < 0 else size
        data = self.read_at(self._at, wanted)
        self._at += len(data)
        return data

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes at `offset`, fewer at the end of the file; the position stays."""
        if offset < 0:
            raise OSError(errno.EINVAL, "read before the start of the file")
        end = min(offset + size, self.size)
        if end - offset > MAX_AT_ONCE:
            raise OSError(errno.EFBIG, f"a read of {end - offset} bytes makes no sense in a tag")
        self._reads += 1
        if self._reads > MAX_READS:
            raise OSError(errno.ELOOP, "too many reads")
        if end <= offset:
            return b""
        return self._gather(offset, end)

    def _gather(self, start: int, end: int) -> bytes:
        pieces: list[memoryview] = []
        at = start
        index = bisect_right(self._starts, at) - 1
        while index >= 0 and at < end:
            if index == len(self._starts) or not self._starts[index] <= at < self._ends[index]:
                break
            piece = self._data[index][at - self._starts[index] : end - self._starts[index]]
            pieces.append(piece)
            at += len(piece)
            index += 1
        if at == end:
            return b"".join(pieces)
        offset, size = self._missing(at, end)
        if self._fetch is None:
            raise NeedRange(offset, size)
        self._add(offset, self._fetch(offset, size))
        return self._gather(start, end)

    def _add(self, offset: int, data: bytes) -> None:
        """Adds a range as `_missing` asks for it: every range that it touches lies within it."""
        first, last = bisect_right(self._starts, offset), bisect_right(self._starts, offset + len(data) - 1)
        self._starts[first:last] = [offset]
        self._ends[first:last] = [offset + len(data)]
        self._data[first:last] = [memoryview(data)]

    def _missing(self, start: int, end: int) -> tuple[int, int]:
        """The (offset, size) of the unknown bytes from `start` on, up to `end` or somewhat further; `start` is unknown.

        It is one range, though some bytes in between may be here: a round trip costs more than they do.

        Raises:
            TagsTooLarge: It would be more than may be read.
        """
        index = bisect_right(self._starts, start)  # the first range after `start`
        before = self._ends[index - 1] if index else 0
        last = bisect_right(self._starts, end - 1) - 1
        if last >= index and self._ends[last] >= end:
            while last > index and self._ends[last - 1] == self._starts[last]:
                last -= 1
            end = self._starts[last]
        left = MAX_IN_ALL - self.known
        if end - start > left:
            raise TagsTooLarge
        exact, stop = start, end
        if self._ahead:
            ahead = min(max(self._run_before(start, index - 1), self._ahead), MAX_AHEAD)
            start = max(start // PAGE * PAGE, before)
            stop = -(-max(end, start + ahead) // PAGE) * PAGE
            if stop >= self.size:
                stop = self.size
                start = max(min(start, self.size - self._ahead), before)
        following = bisect_right(self._starts, end - 1)
        if following < len(self._starts):
            stop = min(stop, self._starts[following])
        return (start, stop - start) if stop - start <= left else (exact, end - exact)

    def _run_before(self, at: int, index: int) -> int:
        """How many bytes without a gap are known right before `at`; `index` is the last range before it."""
        start = at
        while index >= 0 and self._ends[index] == start:
            start = self._starts[index]
            index -= 1
        return at - start
