"""The queue of blocks that wait to be written to the cache's disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from musicfs.cache.disk import NewBlock
from musicfs.model import Fingerprint

_MAX_WAITING = 64  # blocks; more are not cached
_ENOUGH = 8  # blocks: with so many, the writer waits for no more
_GATHER_SECS = 0.02  # for a thread's turn and a transaction cost more than the bytes of a small file

Key = tuple[Fingerprint, int]
"""A content, and the number of a block of it."""


class WriteQueue:
    """Stores blocks; those that come together are stored together. Belongs to the event loop's thread.

    store: stores some blocks, or gives them up; raises nothing. spawn: starts a task that ends with the cache.
    """

    def __init__(
        self,
        store: Callable[[Sequence[NewBlock]], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, object]], asyncio.Task[Any]],
    ) -> None:
        self._store = store
        self._spawn = spawn
        self._waiting: list[NewBlock] = []
        self.unwritten: dict[Key, bytes] = {}
        """Blocks that wait to be written, or are being written."""
        self._writing: asyncio.Task[Any] | None = None
        self._enough = asyncio.Event()

    def put(self, block: NewBlock) -> bool:
        """Queues the block and returns at once; False where as many wait already as may."""
        if len(self._waiting) >= _MAX_WAITING:
            return False
        self._waiting.append(block)
        self.unwritten[_key(block)] = block.data
        if len(self._waiting) >= _ENOUGH:
            self._enough.set()
        if self._writing is None:
            self._writing = self._spawn(self._write_waiting())
        return True

    def forget(self, key: Key) -> None:
        """Removes the block from the queue, if it waits."""
        self.unwritten.pop(key, None)
        self._waiting = [block for block in self._waiting if _key(block) != key]

    async def written(self, timeout: float | None = None) -> None:
        """Waits until all that was put is stored, or is given up; at most so many seconds."""
        if self._writing is not None:
            self._enough.set()
            await asyncio.wait({self._writing}, timeout=timeout)

    async def _write_waiting(self) -> None:
        try:
            while self._waiting:
                await self._gather()
                blocks, self._waiting = self._waiting, []
                await self._store(blocks)
                for block in blocks:
                    if self.unwritten.get(_key(block)) is block.data:
                        del self.unwritten[_key(block)]
        finally:
            self._writing = None

    async def _gather(self) -> None:
        """Waits for more to write in the same transaction, but not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GATHER_SECS):
                await self._enough.wait()
        self._enough.clear()


def _key(block: NewBlock) -> Key:
    return block.content.fingerprint, block.number
