"""The background tasks of one mount."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from musicfs.content.reader import Reader
from musicfs.mount.filesystem import Filesystem
from musicfs.system.linux import give_memory_back
from musicfs.system.tasks import Tasks

log = logging.getLogger(__name__)

T = TypeVar("T")
Run = Callable[[], Coroutine[Any, Any, None]]

_RESTART_SECS = 5.0
_MEMORY_SECS = 60.0


class BackgroundTasks:
    """Owns every background task of a mount, and ends them together. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._tasks = Tasks(log)

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Starts work that ends by itself. A failure is logged under `name`."""
        return self._tasks.spawn(work, name)

    def keep_running(self, run: Run, name: str) -> asyncio.Task[None]:
        """Starts work that never ends. When it fails or returns, it is started again after 5 s."""
        return self._tasks.spawn(_keep_running(run, name), name)

    async def aclose(self) -> None:
        await self._tasks.aclose()


async def _keep_running(run: Run, name: str) -> None:
    while True:
        try:
            await run()
        except Exception:
            log.exception("%s failed and is started again", name)
        await asyncio.sleep(_RESTART_SECS)


async def return_memory(filesystem: Filesystem, reader: Reader) -> None:
    """Returns unused memory to the system, once a minute, while no read waits. Never ends.

    Blocks come and go while music plays; after a while the C library keeps tens of megabytes of them.
    """
    before = 0
    while True:
        await asyncio.sleep(_MEMORY_SECS)
        read = filesystem.counts.read_bytes
        if read != before and not reader.busy:
            before = read
            await asyncio.to_thread(give_memory_back)
