"""Knows which origins are usable: probes them all the time, and learns from every read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from math import inf
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from musicfs.errors import OriginFailed
from musicfs.events import AllOriginsUnhealthy, EventBus, HealthChanged
from musicfs.federation.health_state import NEVER_SEEN, HealthSnapshot, OriginHealthState
from musicfs.federation.probe import Prober, ProbeResult, reason_of
from musicfs.model import HealthStatus, OriginId, OriginType

if TYPE_CHECKING:
    from musicfs.config.models import HealthConfig
    from musicfs.origin import Origin

log = logging.getLogger(__name__)

CLOSING_SECS = 1.0
STEADY_SECS = 60.0
FREE_FALLS = 2
MAX_HOLD = 30.0
GOOD_RUN = 10


class _Watched:
    """One origin that the monitor watches.

    declared: the status that its last successful probe reported. falls: how often it has stopped being healthy since
    its status last stayed the same for a minute. run: reads that succeeded since the last fall. changed: when its
    status last changed, on the loop's clock. quiet: its changes are no longer logged.
    """

    def __init__(self, id: OriginId, kind: OriginType, threshold: int) -> None:
        self.id = id
        self.kind = kind
        self.threshold = threshold
        self.state = NEVER_SEEN
        self.declared = HealthStatus.HEALTHY
        self.falls = 0
        self.run = 0
        self.changed = -inf
        self.quiet = False
        self.prober: Prober

    def is_steady(self, now: float) -> bool:
        return now - self.changed >= STEADY_SECS

    def fall(self, now: float) -> float:
        """Counts a fall; returns until when the origin stays degraded for it: first not at all, then 8, 16, 30 s."""
        if self.is_steady(now):
            self.falls, self.quiet = 0, False
        self.falls += 1
        self.run = 0
        return now + min(2.0**self.falls, MAX_HOLD) if self.falls > FREE_FALLS else 0.0


async def ask_driver(origin: Origin) -> HealthStatus:
    return await origin.health()


class HealthMonitor:
    """Probes every origin, each in a task of its own, and keeps their states.

    A failed read counts as a failed probe. With fewer failures than its kind's threshold an origin is degraded, with
    more it is unhealthy. Any success makes it usable again, and healthy, unless it has fallen repeatedly: a slow origin
    whose probes are quick, or one that comes and goes, would cost a reader some time at each fall. Such an origin stays
    degraded for some seconds, so healthy ones go before it. Transitions are published, single failures are not.
    `generation` changes whenever a status or a failure count does. All methods belong to the event loop's thread.

    on_latency: takes the duration of each successful read, in ms. Probes do not count: a stat of the root takes another
    time than a read of a block, and would make an idle origin look faster than a busy one. health: probes an origin, as
    its driver's `health` does.
    """

    def __init__(
        self,
        config: HealthConfig,
        bus: EventBus,
        rng: Random,
        on_latency: Callable[[OriginId, float], None] = lambda id, latency_ms: None,
        health: Callable[[Origin], Coroutine[Any, Any, HealthStatus]] = ask_driver,
    ) -> None:
        self.generation = 0
        self._config = config
        self._bus = bus
        self._rng = rng
        self._on_latency = on_latency
        self._health = health
        self._watched: dict[OriginId, _Watched] = {}
        self._states: dict[OriginId, OriginHealthState] = {}
        self.live = HealthSnapshot(MappingProxyType(self._states))
        """The states as they are at any time; `snapshot` is what they were at one."""
        self._snapshot: HealthSnapshot | None = None
        self._all_unhealthy = False
        self._running = False

    def start(self) -> None:
        """Starts probing all origins, with a probe of each at once. Needs a running loop."""
        self._running = True
        for watched in self._watched.values():
            watched.prober.start()

    async def aclose(self) -> None:
        """Stops all probes; waits a moment for them, but not for a driver that ignores its cancellation."""
        self._running = False
        await _stop(*self._watched.values())

    def configure(self, config: HealthConfig) -> None:
        """Applies these settings from now on. States stay as they are until the next probe or read."""
        self._config = config
        for watched in self._watched.values():
            watched.threshold = config.threshold_for(watched.kind)
            watched.prober.configure(config)

    def interrupt(self) -> None:
        """Probes all origins now, because the machine has slept. Probes under way do not count."""
        for watched in self._watched.values():
            watched.prober.interrupt()

    def add_origin(self, origin: Origin) -> None:
        """Watches the origin, whose state is unknown first. Probing starts now, or with `start`."""
        watched = _Watched(origin.id, origin.kind, self._config.threshold_for(origin.kind))
        watched.prober = Prober(
            origin, self._config, self._rng, lambda: watched.state, lambda answer: self._probed(watched, answer),
            self._health,
        )  # fmt: skip
        self._watched[origin.id] = watched
        self._states[origin.id] = watched.state
        self._membership_changed()
        if self._running:
            watched.prober.start()

    async def remove_origin(self, id: OriginId) -> None:
        """Forgets the origin at once, then stops its probes; waits for them for a moment, as `aclose` does."""
        watched = self._watched.pop(id, None)
        if watched is not None:
            del self._states[id]
            self._membership_changed()
            await _stop(watched)

    async def check_now(self, id: OriginId) -> OriginHealthState:
        """Probes the origin and returns its new state; one that was not added is unknown.

        If it has changed, the regular probes follow at the pace of the new state.
        """
        watched = self._watched.get(id)
        if watched is None:
            return NEVER_SEEN
        before = watched.state.status
        await watched.prober.check()
        if watched.state.status is not before:
            watched.prober.wake()
        return watched.state

    def state(self, id: OriginId) -> OriginHealthState:
        """Returns the state of the origin; the unknown state for one that was not added."""
        watched = self._watched.get(id)
        return NEVER_SEEN if watched is None else watched.state

    def snapshot(self) -> HealthSnapshot:
        """Returns the states now; the same object until one of them changes."""
        if self._snapshot is None:
            self._snapshot = HealthSnapshot(MappingProxyType(self._states.copy()))
        return self._snapshot

    def record_success(self, id: OriginId, latency_ms: float) -> None:
        """Counts a read of this origin that succeeded."""
        watched = self._watched.get(id)
        if watched is not None:
            self._on_latency(id, latency_ms)
            watched.run += 1
            self._succeeded(watched, latency_ms)

    def record_failure(self, id: OriginId, error: OriginFailed) -> None:
        """Counts a read that failed by a fault of this origin. The first such failure also starts a probe."""
        watched = self._watched.get(id)
        if watched is not None:
            before = watched.state.status
            self._failed(watched, reason_of(error))
            if watched.state.status is not before:
                watched.prober.wake()

    def suspect(self, id: OriginId, reason: str) -> None:
        """Degrades an origin that is late until a probe, which starts at once, decides. This is not a failure."""
        watched = self._watched.get(id)
        if watched is not None and watched.state.status in (HealthStatus.HEALTHY, HealthStatus.UNKNOWN):
            if watched.run >= GOOD_RUN:  # any origin is late now and then, so this fall takes others back
                watched.falls = max(watched.falls - 2, 0)
            self._become(watched, replace(watched.state, status=HealthStatus.DEGRADED, reason=reason))
            watched.prober.wake()

    def _probed(self, watched: _Watched, answer: ProbeResult) -> None:
        if self._watched.get(watched.id) is not watched:
            return
        if answer.status is HealthStatus.UNHEALTHY:
            self._failed(watched, answer.reason)
        else:
            watched.declared = answer.status
            self._succeeded(watched, answer.latency_ms)

    def _succeeded(self, watched: _Watched, latency_ms: float) -> None:
        now, held_until = asyncio.get_running_loop().time(), watched.state.held_until
        status, reason = watched.declared, ""
        if status is not HealthStatus.HEALTHY:
            reason = "reports itself degraded"
        elif now < held_until:
            status, reason = HealthStatus.DEGRADED, f"lost its health {watched.falls} times in a short while"
        self._become(watched, OriginHealthState(status, now, 0, latency_ms, reason, held_until))

    def _failed(self, watched: _Watched, reason: str) -> None:
        failures = watched.state.consecutive_failures + 1
        status = HealthStatus.UNHEALTHY if failures >= watched.threshold else HealthStatus.DEGRADED
        now = asyncio.get_running_loop().time()
        after = replace(watched.state, status=status, last_check=now, consecutive_failures=failures, reason=reason)
        self._become(watched, after)

    def _become(self, watched: _Watched, after: OriginHealthState) -> None:
        before, now = watched.state, asyncio.get_running_loop().time()
        changed = after.status is not before.status
        if changed and before.status is HealthStatus.HEALTHY:
            after = replace(after, held_until=watched.fall(now))
        watched.state = self._states[watched.id] = after
        self._snapshot = None
        if (after.status, after.consecutive_failures) != (before.status, before.consecutive_failures):
            self.generation += 1
        if changed:
            watched.changed = now
            _log_transition(watched)
            self._bus.publish(HealthChanged(watched.id, before.status, after.status, after.reason))
            self._report_if_all_are_lost()
        elif watched.quiet and watched.is_steady(now):
            watched.quiet, watched.falls = False, 0
            _log_state(watched)

    def _membership_changed(self) -> None:
        self.generation += 1
        self._snapshot = None
        self._report_if_all_are_lost()

    def _report_if_all_are_lost(self) -> None:
        before, self._all_unhealthy = self._all_unhealthy, self.live.all_unhealthy()
        if self._all_unhealthy and not before:
            self._bus.publish(AllOriginsUnhealthy(tuple(self._watched)))


async def _stop(*several: _Watched) -> None:
    tasks = {task for watched in several for task in watched.prober.stop()}
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSING_SECS)


def _log_transition(watched: _Watched) -> None:
    """Logs the change, of an origin that comes and goes only once, and again when it is steady."""
    if watched.falls <= FREE_FALLS:
        _log_state(watched)
    elif not watched.quiet:
        watched.quiet = True
        log.warning(
            "origin %r comes and goes (%s): healthy origins are asked first; the log says when it is steady again",
            watched.id,
            watched.state.reason,
            extra={"origin": watched.id},
        )


def _log_state(watched: _Watched) -> None:
    id, state, where = watched.id, watched.state, {"origin": watched.id}
    if state.status is HealthStatus.HEALTHY:
        log.info("origin %r is healthy", id, extra=where)
    elif state.consecutive_failures:
        log.warning("origin %r is %s: %s", id, state.status.value, state.reason, extra=where)
    else:
        log.info("origin %r is degraded: %s", id, state.reason, extra=where)
