"""The composition root: builds the parts, starts and stops them in order, and passes news between them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

from musicfs.app.live_config import ConfigSource, Reconfiguring
from musicfs.app.membership import Membership, OpenOrigin, Run
from musicfs.cache.disk import discard
from musicfs.cache.store import BlockStore
from musicfs.catalog.database import CATALOG, prepare_catalog
from musicfs.catalog.queries import ContentPages, count_replicas, find_contents, path_of
from musicfs.catalog.view import TreeView
from musicfs.config.kinds import find_kind, open_origin
from musicfs.config.models import Config, OriginConfig, settle_links
from musicfs.content.checksums import Checksums
from musicfs.content.open_content import OpenContent
from musicfs.content.reader import Reader
from musicfs.errors import MusicFSError, UsageError
from musicfs.events import (
    AllOriginsUnhealthy,
    CacheResumed,
    CacheStopped,
    Event,
    EventBus,
    FailedOver,
    HealthChanged,
    HedgeWon,
    History,
    OriginRegistered,
    OriginUnregistered,
    PinCompleted,
    ReplicaQuarantined,
    ReplicasDisagree,
    ScanFinished,
    ScanProgress,
    ScrubFinished,
    ScrubMismatch,
)
from musicfs.federation.failover import FailoverExecutor
from musicfs.federation.health import HealthMonitor
from musicfs.federation.registry import OriginRegistry
from musicfs.federation.router import Router
from musicfs.library.client import Library
from musicfs.library.tree import TreeChanges
from musicfs.library.watcher import LibraryWatcher
from musicfs.maintenance.cache_check import CacheCheck
from musicfs.maintenance.pins import Pins
from musicfs.maintenance.scrub import Scrub, ScrubQueries
from musicfs.model import HealthStatus, OriginId, Replica
from musicfs.mount.filesystem import Filesystem
from musicfs.mount.variants import Variants
from musicfs.origin import Origin
from musicfs.system.linux import give_memory_back
from musicfs.system.runtime import lock_cache
from musicfs.system.tasks import Tasks

log = logging.getLogger(__name__)

DRAIN_SECS = 5.0
"""How long the reads under way may go on when the mount is told to end."""
CHECKSUMS = "checksums.sqlite"
PINS = "pins.sqlite"
COMPARED = "verify.sqlite"
_TREE_CACHE_MB = 8
_RESTART_SECS = 5.0
_TIDY_SECS = 60.0
_SWITCHING_SECS = 5.0
_REMEMBERED = (
    HealthChanged, AllOriginsUnhealthy, FailedOver, HedgeWon, ReplicaQuarantined, ReplicasDisagree, OriginRegistered,
    OriginUnregistered, CacheStopped, CacheResumed, PinCompleted, ScrubMismatch, ScrubFinished,
)  # fmt: skip


def open_driver(config: OriginConfig, populated: bool) -> Origin:
    return open_origin(config, populated=populated)


def kept(config: Config) -> set[OriginId]:
    """The origins whose bytes are kept in the cache on disk: where nothing is said, the remote ones."""
    ids = set()
    for origin in config.origins:
        with contextlib.suppress(UsageError):  # of a kind that is not installed: it does not take part
            if find_kind(origin.origin_type).remote if origin.cache is None else origin.cache:
                ids.add(origin.id)
    return ids


class App:
    """Everything of one mount but the mount itself: origins, library, reader, filesystem.

    `running()` starts it and stops it again. open_origin makes the drivers; tests wrap them. source: where the
    configuration is read again.
    """

    def __init__(
        self, config: Config, open_origin: OpenOrigin = open_driver, source: ConfigSource | None = None
    ) -> None:
        self.config = settle_links(config)
        self.reconfiguring = Reconfiguring(lambda: self.config, self.apply, source)
        self._open_origin = open_origin
        self.bus = EventBus()
        self.history = History(_REMEMBERED)
        self.bus.listen(self.history.note)
        rng = Random()
        self.router = Router()
        self.monitor = HealthMonitor(config.health, self.bus, rng, self.router.record_latency)
        self.registry = OriginRegistry(self.router, self.monitor, self.bus)
        self.failover = FailoverExecutor(self.registry, config.retry, self.bus)
        limit = int(config.cache.content_cache_gb * 10**9)
        self.store = BlockStore(config.cache_dir, limit, self.bus) if limit else None
        """The cache on disk; None where the configuration wants none."""
        self.verification = CacheCheck(self.store) if self.store is not None else None
        self._kept = kept(config)
        self.checksums = Checksums(config.cache_dir / CHECKSUMS)
        self.reader = Reader(
            self.failover,
            store=self.store,
            kept=self._kept.__contains__,
            checksums=self.checksums,
            before=lambda content: self.tree.predecessors(content),
        )
        self.pins = self._make_pins(self.store) if self.store is not None else None
        self.comparison = self._make_comparison()
        self.started_at = time.time()
        self.scans: dict[OriginId, ScanProgress | ScanFinished] = {}
        self.on_changes: Callable[[TreeChanges], None] = lambda changes: None
        self._changing = asyncio.Lock()
        self._tasks = Tasks(log)

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
            self.tree = TreeView.open(self.catalog_path, _TREE_CACHE_MB)
            stack.callback(self.tree.close)
            self.checksums.start(self.registry.quarantined)
            stack.push_async_callback(self.checksums.aclose)
            if self.store is not None:
                stack.push_async_callback(self.store.aclose)
                await self.store.start()
                assert self.verification is not None
                stack.push_async_callback(self.verification.aclose)
                assert self.pins is not None
                await self.pins.start()
            else:
                await asyncio.get_running_loop().run_in_executor(None, discard, self.config.cache_dir)
            await self.comparison.start()
            stack.push_async_callback(self.comparison.aclose)
            shared = self.config.mount.allow_other
            variants = Variants(self.tree, self.registry, self._is_cached, self._tell_reachable)
            self.filesystem = Filesystem(self.tree, self.reader, self._rank, self.store, variants, owners=shared)
            self.filesystem.totals = self.tree.totals()
            self.library = Library(self.config, self.catalog_path, self.bus, self._tree_changed)
            stack.push_async_callback(self.library.aclose)
            self._members = Membership(self.registry, self.library, self._open_origin, self._run_for_ever)
            self._members.open(self.config.origins, self.tree.populated())
            stack.push_async_callback(self.registry.aclose)
            stack.push_async_callback(self.monitor.aclose)
            stack.push_async_callback(self.failover.aclose)
            stack.push_async_callback(self.reader.aclose)
            stack.push_async_callback(self._tasks.aclose)
            self.bus.listen(self._notice)
            yield self

    def begin(self) -> None:
        """Starts probes, watches and scans: what the mount does not wait for."""
        self.monitor.start()
        self._tasks.spawn(self.library.refresh(), "refresh")
        self._members.begin()
        if self.pins is not None:
            self._run_for_ever(self.pins.run, "pins")
        self._run_for_ever(self.comparison.work, "comparison")
        self._run_for_ever(self._tidy, "tidying")

    async def apply(self, wanted: Config) -> None:
        """Makes this the configuration, as far as it may change while mounted: origins, health and retry settings.

        The other settings of `wanted` are left out of account. Raises `MusicFSError`, and has changed nothing then, if
        an origin can't be opened.
        """
        async with self._changing:
            wanted = settle_links(wanted.model_copy(update={"mount": self.config.mount}))
            if wanted.origins != self.config.origins:
                await self._members.change(self.config.origins, wanted.origins, self.tree.populated())
            if wanted.health != self.config.health:
                self.monitor.configure(wanted.health)
            if wanted.retry != self.config.retry:
                self.failover.configure(wanted.retry)
            changed = {"origins": wanted.origins, "health": wanted.health, "retry": wanted.retry}
            self.config = self.config.model_copy(update=changed)
            self._kept.clear()
            self._kept.update(kept(self.config))

    def rescan(self, origin: OriginId) -> int:
        """Has the origin scanned soon; returns the number that `LibraryWatcher.ended` reaches once it is.

        Raises KeyError when there is no such origin.
        """
        return self._watcher(origin).ask()

    def watcher(self, origin: OriginId) -> LibraryWatcher | None:
        """Who scans the origin; None for one that does not take part."""
        return self._members.watcher(origin)

    def _watcher(self, origin: OriginId) -> LibraryWatcher:
        watcher = self._members.watcher(origin)
        if watcher is None:
            raise KeyError(origin)
        return watcher

    async def accept_removals(self, origin: OriginId) -> int:
        """Lets the origin's next scan, which this asks for, remove what is gone. As `rescan` otherwise."""
        watcher = self._watcher(origin)
        await self.library.accept_removals(origin)
        return watcher.ask()

    def _make_pins(self, store: BlockStore) -> Pins:
        return Pins(
            self.config.cache_dir / PINS,
            store,
            self.reader,
            self.bus,
            lambda paths, fingerprints: find_contents(self.catalog_path, paths, fingerprints),
            lambda content: self.tree.replicas(content),
            self._available,
        )

    def _make_comparison(self) -> Scrub:
        catalogue = ScrubQueries(
            lambda path: count_replicas(self.catalog_path, path),
            lambda path: ContentPages(self.catalog_path, path),
            lambda content: path_of(self.catalog_path, content),
            lambda content: self.tree.replicas(content),
        )
        return Scrub(self.config.cache_dir / COMPARED, catalogue, self.reader, self.registry, self.bus)

    def _available(self, replicas: Sequence[Replica]) -> bool:
        """Whether any of them is at an origin that is not known to be away."""
        ranked = self.registry.route_all(replicas)
        return any(self.monitor.state(each.replica.origin).status is not HealthStatus.UNHEALTHY for each in ranked)

    def _rank(self, replicas: Sequence[Replica]) -> list[OriginId]:
        return [candidate.replica.origin for candidate in self.registry.route_all(replicas)]

    def _is_cached(self, opened: OpenContent) -> bool:
        return self.store is not None and self.store.share(opened.content) >= 1

    async def _tell_reachable(self, origins: Collection[OriginId]) -> None:
        """Has the tree know which of these are away; gives up if that takes too long for whoever waits."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SWITCHING_SECS):
                await asyncio.gather(*map(self._tell_whether_reachable, origins))

    def _notice(self, event: Event) -> None:
        self._members.notice(event)
        if self.pins is not None and isinstance(event, HealthChanged | CacheResumed):
            self.pins.wake(stale=isinstance(event, CacheResumed))
        match event:
            case ScanProgress(origin=origin) | ScanFinished(origin=origin):
                self.scans[origin] = event
            case OriginUnregistered(origin):
                self.scans.pop(origin, None)
            case HealthChanged(origin, before, after, _) if HealthStatus.UNHEALTHY in (before, after):
                self._tasks.spawn(self._tell_whether_reachable(origin), "reachable")

    async def _tell_whether_reachable(self, origin: OriginId) -> None:
        """As it is by now, so that of two that tell of one origin the last is right."""
        with contextlib.suppress(MusicFSError):
            await self.library.set_reachable(origin, not self.registry.health().is_unhealthy(origin))

    def _tree_changed(self, changes: TreeChanges) -> None:
        self.tree.refresh()
        if changes:
            self.filesystem.totals = self.tree.totals()
            self.on_changes(changes)
            if self.pins is not None:
                self.pins.wake(stale=True)

    async def _tidy(self) -> None:
        """Blocks come and go while music plays; what the C library keeps of them is tens of megabytes after a while."""
        before = 0
        while True:
            await asyncio.sleep(_TIDY_SECS)
            read = self.filesystem.counts.read_bytes
            if read != before and not self.reader.busy:
                before = read
                await asyncio.to_thread(give_memory_back)

    async def _keep_running(self, run: Run, name: str) -> None:
        """Runs what is never to end; if it dies all the same, that is logged and it is started again."""
        while True:
            try:
                await run()
            except Exception:
                log.exception("%s died; it is started again", name)
            await asyncio.sleep(_RESTART_SECS)

    def _run_for_ever(self, run: Run, name: str) -> asyncio.Task[None]:
        return self._tasks.spawn(self._keep_running(run, name), name)
