"""The background tasks of one mount."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from musicfs.catalog.view import TreeView
from musicfs.content.reader import Reader
from musicfs.mount.filesystem import Filesystem
from musicfs.system.linux import give_memory_back
from musicfs.system.tasks import Tasks

log = logging.getLogger(__name__)

T = TypeVar("T")
Run = Callable[[], Coroutine[Any, Any, None]]

_RESTART_SECS = 5.0
_MEMORY_SECS = 10.0
_LOOKS_BETWEEN_REQUESTS = 6


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


async def return_memory(filesystem: Filesystem, reader: Reader, tree: TreeView) -> None:
    """Returns unused memory to the system while no read waits: soon after the last request, and once a minute between
    requests. Never ends.

    Blocks come and go while music plays; after a while the C library keeps tens of megabytes of them. The start of a
    mount leaves some megabytes, too, and a walk through the tree fills the memory for the catalogue's pages.
    """
    returned, before, looks = -1, filesystem.counts.total(), 0
    while True:
        await asyncio.sleep(_MEMORY_SECS)
        looks += 1
        now = filesystem.counts.total()
        at_rest = now == before
        before = now
        if now == returned or reader.busy or not (at_rest or looks % _LOOKS_BETWEEN_REQUESTS == 0):
            continue
        if at_rest:
            returned = now
            tree.release_memory()
        await asyncio.to_thread(give_memory_back)
