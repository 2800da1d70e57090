"""The latency of each origin over the last hour."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass

from musicfs.federation.registry import OriginRegistry
from musicfs.model import HealthStatus, OriginId
from musicfs.system.tasks import Tasks

log = logging.getLogger(__name__)

_EVERY_SECS = 10.0
_KEPT = 360


@dataclass(frozen=True, slots=True)
class Sample:
    """The latency of an origin at one time.

    Args:
        at: Seconds since the epoch.
        p50_ms: The median of its last 100 reads; None while it is unhealthy or has no reads.
        p99_ms: Their 99th percentile; None likewise.
    """

    at: float
    p50_ms: float | None
    p99_ms: float | None


class LatencyHistory:
    """Samples the latency of every origin every 10 s, and keeps the samples for an hour."""

    def __init__(self, registry: OriginRegistry) -> None:
        self._registry = registry
        self._samples: dict[OriginId, deque[Sample]] = {}
        self._tasks = Tasks(log)

    def start(self) -> None:
        self._tasks.spawn(self._sample(), "the history of latencies")

    def stop(self) -> None:
        self._tasks.cancel()

    def of(self, id: OriginId) -> list[Sample]:
        """The samples of an origin, the oldest first."""
        return list(self._samples.get(id, ()))

    async def _sample(self) -> None:
        while True:
            self.take()
            await asyncio.sleep(_EVERY_SECS)

    def take(self) -> None:
        ids = [origin.id for origin in self._registry.list()]
        self._samples = {id: self._samples.get(id) or deque(maxlen=_KEPT) for id in ids}
        for id in ids:
            reads = self._registry.router.latency(id)
            if reads.count and self._registry.monitor.state(id).status is not HealthStatus.UNHEALTHY:
                sample = Sample(time.time(), round(reads.p50_ms, 3), round(reads.p99_ms, 3))
            else:
                sample = Sample(time.time(), None, None)
            self._samples[id].append(sample)
