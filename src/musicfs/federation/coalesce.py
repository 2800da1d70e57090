"""Reads that are begun together become one: what a request costs beside its bytes is paid once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from musicfs.model import Replica
from musicfs.origin import Origin, Streams

MAX = 1 << 20
"""Bytes of one request; drivers split larger ones."""
MAX_STREAMED = 4 << 20
"""The same where each part is handed out as it comes."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    offset: int
    size: int
    bytes: asyncio.Future[bytes]


@dataclass(slots=True, eq=False)
class _Whole:
    """Adjacent parts, by offset, which one call of the driver reads: `most` bytes at most."""

    most: int
    parts: list[_Part] = field(default_factory=list)

    def takes(self, part: _Part) -> bool:
        first, last = self.parts[0], self.parts[-1]
        return last.offset + last.size == part.offset and part.offset + part.size - first.offset <= self.most

    async def read(self, origin: Origin, replica: Replica) -> bytes:
        """What is read but not handed out yet."""
        start, end = self.parts[0].offset, self.parts[-1].offset + self.parts[-1].size
        if len(self.parts) == 1 or not isinstance(origin, Streams):
            return await origin.read(replica, start, end - start)
        await origin.read_parts(replica, start, [part.size for part in self.parts], self._hand_out)
        return b""

    def _hand_out(self, number: int, data: bytes) -> None:
        part = self.parts[number]
        if not part.bytes.done():
            part.bytes.set_result(data)


class Coalescer:
    """Belongs to the event loop's thread. spawn: makes a task that somebody cancels and waits for at the end."""

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, bytes], str], asyncio.Task[bytes]]) -> None:
        self._spawn = spawn
        self._forming: dict[tuple[int, Replica], list[_Part]] = {}

    async def read(self, origin: Origin, replica: Replica, offset: int, size: int) -> bytes:
        """As `Origin.read`, together with the adjacent reads that others begin in the same turn of the loop, or the
        next."""
        loop = asyncio.get_running_loop()
        part = _Part(offset, size, loop.create_future())
        key = id(origin), replica
        if key not in self._forming:
            self._forming[key] = []
            # A turn later than it could be: who reads begins his blocks a turn after what is begun ahead of him.
            loop.call_soon(loop.call_soon, self._begin, key, origin)
        self._forming[key].append(part)
        return await part.bytes

    def _begin(self, key: tuple[int, Replica], origin: Origin) -> None:
        wholes: list[_Whole] = []
        most = MAX_STREAMED if isinstance(origin, Streams) else MAX
        for part in sorted(self._forming.pop(key), key=lambda part: part.offset):
            if part.bytes.done():  # cancelled already
                continue
            if not wholes or not wholes[-1].takes(part):
                wholes.append(_Whole(most))
            wholes[-1].parts.append(part)
        for whole in wholes:
            task = self._spawn(whole.read(origin, key[1]), f"read of {origin.id}")
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
    """Also when only those still wait for it whom its bytes have reached."""
    if all(part.bytes.done() for part in whole.parts) and any(part.bytes.cancelled() for part in whole.parts):
        task.cancel()
