"""Background tasks that have one owner, which ends them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class Tasks:
    """Keeps tasks until they end, and logs their failures. Belongs to the event loop's thread.

    log: of the owner. quiet: failures that are reported elsewhere.
    """

    def __init__(self, log: logging.Logger, quiet: tuple[type[BaseException], ...] = ()) -> None:
        self._log = log
        self._quiet = quiet
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        """The tasks that have not ended."""
        return iter(tuple(self._tasks))

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Starts the work. name: for the log, as in "NAME died"."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def cancel(self) -> None:
        """Cancels all tasks."""
        for task in self._tasks:
            task.cancel()

    async def wait(self, timeout: float | None = None) -> None:
        """Waits until the present tasks have ended, or `timeout` seconds. Does not raise their failures."""
        others = self._tasks - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=timeout)

    async def aclose(self, timeout: float | None = None) -> None:
        """Cancels all tasks and waits for them."""
        self.cancel()
        await self.wait(timeout)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, self._quiet):
            self._log.error("%s died", task.get_name(), exc_info=error)


class SharedCall:
    """A call that several callers may wait for at once, and that goes on when they have gone."""

    def __init__(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._call = call
        self._task: asyncio.Task[Any] | None = None

    async def __call__(self) -> None:
        """Joins the call under way, or starts one; returns when it has ended. Raises what it raises."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._call())
            self._task.add_done_callback(retrieve)
        await asyncio.shield(self._task)


def retrieve(task: asyncio.Task[Any]) -> None:
    """Retrieves the failure of an abandoned task: asyncio reports failures that no code has retrieved."""
    if not task.cancelled():
        task.exception()
