"""One fetch: rounds over the candidates, each a race in which late ones are hedged and failed ones replaced."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any

from musicfs.errors import MusicFSError, NoReplicaAvailable, OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.events import EventBus, FailedOver, HedgeWon, ReplicaSuspect
from musicfs.federation.coalesce import Coalescer
from musicfs.federation.hedge import HedgeBudget, hedge_delay
from musicfs.federation.probe import reason_of
from musicfs.federation.registry import Candidate, OriginRegistry
from musicfs.model import HealthStatus, Replica
from musicfs.origin import Streams
from musicfs.texts import said

if TYPE_CHECKING:
    from musicfs.config.models import RetryConfig

log = logging.getLogger(__name__)

Check = Callable[[Replica, bytes], bool]

# How often a late attempt that could not be hedged asks whether it may be now.
_LOOK_AGAIN_SECS = 0.05

# What is left for a read when every origin is known to be away: some may just have come back.
_LAST_CHANCE_SECS = 0.8


_LOST = (HealthStatus.DEGRADED, HealthStatus.UNHEALTHY)


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes, and the replica they came from."""

    data: bytes
    replica: Replica


def always() -> bool:
    return True


def never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """What a fetch is after: `size` bytes at `offset`, of which `block` is the first block's number.

    background: work that nobody will ever wait for.
    urgent: whether somebody waits for it, which may come to be so while it is under way. As long as nobody does, it is
    not hedged, and a failure has its origin probed but is not counted: whoever needs the bytes will ask again. Such
    reads of neighbouring bytes become one.
    """

    replicas: Sequence[Replica]
    offset: int
    size: int
    block: int
    check: Check | None
    background: bool = False
    urgent: Callable[[], bool] = always

    def length_of(self, replica: Replica) -> int:
        return max(0, min(self.size, replica.size - self.offset))


@dataclass(frozen=True, slots=True)
class Tools:
    """What all fetches of one executor share. reported: (origin, type of exception) of the bugs logged so far."""

    registry: OriginRegistry
    retry: RetryConfig
    bus: EventBus
    budget: HedgeBudget
    spawn: Callable[[Coroutine[Any, Any, bytes], str], asyncio.Task[bytes]]
    merger: Coalescer
    reported: set[tuple[str, type[Exception]]]


@dataclass(frozen=True, slots=True, eq=False)
class _Attempt:
    """One call of one driver. Times are in seconds of the event loop's clock."""

    number: int
    candidate: Candidate
    task: asyncio.Task[bytes]
    started: float

    @property
    def expires(self) -> float:
        return self.started + self.candidate.timeout_ms / 1000


