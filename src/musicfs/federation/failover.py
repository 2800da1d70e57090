"""Reads that survive the failure of origins: the one place where anything is tried again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from musicfs.errors import MusicFSError, NoReplicaAvailable
from musicfs.events import EventBus
from musicfs.federation.fetching import Check, Fetch, Fetched, Tools, Wanted
from musicfs.federation.hedging import HedgeBudget
from musicfs.federation.probing import retrieve
from musicfs.federation.registry import OriginRegistry
from musicfs.model import Replica

if TYPE_CHECKING:
    from musicfs.config import RetryConfig

log = logging.getLogger(__name__)

CLOSING_SECS = 1.0


class FailoverExecutor:
    """Fetches ranges of files from whichever replica can serve them. Belongs to the event loop's thread."""

    def __init__(self, registry: OriginRegistry, retry: RetryConfig, bus: EventBus) -> None:
        self._registry = registry
        self._retry = retry
        budget = HedgeBudget(retry.hedge_share, retry.hedge_burst)
        self._tools = Tools(registry, retry, bus, budget, self._spawn, set())
        self._reads: set[asyncio.Task[bytes]] = set()

    async def fetch(
        self,
        replicas: Sequence[Replica],
        offset: int,
        size: int,
        *,
        check: Check | None = None,
        deadline: float | None = None,
        block: int = 0,
    ) -> Fetched:
        """Exactly `size` bytes at `offset`, fewer only at the end of the file, none past it.

        replicas: of one content, in any order. check: whether a replica's bytes are the recorded ones; where it
        says no, the replica is quarantined, and the event names `block`. deadline: on the event loop's clock, in
        seconds; by default the configured time from now. Raises NoReplicaAvailable, at the deadline at the
        latest, whatever drivers do. Cancelling it cancels all it has under way.
        """
        wanted = Wanted(replicas, offset, size, block, check)
        if not replicas:
            raise NoReplicaAvailable(())
        if not wanted.length_of(replicas[0]):
            return Fetched(b"", replicas[0])
        if deadline is None:
            deadline = asyncio.get_running_loop().time() + self._retry.deadline_ms / 1000
        self._tools.budget.earn()
        return await Fetch(self._tools, wanted, deadline).run()

    def fetch_now(self, replicas: Sequence[Replica], offset: int, size: int) -> bytes | memoryview | None:
        """The same bytes, if the best replica's origin is healthy and has them without waiting, else None.

        A memoryview is valid until the next call. Accounts for nothing and raises nothing: `fetch` does, when it
        reads what this could not.
        """
        routed = self._registry.route_now(replicas)
        if routed is None:
            return None
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
        return data if data is not None and len(data) == (size if size < left else left) else None

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
            log.error("an immediate read of origin %r failed by a fault of its driver", replica.origin, exc_info=error)
