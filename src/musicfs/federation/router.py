"""Ranks origins by health, priority and measured latency."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from math import ceil

from musicfs.federation.health_state import NEVER_SEEN, HealthSnapshot
from musicfs.model import HealthStatus, OriginId

SAMPLES = 100
RECENT = 15
DEFAULT_PRIORITY = 100

_TIER = {
    HealthStatus.HEALTHY: 0,
    HealthStatus.DEGRADED: 1,
    HealthStatus.UNKNOWN: 1,
    HealthStatus.UNHEALTHY: 2,
}


class LatencyStats:
    """The durations of the last 100 reads of one origin, in ms. All percentiles are 0 while there is no sample."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=SAMPLES)
        self._sorted: list[float] | None = None

    def record(self, latency_ms: float) -> None:
        self._samples.append(latency_ms)
        self._sorted = None

    @property
    def count(self) -> int:
        """Samples held, at most 100."""
        return len(self._samples)

    @property
    def p50_ms(self) -> float:
        return self._percentile(50)

    @property
    def recent_ms(self) -> float:
        """The median of the last 15 samples, which follows a change much sooner than the median of all."""
        recent = sorted(islice(reversed(self._samples), RECENT))
        return recent[len(recent) // 2] if recent else 0.0

    @property
    def p95_ms(self) -> float:
        return self._percentile(95)

    @property
    def p99_ms(self) -> float:
        return self._percentile(99)

    def _percentile(self, percent: int) -> float:
        """The nearest-rank percentile: always one of the samples."""
        if self._sorted is None:
            self._sorted = sorted(self._samples)
        if not self._sorted:
            return 0.0
        return self._sorted[ceil(len(self._sorted) * percent / 100) - 1]


class Router:
    """Ranks origins.

    `generation` changes whenever a priority or a latency changes the ranking, so that callers can keep a ranking until
    then.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._priorities: dict[OriginId, int] = {}
        self._joined: dict[OriginId, int] = {}
        self._stats: dict[OriginId, LatencyStats] = {}
        self._ranked_ms: dict[OriginId, float] = {}
        self._arrivals = 0

    def set_priority(self, id: OriginId, priority: int) -> None:
        """Sets the priority; lower is better. The first call for an id also fixes its place among equal origins."""
        if id not in self._joined:
            self._joined[id] = self._arrivals
            self._arrivals += 1
            self._stats[id] = LatencyStats()
        self._priorities[id] = priority
        self.generation += 1

    def get_priority(self, id: OriginId) -> int:
        return self._priorities.get(id, DEFAULT_PRIORITY)

    def remove(self, id: OriginId) -> None:
        """Forgets the origin's priority and latency."""
        for known in (self._priorities, self._joined, self._stats, self._ranked_ms):
            known.pop(id, None)
        self.generation += 1

    def record_latency(self, id: OriginId, latency_ms: float) -> None:
        """Counts one read. The ranking changes only when the recent median has moved by a quarter and by a millisecond,
        so that two origins of about equal speed do not swap places at every read."""
        stats = self._stats.setdefault(id, LatencyStats())
        stats.record(latency_ms)
        before, now = self._ranked_ms.get(id), stats.recent_ms
        if before is None or abs(now - before) > max(before / 4, 1.0):
            self._ranked_ms[id] = now
            self.generation += 1

    def latency(self, id: OriginId) -> LatencyStats:
        """Returns the origin's measurements, which go on; empty ones for an origin without a priority."""
        return self._stats.get(id) or LatencyStats()

    def rank(self, ids: Sequence[OriginId], snapshot: HealthSnapshot) -> list[OriginId]:
        """Returns all ids, best first. The order is total and does not depend on that of `ids`.

        Healthy origins come first, by (priority, median latency); then degraded and unknown ones, in the same way; then
        unhealthy ones, by (consecutive failures, priority). Origins that are still equal keep the order in which they
        joined. An origin that was never measured counts as 0 ms, so it goes first among its equals once, and that read
        measures it. In the last place it would never be measured.
        """
        return sorted(ids, key=lambda id: self._key(id, snapshot))

    def select(self, ids: Sequence[OriginId], snapshot: HealthSnapshot) -> OriginId | None:
        """Returns the first of `rank`, or None when there are no ids."""
        return min(ids, key=lambda id: self._key(id, snapshot), default=None)

    def _key(self, id: OriginId, snapshot: HealthSnapshot) -> tuple[int, int, float, int, OriginId]:
        state = snapshot.states.get(id, NEVER_SEEN)
        tier = _TIER[state.status]
        priority = self.get_priority(id)
        joined = self._joined.get(id, self._arrivals)
        if tier == _TIER[HealthStatus.UNHEALTHY]:
            return tier, state.consecutive_failures, priority, joined, id
        return tier, priority, self._ranked_ms.get(id, 0.0), joined, id