class Fetch:
    """Runs once. Nothing it started is waited for when it ends: losers are cancelled and left to the spawner."""

    def __init__(self, tools: Tools, wanted: FetchRequest, deadline: float) -> None:
        self._tools = tools
        self._wanted = wanted
        self._deadline = deadline
        self._halfway = inf
        self._timed = wanted.urgent()  # the time of what queues behind others says little of its origin
        self._time = asyncio.get_running_loop().time
        self._numbers = count()
        self._running: list[_Attempt] = []
        self._waiting: list[Candidate] = []
        self._first: _Attempt | None = None
        self._first_failure = ""
        self._newest: _Attempt | None = None
        self._unhedged: _Attempt | None = None
        self._look_again = inf
        self._given_up: set[Replica] = set()
        self._causes: dict[Replica, MusicFSError] = {}

    async def run(self) -> Fetched:
        """Raises NoReplicaAvailable when every round failed, no replica is left, or the deadline has come."""
        candidates = self._candidates()
        hopeless = all(candidate.status is HealthStatus.UNHEALTHY for candidate in candidates)
        delays_ms = () if hopeless else self._tools.retry.delays_ms
        if hopeless:
            self._deadline = min(self._deadline, self._time() + _LAST_CHANCE_SECS)
        self._halfway = (self._time() + self._deadline) / 2
        try:
            for delay_ms in (0, *delays_ms):
                if delay_ms:
                    await self._pause(delay_ms / 1000)
                    candidates = self._candidates()
                if not candidates:
                    break
                if (fetched := await self._round(candidates)) is not None:
                    return fetched
                if self._given_up.issuperset(self._wanted.replicas):
                    break
        finally:
            for attempt in self._running:
                attempt.task.cancel()
        raise NoReplicaAvailable(tuple(self._causes.values()))

    def _candidates(self) -> list[Candidate]:
        ranked = self._tools.registry.route_all(self._wanted.replicas)
        return [candidate for candidate in ranked if candidate.replica not in self._given_up]

    async def _pause(self, delay: float) -> None:
        if self._time() + delay >= self._deadline:
            raise NoReplicaAvailable(tuple(self._causes.values()), timed_out=True)
        await asyncio.sleep(delay)

    async def _round(self, candidates: Sequence[Candidate]) -> Fetched | None:
        """Asks the candidates in order, the next whenever one has failed or is late, until one answers well."""
        self._waiting = list(candidates)
        self._mind_the_deadline()
        self._start(self._waiting[0])
        while self._running:
            await self._wait_for_news()
            running = len(self._running)
            if (fetched := self._collect()) is not None:
                return fetched
            self._expire()
            self._mind_the_deadline()
            self._replace(running - len(self._running))
            self._hedge()
            self._ask_all()
        return None

    async def _wait_for_news(self) -> None:
        """Until an attempt ends, or it is time to do something about one."""
        turn = min(self._deadline, self._hedge_at(), self._ask_all_at(), *(each.expires for each in self._running))
        tasks = [attempt.task for attempt in self._running]
        await asyncio.wait(tasks, timeout=max(0.0, turn - self._time()), return_when=asyncio.FIRST_COMPLETED)

    # Starting attempts

    def _start(self, candidate: Candidate) -> None:
        self._waiting.remove(candidate)
        replica, offset = candidate.replica, self._wanted.offset
        # A stream has its first bytes as early as if they were alone; another answer comes as a whole.
        if self._wanted.urgent() and not isinstance(candidate.origin, Streams):
            read = candidate.origin.read(replica, offset, self._wanted.length_of(replica))
        else:
            read = self._tools.merger.read(candidate.origin, replica, offset, self._wanted.length_of(replica))
        task = self._tools.spawn(read, f"read of {candidate.origin.id}")
        attempt = _Attempt(next(self._numbers), candidate, task, self._time())
        self._first = self._first or attempt
        self._newest = attempt
        self._running.append(attempt)

    def _replace(self, failed: int) -> None:
        for candidate in self._waiting[:failed]:
            self._start(candidate)

    def _hedge_at(self) -> float:
        """When the newest attempt counts as late, if there is anybody to ask besides."""
        newest, target = self._newest, self._hedge_target()
        if newest is None or target is None:
            return inf
        if not self._wanted.urgent():
            return self._time() + _LOOK_AGAIN_SECS
        if newest is self._unhedged:
            return self._look_again
        stats = self._tools.registry.router.latency(newest.candidate.origin.id)
        return newest.started + hedge_delay(stats, target.metered, self._tools.retry)

    def _hedge_target(self) -> Candidate | None:
        """The next candidate at another origin that may be hedged to: no unhealthy one besides one that is not."""
        if self._wanted.background:
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
            if self._is_doubtful(self._newest) or self._tools.budget.spend():
                self._start_besides(target)
            else:
                self._unhedged = self._newest
                self._look_again = self._time() + _LOOK_AGAIN_SECS

    def _start_besides(self, candidate: Candidate) -> None:
        self._tools.registry.traffic[candidate.origin.id].hedged += 1
        self._start(candidate)

    def _ask_all_at(self) -> float:
        if not self._unasked():
            return inf
        return self._halfway if self._wanted.urgent() else max(self._halfway, self._time() + _LOOK_AGAIN_SECS)

    def _ask_all(self) -> None:
        """Once half of the time is over, whoever else has the bytes is asked, healthy or not: one that hangs until its
        own timeout, and another after it, must not take all the time from one that has just come back. That is no
        hedge, which would have to be afforded."""
        if self._running and self._time() >= self._halfway and self._wanted.urgent():
            while unasked := self._unasked():
                self._start_besides(unasked[0])

    def _unasked(self) -> list[Candidate]:
        """Who waits, and is at no origin that is being asked."""
        if self._wanted.background:
            return []
        asked = {attempt.candidate.origin.id for attempt in self._running}
        return [candidate for candidate in self._waiting if candidate.origin.id not in asked]

    def _is_doubtful(self, attempt: _Attempt | None) -> bool:
        """Whether its origin has lost its health meanwhile, by the reads beside this one: then going elsewhere is no
        hedge that has to be afforded."""
        if attempt is None or attempt.candidate.status in _LOST:
            return False
        return self._tools.registry.health().status(attempt.candidate.origin.id) in _LOST

    # Judging what came of them

    def _collect(self) -> Fetched | None:
        """Accounts for every attempt that has ended; returns the first good answer, by order of asking."""
        winner: tuple[_Attempt, bytes] | None = None
        for attempt in [attempt for attempt in self._running if attempt.task.done()]:
            self._running.remove(attempt)
            data = self._judge(attempt)
            if data is not None and winner is None:
                winner = attempt, data
        return None if winner is None else self._won(*winner)

    def _judge(self, attempt: _Attempt) -> bytes | None:
        """The attempt's good bytes; None when it failed, which is accounted for then."""
        origin = attempt.candidate.origin
        try:
            data = attempt.task.result()
        except asyncio.CancelledError:
            self._failed(attempt, OriginFailed(origin.id, OriginFault.IO, "the driver gave up the read"))
        except (OriginFailed, ReplicaFailed) as error:
            self._failed(attempt, error)
        except Exception as error:
            self._report_a_bug(attempt, error)
            self._failed(attempt, OriginFailed(origin.id, OriginFault.IO, said(repr(error))))
        else:
            if self._is_sound(attempt, data):
                traffic = self._tools.registry.traffic[origin.id]
                traffic.fetched.add(self._time() - attempt.started)
                traffic.bytes += len(data)
                if self._takes_part(attempt) and self._timed:
                    latency_ms = (self._time() - attempt.started) * 1000
                    self._tools.registry.monitor.record_success(origin.id, latency_ms)
                return data
        return None

    def _is_sound(self, attempt: _Attempt, data: bytes) -> bool:
        replica, expected = attempt.candidate.replica, self._wanted.length_of(attempt.candidate.replica)
        if len(data) != expected:
            detail = f"{len(data)} bytes instead of {expected} at {self._wanted.offset}"
            self._failed(attempt, ReplicaFailed(replica.origin, replica.path, ReplicaFault.CHANGED, detail))
            return False
        if self._wanted.check is not None and not self._wanted.check(replica, data):
            self._tools.registry.quarantine(replica, self._wanted.block)
            detail = f"the bytes at {self._wanted.offset} are not the recorded ones"
            self._failed(attempt, ReplicaFailed(replica.origin, replica.path, ReplicaFault.CORRUPT, detail))
            return False
        return True

    def _expire(self) -> None:
        now = self._time()
        for attempt in [attempt for attempt in self._running if attempt.expires <= now]:
            self._running.remove(attempt)
            attempt.task.cancel()
            detail = f"no answer to a read within {attempt.candidate.timeout_ms} ms"
            self._failed(attempt, OriginFailed(attempt.candidate.origin.id, OriginFault.TIMEOUT, detail))

    def _failed(self, attempt: _Attempt, error: OriginFailed | ReplicaFailed) -> None:
        replica = attempt.candidate.replica
        self._causes[replica] = error
        self._tools.registry.traffic[replica.origin].errors[error.fault.value] += 1
        if attempt is self._first:
            self._first_failure = error.fault.value if isinstance(error, ReplicaFailed) else reason_of(error)
        if error.fault.permanent:
            self._given_up.add(replica)
        if isinstance(error, ReplicaFailed):
            self._tools.bus.publish(ReplicaSuspect(replica.origin, replica.path, error.fault.value))
            return
        self._waiting = [other for other in self._waiting if other.replica.origin != replica.origin]
        if self._takes_part(attempt):
            monitor = self._tools.registry.monitor
            if self._wanted.urgent():
                monitor.record_failure(replica.origin, error)
            else:
                monitor.suspect(replica.origin, reason_of(error))

    def _takes_part(self, attempt: _Attempt) -> bool:
        """Whether the origin is still the registered one: what a removed one does says nothing of its successor."""
        return self._tools.registry.get(attempt.candidate.origin.id) is attempt.candidate.origin

    def _report_a_bug(self, attempt: _Attempt, error: Exception) -> None:
        """Drivers raise OriginFailed and ReplicaFailed only; anything else is logged, the first time."""
        origin = attempt.candidate.origin.id
        if (origin, type(error)) not in self._tools.reported:
            self._tools.reported.add((origin, type(error)))
            log.error(
                "a read of origin %r failed by a fault of its driver", origin, exc_info=error, extra={"origin": origin}
            )

    def _won(self, attempt: _Attempt, data: bytes) -> Fetched:
        for other in self._running:
            if other.number < attempt.number and self._takes_part(other):
                self._outrun(other)
        first, target = self._first, attempt.candidate.origin.id
        if first is not None and first.candidate.origin.id != target:
            path, source = first.candidate.replica.path, first.candidate.origin.id
            gap_ms = (attempt.started - first.started) * 1000
            if self._first_failure:
                self._tools.bus.publish(FailedOver(path, source, target, self._first_failure, gap_ms))
            else:
                self._tools.bus.publish(HedgeWon(path, source, target, gap_ms))
        return Fetched(data, attempt.candidate.replica)

    def _outrun(self, attempt: _Attempt) -> None:
        """Its true latency stays unknown, but it is at least this much: without that, the slow would look fast."""
        elapsed_ms = (self._time() - attempt.started) * 1000
        registry, id = self._tools.registry, attempt.candidate.origin.id
        registry.router.record_latency(id, elapsed_ms)
        registry.monitor.suspect(id, f"another origin answered first, after {elapsed_ms:.0f} ms")

    def _mind_the_deadline(self) -> None:
        """Raises once it has come. Attempts that it cuts short are no failures of their origins, but worth a probe."""
        if self._time() < self._deadline:
            return
        for attempt in self._running:
            id = attempt.candidate.origin.id
            self._causes[attempt.candidate.replica] = OriginFailed(id, OriginFault.TIMEOUT, "at the read's deadline")
            if self._takes_part(attempt):
                self._tools.registry.monitor.suspect(id, "no answer by the deadline of a read")
        raise NoReplicaAvailable(tuple(self._causes.values()), timed_out=True)
