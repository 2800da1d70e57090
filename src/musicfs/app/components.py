"""The parts of one running mount."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from musicfs.app.background import BackgroundTasks
from musicfs.app.current_config import ConfigApplier, CurrentConfig
from musicfs.app.live_config import LiveConfig
from musicfs.app.membership import Membership
from musicfs.app.reachability import Reachability
from musicfs.app.tree_updates import TreeUpdates
from musicfs.cache.store import BlockStore
from musicfs.catalog.view import TreeView
from musicfs.content.checksums import Checksums
from musicfs.content.reader import Reader
from musicfs.events import EventBus, History
from musicfs.federation.failover import FailoverExecutor
from musicfs.federation.places import Places
from musicfs.federation.registry import OriginRegistry
from musicfs.library.client import Library
from musicfs.maintenance.cache_check import CacheCheck
from musicfs.maintenance.pins import Pins
from musicfs.maintenance.scrub import Scrub
from musicfs.maintenance.witness_sweep import WitnessSweep
from musicfs.mount.filesystem import Filesystem

DRAIN_SECS = 5.0
"""How long reads under way may last when the mount ends."""


@dataclass(frozen=True, slots=True)
class Components:
    """Everything of one mount but the FUSE session. `musicfs.app.app` makes it; each part takes what it uses.

    Args:
        started_at: Seconds since the epoch.
        catalog: The path of the catalogue's database.
        store: The block cache on disk; None when the configuration has no cache on disk.
        cache_check: None without `store`.
        pins: None without `store`.
    """

    started_at: float
    catalog: Path
    config: CurrentConfig
    applier: ConfigApplier
    live_config: LiveConfig
    bus: EventBus
    history: History
    registry: OriginRegistry
    places: Places
    failover: FailoverExecutor
    store: BlockStore | None
    checksums: Checksums
    reader: Reader
    tree: TreeView
    tree_updates: TreeUpdates
    library: Library
    reachability: Reachability
    membership: Membership
    filesystem: Filesystem
    cache_check: CacheCheck | None
    pins: Pins | None
    scrub: Scrub
    witness_sweep: WitnessSweep
    background: BackgroundTasks
