"""Reads that survive the failure of origins: the one place where anything is tried again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from musicfs.errors import MusicFSError, NoReplicaAvailable, OriginFailed, OriginFault
from musicfs.events import EventBus
from musicfs.federation.coalesce import Coalescer
from musicfs.federation.fetch import Check, Fetch, Fetched, FetchRequest, Tools, always
from musicfs.federation.hedge import HedgeBudget
from musicfs.federation.registry import OriginRegistry, ReadNow
from musicfs.model import Replica
from musicfs.system.tasks import retrieve

if TYPE_CHECKING:
    from musicfs.config.models import RetryConfig

log = logging.getLogger(__name__)

CLOSING_SECS = 1.0


class FailoverExecutor:
    """Fetches ranges of files from whichever replica can serve them. Belongs to the event loop's thread."""

    def __init__(self, registry: OriginRegistry, retry: RetryConfig, bus: EventBus) -> None:
        self.registry = registry
        self._retry = retry
        budget = HedgeBudget(retry.hedge_share, retry.hedge_burst)
        self._tools = Tools(registry, retry, bus, budget, self._spawn, Coalescer(self._spawn), set())
        self._reads: set[asyncio.Task[bytes]] = set()
        self._traffic = registry.traffic

    def configure(self, retry: RetryConfig) -> None:
        """The reads that begin from now on keep to these settings."""
        self._retry = retry
        budget = HedgeBudget(retry.hedge_share, retry.hedge_burst)
        self._tools = replace(self._tools, retry=retry, budget=budget)

    @property
    def patience(self) -> float:
        """Seconds after which a fetch gives up."""
        return self._retry.deadline_ms / 1000

    def reads_now(self, replicas: Sequence[Replica]) -> bool:
        """Whether the best replica is on a healthy disk of this machine."""
        return self.registry.route_now(replicas) is not None

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
        urgent: Callable[[], bool] = always,
    ) -> Fetched:
        """Exactly `size` bytes at `offset`, fewer only at the end of the file, none past it.

        replicas: of one content, in any order. check: whether a replica's bytes are the recorded ones; where it
        says no, the replica is quarantined, and the event names `block`. deadline: on the event loop's clock, in
        seconds; by default `patience` from now. background: work of its own, so it keeps to the origin's bandwidth
        limit first, for as long as that takes unless there is a deadline, and is never hedged. urgent: as in
        `FetchRequest`.

        Raises NoReplicaAvailable, at the deadline at the latest, whatever drivers do. Cancelling it cancels all it has
        under way.
        """
        wanted = FetchRequest(replicas, offset, size, block, check, background, urgent)
        if not replicas:
            raise NoReplicaAvailable(())
        if not wanted.length_of(replicas[0]):
            return Fetched(b"", replicas[0])
        if deadline is None and not background:
            deadline = self.deadline()
        await self._wait_for_bandwidth(wanted, deadline)
        if urgent():
            self._tools.budget.earn()
        return await Fetch(self._tools, wanted, self.deadline() if deadline is None else deadline).run()

    def deadline(self) -> float:
        """By when a fetch that begins now has to end, on the event loop's clock."""
        return asyncio.get_running_loop().time() + self.patience

    async def _wait_for_bandwidth(self, wanted: FetchRequest, deadline: float | None) -> None:
        """By the limit of the origin that will be asked first."""
        best = self.registry.route(wanted.replicas)
        if best is None or best.bandwidth is None:
            return
        size = wanted.length_of(best.replica)
        if not wanted.background and not best.bandwidth.everything:
            best.bandwidth.count(size)
            return
        try:
            async with asyncio.timeout_at(deadline):
                await best.bandwidth.take(size)
        except TimeoutError:
            detail = "its bandwidth_limit was used up until the read's deadline"
            raise NoReplicaAvailable((OriginFailed(best.origin.id, OriginFault.TIMEOUT, detail),), True) from None

    def fetch_now(self, replicas: Sequence[Replica], offset: int, size: int) -> bytes | memoryview | None:
        """The same bytes, if the best replica's origin is healthy and has them without waiting, else None.

        A memoryview is valid until the next call. Accounts for nothing and raises nothing: `fetch` does, when it
        reads what this could not.
        """
        routed = self.registry.route_now(replicas)
        return None if routed is None else self.read_now(routed, offset, size)

    def read_now(self, routed: tuple[ReadNow, Replica], offset: int, size: int) -> bytes | memoryview | None:
        """As `fetch_now`, from the replica that `registry.route_now` has chosen."""
        read_now, replica = routed
        left = replica.size - offset
        if left <= 0:
            return b""
        try:
            data = read_now(replica, offset, size)
        except MusicFSError:
            return None
        except Exception as error:
            self._report_a_bug(replica, error)
            return None
        if data is None or len(data) != (size if size < left else left):
            return None
        traffic = self._traffic[replica.origin]
        traffic.immediate += 1
        traffic.bytes += len(data)
        return data

    async def aclose(self) -> None:
        """Cancels the reads under way; waits a moment for them, but not for a driver that ignores that."""
        for read in self._reads:
            read.cancel()
        if self._reads:
            await asyncio.wait(self._reads, timeout=CLOSING_SECS)

    def _spawn(self, read: Coroutine[Any, Any, bytes], name: str) -> asyncio.Task[bytes]:
        task = asyncio.create_task(read, name=name)
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)
        task.add_done_callback(retrieve)
        return task

    def _report_a_bug(self, replica: Replica, error: Exception) -> None:
        bug = (replica.origin, type(error))
        if bug not in self._tools.reported:
            self._tools.reported.add(bug)
            log.error(
                "an immediate read of origin %r failed by a fault of its driver",
                replica.origin,
                exc_info=error,
                extra={"origin": replica.origin},
            )
