"""Holds the origins that take part, and routes reads: which of them to ask for a file."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from musicfs.events import EventBus, OriginRegistered, OriginUnregistered
from musicfs.federation.health import HealthMonitor
from musicfs.federation.health_state import NEVER_SEEN, HealthSnapshot
from musicfs.federation.quarantine import Quarantine
from musicfs.federation.ratelimit import RateLimit
from musicfs.federation.router import LatencyStats, Router
from musicfs.federation.stats import ReadStats
from musicfs.model import HealthStatus, OriginId, Replica
from musicfs.origin import DropsConnections, OpensFiles, Origin, ReadsNow, WatchHandle
from musicfs.system.tasks import retrieve

log = logging.getLogger(__name__)

ReadNow = Callable[[Replica, int, int], bytes | memoryview | None]

DEFAULT_TIMEOUT_MS = 5000
CLOSING_SECS = 5.0
MAX_RANKINGS = 1024


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica that may be read now, with what a fetch needs to know of its origin.

    timeout_ms: of one attempt. metered: asking costs money. hedge: it may be asked beside another origin that is late.
    bandwidth: the limit on what is read from the origin. status: the origin's, when the candidates were ranked.
    latency: the origin's measurements, which go on.
    """

    origin: Origin
    replica: Replica
    timeout_ms: int
    metered: bool
    hedge: bool
    bandwidth: RateLimit | None
    status: HealthStatus
    latency: LatencyStats


@dataclass(frozen=True, slots=True)
class _Registered:
    origin: Origin
    timeout_ms: int
    metered: bool
    hedge: bool
    bandwidth: RateLimit | None
    read_now: ReadNow | None
    trusted: bool
    latency: LatencyStats


@dataclass(frozen=True, slots=True)
class _Ranked:
    """One replica's place in a ranking. position: among the replicas that were asked about."""

    position: int
    registered: _Registered
    status: HealthStatus


@dataclass(frozen=True, slots=True)
class _Ranking:
    """order: best first. now: reads from the best without waiting."""

    order: tuple[_Ranked, ...]
    now: ReadNow | None


