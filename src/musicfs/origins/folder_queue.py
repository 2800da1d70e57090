"""The folders of a walk, listed several at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

F = TypeVar("F")
L = TypeVar("L")

_AT_ONCE = 8
"""Folders that are listed at once: a listing takes round trips, and reading what it brings takes more."""


class FolderQueue(Generic[F, L]):
    """Lists folders in the order in which a walk of one at a time would, and begins with the next ones meanwhile.

    Args:
        list: Lists one folder.
        start: The first folders.
    """

    def __init__(self, list: Callable[[F], Awaitable[L]], start: Iterable[F] = ()) -> None:
        self._list = list
        self._waiting = [*start]
        self._running: deque[tuple[F, asyncio.Task[L]]] = deque()

    def __len__(self) -> int:
        """How many folders are not listed yet."""
        return len(self._waiting)

    def add(self, folders: Iterable[F]) -> None:
        """Adds folders, which are listed before those that are waiting: the walk goes down first."""
        self._waiting += reversed([*folders])

    async def next(self) -> tuple[F, L] | None:
        """Returns the next folder and what listing it gave; None after the last. Raises as `list` does."""
        while self._waiting and len(self._running) < _AT_ONCE:
            folder = self._waiting.pop()
            self._running.append((folder, asyncio.ensure_future(self._list(folder))))
        if not self._running:
            return None
        folder, task = self._running.popleft()
        try:
            return folder, await task
        finally:
            task.cancel()

    @asynccontextmanager
    async def closing(self) -> AsyncIterator[FolderQueue[F, L]]:
        """Ends the listings that are under way at the end of the block."""
        try:
            yield self
        finally:
            tasks = [task for _, task in self._running]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
