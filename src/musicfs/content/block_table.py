"""What the reader knows of blocks in memory: which are here, which are on their way, and which have just failed.

A block that this table does not know is absent: a read starts its fetch. From there:

    absent ──start──> in flight (or in flight and wanted) ──keep──> in memory ──trim, forget──> absent
    in flight ──a reader asks──> in flight and wanted
    in flight ──drop──> absent
    in flight and wanted ──no replica in time──> failed until a moment from now ──> absent
    in flight ──no replica in time──> absent
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from musicfs.errors import NoReplicaAvailable
from musicfs.federation.fetch import Demand

_FAIL_AGAIN_SECS = 0.1

BlockKey = tuple[int, int]
"""A content's id, and the number of a block of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Flight:
    """A fetch that is under way: wanted where `demand.urgent` is true, else started ahead of any reader.

    Readers wait for the task behind `asyncio.shield`: the one that started it may go while others wait.
    """

    task: asyncio.Task[bytes]
    demand: Demand


class BlockTable:
    """Knows the state of every block that is not absent. Belongs to the event loop's thread.

    in_memory: the blocks that were fetched last, the oldest first. in_flight: the fetches under way.
    """

    def __init__(self) -> None:
        self.in_memory: OrderedDict[BlockKey, bytes] = OrderedDict()
        self.in_flight: dict[BlockKey, Flight] = {}
        self._failed: dict[BlockKey, tuple[float, NoReplicaAvailable]] = {}

    def failure(self, key: BlockKey) -> NoReplicaAvailable | None:
        """Returns the error of a block that failed a moment ago.

        After a read failed, the kernel asks at once again for what its read-ahead has asked for: one deadline is
        enough.
        """
        if key not in self._failed:
            return None
        until, error = self._failed[key]
        return error if asyncio.get_running_loop().time() < until else None

    def start(self, key: BlockKey, fetch: Coroutine[Any, Any, bytes], demand: Demand) -> Flight:
        """Starts the fetch of a block that is not in flight.

        Args:
            key: of the block.
            fetch: returns the bytes, and calls `keep` with them first.
            demand: whether a reader waits for the block now; `fetch` follows the same object.
        """
        task = asyncio.create_task(fetch)
        flight = self.in_flight[key] = Flight(task, demand)
        task.add_done_callback(lambda _: self._land(key, flight))
        return flight

    def keep(self, key: BlockKey, data: bytes) -> None:
        """Puts a block in memory. It stays in flight until its task has ended."""
        self.in_memory[key] = data

    def drop(self, key: BlockKey) -> None:
        """Cancels the fetch of the block unless a reader waits for it."""
        flight = self.in_flight.get(key)
        if flight is not None and not flight.demand.urgent:
            del self.in_flight[key]
            flight.task.cancel()

    def trim(self, limit: int) -> None:
        """Forgets the oldest blocks in memory beyond `limit` blocks."""
        while len(self.in_memory) > limit:
            self.in_memory.popitem(last=False)

    def forget(self, key: BlockKey) -> None:
        """Forgets the bytes of the block, which turned out to be wrong."""
        self.in_memory.pop(key, None)

    async def aclose(self) -> None:
        """Cancels all fetches; their readers get the cancellation."""
        tasks = [flight.task for flight in self.in_flight.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _land(self, key: BlockKey, flight: Flight) -> None:
        if self.in_flight.get(key) is not flight:  # dropped
            return
        del self.in_flight[key]
        # Retrieves the exception in any case, since all its readers may have gone.
        if flight.task.cancelled() or not isinstance(error := flight.task.exception(), NoReplicaAvailable):
            return
        now = asyncio.get_running_loop().time()
        self._failed = {key: failed for key, failed in self._failed.items() if failed[0] > now}
        if error.timed_out and flight.demand.urgent:
            self._failed[key] = now + _FAIL_AGAIN_SECS, error
