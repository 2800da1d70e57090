"""Reads that survive the failure of origins: the one place where anything is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from musicfs.errors import MusicFSError, NoReplicaAvailable, OriginFailed, OriginFault
from musicfs.events import EventBus
from musicfs.federation.driver_reads import DriverReads
from musicfs.federation.fetch import URGENT, Check, Demand, Fetched, FetchRequest
from musicfs.federation.outcome import DriverFaults, Outcome
from musicfs.federation.race import HedgeBudget, Race, Tools
from musicfs.federation.ratelimit import RateLimit
from musicfs.federation.registry import Candidate, OriginRegistry, ReadNow
from musicfs.model import Replica

if TYPE_CHECKING:
    from musicfs.config.models import RetryConfig


class FailoverExecutor:
    """Fetches ranges of files from whichever replica can serve them. Belongs to the event loop's thread.

    patience: seconds after which a fetch gives up.
    """

    def __init__(self, registry: OriginRegistry, retry: RetryConfig, bus: EventBus) -> None:
        self.registry = registry
        self.patience = retry.deadline_ms / 1000
        budget = HedgeBudget(retry.hedge_share, retry.hedge_burst)
        self._tools = Tools(registry, retry, budget, DriverReads())
        self._bus = bus
        self._faults = DriverFaults()
        self._stats = registry.stats

    def configure(self, retry: RetryConfig) -> None:
        """Applies these settings to the reads that start from now on."""
        self.patience = retry.deadline_ms / 1000
        budget = HedgeBudget(retry.hedge_share, retry.hedge_burst)
        self._tools = replace(self._tools, retry=retry, budget=budget)

    async def fetch(
        self,
        replicas: Sequence[Replica],
        offset: int,
        size: int,
        *,
        check: Check | None = None,
        deadline: float | None = None,
        block: int = 0,
        background: bool = False,
        demand: Demand = URGENT,
    ) -> Fetched:
        """Reads exactly `size` bytes at `offset`; fewer only at the end of the file, none past it.

        It takes one snapshot of the routing: candidates with health, latency and limits. Each later round takes
        another. Cancelling it cancels all that it has under way.

        Args:
            replicas: of one content, in any order.
            offset: in bytes.
            size: in bytes.
            check: whether a replica's bytes are the recorded ones. Where it returns False, the replica goes into
                quarantine, and the event names `block`.
            deadline: in seconds of the event loop's clock; `patience` from now where it is None.
            block: the number of the first block in these bytes.
            background: no reader will ever wait for it. It keeps to the origin's bandwidth limit first, for as long
                as that takes unless there is a deadline, and is never hedged.
            demand: whether a reader waits for it now.

        Raises:
            NoReplicaAvailable: at the deadline at the latest, whatever drivers do.
        """
        request = FetchRequest(replicas, offset, size, block, check, background, demand)
        if not replicas:
            raise NoReplicaAvailable(())
        if size <= 0 or offset >= replicas[0].size:
            return Fetched(b"", replicas[0])
        if deadline is None and not background:
            deadline = self.deadline()
        candidates = self.registry.route_all(replicas)
        if candidates and candidates[0].bandwidth is not None:
            await self._wait_for_bandwidth(request, candidates[0], candidates[0].bandwidth, deadline)
            candidates = self.registry.route_all(replicas)
        outcome = Outcome(self.registry, self._bus, self._faults, request)
        race = Race(self._tools, request, outcome, self.deadline() if deadline is None else deadline)
        return await race.run(candidates)

    def deadline(self) -> float:
        """When a fetch that starts now has to end, in seconds of the event loop's clock."""
        return asyncio.get_running_loop().time() + self.patience

    async def _wait_for_bandwidth(
        self, request: FetchRequest, best: Candidate, limit: RateLimit, deadline: float | None
    ) -> None:
        """Applies the limit of the origin that is asked first. Raises NoReplicaAvailable at the deadline."""
        size = min(request.size, max(0, best.replica.size - request.offset))
        if not request.background and not limit.everything:
            limit.count(size)
            return
        try:
            async with asyncio.timeout_at(deadline):
                await limit.take(size)
        except TimeoutError:
            detail = "its bandwidth_limit was used up until the read's deadline"
            raise NoReplicaAvailable((OriginFailed(best.origin.id, OriginFault.TIMEOUT, detail),), True) from None

    def fetch_now(self, replicas: Sequence[Replica], offset: int, size: int) -> bytes | memoryview | None:
        """Returns the same bytes if the best replica's origin is healthy and has them without waiting, else None.

        A memoryview is valid until the next call. It reports nothing and raises nothing: `fetch` does, when it reads
        what this could not.

        Args:
            replicas: of one content, in any order.
            offset: in bytes.
            size: in bytes.
        """
        routed = self.registry.route_now(replicas)
        return None if routed is None else self.read_now(routed, offset, size)

    def read_now(self, routed: tuple[ReadNow, Replica], offset: int, size: int) -> bytes | memoryview | None:
        """Returns the bytes if the replica has them without waiting, else None. Raises nothing.

        Args:
            routed: what `registry.route_now` returned.
            offset: in bytes.
            size: in bytes; fewer are returned at the end of the file.
        """
        read_now, replica = routed
        left = replica.size - offset
        if left <= 0:
            return b""
        try:
            data = read_now(replica, offset, size)
        except MusicFSError:
            return None
        except Exception as error:
            self._faults.log(replica.origin, error, immediate=True)
            return None
        if data is None or len(data) != (size if size < left else left):
            return None
        stats = self._stats[replica.origin]
        stats.immediate += 1
        stats.bytes += len(data)
        return data

    def interrupt(self) -> None:
        """Starts all reads under way again, with all of their time, because the machine has slept."""
        self._tools.reads.interrupt()

    async def aclose(self) -> None:
        """Cancels the reads under way; waits a moment for them, but not for a driver that ignores that."""
        await self._tools.reads.aclose()
