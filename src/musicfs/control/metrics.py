"""The metrics for Prometheus. The parts count in plain integers; all else happens when a client requests them."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import musicfs
from musicfs.cache.store import BlockStore, CacheStats
from musicfs.catalog.problem_list import ProblemCount, count_problems
from musicfs.catalog.view import TreeView
from musicfs.control.event_counts import EventCounts, Labels
from musicfs.federation.registry import OriginRegistry
from musicfs.federation.stats import Histogram
from musicfs.model import HealthStatus
from musicfs.mount.filesystem import Filesystem

if TYPE_CHECKING:
    from prometheus_client.core import Metric

L = TypeVar("L", bound=Labels)


class Metrics:
    """The metrics of one mount, since it started."""

    def __init__(
        self,
        events: EventCounts,
        filesystem: Filesystem,
        tree: TreeView,
        registry: OriginRegistry,
        store: BlockStore | None,
        catalog: Path,
    ) -> None:
        self._catalog = catalog
        self._problems: list[ProblemCount] = []
        self._filesystem = filesystem
        self._tree = tree
        self._registry = registry
        self._store = store
        self._events = events
        self._cache: CacheStats | None = None

    async def text(self) -> tuple[bytes, str]:
        """Returns all metrics in Prometheus's text format, and its content type."""
        # Imported late: most mounts never need it.
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest

        self._problems = await asyncio.to_thread(count_problems, self._catalog)
        self._cache = None if self._store is None else await self._store.stats()
        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        return generate_latest(registry), CONTENT_TYPE_LATEST

    def describe(self) -> Sequence[Metric]:
        """Returns nothing, so that `register` does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield _gauge(
            "musicfs_info", "The version of MusicFS that serves this mount.", ("version",), {(musicfs.__version__,): 1}
        )
        yield _gauge("musicfs_tasks", "Tasks in the event loop.", (), {(): len(asyncio.all_tasks())})
        yield from self._requests()
        yield from self._library()
        yield from self._reads()
        yield from self._origins()
        yield from self._event_counts()
        if self._cache is not None:
            yield from _cache(self._cache)

    def _requests(self) -> Iterator[Metric]:
        counts = self._filesystem.counts
        requests = {(operation,): number for operation, number in counts.requests().items()}
        errors = {(op, errno.errorcode.get(number, str(number))): n for (op, number), n in counts.errors.items()}
        yield _counter("musicfs_fuse_requests", "Requests from the kernel.", ("operation",), requests)
        yield _counter("musicfs_fuse_errors", "Requests that failed.", ("operation", "error"), errors)
        yield _counter("musicfs_fuse_read_bytes", "Bytes returned to the kernel.", (), {(): counts.read_bytes})
        took = {(operation,): its for operation, its in counts.took.items()}
        help = "Duration of requests, from the start of their processing."
        yield _histogram("musicfs_fuse_request_duration_seconds", help, ("operation",), took)
        help = "Duration of reads that had to wait for an origin or a disk."
        yield _histogram("musicfs_fuse_waiting_read_duration_seconds", help, (), {(): counts.waited})
        yield _gauge("musicfs_open_files", "Open file handles.", (), {(): self._filesystem.open_files})

    def _library(self) -> Iterator[Metric]:
        totals = self._tree.totals()
        yield _gauge("musicfs_tree_files", "Files in the tree.", (), {(): totals.files})
        yield _gauge("musicfs_tree_directories", "Folders in the tree.", (), {(): totals.directories - 1})
        yield _gauge("musicfs_tree_bytes", "Total size of the files in the tree.", (), {(): totals.bytes})

        counts: Counter[tuple[str, ...]] = Counter()
        for each in self._problems:
            counts[each.origin, each.reason.value] += each.number
        help = "Files and folders that are left out of the tree or lack their tags, without dismissed ones."
        yield _gauge("musicfs_problems", help, ("origin", "reason"), counts)

    def _reads(self) -> Iterator[Metric]:
        stats = self._registry.stats
        reads = {(id, "immediate"): its.immediate for id, its in stats.items()}
        reads |= {(id, "fetched"): sum(its.fetched.counts) for id, its in stats.items()}
        errors = {(id, fault): n for id, its in stats.items() for fault, n in its.errors.items()}
        help = "Successful reads; immediate ones came from the page cache of this machine."
        yield _counter("musicfs_origin_reads", help, ("origin", "way"), reads)
        read_bytes = {(id,): its.bytes for id, its in stats.items()}
        yield _counter("musicfs_origin_read_bytes", "Bytes of successful reads.", ("origin",), read_bytes)
        yield _counter("musicfs_origin_read_errors", "Failed reads, by kind of failure.", ("origin", "fault"), errors)
        hedged = {(id,): its.hedged for id, its in stats.items()}
        help = "Reads sent to this origin because another one was late."
        yield _counter("musicfs_origin_hedges", help, ("origin",), hedged)
        fetched = {(id,): its.fetched for id, its in stats.items()}
        yield _histogram(
            "musicfs_origin_read_duration_seconds", "Duration of fetches from the origin.", ("origin",), fetched
        )

    def _origins(self) -> Iterator[Metric]:
        origin = ("origin",)
        ids = [each.id for each in self._registry.list()]
        states = {id: self._registry.monitor.state(id) for id in ids}
        health = {(id, status.value): float(states[id].status is status) for id in ids for status in HealthStatus}
        yield _gauge(
            "musicfs_origin_health",
            "1 for the current health state of the origin, 0 for the others.",
            ("origin", "state"),
            health,
        )
        failures = {(id,): state.consecutive_failures for id, state in states.items()}
        yield _gauge(
            "musicfs_origin_consecutive_failures", "Consecutive failures of probes and reads.", origin, failures
        )
        priorities = {(id,): self._registry.router.get_priority(id) for id in ids}
        yield _gauge("musicfs_origin_priority", "Priority of the origin; lower is preferred.", origin, priorities)
        rows = [row for row in self._tree.origins() if row.id in states]
        yield _gauge(
            "musicfs_origin_files", "Files of the origin in the catalogue.", origin, {(r.id,): r.files for r in rows}
        )
        yield _gauge(
            "musicfs_origin_bytes", "Total size of the origin's files.", origin, {(r.id,): r.bytes for r in rows}
        )
        held = {(row.id,): row.held for row in rows}
        yield _gauge(
            "musicfs_origin_removals_held", "Files that are gone at the origin but kept in the tree.", origin, held
        )
        scanned = {(row.id,): row.scanned_at for row in rows if row.scanned_at is not None}
        yield _gauge(
            "musicfs_origin_scanned_timestamp_seconds", "Time when the last complete scan ended.", origin, scanned
        )

    def _event_counts(self) -> Iterator[Metric]:
        counts = self._events
        yield _counter(
            "musicfs_failovers", "Reads that failed over to another origin.", ("source", "target"), counts.failovers
        )
        yield _counter(
            "musicfs_hedges_won", "Reads in which the hedge answered first.", ("late", "winner"), counts.hedges
        )
        yield _counter(
            "musicfs_replicas_quarantined",
            "Replicas quarantined because their bytes disagree with the recorded checksum.",
            ("origin",),
            counts.quarantines,
        )
        yield _counter(
            "musicfs_health_changes", "Changes of health, by the new state.", ("origin", "state"), counts.health
        )
        yield _counter("musicfs_scans", "Scans that ended, by result.", ("origin", "result"), counts.scans)
        yield _counter(
            "musicfs_scanned_files", "Files that scans handled, by outcome.", ("origin", "outcome"), counts.scanned
        )


def _cache(cache: CacheStats) -> Iterator[Metric]:
    gauges = {
        "limit_bytes": (cache.limit, "Maximum size of the cache on disk."),
        "bytes": (cache.bytes, "Size of the cache on disk."),
        "pinned_bytes": (cache.pinned_bytes, "Size of the pinned part of the cache."),
        "contents": (cache.contents, "Files with at least one cached block."),
        "blocks": (cache.blocks, "Cached blocks."),
        "working": (cache.working, "1 while the cache works, 0 while its disk is full or fails."),
    }
    for name, (value, help) in gauges.items():
        yield _gauge(f"musicfs_cache_{name}", help, (), {(): value})
    counters = {
        "hits": (cache.hits, "Requests that the cache answered."),
        "misses": (cache.misses, "Blocks that the cache did not have."),
        "skipped_blocks": (cache.skipped, "Blocks that the cache did not keep."),
        "corrupt_blocks": (cache.corrupt, "Blocks that were damaged on disk."),
    }
    for name, (value, help) in counters.items():
        yield _counter(f"musicfs_cache_{name}", help, (), {(): value})


def _gauge(name: str, help: str, labels: Labels, values: Mapping[L, float]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return _filled(GaugeMetricFamily(name, help, labels=labels), values)


def _counter(name: str, help: str, labels: Labels, values: Mapping[L, float]) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    return _filled(CounterMetricFamily(name, help, labels=labels), values)


def _filled(family: Metric, values: Mapping[L, float]) -> Metric:
    for labels, value in values.items():
        family.add_metric(labels, value)  # type: ignore[attr-defined]
    return family


def _histogram(name: str, help: str, labels: Labels, values: Mapping[L, Histogram]) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, help, labels=labels)
    for of, histogram in values.items():
        family.add_metric(of, list(_cumulative(histogram)), histogram.sum_secs)
    return family


def _cumulative(histogram: Histogram) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip((*map(str, histogram.bounds_secs), "+Inf"), histogram.counts, strict=True):
        total += count
        yield bound, total