class OriginRegistry:
    """Holds the origins and ranks the replicas of a file. All methods belong to the event loop's thread."""

    def __init__(self, router: Router, monitor: HealthMonitor, bus: EventBus) -> None:
        self.router = router
        self.monitor = monitor
        self._bus = bus
        self.stats = ReadStats()
        self._origins: dict[OriginId, _Registered] = {}
        self._watches: defaultdict[OriginId, list[WatchHandle]] = defaultdict(list)
        self.quarantined = Quarantine(bus)
        self._rankings: dict[tuple[OriginId, ...], _Ranking] = {}
        self._ranked_at = (-1, -1)

    def register(
        self,
        origin: Origin,
        priority: int,
        *,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
        metered: bool = False,
        hedge: bool = True,
        bandwidth: RateLimit | None = None,
        trusted: bool = True,
    ) -> None:
        """Lets the origin take part from now on. The registry closes it in the end.

        Args:
            origin: its driver.
            priority: lower is better.
            timeout_ms: of one read of it.
            metered: whether a read of it costs money.
            hedge: whether it may be asked beside an origin that is late.
            bandwidth: the limit on what is read from it.
            trusted: whether its copies serve for those of other origins without being compared block by block.

        Raises:
            ValueError: an origin of that id is registered; unregister it first.
        """
        if origin.id in self._origins:
            raise ValueError(f"origin {origin.id!r} is registered already")
        must_wait = bandwidth is not None and bandwidth.everything
        read_now = origin.read_now if isinstance(origin, ReadsNow) and not must_wait else None
        self.router.set_priority(origin.id, priority)
        self._origins[origin.id] = _Registered(
            origin, timeout_ms, metered, hedge, bandwidth, read_now, trusted, self.router.latency(origin.id)
        )
        self.monitor.add_origin(origin)
        self._bus.publish(OriginRegistered(origin.id, priority))

    async def unregister(self, id: OriginId) -> None:
        """Ends the part of the origin; reads of it that are under way finish, or go on at another origin.

        Drops its watches, stops its probes and closes it; waits a few seconds at most. Does nothing for an id that is
        not registered.
        """
        registered = self._origins.pop(id, None)
        if registered is None:
            return
        self._drop_watches(id)
        self.router.remove(id)
        self.quarantined.free(id)
        self._bus.publish(OriginUnregistered(id))
        await self.monitor.remove_origin(id)
        await _close(registered.origin)

    def drop_connections(self) -> None:
        """Makes all origins connect again, because the machine has slept."""
        for registered in self._origins.values():
            if isinstance(registered.origin, DropsConnections):
                registered.origin.drop_connections()

    async def aclose(self) -> None:
        """Drops all watches and closes all origins. They stay registered: a shutdown removes no music from the tree."""
        for id in self._origins:
            self._drop_watches(id)
        await asyncio.gather(*(_close(registered.origin) for registered in self._origins.values()))

    def get(self, id: OriginId) -> Origin | None:
        registered = self._origins.get(id)
        return None if registered is None else registered.origin

    def is_trusted(self, id: OriginId) -> bool:
        """Whether the origin is trusted; one that does not take part is not."""
        registered = self._origins.get(id)
        return registered is not None and registered.trusted

    def list(self) -> tuple[Origin, ...]:
        """Returns all origins, in the order in which they were registered."""
        return tuple(registered.origin for registered in self._origins.values())

    def set_priority(self, id: OriginId, priority: int) -> None:
        """Raises KeyError when the origin is not registered."""
        if id not in self._origins:
            raise KeyError(id)
        self.router.set_priority(id, priority)

    def register_watch(self, id: OriginId, handle: WatchHandle) -> None:
        """Takes over the watch and closes it with its origin: at once, if that is gone already."""
        if id in self._origins:
            self._watches[id].append(handle)
        else:
            handle.close()

    def health(self) -> HealthSnapshot:
        return self.monitor.snapshot()

    def route(self, replicas: Sequence[Replica]) -> Candidate | None:
        """Returns the first of `route_all`."""
        return next(self._candidates(replicas), None)

    def route_all(self, replicas: Sequence[Replica]) -> Sequence[Candidate]:
        """Returns all replicas that may be asked, best first: a snapshot of the routing.

        Those at unhealthy origins are in it; those at unregistered origins and those in quarantine are not. Replicas at
        one origin keep their order.
        """
        return tuple(self._candidates(replicas))

    def route_now(self, replicas: Sequence[Replica]) -> tuple[ReadNow, Replica] | None:
        """Returns how to read the best replica without waiting; None when its origin can't, or isn't healthy."""
        ranking = self._ranking(replicas)
        if ranking.now is None:
            return None
        replica = replicas[ranking.order[0].position]
        if self.quarantined.held and replica in self.quarantined.held:  # which computes the hash of all its fields
            return None
        return ranking.now, replica

    def open_now(self, replicas: Sequence[Replica]) -> int | None:
        """Returns a descriptor of the best replica's file for the kernel to read; None when that can't be (see
        `origin.OpensFiles`), or its origin isn't healthy. The caller closes it."""
        routed = self.route_now(replicas)
        origin = self.get(routed[1].origin) if routed is not None else None
        return origin.open_now(routed[1]) if routed is not None and isinstance(origin, OpensFiles) else None

    def generations(self) -> tuple[int, int, int]:
        """Returns numbers that stay the same as long as `route_now` returns the same."""
        return self.router.generation, self.monitor.generation, self.quarantined.generation

    def quarantine(self, replica: Replica, block: int) -> None:
        """Puts this version of the file into quarantine, because its bytes at `block` are wrong."""
        if replica.origin in self._origins:
            self.quarantined.add(replica, block)

    def is_quarantined(self, replica: Replica) -> bool:
        return replica in self.quarantined.held

    def _candidates(self, replicas: Sequence[Replica]) -> Iterator[Candidate]:
        for each in self._ranking(replicas).order:
            replica, its = replicas[each.position], each.registered
            if replica not in self.quarantined.held:
                yield Candidate(
                    its.origin, replica, its.timeout_ms, its.metered, its.hedge, its.bandwidth,
                    each.status, its.latency,
                )  # fmt: skip

    def _ranking(self, replicas: Sequence[Replica]) -> _Ranking:
        """Keeps a ranking until a priority, a latency, a state or the set of origins changes: every read needs one."""
        generations = (self.router.generation, self.monitor.generation)
        if generations != self._ranked_at or len(self._rankings) > MAX_RANKINGS:
            self._rankings.clear()
            self._ranked_at = generations
        ids = tuple([replica.origin for replica in replicas])
        ranking = self._rankings.get(ids)
        if ranking is None:
            ranking = self._rankings[ids] = self._rank(ids)
        return ranking

    def _rank(self, ids: Sequence[OriginId]) -> _Ranking:
        ranked = self.router.rank([id for id in dict.fromkeys(ids) if id in self._origins], self.monitor.live)
        place = {id: number for number, id in enumerate(ranked)}
        positions = sorted((position for position, id in enumerate(ids) if id in place), key=lambda at: place[ids[at]])
        order = tuple([self._ranked(position, ids[position]) for position in positions])
        is_healthy = bool(order) and order[0].status is HealthStatus.HEALTHY
        return _Ranking(order, order[0].registered.read_now if is_healthy else None)

    def _ranked(self, position: int, id: OriginId) -> _Ranked:
        status = self.monitor.live.states.get(id, NEVER_SEEN).status
        return _Ranked(position, self._origins[id], status)

    def _drop_watches(self, id: OriginId) -> None:
        for handle in self._watches.pop(id, ()):
            handle.close()


async def _close(origin: Origin) -> None:
    """Closes the origin, or gives up: a driver that hangs or fails must not keep others from closing."""
    closing = asyncio.create_task(origin.aclose(), name=f"closing {origin.id}")
    closing.add_done_callback(retrieve)
    await asyncio.wait({closing}, timeout=CLOSING_SECS)
    if not closing.done():
        closing.cancel()
        log.warning(
            "origin %r did not close within %g s; it is left behind",
            origin.id,
            CLOSING_SECS,
            extra={"origin": origin.id},
        )
    elif not closing.cancelled() and (error := closing.exception()) is not None:
        log.warning("origin %r failed to close: %r", origin.id, error, extra={"origin": origin.id})
