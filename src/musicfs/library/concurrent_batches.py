"""The batches of a scan that are read at the same time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any


class ConcurrentBatches:
    """Tasks that read a batch of files each. A slow link has many small ones, so their files are what is limited."""

    def __init__(self) -> None:
        self._tasks: deque[tuple[asyncio.Task[None], int]] = deque()
        self.files = 0
        """How many files the tasks have that have not ended."""

    def start(self, work: Coroutine[Any, Any, None], files: int) -> None:
        self._tasks.append((asyncio.create_task(work), files))
        self.files += files

    async def wait(self, secs: float) -> None:
        """Waits until one ends, or for `secs` seconds."""
        if self._tasks:
            await asyncio.wait([task for task, _ in self._tasks], timeout=secs, return_when=asyncio.FIRST_COMPLETED)

    def clear_ended(self) -> None:
        """Forgets the tasks that have ended. Raises what one of them raised."""
        for _ in range(len(self._tasks)):
            task, files = self._tasks.popleft()
            if not task.done():
                self._tasks.append((task, files))
                continue
            self.files -= files
            task.result()

    async def finish(self) -> None:
        """Waits until all have ended, in whatever way."""
        await asyncio.gather(*(task for task, _ in self._tasks), return_exceptions=True)

    async def aclose(self) -> None:
        """Cancels those that have not ended."""
        for task, _ in self._tasks:
            task.cancel()
        await self.finish()
