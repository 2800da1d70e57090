"""Reads that are begun together become one: what a request costs beside its bytes is paid once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from musicfs.model import Replica
from musicfs.origins.base import Origin

MOST = 1 << 20
"""Bytes of one request; drivers split larger ones."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    offset: int
    size: int
    bytes: asyncio.Future[bytes]


@dataclass(slots=True, eq=False)
class _Whole:
    """Adjacent parts, by offset, which one call of the driver reads."""

    parts: list[_Part] = field(default_factory=list)

    def takes(self, part: _Part) -> bool:
        first, last = self.parts[0], self.parts[-1]
        return last.offset + last.size == part.offset and part.offset + part.size - first.offset <= MOST


class Merger:
    """Belongs to the event loop's thread. spawn: makes a task that somebody cancels and waits for at the end."""

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, bytes], str], asyncio.Task[bytes]]) -> None:
        self._spawn = spawn
        self._forming: dict[tuple[int, Replica], list[_Part]] = {}

    async def read(self, origin: Origin, replica: Replica, offset: int, size: int) -> bytes:
        """As `Origin.read`, together with the adjacent reads that others begin in the same turn of the loop."""
        loop = asyncio.get_running_loop()
        part = _Part(offset, size, loop.create_future())
        key = id(origin), replica
        if key not in self._forming:
            self._forming[key] = []
            loop.call_soon(self._begin, key, origin)
        self._forming[key].append(part)
        return await part.bytes

    def _begin(self, key: tuple[int, Replica], origin: Origin) -> None:
        wholes: list[_Whole] = []
        for part in sorted(self._forming.pop(key), key=lambda part: part.offset):
            if part.bytes.done():  # cancelled already
                continue
            if not wholes or not wholes[-1].takes(part):
                wholes.append(_Whole())
            wholes[-1].parts.append(part)
        for whole in wholes:
            start, end = whole.parts[0].offset, whole.parts[-1].offset + whole.parts[-1].size
            task = self._spawn(origin.read(key[1], start, end - start), f"read of {origin.id} ahead")
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
    if all(part.bytes.cancelled() for part in whole.parts):
        task.cancel()
