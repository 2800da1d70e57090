"""The composition root: builds the parts, starts and stops them in order, and passes news between them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from musicfs.config import Config, OriginConfig
from musicfs.content.reader import Reader
from musicfs.errors import MusicFSError
from musicfs.events import Event, EventBus, HealthChanged, ScanFinished, ScanProgress
from musicfs.federation.failover import FailoverExecutor
from musicfs.federation.health import HealthMonitor
from musicfs.federation.registry import OriginRegistry
from musicfs.federation.router import Router
from musicfs.library.database import prepare_catalog
from musicfs.library.service import Library
from musicfs.library.tree import TreeChanges
from musicfs.library.treeview import Totals, TreeView
from musicfs.library.watcher import LibraryWatcher
from musicfs.model import HealthStatus, OriginId, Replica
from musicfs.mount.filesystem import Filesystem
from musicfs.origins.base import Origin
from musicfs.origins.kinds import open_origin
from musicfs.runtime import lock_cache

log = logging.getLogger(__name__)

CATALOG = "catalog.sqlite"
_TREE_CACHE_MB = 8
_TOTALS_EVERY_SECS = 2.0
_RESTART_SECS = 5.0

OpenOrigin = Callable[[OriginConfig, bool], Origin]


def open_driver(config: OriginConfig, populated: bool) -> Origin:
    return open_origin(config, populated=populated)


class App:
    """Everything of one mount but the mount itself: origins, library, reader, filesystem.

    `running()` starts it and stops it again. open_origin makes the drivers; tests wrap them.
    """

    def __init__(self, config: Config, open_origin: OpenOrigin = open_driver) -> None:
        self.config = config
        self._open_origin = open_origin
        self.bus = EventBus()
        rng = Random()
        self.router = Router()
        self.monitor = HealthMonitor(config.health, self.bus, rng, self.router.record_latency)
        self.registry = OriginRegistry(self.router, self.monitor, self.bus)
        self.failover = FailoverExecutor(self.registry, config.retry, self.bus)
        self.reader = Reader(self.failover)
        self.started_at = time.time()
        self.scans: dict[OriginId, ScanProgress | ScanFinished] = {}
        self.on_changes: Callable[[TreeChanges], None] = lambda changes: None
        self._watchers: dict[OriginId, LibraryWatcher] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._totals_wanted = asyncio.Event()

    @property
    def catalog_path(self) -> Path:
        return self.config.cache_dir / CATALOG

    @asynccontextmanager
    async def running(self) -> AsyncIterator[App]:
        """Everything that browsing and reading need; `begin` starts what else there is to do.

        Raises `UserError` when the cache folder can't be had.
        """
        async with AsyncExitStack() as stack:
            stack.enter_context(lock_cache(self.config.cache_dir, self.config.mount_point))
            if warning := prepare_catalog(self.catalog_path):
                log.warning(warning)
            self.tree = TreeView(self.catalog_path, _TREE_CACHE_MB)
            stack.callback(self.tree.close)
            self.filesystem = Filesystem(self.tree, self.reader, self._rank)
            self.library = Library(self.config, self.catalog_path, self.bus, self._tree_changed)
            stack.push_async_callback(self.library.aclose)
            self._register_origins()
            stack.push_async_callback(self.registry.aclose)
            stack.push_async_callback(self.monitor.aclose)
            stack.push_async_callback(self.failover.aclose)
            stack.push_async_callback(self.reader.aclose)
            stack.push_async_callback(self._end_tasks)
            self.bus.listen(self._notice)
            yield self

    def begin(self) -> None:
        """Starts probes, watches and scans: what the mount does not wait for."""
        self.monitor.start()
        self._spawn(self.library.refresh(), "refresh")
        self._totals_wanted.set()
        self._spawn(self._keep_running(self._keep_totals, "counting the tree"), "totals")
        for origin, watcher in self._watchers.items():
            self._spawn(self._keep_running(watcher.run, f"the watcher of origin {origin}"), f"watcher {origin}")

    def _register_origins(self) -> None:
        populated = self.tree.populated()
        for config in self.config.origins:
            if not config.enabled:
                continue
            try:
                origin = self._open_origin(config, config.id in populated)
            except MusicFSError as error:
                # The others can still play; what this one holds stays in the tree.
                log.error("%s", error)  # noqa: TRY400 (a sentence, not a traceback)
                continue
            self.registry.register(
                origin,
                config.priority,
                timeout_ms=config.timeout_ms,
                metered=config.metered,
                hedge=config.hedge,
            )
            register_watch = partial(self.registry.register_watch, origin.id)
            self._watchers[origin.id] = LibraryWatcher(origin, self.library, register_watch, config.poll_interval_secs)

    def rescan(self, origin: OriginId) -> int:
        """Has the origin scanned soon; returns the number that `LibraryWatcher.ended` reaches once it is.

        Raises KeyError when there is no such origin.
        """
        return self._watchers[origin].ask()

    def watcher(self, origin: OriginId) -> LibraryWatcher | None:
        """Who scans the origin; None for one that does not take part."""
        return self._watchers.get(origin)

    async def accept_removals(self, origin: OriginId) -> int:
        """Lets the origin's next scan, which this asks for, remove what is gone. As `rescan` otherwise."""
        watcher = self._watchers[origin]
        await self.library.accept_removals(origin)
        return watcher.ask()

    def _rank(self, replicas: Sequence[Replica]) -> list[OriginId]:
        return [candidate.replica.origin for candidate in self.registry.route_all(replicas)]

    def _notice(self, event: Event) -> None:
        for watcher in self._watchers.values():
            watcher.notice(event)
        match event:
            case ScanProgress(origin=origin) | ScanFinished(origin=origin):
                self.scans[origin] = event
            case HealthChanged(origin, before, after, _) if HealthStatus.UNHEALTHY in (before, after):
                reachable = after is not HealthStatus.UNHEALTHY
                self._spawn(self._set_reachable(origin, reachable), "reachable")

    async def _set_reachable(self, origin: OriginId, reachable: bool) -> None:
        with contextlib.suppress(MusicFSError):
            await self.library.set_reachable(origin, reachable)

    def _tree_changed(self, changes: TreeChanges) -> None:
        self.tree.refresh()
        if changes:
            self._totals_wanted.set()
            self.on_changes(changes)

    async def _keep_totals(self) -> None:
        """Counts the tree now and then, on a connection and a thread of its own: it reads every node."""
        loop = asyncio.get_running_loop()
        while True:
            await self._totals_wanted.wait()
            self._totals_wanted.clear()
            self.filesystem.totals = await loop.run_in_executor(None, self._count)
            await asyncio.sleep(_TOTALS_EVERY_SECS)

    def _count(self) -> Totals:
        view = TreeView(self.catalog_path, 1)
        try:
            return view.totals()
        finally:
            view.close()

    async def _keep_running(self, run: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Runs what is never to end; if it dies all the same, that is logged and it is started again."""
        while True:
            try:
                await run()
            except Exception:
                log.exception("%s died; it is started again", name)
            await asyncio.sleep(_RESTART_SECS)

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the task %r died", task.get_name(), exc_info=error)

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
