"""Which origins are usable: probes them all the time, and learns from every read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING

from musicfs.errors import OriginFailed
from musicfs.events import AllOriginsUnhealthy, EventBus, HealthChanged
from musicfs.federation.probing import Answer, Prober, reason_of
from musicfs.federation.state import NEVER_SEEN, HealthSnapshot, OriginHealthState
from musicfs.model import HealthStatus, OriginId

if TYPE_CHECKING:
    from musicfs.config import HealthConfig
    from musicfs.origins.base import Origin

log = logging.getLogger(__name__)

CLOSING_SECS = 1.0


class _Watched:
    """One origin under the monitor's eye. declared: what its last successful probe said of it."""

    def __init__(self, id: OriginId, threshold: int) -> None:
        self.id = id
        self.threshold = threshold
        self.state = NEVER_SEEN
        self.declared = HealthStatus.HEALTHY
        self.prober: Prober


class HealthMonitor:
    """Probes every origin, each in a task of its own, and keeps their states.

    A failed read counts as a failed probe. Below its kind's threshold an origin is degraded, from there on
    unhealthy; any success makes it usable again. Transitions are published and logged, single failures are not.
    `generation` changes whenever a status or a failure count does. All methods belong to the event loop's thread.

    on_latency: takes the duration of each successful read, in ms. Probes are left out: looking at the root costs
    another time than reading a block, and would make an idle origin look faster than a busy one.
    """

    def __init__(
        self,
        config: HealthConfig,
        bus: EventBus,
        rng: Random,
        on_latency: Callable[[OriginId, float], None] = lambda id, latency_ms: None,
    ) -> None:
        self.generation = 0
        self._config = config
        self._bus = bus
        self._rng = rng
        self._on_latency = on_latency
        self._watched: dict[OriginId, _Watched] = {}
        self._snapshot: HealthSnapshot | None = None
        self._all_unhealthy = False
        self._running = False

    def start(self) -> None:
        """Begins probing, each origin at once and then for ever. Needs a running loop."""
        self._running = True
        for watched in self._watched.values():
            watched.prober.start()

    async def aclose(self) -> None:
        """Stops all probes; waits a moment for them, but not for a driver that ignores its cancellation."""
        self._running = False
        await _stop(*self._watched.values())

    def add_origin(self, origin: Origin) -> None:
        """Begins with the state unknown; probing starts now, or with `start`."""
        watched = _Watched(origin.id, self._config.threshold_for(origin.kind))
        watched.prober = Prober(
            origin, self._config, self._rng, lambda: watched.state, lambda answer: self._probed(watched, answer)
        )
        self._watched[origin.id] = watched
        self._membership_changed()
        if self._running:
            watched.prober.start()

    async def remove_origin(self, id: OriginId) -> None:
        """Forgets the origin at once, then stops its probes as `aclose` does."""
        watched = self._watched.pop(id, None)
        if watched is not None:
            self._membership_changed()
            await _stop(watched)

    async def check_now(self, id: OriginId) -> OriginHealthState:
        """Probes the origin and returns its new state; one that was not added is unknown."""
        watched = self._watched.get(id)
        if watched is None:
            return NEVER_SEEN
        await watched.prober.check()
        return watched.state

    def state(self, id: OriginId) -> OriginHealthState:
        """What is known of the origin; of one that was not added, nothing."""
        watched = self._watched.get(id)
        return NEVER_SEEN if watched is None else watched.state

    def snapshot(self) -> HealthSnapshot:
        """The states now; the same object until one of them changes."""
        if self._snapshot is None:
            states = {id: watched.state for id, watched in self._watched.items()}
            self._snapshot = HealthSnapshot(MappingProxyType(states))
        return self._snapshot

    def record_success(self, id: OriginId, latency_ms: float) -> None:
        """A read of this origin succeeded."""
        watched = self._watched.get(id)
        if watched is not None:
            self._on_latency(id, latency_ms)
            self._succeeded(watched, latency_ms)

    def record_failure(self, id: OriginId, error: OriginFailed) -> None:
        """A read of this origin failed, and the origin is to blame. The first such failure also has it probed."""
        watched = self._watched.get(id)
        if watched is not None:
            before = watched.state.status
            self._failed(watched, reason_of(error))
            if watched.state.status is not before:
                watched.prober.wake()

    def suspect(self, id: OriginId, reason: str) -> None:
        """The origin is late: it ranks as degraded until a probe, made at once, decides. Not a failure."""
        watched = self._watched.get(id)
        if watched is not None and watched.state.status in (HealthStatus.HEALTHY, HealthStatus.UNKNOWN):
            self._become(watched, replace(watched.state, status=HealthStatus.DEGRADED, reason=reason))
            watched.prober.wake()

    def _probed(self, watched: _Watched, answer: Answer) -> None:
        if self._watched.get(watched.id) is not watched:
            return
        if answer.status is HealthStatus.UNHEALTHY:
            self._failed(watched, answer.reason)
        else:
            watched.declared = answer.status
            self._succeeded(watched, answer.latency_ms)

    def _succeeded(self, watched: _Watched, latency_ms: float) -> None:
        reason = "" if watched.declared is HealthStatus.HEALTHY else "reports itself degraded"
        now = asyncio.get_running_loop().time()
        self._become(watched, OriginHealthState(watched.declared, now, 0, latency_ms, reason))

    def _failed(self, watched: _Watched, reason: str) -> None:
        failures = watched.state.consecutive_failures + 1
        status = HealthStatus.UNHEALTHY if failures >= watched.threshold else HealthStatus.DEGRADED
        now = asyncio.get_running_loop().time()
        self._become(watched, OriginHealthState(status, now, failures, watched.state.last_latency_ms, reason))

    def _become(self, watched: _Watched, after: OriginHealthState) -> None:
        before, watched.state = watched.state, after
        self._snapshot = None
        if (after.status, after.consecutive_failures) != (before.status, before.consecutive_failures):
            self.generation += 1
        if after.status is not before.status:
            _log_transition(watched.id, after)
            self._bus.publish(HealthChanged(watched.id, before.status, after.status, after.reason))
            self._note_whether_all_are_lost()

    def _membership_changed(self) -> None:
        self.generation += 1
        self._snapshot = None
        self._note_whether_all_are_lost()

    def _note_whether_all_are_lost(self) -> None:
        before, self._all_unhealthy = self._all_unhealthy, self.snapshot().all_unhealthy()
        if self._all_unhealthy and not before:
            self._bus.publish(AllOriginsUnhealthy(tuple(self._watched)))


async def _stop(*several: _Watched) -> None:
    tasks = {task for watched in several for task in watched.prober.stop()}
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSING_SECS)


def _log_transition(id: OriginId, state: OriginHealthState) -> None:
    if state.status is HealthStatus.HEALTHY:
        log.info("origin %r is healthy", id)
    elif state.consecutive_failures:
        log.warning("origin %r is %s: %s", id, state.status.value, state.reason)
    else:
        log.info("origin %r is degraded: %s", id, state.reason)
