"""Reads ranges of contents as blocks. Each block is fetched once, however many readers wait for it.

The mount needs two ways in: `read_now` answers at once or not at all, `read` may wait. Every block that is fetched is
checked against the checksum recorded when it was first seen, so reading finds replicas that have rotted or that lie.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from math import inf

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.cache.store import BlockStore
from musicfs.content.block_table import BlockKey, BlockTable
from musicfs.content.checksums import Checksums
from musicfs.content.circles import Circles
from musicfs.content.open_content import OpenContent
from musicfs.content.readahead import BY_BLOCK, STREAMED, Reach, ReadAhead
from musicfs.content.replica_lookup import ReplicaLookup
from musicfs.content.retag import Reuse
from musicfs.content.verified_reads import VerifiedReads
from musicfs.errors import NoReplicaAvailable
from musicfs.federation.failover import FailoverExecutor
from musicfs.federation.fetch import URGENT, Demand
from musicfs.model import Content, OriginId, Replica
from musicfs.origin import Streams

__all__ = ["BLOCK_SIZE", "OpenContent", "Reader"]

_RECENT_BLOCKS = 32
_FAIR_PART = 4


class Reader:
    """Reads ranges of contents. All methods belong to the event loop's thread."""

    def __init__(
        self,
        failover: FailoverExecutor,
        recent_blocks: int = _RECENT_BLOCKS,
        store: BlockStore | None = None,
        kept: Callable[[OriginId], bool] = lambda origin: True,
        checksums: Checksums | None = None,
        before: Callable[[Content], Sequence[Content]] = lambda content: (),
        lookup: ReplicaLookup | None = None,
        circles: Circles | None = None,
    ) -> None:
        """Only stores its arguments.

        Args:
            failover: fetches bytes from origins.
            recent_blocks: how many fetched blocks stay in memory beside those read ahead, because the kernel asks for
                a block in several requests.
            store: the cache on disk, if there is one.
            kept: whether blocks of this origin go into the cache on disk.
            checksums: what blocks are checked against.
            before: returns what the files that hold a content held earlier, the latest first.
            lookup: finds replicas for contents whose replicas have failed. None: those of the opening are all.
            circles: decides which copies may serve one content. None: all that it was opened with.
        """
        self._failover = failover
        self._store = store
        self._kept = kept
        self._recent_blocks = recent_blocks
        self._checksums = checksums = checksums or Checksums()
        self.circles = circles
        if circles is not None:
            circles.on_replaced = self._forget
        self._checked = VerifiedReads(failover, checksums, self._forget, self.circles)
        self._replaced: set[int] = set()
        self._lookup = lookup
        self._reuse = Reuse(failover, store, checksums, before, self._forget) if store is not None else None
        self._table = BlockTable()
        self._in_memory = self._table.in_memory
        self._ahead = ReadAhead(self, BLOCK_SIZE, self._gathering, self._reach)

    @property
    def bytes_held(self) -> int:
        """Bytes of blocks in memory."""
        return sum(map(len, self._in_memory.values()))

    @property
    def busy(self) -> bool:
        """Whether a block is being fetched that a reader waits for, or is likely to read soon."""
        return bool(self._table.in_flight)

    async def keep(self, opened: OpenContent, index: int) -> None:
        """Stores the block of a pinned content in the cache on disk, as background work.

        Raises `NoReplicaAvailable`.
        """
        assert self._store is not None
        fetched = await self._checked.fetch(opened, index, background=True)
        if fetched.is_checked:
            self._store.put(opened.content, index, fetched.data)

    async def compare(self, opened: OpenContent, index: int, replica: Replica) -> None:
        """Reads the block from one replica, as background work whose time and failures say little of its origin.

        Replicas that turn out to be wrong are in quarantine afterwards.

        Args:
            opened: the content.
            index: the number of the block.
            replica: the one to read; the others vote where its bytes are in doubt.

        Raises:
            NoReplicaAvailable: the replica can't be read, or is wrong.
        """
        await self._checked.fetch(opened, index, demand=Demand(urgent=False), background=True, only=replica)

    def prepare(self, opened: OpenContent) -> None:
        """Prepares for reads of a content that has just been opened."""
        if self.circles is not None:
            self.circles.admit(opened)
        self.expect((opened.content,))

    def expect(self, contents: Iterable[Content]) -> None:
        """Prepares for reads of contents that are likely to be opened soon."""
        self._checksums.prepare(contents)

    def keeps_pages(self, content: Content) -> bool:
        """Whether what the kernel has cached of the content is right, as far as is known. Asks once after a change."""
        if content.id not in self._replaced:
            return True
        self._replaced.discard(content.id)
        return False

    def is_near(self, opened: OpenContent) -> bool:
        """Whether the content comes from a disk of this machine: from a healthy origin's, or the cache's."""
        if self._store is not None and self._store.has(opened.content, 0):
            return True
        return self._checked.is_near(opened)

    def open_now(self, opened: OpenContent) -> int | None:
        """Returns a descriptor of the file, for the kernel to read it itself; None: it is read here. The caller closes
        it. What is read through it is not checked, and does not move to another replica."""
        return None if opened.undecided else self._failover.registry.open_now(opened.replicas)

    def read_now(self, opened: OpenContent, offset: int, size: int) -> bytes | memoryview | None:
        """Returns the bytes if that takes no waiting, else None. A memoryview is valid until the next call.

        Args:
            offset: in bytes.
            size: in bytes.
        """
        if opened.undecided:
            return None
        data = self._checked.read_now(opened, offset, size)
        if data is None and self._in_memory:
            index, start = divmod(offset, BLOCK_SIZE)
            block = self._in_memory.get((opened.content.id, index))
            end = min(start + size, opened.content.size - index * BLOCK_SIZE)
            if block is not None and end <= len(block):
                self._ahead.record_read(opened, offset, index * BLOCK_SIZE + end, here=True)
                return memoryview(block)[start:end]
        if data is None and self._store is not None:
            data = self._store.read_now(opened.content, offset, size)
            if data is not None:
                self._ahead.record_read(opened, offset, offset + len(data), here=True)
        return data

    async def read(self, opened: OpenContent, offset: int, size: int) -> bytes:
        """Returns exactly `size` bytes at `offset`, fewer only at the end of the content.

        Args:
            opened: the content.
            offset: in bytes.
            size: in bytes.

        Raises:
            NoReplicaAvailable: no replica has them within the deadline.
        """
        end = min(offset + size, opened.content.size)
        if offset >= end:
            return b""
        if opened.undecided and self.circles is not None:
            await self.circles.settle(opened)
            if (data := self.read_now(opened, offset, size)) is not None:
                return bytes(data)
        if opened.awaits_record:
            opened.awaits_record = False
            await self._checked.load(opened)
            if (data := self.read_now(opened, offset, size)) is not None:
                return bytes(data)
        if opened.routed_at is None:  # `read_now`, which was asked just before, has mostly routed it
            opened.routed = self._failover.registry.route_now(opened.replicas)
        self._ahead.record_read(opened, offset, end, here=False)
        first, last = offset // BLOCK_SIZE, (end - 1) // BLOCK_SIZE
        blocks = await asyncio.gather(*[self._block(opened, index) for index in range(first, last + 1)])
        base = first * BLOCK_SIZE
        return b"".join(blocks)[offset - base : end - base]

    async def _block(self, opened: OpenContent, index: int) -> bytes:
        """Returns the block, whatever state the table has it in."""
        key = (opened.content.id, index)
        if (block := self._in_memory.get(key)) is not None:
            return block
        flight = self._table.in_flight.get(key)
        if flight is None:
            if (error := self._table.failure(key)) is not None:
                raise error
            flight = self._table.start(key, self._fetch(opened, key, URGENT), URGENT)
        elif not flight.demand.urgent:
            flight.demand.urgent = True
            deadline = self._failover.deadline()
            try:
                return await asyncio.shield(flight.task)
            except NoReplicaAvailable as late:
                if not late.timed_out:
                    raise
                # The time of that fetch started before that of its reader.
                flight = self._table.in_flight.get(key) or self._table.start(
                    key, self._fetch(opened, key, URGENT, deadline), URGENT
                )
        return await asyncio.shield(flight.task)

    def begin(self, opened: OpenContent, index: int) -> asyncio.Task[bytes] | None:
        """Fetches a block that no reader waits for yet; returns None when it is here or under way."""
        key = (opened.content.id, index)
        if key in self._in_memory or key in self._table.in_flight or self._table.failure(key) is not None:
            return None
        if self._store is not None and self._store.has(opened.content, index):
            return None
        demand = Demand(urgent=False)
        return self._table.start(key, self._fetch(opened, key, demand), demand).task

    def drop(self, opened: OpenContent, index: int) -> None:
        """Cancels the fetch of the block unless a reader waits for it."""
        self._table.drop((opened.content.id, index))

    def close(self, opened: OpenContent) -> None:
        """Ends reading ahead for a content that no reader has open any longer."""
        self._ahead.close(opened)
        self._trim()

    async def _fetch(self, opened: OpenContent, key: BlockKey, demand: Demand, deadline: float | None = None) -> bytes:
        data = await self._find(opened, key[1], demand, deadline)
        self._table.keep(key, data)
        self._trim()
        return data

    def _trim(self) -> None:
        """Forgets the oldest blocks in memory: what is read ahead may take room beside the recent ones."""
        if len(self._in_memory) > self._recent_blocks:
            self._table.trim(self._recent_blocks + self._ahead.room // BLOCK_SIZE)

    async def _find(self, opened: OpenContent, index: int, demand: Demand, deadline: float | None) -> bytes:
        """Takes the block from the cache on disk if it is there, else from an origin.

        A healthy disk of this machine, whose blocks are not cached, is asked first.
        """
        store, content = self._store, opened.content
        if self.circles is not None and not opened.admitted:
            self.circles.admit(opened)
        is_kept = store is not None and any(self._kept(replica.origin) for replica in opened.replicas)
        direct = store is None or (opened.routed is not None and not is_kept)
        if not direct and store is not None and (data := await store.read(content, index)) is not None:
            return data
        if deadline is None:
            deadline = asyncio.get_running_loop().time() + self._failover.patience
        stale: set[Replica] = set()
        while True:
            tried = opened.replicas
            try:
                return await self._obtain(opened, index, demand, deadline, may_reuse=not direct)
            except NoReplicaAvailable as error:
                if direct and store is not None and (data := await store.read(content, index)) is not None:
                    return data
                if opened.is_lost:
                    raise
                if self.circles is not None and await self.circles.widen(opened, tried, deadline):
                    continue
                if self._lookup is None or not await self._lookup.renew(opened, tried, error, stale, deadline):
                    raise

    async def _obtain(
        self, opened: OpenContent, index: int, demand: Demand, deadline: float, *, may_reuse: bool
    ) -> bytes:
        """Makes the block of what is cached of an earlier version of the file, or fetches it from an origin."""
        # What is reused are bytes of several reads: they must come from copies that agree.
        if may_reuse and self._reuse is not None and opened.may_reuse and not opened.undecided:
            data = await self._reuse.block(opened, index, deadline, demand)
            if data is not None:
                is_kept = any(self._kept(replica.origin) for replica in opened.replicas)
                self._put(opened.content, index, data, is_kept=is_kept)
                return data
        fetched = await self._checked.fetch(opened, index, deadline, demand=demand)
        if fetched.is_checked:
            self._put(opened.content, index, fetched.data, is_kept=self._kept(fetched.replica.origin))
        return fetched.data

    def _put(self, content: Content, index: int, data: bytes, *, is_kept: bool) -> None:
        if self._store is not None and (is_kept or self._store.is_pinned(content)):
            self._store.put(content, index, data)

    def _gathering(self, opened: OpenContent) -> float:
        """How many blocks of the file may be fetched for each that is read, for `ReadAhead`; 0: none.

        Only what is kept on disk and drives out little there; where reads cost money, up to four times what is asked
        for.
        """
        best, size = self._failover.registry.route(opened.replicas), opened.content.size
        if self._store is None or best is None or not self._kept(best.origin.id):
            return 0
        if size * _FAIR_PART > self._store.disk.limit:
            return 0
        return _FAIR_PART - 1 if best.metered else inf

    def _reach(self, opened: OpenContent) -> Reach:
        best = self._failover.registry.route(opened.replicas)
        return STREAMED if best is not None and isinstance(best.origin, Streams) else BY_BLOCK

    def _forget(self, content: Content, index: int) -> None:
        """Forgets the bytes of a block that turned out to be wrong."""
        self._replaced.add(content.id)
        self._table.forget((content.id, index))
        if self._store is not None:
            self._store.forget(content, index)

    async def aclose(self) -> None:
        """Cancels the fetches under way; their readers get the cancellation."""
        await self._table.aclose()
        if self._reuse is not None:
            await self._reuse.aclose()
        if self._lookup is not None:
            await self._lookup.aclose()
        if self.circles is not None:
            await self.circles.aclose()
