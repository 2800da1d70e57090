"""The reads that drivers have under way. Adjacent ones that start together become one request.

A request costs something beside its bytes, and one request pays that once. An origin that says that it is busy is asked
again after a pause, in which no other read of it starts either.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from musicfs.errors import OriginFailed
from musicfs.model import OriginId, Replica
from musicfs.origin import Origin, Streams
from musicfs.system.tasks import retrieve

T = TypeVar("T")

MAX = 1 << 20
"""Bytes of one request; drivers split larger ones."""
MAX_STREAMED = 8 << 20
"""The same for drivers that deliver each part when it arrives."""
CLOSING_SECS = 1.0
_WAITS = (0.1, 0.2, 0.4)
"""Seconds before each further call, unless the origin wants more of them."""
_MAX_WAIT = 1.0
"""An origin that wants to be left alone for longer has failed, as far as this read is concerned."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    offset: int
    size: int
    bytes: asyncio.Future[bytes]


@dataclass(slots=True, eq=False)
class _Whole:
    """Adjacent parts, by offset, which one call of the driver reads. limit: bytes of all of them."""

    limit: int
    parts: list[_Part] = field(default_factory=list)

    def takes(self, part: _Part) -> bool:
        first, last = self.parts[0], self.parts[-1]
        return last.offset + last.size == part.offset and part.offset + part.size - first.offset <= self.limit

    async def read(self, origin: Origin, replica: Replica) -> bytes:
        """Returns the bytes of all parts; nothing where each part has been delivered already."""
        start, end = self.parts[0].offset, self.parts[-1].offset + self.parts[-1].size
        if len(self.parts) == 1 or not isinstance(origin, Streams):
            return await origin.read(replica, start, end - start)
        await origin.read_parts(replica, start, [part.size for part in self.parts], self._deliver_part)
        return b""

    def _deliver_part(self, number: int, data: bytes) -> None:
        part = self.parts[number]
        if not part.bytes.done():
            part.bytes.set_result(data)


class _Backoff:
    """The pauses of one origin. While one lasts, no read of the origin starts. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._until = 0.0

    async def call(self, read: Callable[[], Awaitable[T]]) -> T:
        """Calls `read`, and again while the origin is busy. Raises as it does in the end."""
        for wait in _WAITS:
            await self._pause()
            try:
                return await read()
            except OriginFailed as failure:
                if failure.busy_secs is None or failure.busy_secs > _MAX_WAIT:
                    raise
                self._extend(max(failure.busy_secs, wait))
        await self._pause()
        return await read()

    async def _pause(self) -> None:
        left = self._until - asyncio.get_running_loop().time()
        if left > 0:
            await asyncio.sleep(left)

    def _extend(self, secs: float) -> None:
        self._until = max(self._until, asyncio.get_running_loop().time() + secs)


class DriverReads:
    """Starts reads and owns their tasks. Belongs to the event loop's thread.

    interruptions: how often `interrupt` was called.
    """

    def __init__(self) -> None:
        self.interruptions = 0
        self._tasks: set[asyncio.Task[bytes]] = set()
        self._backoffs: defaultdict[OriginId, _Backoff] = defaultdict(_Backoff)
        self._forming: dict[tuple[int, Replica], list[_Part]] = {}

    def start(self, origin: Origin, replica: Replica, offset: int, size: int, *, alone: bool) -> asyncio.Task[bytes]:
        """Starts one read and returns its task, which raises what `Origin.read` raises. The caller may cancel it.

        Args:
            offset: in bytes.
            size: in bytes; at least 1, and not past the end of the file.
            alone: a reader waits for these bytes, so they do not wait for the rest of a longer answer. A driver that
                streams delivers the first bytes of a long answer as early as those of a short one, so its reads are
                coalesced in any case.
        """
        if alone and not isinstance(origin, Streams):
            return self._call(origin, lambda: origin.read(replica, offset, size))
        return self._spawn(self._read_with_neighbours(origin, replica, offset, size), origin)

    def interrupt(self) -> None:
        """Cancels all reads, because the machine has slept: what becomes of them says nothing about their origins."""
        self.interruptions += 1
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        """Cancels all reads and waits for them for a moment, but not for a driver that ignores its cancellation."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSING_SECS)

    def _call(self, origin: Origin, read: Callable[[], Awaitable[bytes]]) -> asyncio.Task[bytes]:
        return self._spawn(self._backoffs[origin.id].call(read), origin)

    def _spawn(self, read: Coroutine[None, None, bytes], origin: Origin) -> asyncio.Task[bytes]:
        task = asyncio.create_task(read, name=f"read of {origin.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(retrieve)
        return task

    async def _read_with_neighbours(self, origin: Origin, replica: Replica, offset: int, size: int) -> bytes:
        """Reads the bytes together with adjacent reads that start in the same turn of the loop, or the next."""
        loop = asyncio.get_running_loop()
        part = _Part(offset, size, loop.create_future())
        key = id(origin), replica
        if key not in self._forming:
            self._forming[key] = []
            # One turn later than possible: a reader starts its blocks a turn after those that are read ahead of it.
            loop.call_soon(loop.call_soon, self._start_formed, key, origin)
        self._forming[key].append(part)
        return await part.bytes

    def _start_formed(self, key: tuple[int, Replica], origin: Origin) -> None:
        wholes: list[_Whole] = []
        limit = MAX_STREAMED if isinstance(origin, Streams) else MAX
        for part in sorted(self._forming.pop(key), key=lambda part: part.offset):
            if part.bytes.done():  # cancelled already
                continue
            if not wholes or not wholes[-1].takes(part):
                wholes.append(_Whole(limit))
            wholes[-1].parts.append(part)
        for whole in wholes:
            task = self._call(origin, partial(whole.read, origin, key[1]))
            task.add_done_callback(partial(_deliver, whole))
            for part in whole.parts:
                part.bytes.add_done_callback(partial(_end_unwanted, whole, task))


def _deliver(whole: _Whole, task: asyncio.Task[bytes]) -> None:
    start = whole.parts[0].offset
    for part in whole.parts:
        if part.bytes.done():
            continue
        if task.cancelled():
            part.bytes.cancel()
        elif (error := task.exception()) is not None:
            part.bytes.set_exception(error)
        else:
            part.bytes.set_result(task.result()[part.offset - start : part.offset - start + part.size])


def _end_unwanted(whole: _Whole, task: asyncio.Task[bytes], _: asyncio.Future[bytes]) -> None:
    """Cancels the read once no caller waits for it: each part is delivered, or its caller has gone."""
    if all(part.bytes.done() for part in whole.parts) and any(part.bytes.cancelled() for part in whole.parts):
        task.cancel()
