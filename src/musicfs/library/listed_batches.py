"""The files that an origin lists, in batches, while the listing goes on; and an end to listings without news."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator

from musicfs.errors import OriginFailed, OriginFault
from musicfs.library.ignore_rules import MARKERS
from musicfs.library.scan_observer import LibraryObserver
from musicfs.model import OriginId, Stat
from musicfs.origins.bounds import MAX_FILES, MAX_NAMES
from musicfs.problems import Problem, Reason
from musicfs.system.tasks import retrieve

BATCH = 500
_BATCH_SECS = 0.1
"""After this time, files that a slow listing has returned are processed while the listing continues."""
_QUIET_SECS = 1.0
_ENDING_SECS = 1.0
PATIENCE_SECS = 120.0
"""A listing that brings no new file and no new folder for so long is given up. Drivers give up sooner."""


class ListedBatches:
    """One listing.

    Args:
        origin: For errors.
        stats: The listing.
        observer: Learns of marker files, and counts the folders.
    """

    def __init__(self, origin: OriginId, stats: AsyncIterator[Stat], observer: LibraryObserver) -> None:
        self._origin = origin
        self._stats = stats
        self._observer = observer
        self._files = 0
        self._folder = ""
        self._in_folder = 0
        self._batch: list[Stat] = []
        """What is not in the queue yet."""
        self._queue: asyncio.Queue[list[Stat] | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(1)

    async def batches(self) -> AsyncGenerator[list[Stat], None]:
        """Yields the files; an empty list after each second without any, so that the caller can do other work.

        Raises what the listing raises, and OriginFailed when it brings nothing new for PATIENCE_SECS.
        """
        listing = asyncio.create_task(self._list_all())
        listing.add_done_callback(lambda _: self._queue.put_nowait(None))
        heard, waited, began = self._heard(), 0.0, time.monotonic()
        try:
            while (batch := await self._next()) is not None:
                waited = 0.0 if heard != self._heard() else waited + time.monotonic() - began
                if waited >= PATIENCE_SECS:
                    detail = f"its listing has brought nothing new for {PATIENCE_SECS:.0f} s"
                    raise OriginFailed(self._origin, OriginFault.TIMEOUT, detail)
                heard = self._heard()
                yield batch
                began = time.monotonic()  # what the caller does meanwhile is no fault of the origin
            if self._batch:  # the listing has failed, which says nothing about what it listed before
                yield self._batch
            await listing
        finally:
            listing.cancel()
            listing.add_done_callback(retrieve)
            await asyncio.wait({listing}, timeout=_ENDING_SECS)

    def _heard(self) -> tuple[int, int]:
        return self._files, self._observer.heard

    async def _next(self) -> list[Stat] | None:
        try:
            async with asyncio.timeout(_QUIET_SECS):
                batch = await self._queue.get()
        except TimeoutError:
            batch, self._batch = self._batch, []
            return batch
        self._room.release()
        return batch

    async def _list_all(self) -> None:
        since = time.monotonic()
        async for stat in self._stats:
            if not self._counts(stat.path):
                continue
            self._batch.append(stat)
            if stat.path.endswith(MARKERS):
                await self._observer.mark(stat)
            if len(self._batch) >= BATCH or (time.monotonic() >= since + _BATCH_SECS and self._queue.empty()):
                await self._put()
                since = time.monotonic()
        await self._put()

    def _counts(self, path: str) -> bool:
        """Whether a file is within the bounds of its folder and of the origin."""
        folder = path.rpartition("/")[0]
        if folder != self._folder:
            self._folder, self._in_folder = folder, 0
        self._in_folder += 1
        if self._in_folder > MAX_NAMES:
            if self._in_folder == MAX_NAMES + 1:
                self._observer.report(Problem(folder, Reason.BIG_FOLDER, f"it has more than {MAX_NAMES} entries"))
            return False
        self._files += 1
        if self._files > MAX_FILES:
            raise OriginFailed(self._origin, OriginFault.IO, f"it lists more than {MAX_FILES} files")
        return True

    async def _put(self) -> None:
        batch, self._batch = self._batch, []
        await self._room.acquire()
        self._queue.put_nowait(batch)
