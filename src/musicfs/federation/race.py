"""The race of one fetch: rounds over the candidates, in which late ones are hedged and failed ones replaced.

It decides who is asked and when: to hedge a late read is to ask a second origin too, for which all fetches share a
budget. `outcome.py` judges the answers and keeps the books.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from musicfs.errors import OriginFailed
from musicfs.federation.driver_reads import DriverReads
from musicfs.federation.fetch import Fetched, FetchRequest
from musicfs.federation.outcome import Attempt, Outcome
from musicfs.federation.registry import Candidate, OriginRegistry
from musicfs.federation.router import LatencyStats
from musicfs.model import HealthStatus

if TYPE_CHECKING:
    from musicfs.config.models import RetryConfig

_HEDGE_MARGIN = 1.25
"""Of an origin's usual time. The usual time alone is the p95, so it would hedge a twentieth of all reads."""
_LOOK_AGAIN_SECS = 0.05
"""How often a late attempt that could not be hedged asks whether it may be now."""
_LAST_CHANCE_SECS = 0.8
"""What is left for a read when every origin is known to be away: some may just have come back."""
_LOST = (HealthStatus.DEGRADED, HealthStatus.UNHEALTHY)


class HedgeBudget:
    """A token bucket: every fetch earns `share` of a token, every hedge costs one. It starts with `burst` tokens."""

    def __init__(self, share: float, burst: int) -> None:
        self._share = share
        self._capacity = max(float(burst), 1.0)
        self._tokens = float(burst)

    def earn(self) -> None:
        self._tokens = min(self._tokens + self._share, self._capacity)

    def spend(self) -> bool:
        """Takes a token; returns False where there is none. Ten tenths are less than one in binary."""
        if self._tokens < 1 - 1e-9:
            return False
        self._tokens -= 1
        return True


@dataclass(frozen=True, slots=True)
class Tools:
    """What the races of one executor share."""

    registry: OriginRegistry
    retry: RetryConfig
    budget: HedgeBudget
    reads: DriverReads


