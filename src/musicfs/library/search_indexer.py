"""Keeps the search index up to date with the catalogue: in the library worker, after the tree."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from musicfs.catalog.search_index import SearchIndex
from musicfs.catalog.writer import Catalog
from musicfs.system.sqlite import SqliteError, is_damage
from musicfs.system.tasks import Tasks

log = logging.getLogger(__name__)

_AT_ONCE = 200
_PAUSE = 0.5
"""Of the time that a batch took: a scan that goes on meanwhile comes first."""
_AGAIN_SECS = 60.0
"""After a failure of the disk."""


class SearchIndexer:
    """Takes what has changed into the search index, in batches, in the background.

    An index that can't be written costs searches and nothing else. All calls belong to the event loop's thread, which
    is the catalogue's writer; the index is written in another.
    """

    def __init__(self, catalog: Catalog, path: Path) -> None:
        """path: of the index."""
        self._catalog = catalog
        self._path = path
        self._index = SearchIndex(path)
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._tasks = Tasks(log)

    def start(self) -> None:
        self._changed.set()
        self._tasks.spawn(self._run(), "the search indexer")

    def changed(self) -> None:
        """The catalogue has changed: call it after each commit that may have changed tags."""
        self._changed.set()

    async def finish(self) -> None:
        """Waits until the index has what the catalogue has now, or until it can't be written."""
        self._idle.clear()
        self._changed.set()
        await self._idle.wait()

    async def aclose(self) -> None:
        await self._tasks.aclose()
        self._index.close()

    async def _run(self) -> None:
        is_open = False
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                if not is_open:
                    await self._open()
                    is_open = True
                await self._take_all()
                self._idle.set()
            except SqliteError as error:
                is_open = False
                self._index.close()
                if is_damage(error):
                    self._changed.set()
                    continue
                log.warning("the search index %s can't be written (%s); searches lack what is new", self._path, error)
                self._idle.set()
                await asyncio.sleep(_AGAIN_SECS)
                self._changed.set()

    async def _open(self) -> None:
        damage = await asyncio.to_thread(self._index.open)
        if damage is not None:
            log.warning("the search index %s was damaged (%s); it is made again", self._path, damage.error)
        with self._catalog.transaction():
            mark = self._catalog.search.mark()
        if await asyncio.to_thread(self._index.belongs_to, mark):
            return
        with self._catalog.transaction():
            self._catalog.search.add_all()
        await asyncio.to_thread(self._index.begin, mark)

    async def _take_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            pending = self._catalog.search.oldest(_AT_ONCE)
            if not pending.tracks:
                return
            began = loop.time()
            await asyncio.to_thread(self._index.update, pending.tracks)
            with self._catalog.transaction():
                self._catalog.search.clear(pending.last)
            await asyncio.sleep(_PAUSE * (loop.time() - began))
