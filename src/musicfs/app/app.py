"""The composition root: builds the parts of a mount, and starts and stops them in order."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random

from musicfs.app.background import BackgroundTasks, return_memory
from musicfs.app.components import Components
from musicfs.app.current_config import ConfigApplier, CurrentConfig
from musicfs.app.live_config import ConfigSource, LiveConfig
from musicfs.app.membership import Membership, OpenOrigin
from musicfs.app.reachability import Reachability
from musicfs.app.tree_updates import TreeUpdates
from musicfs.cache.disk import discard
from musicfs.cache.store import BlockStore
from musicfs.catalog.database import CATALOG, prepare_catalog
from musicfs.catalog.queries import ContentPages, count_replicas, find_contents, path_of, shared_contents
from musicfs.catalog.view import TreeView
from musicfs.config.kinds import open_origin
from musicfs.config.models import Config, OriginConfig, settle_links
from musicfs.content.checksums import Checksums
from musicfs.content.circles import Circles
from musicfs.content.open_content import OpenContent
from musicfs.content.reader import Reader
from musicfs.content.replica_lookup import ReplicaLookup
from musicfs.events import (
    AllOriginsUnhealthy,
    CacheResumed,
    CacheStopped,
    CopiesDiffer,
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
    ScrubFinished,
    ScrubMismatch,
)
from musicfs.federation.failover import FailoverExecutor
from musicfs.federation.health import HealthMonitor
from musicfs.federation.places import Places
from musicfs.federation.registry import OriginRegistry
from musicfs.federation.router import Router
from musicfs.library.client import Library
from musicfs.library.tree_changes import TreeChanges
from musicfs.maintenance.cache_check import CacheCheck
from musicfs.maintenance.pins import Pins
from musicfs.maintenance.scrub import Scrub, ScrubQueries
from musicfs.maintenance.witness_sweep import WitnessSweep
from musicfs.model import Content
from musicfs.mount.filesystem import Filesystem
from musicfs.mount.variants import Variants
from musicfs.origin import Origin
from musicfs.system.runtime import lock_cache
from musicfs.system.wakes import Wakes
from musicfs.tags.fingerprint import SMALL

log = logging.getLogger(__name__)

CHECKSUMS = "checksums.sqlite"
PINS = "pins.sqlite"
SCRUB = "verify.sqlite"
_TREE_CACHE_MB = 8
_REMEMBERED = (
    HealthChanged, AllOriginsUnhealthy, FailedOver, HedgeWon, ReplicaQuarantined, ReplicasDisagree, CopiesDiffer,
    OriginRegistered, OriginUnregistered, CacheStopped, CacheResumed, PinCompleted, ScrubMismatch, ScrubFinished,
)  # fmt: skip


def open_driver(config: OriginConfig, populated: bool) -> Origin:
    return open_origin(config, populated=populated)


@asynccontextmanager
async def running(
    config: Config, open_origin: OpenOrigin = open_driver, source: ConfigSource | None = None
) -> AsyncIterator[Components]:
    """Builds everything that browsing and reading need, and stops it in the end. `begin` starts the rest.

    Args:
        config: The configuration of the mount.
        open_origin: Makes the drivers; tests wrap them.
        source: Where the configuration can be read again; None: nowhere.

    Raises:
        UserError: The cache folder can't be used.
    """
    config = settle_links(config)
    catalog = config.cache_dir / CATALOG
    wakes = Wakes()
    async with AsyncExitStack() as stack:
        stack.enter_context(lock_cache(config.cache_dir, config.mount_point))
        if warning := prepare_catalog(catalog):
            log.warning(warning)
        tree = TreeView.open(catalog, _TREE_CACHE_MB)
        stack.callback(tree.close)
        parts = _build(config, tree, open_origin, source)
        await _start(parts, stack)
        _follow(wakes, parts)
        wakes.start()
        stack.callback(wakes.stop)
        yield parts


def begin(parts: Components) -> None:
    """Starts probes, watches and scans: the work that the mount does not wait for."""
    parts.registry.monitor.start()
    parts.background.spawn(parts.library.refresh(), "the refresh of the library")
    parts.membership.begin()
    if parts.pins is not None:
        parts.background.keep_running(parts.pins.run, "the fetching of pins")
    parts.background.keep_running(parts.scrub.work, "the scrub")
    parts.background.keep_running(parts.witness_sweep.work, "the comparison of copies")
    parts.background.keep_running(
        partial(return_memory, parts.filesystem, parts.reader, parts.tree), "the return of memory"
    )


def _build(config: Config, tree: TreeView, open_origin: OpenOrigin, source: ConfigSource | None) -> Components:
    current = CurrentConfig(config)
    catalog = config.cache_dir / CATALOG
    bus, history, background = EventBus(), History(_REMEMBERED), BackgroundTasks()
    bus.listen(history.record)
    marker = f".musicfs-{secrets.token_hex(8)}"
    places = Places(marker)
    registry = _registry(config, bus, places)
    failover = FailoverExecutor(registry, config.retry, bus)
    store = _store(config, bus)
    checksums = Checksums(config.cache_dir / CHECKSUMS)
    kept = current.cached_origins.__contains__
    tree_updates = TreeUpdates(tree)
    library = Library(config, catalog, bus, tree_updates.publish, marker)
    reachability = Reachability(registry, library, background.spawn)
    membership = Membership(registry, library, open_origin, background.keep_running)
    circles = Circles(failover, checksums)
    lookup = ReplicaLookup(failover, tree.copies, membership.scan_now, circles.divide)
    reader = Reader(
        failover, store=store, kept=kept, checksums=checksums, before=tree.predecessors, lookup=lookup, circles=circles
    )
    tree.files.on_read = reader.expect
    applier = ConfigApplier(current, membership, registry.monitor, failover, tree)
    return Components(
        started_at=time.time(),
        catalog=catalog,
        config=current,
        applier=applier,
        live_config=LiveConfig(current, applier.apply, source),
        bus=bus,
        history=history,
        registry=registry,
        places=places,
        failover=failover,
        store=store,
        checksums=checksums,
        reader=reader,
        tree=tree,
        tree_updates=tree_updates,
        library=library,
        reachability=reachability,
        membership=membership,
        filesystem=_filesystem(config, tree, reader, store, registry, reachability, marker),
        cache_check=None if store is None else CacheCheck(store),
        pins=None if store is None else _pins(config, tree, reader, store, bus, reachability),
        scrub=_scrub(config, tree, reader, registry, bus),
        witness_sweep=_witness_sweep(catalog, tree, circles, reader),
        background=background,
    )


def _registry(config: Config, bus: EventBus, places: Places) -> OriginRegistry:
    router = Router()
    monitor = HealthMonitor(config.health, bus, Random(), router.record_latency, places.health)
    return OriginRegistry(router, monitor, bus)


def _store(config: Config, bus: EventBus) -> BlockStore | None:
    limit = int(config.cache.content_cache_gb * 10**9)
    return BlockStore(config.cache_dir, limit, bus) if limit else None


def _filesystem(
    config: Config,
    tree: TreeView,
    reader: Reader,
    store: BlockStore | None,
    registry: OriginRegistry,
    reachability: Reachability,
    marker: str,
) -> Filesystem:
    def is_cached(opened: OpenContent) -> bool:
        return store is not None and store.share(opened.content) >= 1

    variants = Variants(tree, registry, is_cached, reachability.report)
    return Filesystem(tree, reader, reachability.rank, store, variants, owners=config.mount.allow_other, marker=marker)


def _pins(
    config: Config, tree: TreeView, reader: Reader, store: BlockStore, bus: EventBus, reachability: Reachability
) -> Pins:
    find = partial(find_contents, config.cache_dir / CATALOG)
    return Pins(config.cache_dir / PINS, store, reader, bus, find, tree.replicas, reachability.is_available)


def _scrub(config: Config, tree: TreeView, reader: Reader, registry: OriginRegistry, bus: EventBus) -> Scrub:
    catalog = config.cache_dir / CATALOG
    queries = ScrubQueries(
        partial(count_replicas, catalog), partial(ContentPages, catalog), partial(path_of, catalog), tree.replicas
    )
    return Scrub(config.cache_dir / SCRUB, queries, reader, registry, bus)


def _witness_sweep(catalog: Path, tree: TreeView, circles: Circles, reader: Reader) -> WitnessSweep:
    async def shared(above: int, most: int) -> list[Content]:
        return await asyncio.to_thread(shared_contents, catalog, SMALL, above, most)

    return WitnessSweep(shared, tree.replicas, circles, reader)


async def _start(parts: Components, stack: AsyncExitStack) -> None:
    """Starts the parts in order. stack: stops them in the opposite order."""
    config = parts.config.value
    parts.checksums.start(parts.registry.quarantined)
    stack.push_async_callback(parts.checksums.aclose)
    await _start_cache(parts, config.cache_dir, stack)
    await parts.scrub.start()
    stack.push_async_callback(parts.scrub.aclose)
    parts.filesystem.totals = parts.tree.totals()
    stack.push_async_callback(parts.library.aclose)
    parts.membership.open(config.origins, parts.tree.populated())
    stack.push_async_callback(parts.registry.aclose)
    stack.push_async_callback(parts.registry.monitor.aclose)
    stack.push_async_callback(parts.failover.aclose)
    stack.push_async_callback(parts.reader.aclose)
    stack.push_async_callback(parts.background.aclose)
    _connect(parts)


def _follow(wakes: Wakes, parts: Components) -> None:
    """After a sleep of the machine: first new connections, then what was under way again, over them."""
    wakes.listen(parts.registry.drop_connections)
    wakes.listen(parts.failover.interrupt)
    wakes.listen(parts.registry.monitor.interrupt)


async def _start_cache(parts: Components, cache_dir: Path, stack: AsyncExitStack) -> None:
    if parts.store is None:
        await asyncio.to_thread(discard, cache_dir)
        return
    stack.push_async_callback(parts.store.aclose)
    await parts.store.start()
    assert parts.cache_check is not None
    stack.push_async_callback(parts.cache_check.aclose)
    assert parts.pins is not None
    await parts.pins.start()


def _connect(parts: Components) -> None:
    """Passes events and changes of the tree to the parts that react to them."""

    def count_files(_: TreeChanges) -> None:
        parts.filesystem.totals = parts.tree.totals()

    parts.bus.listen(parts.membership.notice)
    parts.bus.listen(parts.witness_sweep.notice)
    parts.bus.listen(parts.reachability.notice)
    parts.tree_updates.listen(count_files)
    if (pins := parts.pins) is not None:
        parts.bus.listen(pins.notice)
        parts.tree_updates.listen(lambda _: pins.wake(stale=True))
