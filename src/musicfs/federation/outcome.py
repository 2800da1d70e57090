"""The book-keeping of one fetch: judges what drivers return, and reports it to health, counters and the event bus."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from musicfs.errors import MusicFSError, NoReplicaAvailable, OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.events import EventBus, FailedOver, HedgeWon, ReplicaSuspect
from musicfs.federation.fetch import Fetched, FetchRequest
from musicfs.federation.probe import reason_of
from musicfs.federation.registry import Candidate, OriginRegistry
from musicfs.model import OriginId, Replica
from musicfs.texts import said

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """One call of one driver. Times are in seconds of the event loop's clock.

    number: 0 for a fetch's first attempt. size: the bytes that it has to return.
    """

    number: int
    candidate: Candidate
    task: asyncio.Task[bytes]
    size: int
    started: float
    expires: float


class DriverFaults:
    """Logs exceptions that a driver must not raise, each type of an origin once."""

    def __init__(self) -> None:
        self._logged: set[tuple[OriginId, type[Exception]]] = set()

    def log(self, origin: OriginId, error: Exception, *, immediate: bool = False) -> None:
        """Logs the exception, unless one of its type was logged for the origin. immediate: it comes from `read_now`."""
        if (origin, type(error)) not in self._logged:
            self._logged.add((origin, type(error)))
            read = "an immediate read" if immediate else "a read"
            log.error(
                "%s of origin %r failed by a fault of its driver",
                read, origin, exc_info=error, extra={"origin": origin},
            )  # fmt: skip


class Outcome:
    """What came of one fetch so far.

    A failure is reported at once, because other reads need to know of it; a success is reported when it wins.
    causes: why each replica that was asked has failed. given_up: replicas for which another round is in vain.
    """

    def __init__(self, registry: OriginRegistry, bus: EventBus, faults: DriverFaults, request: FetchRequest) -> None:
        self.causes: dict[Replica, MusicFSError] = {}
        self.given_up: set[Replica] = set()
        self._registry = registry
        self._bus = bus
        self._faults = faults
        self._request = request
        # The time of a read that queues behind others says little of its origin.
        self._is_timed = request.demand.urgent
        self._first_failure = ""

    def error(self, *, timed_out: bool = False) -> NoReplicaAvailable:
        return NoReplicaAvailable(tuple(self.causes.values()), timed_out=timed_out)

    @property
    def busy_secs(self) -> float:
        """Seconds after which the first origin may be asked again: 0, unless all of them want to be left alone."""
        asked_for = (cause.busy_secs if isinstance(cause, OriginFailed) else None for cause in self.causes.values())
        return min((secs or 0.0 for secs in asked_for), default=0.0)

    def judge(self, attempt: Attempt, now: float) -> bytes | None:
        """Takes an attempt that has ended: returns its bytes if they are good, else reports its failure.

        now: seconds of the event loop's clock.
        """
        origin = attempt.candidate.origin
        try:
            data = attempt.task.result()
        except asyncio.CancelledError:
            self.fail(attempt, OriginFailed(origin.id, OriginFault.IO, "the driver gave up the read"))
        except (OriginFailed, ReplicaFailed) as error:
            self.fail(attempt, error)
        except Exception as error:
            self._faults.log(origin.id, error)
            self.fail(attempt, OriginFailed(origin.id, OriginFault.IO, said(repr(error))))
        else:
            if self._is_sound(attempt, data):
                self._succeed(attempt, len(data), now - attempt.started)
                return data
        return None

    def expire(self, attempt: Attempt) -> None:
        """Reports an attempt that took longer than its origin's timeout."""
        detail = f"no answer to a read within {attempt.candidate.timeout_ms} ms"
        self.fail(attempt, OriginFailed(attempt.candidate.origin.id, OriginFault.TIMEOUT, detail))

    def fail(self, attempt: Attempt, error: OriginFailed | ReplicaFailed) -> None:
        """Reports the failure of an attempt to its origin's health, or that of its file to the library.

        An origin that has too much to do is not away: a probe decides about its health.
        """
        replica = attempt.candidate.replica
        self.causes[replica] = error
        self._registry.stats[replica.origin].errors[error.fault.value] += 1
        if attempt.number == 0:
            self._first_failure = error.fault.value if isinstance(error, ReplicaFailed) else reason_of(error)
        if error.fault.permanent:
            self.given_up.add(replica)
        if isinstance(error, ReplicaFailed):
            self._bus.publish(ReplicaSuspect(replica.origin, replica.path, error.fault.value))
        elif self._takes_part(attempt):
            if self._request.demand.urgent and error.busy_secs is None:
                self._registry.monitor.record_failure(replica.origin, error)
            else:
                self._registry.monitor.suspect(replica.origin, reason_of(error))

    def win(self, attempt: Attempt, data: bytes, first: Attempt, others: Iterable[Attempt], now: float) -> Fetched:
        """Reports the attempt that the fetch returns, and what it says of slower ones.

        Args:
            first: the fetch's first attempt, which may be the same.
            others: attempts that are still under way.
            now: seconds of the event loop's clock.
        """
        for other in others:
            if other.number < attempt.number and self._takes_part(other):
                self._report_outrun(other, now)
        source, target = first.candidate.replica, attempt.candidate.replica
        if source.origin != target.origin:
            gap_ms = (attempt.started - first.started) * 1000
            if self._first_failure:
                self._bus.publish(FailedOver(source.path, source.origin, target.origin, self._first_failure, gap_ms))
            else:
                self._bus.publish(HedgeWon(source.path, source.origin, target.origin, gap_ms))
        return Fetched(data, target)

    def cut_off(self, running: Iterable[Attempt]) -> NoReplicaAvailable:
        """Reports attempts that the read's deadline cuts off, and returns the error of the fetch.

        Such an attempt does not count as a failure of its origin, but starts a probe.
        """
        for attempt in running:
            id = attempt.candidate.origin.id
            self.causes[attempt.candidate.replica] = OriginFailed(id, OriginFault.TIMEOUT, "at the read's deadline")
            if self._takes_part(attempt):
                self._registry.monitor.suspect(id, "no answer by the deadline of a read")
        return self.error(timed_out=True)

    def _is_sound(self, attempt: Attempt, data: bytes) -> bool:
        replica, request = attempt.candidate.replica, self._request
        if len(data) != attempt.size:
            detail = f"{len(data)} bytes instead of {attempt.size} at {request.offset}"
            self.fail(attempt, ReplicaFailed(replica.origin, replica.path, ReplicaFault.CHANGED, detail))
            return False
        if request.check is not None and not request.check(replica, data):
            self._registry.quarantine(replica, request.block)
            detail = f"the bytes at {request.offset} are not the recorded ones"
            self.fail(attempt, ReplicaFailed(replica.origin, replica.path, ReplicaFault.CORRUPT, detail))
            return False
        return True

    def _succeed(self, attempt: Attempt, size: int, secs: float) -> None:
        origin = attempt.candidate.origin
        counts = self._is_timed and self._takes_part(attempt)
        stats = self._registry.stats[origin.id]
        stats.fetched.add(secs)
        stats.bytes += size
        if counts:
            self._registry.monitor.record_success(origin.id, secs * 1000)

    def _report_outrun(self, attempt: Attempt, now: float) -> None:
        """Its true latency stays unknown, but it is at least this much: without that, a slow origin looks fast."""
        elapsed_ms, id = (now - attempt.started) * 1000, attempt.candidate.origin.id
        self._registry.router.record_latency(id, elapsed_ms)
        self._registry.monitor.suspect(id, f"another origin answered first, after {elapsed_ms:.0f} ms")

    def _takes_part(self, attempt: Attempt) -> bool:
        """Whether the origin is still the registered one: a removed origin says nothing about its successor."""
        return self._registry.get(attempt.candidate.origin.id) is attempt.candidate.origin