class Race:
    """Runs once. It waits for nothing that it started when it ends: losers are cancelled.

    outcome: judges what the attempts return. deadline: seconds of the event loop's clock.
    """

    def __init__(self, tools: Tools, request: FetchRequest, outcome: Outcome, deadline: float) -> None:
        self._tools = tools
        self._request = request
        self._demand = request.demand
        self._deadline = deadline
        self._halfway = inf
        self._time = asyncio.get_running_loop().time
        self._patience = deadline - self._time()
        self._sleeps = tools.reads.interruptions
        self._outcome = outcome
        self._attempts: list[Attempt] = []
        self._running: list[Attempt] = []
        self._waiting: list[Candidate] = []
        self._unhedged: Attempt | None = None
        self._look_again = inf

    async def run(self, candidates: Sequence[Candidate]) -> Fetched:
        """Returns the first good answer.

        Args:
            candidates: of the first round, best first. Later rounds ask the registry again.

        Raises:
            NoReplicaAvailable: every round failed, no replica is left, or the deadline has come.
        """
        if self._demand.urgent:
            self._tools.budget.earn()
        hopeless = all(candidate.status is HealthStatus.UNHEALTHY for candidate in candidates)
        if hopeless:
            self._deadline = min(self._deadline, self._time() + _LAST_CHANCE_SECS)
        self._halfway = (self._time() + self._deadline) / 2
        try:
            if (fetched := await self._round(candidates)) is not None:
                return fetched
            for delay_ms in () if hopeless else self._tools.retry.delays_ms:
                candidates = await self._next_candidates(delay_ms / 1000)
                if (fetched := await self._round(candidates)) is not None:
                    return fetched
        finally:
            for attempt in self._running:
                attempt.task.cancel()
        raise self._outcome.error()

    async def _next_candidates(self, delay: float) -> list[Candidate]:
        """Waits so many seconds for the next round, or as long as busy origins want; returns whom it may ask."""
        given_up = self._outcome.given_up
        delay = max(delay, self._outcome.busy_secs)
        if given_up.issuperset(self._request.replicas):
            raise self._outcome.error()
        self._renew_after_sleep()
        if self._time() + delay >= self._deadline:
            raise self._outcome.error(timed_out=True)
        await asyncio.sleep(delay)
        ranked = self._tools.registry.route_all(self._request.replicas)
        return [candidate for candidate in ranked if candidate.replica not in given_up]

    async def _round(self, candidates: Sequence[Candidate]) -> Fetched | None:
        """Asks the candidates in order, the next whenever one has failed or is late, until one answers well."""
        if not candidates:
            raise self._outcome.error()
        self._waiting = list(candidates)
        self._renew_after_sleep()
        self._check_deadline()
        self._start(self._waiting[0])
        while self._running:
            await self._wait_for_news()
            if self._renew_after_sleep():
                self._begin_again(candidates)
            running = len(self._running)
            if (fetched := self._collect()) is not None:
                return fetched
            self._expire()
            self._check_deadline()
            self._replace(running - len(self._running))
            self._hedge()
            self._ask_all()
        return None

    async def _wait_for_news(self) -> None:
        """Returns when an attempt ends, or when it is time to do something about one."""
        turn = min(self._deadline, self._hedge_at(), self._ask_all_at(), *(each.expires for each in self._running))
        tasks = [attempt.task for attempt in self._running]
        await asyncio.wait(tasks, timeout=max(0.0, turn - self._time()), return_when=asyncio.FIRST_COMPLETED)

    # After a sleep of the machine

    def _renew_after_sleep(self) -> bool:
        """Gives the read all the time of a new one if the machine has slept since; returns whether it has."""
        sleeps, self._sleeps = self._sleeps, self._tools.reads.interruptions
        if self._sleeps == sleeps:
            return False
        self._deadline = self._time() + self._patience
        self._halfway = self._time() + self._patience / 2
        return True

    def _begin_again(self, candidates: Sequence[Candidate]) -> None:
        """Asks the first candidate again: what became of attempts during a sleep says nothing about their origins."""
        for attempt in self._running:
            attempt.task.cancel()
        self._running.clear()
        self._waiting = [each for each in candidates if each.replica not in self._outcome.given_up]
        self._start(self._waiting[0])

    def _check_deadline(self) -> None:
        if self._time() >= self._deadline:
            raise self._outcome.cut_off(self._running)

    # Attempts that end

    def _collect(self) -> Fetched | None:
        """Hands every attempt that has ended to the outcome; returns the first good answer, by order of asking."""
        winner: tuple[Attempt, bytes] | None = None
        now = self._time()
        for attempt in [attempt for attempt in self._running if attempt.task.done()]:
            self._running.remove(attempt)
            data = self._outcome.judge(attempt, now)
            if data is None:
                self._leave_out_lost(attempt)
            elif winner is None:
                winner = attempt, data
        return winner and self._outcome.win(*winner, self._attempts[0], self._running, now)

    def _expire(self) -> None:
        now = self._time()
        for attempt in [attempt for attempt in self._running if attempt.expires <= now]:
            self._running.remove(attempt)
            attempt.task.cancel()
            self._outcome.expire(attempt)
            self._leave_out_lost(attempt)

    def _leave_out_lost(self, failed: Attempt) -> None:
        """Where the origin failed, and not only a file of it, this round asks it for no other replica."""
        replica = failed.candidate.replica
        if isinstance(self._outcome.causes[replica], OriginFailed):
            self._waiting = [other for other in self._waiting if other.replica.origin != replica.origin]

    # Attempts that start

    def _start(self, candidate: Candidate) -> None:
        self._waiting.remove(candidate)
        replica, offset = candidate.replica, self._request.offset
        size = max(0, min(self._request.size, replica.size - offset))
        task = self._tools.reads.start(candidate.origin, replica, offset, size, alone=self._demand.urgent)
        now = self._time()
        attempt = Attempt(len(self._attempts), candidate, task, size, now, now + candidate.timeout_ms / 1000)
        self._attempts.append(attempt)
        self._running.append(attempt)

    def _replace(self, failed: int) -> None:
        for candidate in self._waiting[:failed]:
            self._start(candidate)

    def _hedge_at(self) -> float:
        """When the newest attempt counts as late, if there is another origin to ask."""
        target = self._hedge_target()
        if target is None:
            return inf
        if not self._demand.urgent:
            return self._time() + _LOOK_AGAIN_SECS
        newest = self._attempts[-1]
        if newest is self._unhedged:
            return self._look_again
        return newest.started + hedge_delay(newest.candidate.latency, target.metered, self._tools.retry)

    def _hedge_target(self) -> Candidate | None:
        """The next candidate at another origin that a hedge may ask: an unhealthy one only beside unhealthy ones."""
        if self._request.background or not self._waiting:
            return None
        asked = {attempt.candidate.origin.id for attempt in self._running}
        desperate = all(attempt.candidate.status is HealthStatus.UNHEALTHY for attempt in self._running)
        for candidate in self._waiting:
            usable = desperate or candidate.status is not HealthStatus.UNHEALTHY
            if candidate.hedge and usable and candidate.origin.id not in asked:
                return candidate
        return None

    def _hedge(self) -> None:
        if self._running and self._time() >= self._hedge_at() and (target := self._hedge_target()) is not None:
            newest = self._attempts[-1]
            if self._is_doubtful(newest) or self._tools.budget.spend():
                self._start_hedge(target)
            else:
                self._unhedged = newest
                self._look_again = self._time() + _LOOK_AGAIN_SECS

    def _start_hedge(self, candidate: Candidate) -> None:
        self._tools.registry.stats[candidate.origin.id].hedged += 1
        self._start(candidate)

    def _ask_all_at(self) -> float:
        if not self._unasked():
            return inf
        return self._halfway if self._demand.urgent else max(self._halfway, self._time() + _LOOK_AGAIN_SECS)

    def _ask_all(self) -> None:
        """Asks every other origin that has the bytes once half of the time is over, healthy or not.

        One origin that hangs until its own timeout, and another after it, must not take all the time from one that
        has just come back. That is no hedge, so it takes nothing from the budget.
        """
        if self._running and self._time() >= self._halfway and self._demand.urgent:
            while unasked := self._unasked():
                self._start_hedge(unasked[0])

    def _unasked(self) -> list[Candidate]:
        """The candidates at origins that no attempt is asking now."""
        if self._request.background or not self._waiting:
            return []
        asked = {attempt.candidate.origin.id for attempt in self._running}
        return [candidate for candidate in self._waiting if candidate.origin.id not in asked]

    def _is_doubtful(self, attempt: Attempt) -> bool:
        """Whether other reads have found its origin unhealthy meanwhile: then asking another takes no budget."""
        if attempt.candidate.status in _LOST:
            return False
        return self._tools.registry.monitor.live.status(attempt.candidate.origin.id) in _LOST


def hedge_delay(stats: LatencyStats, metered: bool, retry: RetryConfig) -> float:
    """Returns how many seconds to wait for an origin before asking another.

    That is a quarter more than its usual time, within the limits.

    Args:
        stats: the measurements of the origin that is late.
        metered: whether asking the other origin costs money.
        retry: the limits of the delay.
    """
    usual_ms = _HEDGE_MARGIN * stats.p95_ms if stats.count else retry.hedge_max_ms
    delay_ms = min(max(usual_ms, retry.hedge_min_ms), retry.hedge_max_ms)
    return (max(delay_ms, retry.hedge_metered_ms) if metered else delay_ms) / 1000
