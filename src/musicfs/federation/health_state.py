"""The health of origins, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from musicfs.model import HealthStatus, OriginId


@dataclass(frozen=True, slots=True)
class OriginHealthState:
    """The health of one origin.

    last_check: when a probe or a read last ended, in seconds of the event loop's clock; None: never.
    last_latency_ms: how long the last successful one took. reason: why the origin is not healthy, else empty.
    held_until: on that clock; until then the origin is degraded at best, because it lost its health several times.
    """

    status: HealthStatus = HealthStatus.UNKNOWN
    last_check: float | None = None
    consecutive_failures: int = 0
    last_latency_ms: float | None = None
    reason: str = ""
    held_until: float = 0.0


NEVER_SEEN = OriginHealthState()


@dataclass(frozen=True, slots=True)
class HealthSnapshot:
    """The health of every origin at one moment. An origin that is not in it is unknown."""

    states: Mapping[OriginId, OriginHealthState] = field(default_factory=lambda: MappingProxyType({}))

    def status(self, id: OriginId) -> HealthStatus:
        return self.states.get(id, NEVER_SEEN).status

    def is_healthy(self, id: OriginId) -> bool:
        return self.status(id) is HealthStatus.HEALTHY

    def is_degraded(self, id: OriginId) -> bool:
        """Whether the origin ranks as degraded; unknown origins do."""
        return self.status(id) in (HealthStatus.DEGRADED, HealthStatus.UNKNOWN)

    def is_unhealthy(self, id: OriginId) -> bool:
        return self.status(id) is HealthStatus.UNHEALTHY

    def failure_count(self, id: OriginId) -> int:
        """How many probes and reads have failed in a row."""
        return self.states.get(id, NEVER_SEEN).consecutive_failures

    def all_unhealthy(self) -> bool:
        """Whether there are origins and none of them is usable."""
        return bool(self.states) and all(map(self.is_unhealthy, self.states))
