"""Probes one origin: when, and for how long at most."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from musicfs.errors import OriginFailed, OriginFault
from musicfs.federation.health_state import OriginHealthState
from musicfs.model import HealthStatus
from musicfs.system.tasks import retrieve

if TYPE_CHECKING:
    from musicfs.config.models import HealthConfig
    from musicfs.origin import Origin

log = logging.getLogger(__name__)

JITTER = 0.1
UNSETTLED_PAUSE = 1.0
MAX_BACKOFF = 30.0
RESTART_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe found. status: HEALTHY or DEGRADED as the driver reports it, UNHEALTHY for a failure. denied: the
    origin answered, and refused access."""

    status: HealthStatus
    latency_ms: float
    reason: str = ""
    denied: bool = False


class Prober:
    """Probes one origin until it is stopped, at intervals that follow from its state.

    state: returns the origin's state now. report: takes each result, and updates that state. health: asks the driver.
    """

    def __init__(
        self,
        origin: Origin,
        config: HealthConfig,
        rng: Random,
        state: Callable[[], OriginHealthState],
        report: Callable[[ProbeResult], None],
        health: Callable[[Origin], Coroutine[Any, Any, HealthStatus]],
    ) -> None:
        self._origin = origin
        self._health = health
        self._config = config
        self._rng = rng
        self._state = state
        self._report = report
        self._recheck = asyncio.Event()
        self._checking = asyncio.Lock()
        self._denials = 0
        self._interrupted = False
        self._logged: set[type[BaseException]] = set()
        self._call: asyncio.Task[HealthStatus] | None = None
        self._loop: asyncio.Task[None] | None = None

    def configure(self, config: HealthConfig) -> None:
        """Applies these settings from now on, and probes at once."""
        self._config = config
        self._recheck.set()

    def start(self) -> None:
        """Starts probing, with a probe at once."""
        if self._loop is None:
            self._loop = asyncio.create_task(self._supervise(), name=f"probes of {self._origin.id}")

    def wake(self) -> None:
        """Probes now, because reads found the origin worse than it was; an unhealthy one is probed soon in any case."""
        self._recheck.set()

    def interrupt(self) -> None:
        """Probes now, because the machine has slept: a probe under way starts again."""
        self._interrupted = True
        if self._call is not None:
            self._call.cancel()
        self._recheck.set()

    def stop(self) -> set[asyncio.Task[None] | asyncio.Task[HealthStatus]]:
        """Cancels everything; returns the tasks that the caller must wait for."""
        tasks = {task for task in (self._loop, self._call) if task is not None and not task.done()}
        for task in tasks:
            task.cancel()
        return tasks

    async def check(self) -> None:
        """Probes once and reports the result. While a driver ignores its cancellation, it gets no second call."""
        async with self._checking:
            self._interrupted = False
            answer = await self._ask()
            if self._interrupted:
                answer = await self._ask()
            self._denials = self._denials + 1 if answer.denied else 0
            self._report(answer)

    async def _ask(self) -> ProbeResult:
        time = asyncio.get_running_loop().time
        started = time()
        if self._call is None or self._call.done():
            self._call = asyncio.create_task(self._health(self._origin), name=f"probe of {self._origin.id}")
            self._call.add_done_callback(retrieve)
        call = self._call
        await asyncio.wait({call}, timeout=self._config.timeout_ms / 1000)
        latency_ms = (time() - started) * 1000
        if not call.done():
            call.cancel()
            return ProbeResult(HealthStatus.UNHEALTHY, latency_ms, OriginFault.TIMEOUT.value)
        if call.cancelled():
            return ProbeResult(HealthStatus.UNHEALTHY, latency_ms, "the probe was cancelled")
        if (error := call.exception()) is not None:
            self._log_fault(error)
            denied = isinstance(error, OriginFailed) and error.fault is OriginFault.DENIED
            return ProbeResult(HealthStatus.UNHEALTHY, latency_ms, reason_of(error), denied)
        if call.result() in (HealthStatus.HEALTHY, HealthStatus.DEGRADED):
            return ProbeResult(call.result(), latency_ms)
        return ProbeResult(HealthStatus.UNHEALTHY, latency_ms, f"reports itself {call.result().value}")

    def _log_fault(self, error: BaseException) -> None:
        """Logs an exception that a driver must not raise, each type once."""
        if not isinstance(error, OriginFailed) and type(error) not in self._logged:
            self._logged.add(type(error))
            log.error(
                "the probe of origin %r failed by a fault of its driver",
                self._origin.id,
                exc_info=error,
                extra={"origin": self._origin.id},
            )

    async def _supervise(self) -> None:
        while True:
            try:
                await self._probe_repeatedly()
            except Exception:
                id = self._origin.id
                log.exception("the probes of origin %r stopped by a fault; restarting", id, extra={"origin": id})
                await asyncio.sleep(RESTART_PAUSE)

    async def _probe_repeatedly(self) -> None:
        while True:
            self._recheck.clear()
            await self.check()
            while await self._woken_within(self._pause()) and self._state().status is HealthStatus.UNHEALTHY:
                self._recheck.clear()

    async def _woken_within(self, pause: float) -> bool:
        try:
            async with asyncio.timeout(pause):
                return await self._recheck.wait()
        except TimeoutError:
            return False

    def _pause(self) -> float:
        """Returns the seconds to the next probe: the interval, or less while the origin is away or in doubt.

        A connection attempt that reaches no server costs nothing, and an origin that comes back must be noticed at
        once. Where the server refuses access, every probe is a failed login, which servers log, and for which they may
        lock accounts.
        """
        interval = self._config.check_interval_secs
        state = self._state()
        if self._denials:
            return float(min(2 ** min(self._denials - 1, 9), MAX_BACKOFF, interval))
        if state.consecutive_failures:
            return min(UNSETTLED_PAUSE, interval)
        held = state.held_until - asyncio.get_running_loop().time()
        if held > 0:
            return min(held, interval)
        return interval * self._rng.uniform(1 - JITTER, 1 + JITTER)


def reason_of(error: BaseException) -> str:
    """Returns the failure without the origin's name, which every message and event about it has already."""
    if isinstance(error, OriginFailed):
        return str(error).removeprefix(f"origin {error.origin!r} ")
    return repr(error)
