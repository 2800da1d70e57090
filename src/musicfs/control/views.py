"""The answers of the control API, as plain values for JSON. docs/CLI.md describes every key."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import musicfs
from musicfs.app.current_config import CurrentConfig
from musicfs.app.membership import Membership
from musicfs.cache.store import BlockStore, CacheFailed
from musicfs.catalog.problem_list import ProblemCount, count_problems
from musicfs.catalog.view import OriginRow, TreeTotals, TreeView
from musicfs.config.models import OriginConfig
from musicfs.config.sources import SECRET_KEYS
from musicfs.control.availability import Availability, AvailabilityCounter
from musicfs.events import ScanFinished, ScanProgress
from musicfs.federation.health_state import OriginHealthState
from musicfs.federation.places import Places
from musicfs.federation.registry import OriginRegistry
from musicfs.model import Fingerprint, HealthStatus, OriginId
from musicfs.mount.filesystem import Filesystem

Json = dict[str, Any]

_COUNT_CACHE_SECS = 10.0


@dataclass(frozen=True, slots=True)
class Counts:
    """The numbers of the catalogue. elsewhere: what plays while origins are away; None while it is being counted."""

    totals: TreeTotals
    origins: Mapping[OriginId, OriginRow]
    problems: Sequence[ProblemCount]
    elsewhere: Availability | None


class LibraryCounter:
    """Counts for the views, in a time that does not depend on the size of the library."""

    def __init__(
        self,
        catalog: Path,
        config: CurrentConfig,
        registry: OriginRegistry,
        tree: TreeView,
        store: BlockStore | None,
    ) -> None:
        self._catalog = catalog
        self._config = config
        self._registry = registry
        self._tree = tree
        self._store = store
        self._elsewhere = AvailabilityCounter(catalog, self._cached_whole)
        self._cache_version = 0
        self._next_look = 0.0

    def close(self) -> None:
        self._elsewhere.close()

    async def now(self) -> Counts:
        snapshot = self._registry.health()
        answering = [origin.id for origin in self._registry.list() if not snapshot.is_unhealthy(origin.id)]
        # An origin that could not be opened is away, too.
        away = [config.id for config in self._config.origins if config.enabled and config.id not in answering]
        rows = self._tree.origins()
        elsewhere = await self._elsewhere.of(away, answering, (*rows, self._version_of_cache()))
        problems = await asyncio.to_thread(count_problems, self._catalog)
        return Counts(self._tree.totals(), {row.id: row for row in rows}, problems, elsewhere)

    def _version_of_cache(self) -> int:
        """Another number after the cache has changed, at most every 10 s: each one costs a count."""
        now = asyncio.get_running_loop().time()
        if self._store is not None and now >= self._next_look:
            self._cache_version, self._next_look = self._store.changes, now + _COUNT_CACHE_SECS
        return self._cache_version

    async def _cached_whole(self) -> set[Fingerprint]:
        try:
            return await self._store.whole() if self._store is not None else set()
        except CacheFailed:
            return set()  # then nothing plays from it


class StatusView:
    """The whole mount on one page.

    Args:
        config: The configuration.
        filesystem: Knows the open files.
        origins: Says how the origins are.
        counter: Counts the files.
        started_at: When the mount started, in seconds since the epoch.
        store: The cache on disk, if there is one.
        is_mounted: Whether the mount table still has the mount. It leaves the table at once, its process with the
            last open file.
    """

    def __init__(
        self,
        config: CurrentConfig,
        filesystem: Filesystem,
        origins: OriginViews,
        counter: LibraryCounter,
        started_at: float,
        store: BlockStore | None,
        is_mounted: Callable[[], bool],
    ) -> None:
        self._config = config
        self._filesystem = filesystem
        self._origins = origins
        self._counter = counter
        self._started_at = started_at
        self._store = store
        self._is_mounted = is_mounted

    async def now(self, listening: str | None) -> Json:
        """listening: the address over TCP; None: there is none."""
        counted = await self._counter.now()
        return {
            "version": musicfs.__version__,
            "pid": os.getpid(),
            "mount_point": str(self._config.value.mount_point),
            "mounted": self._is_mounted(),
            "cache_problem": self._store.problem if self._store is not None else None,
            "cache_dir": str(self._config.value.cache_dir),
            "uptime_secs": round(time.time() - self._started_at, 1),
            "files": counted.totals.files,
            "directories": max(0, counted.totals.directories - 1),  # without the mount point itself
            "bytes": counted.totals.bytes,
            "open_files": self._filesystem.open_files,
            "unreached": None if counted.elsewhere is None else asdict(counted.elsewhere.unreached),
            "listening": listening,
            "problems": problem_counts(counted.problems),
            "origins": self._origins.all(counted),
        }


def problem_counts(counts: Sequence[ProblemCount]) -> list[Json]:
    """Describes how many problems there are of each reason; `note` says that they are no reason to worry."""
    return [
        {
            "origin": count.origin,
            "reason": count.reason.value,
            "subject": count.subject,
            "number": count.number,
            "note": count.reason.is_note,
            "says": count.reason.says(count.number),
        }
        for count in counts
    ]


class OriginViews:
    """What the API says about origins and their scans."""

    def __init__(self, config: CurrentConfig, registry: OriginRegistry, membership: Membership, places: Places) -> None:
        self._config = config
        self._registry = registry
        self._membership = membership
        self._places = places

    def all(self, counted: Counts) -> list[Json]:
        """Every configured origin, preferred ones first."""
        configured = sorted(self._config.origins, key=lambda config: config.priority)
        same = self._places.overlapping(config.id for config in configured if config.enabled)
        return [self._origin(config, counted) | {"same_place_as": same.get(config.id)} for config in configured]

    def scans(self) -> list[Json]:
        """The progress of the scan of each origin that takes part. Reads nothing from the catalogue."""
        return [{"origin": origin.id, **self._scan(origin.id, scanned=False)} for origin in self._registry.list()]

    def _origin(self, config: OriginConfig, counted: Counts) -> Json:
        latency = self._registry.router.latency(config.id)
        row = counted.origins.get(config.id)
        state = self._registry.monitor.state(config.id)
        last = state.last_check
        view = configured_origin(config, row, state)
        if config.enabled and self._registry.get(config.id) is None:
            view["reason"] = "it could not be opened; the log says why"
        return view | {
            "last_check_secs_ago": None if last is None else round(asyncio.get_running_loop().time() - last, 1),
            "p50_ms": round(latency.p50_ms, 3) if latency.count else None,
            "p99_ms": round(latency.p99_ms, 3) if latency.count else None,
            "also_elsewhere": None if counted.elsewhere is None else counted.elsewhere.also_at.get(config.id),
            "scan": self._scan(config.id, scanned=row is not None and row.scanned_at is not None),
        }

    def _scan(self, id: OriginId, *, scanned: bool) -> Json:
        watcher = self._membership.watcher(id)
        if watcher is None:
            return _scan_view("idle" if scanned else "never")
        if watcher.started > watcher.ended:
            event = self._membership.last_scan_event(id)
            progress = event if isinstance(event, ScanProgress) else None  # else it is of the scan before
            return _scan_view("scanning", watcher.ended, progress, watcher.last, running_secs=watcher.running_secs)
        if watcher.error is not None:
            return _scan_view("failed", watcher.ended, watcher.last, watcher.last, watcher.error)
        state = "idle" if scanned or watcher.last is not None else "never"
        return _scan_view(state, watcher.ended, watcher.last, watcher.last)


def configured_origin(config: OriginConfig, row: OriginRow | None, state: OriginHealthState) -> Json:
    """Describes an origin as far as that needs no mount."""
    return {
        "id": config.id,
        "kind": str(config.origin_type),
        "location": location(config),
        "priority": config.priority,
        "enabled": config.enabled,
        "health": state.status.value,
        "reason": state.reason,
        "consecutive_failures": state.consecutive_failures,
        "files": row.files if row else 0,
        "bytes": row.bytes if row else 0,
        "scanned_at": row.scanned_at if row else None,
        "removals_held": row.held if row else 0,
        "links": config.settings.get("links"),
        **_left_out(config, row),
    }


def _left_out(config: OriginConfig, row: OriginRow | None) -> Json:
    """Returns what the last scans left out, unless the configuration has changed since."""
    counts = row if row is not None and config.settings.get("links") in ("inside", "none") else None
    return {
        "links_left_out": counts.left_out if counts else 0,
        "files_left_out": counts.hidden if counts else 0,
    }


def location(config: OriginConfig) -> str:
    """Describes where the origin is: its folder, else the settings that say so, without credentials and users."""
    path = config.settings.get("path")
    if isinstance(path, Path):
        return str(path)
    access = {*SECRET_KEYS, "user", "domain", "known_hosts"}
    where = {key: value for key, value in config.settings.items() if not (key in access or key.endswith("_file"))}
    return ", ".join(f"{key}={value}" for key, value in where.items() if value not in (None, "", False))


def _scan_view(
    state: str,
    completed: int = 0,
    now: ScanProgress | ScanFinished | None = None,
    last: ScanFinished | None = None,
    error: str | None = None,
    running_secs: float = 0.0,
) -> Json:
    return {
        "state": state,
        "running_secs": round(running_secs, 1),
        "listed": now.listed if now else 0,
        "read": now.read if now else 0,
        "unreadable": now.unreadable if now else 0,
        "error": error,
        "completed": completed,
        "last": finished(last) if last else None,
    }


def finished(scan: ScanFinished) -> Json:
    """Describes a scan that ended."""
    return {
        "listed": scan.listed,
        "read": scan.read,
        "added": scan.added,
        "changed": scan.changed,
        "removed": scan.removed,
        "unreadable": scan.unreadable,
        "removals_held": scan.removals_held,
        "links_left_out": scan.links_left_out,
        "problems": scan.problems,
        "folders_unlisted": scan.folders_unlisted,
        "error": scan.error,
    }


def health(id: OriginId, state: OriginHealthState) -> Json:
    """Describes the result of one probe."""
    return {
        "id": id,
        "health": state.status.value,
        "reason": state.reason,
        "consecutive_failures": state.consecutive_failures,
        "latency_ms": None if state.last_latency_ms is None else round(state.last_latency_ms, 3),
        "healthy": state.status is HealthStatus.HEALTHY,
    }


def unfinished(error: str) -> Json:
    """Describes a scan that did not end, with the keys of `finished`."""
    counts = (
        "listed", "read", "added", "changed", "removed", "unreadable", "removals_held", "links_left_out", "problems",
        "folders_unlisted",
    )  # fmt: skip
    return dict.fromkeys(counts, 0) | {"error": error}
