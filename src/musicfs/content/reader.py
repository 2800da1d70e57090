"""From a byte range of a content to the blocks it lies in, each fetched once however many readers wait for it.

Two ways in, as the mount needs them: `read_now` answers at once or not at all, `read` may wait. Every block that is
fetched is checked against the checksum recorded when it was first seen, so that a replica that has rotted, or that
lies, is found out by the reading of it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import inf

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.cache.store import BlockStore
from musicfs.content.checksums import Checksums
from musicfs.content.open_content import OpenContent
from musicfs.content.readahead import ReadAhead
from musicfs.content.retag import Reuse
from musicfs.content.verified_reads import CheckedReads
from musicfs.errors import NoReplicaAvailable
from musicfs.federation.failover import FailoverExecutor
from musicfs.federation.fetch import Fetched, never
from musicfs.model import Content, OriginId, Replica

__all__ = ["BLOCK_SIZE", "OpenContent", "Reader"]

_RECENT_BLOCKS = 32
_FAIL_AGAIN_SECS = 0.1
_FAIR_PART = 4


class Reader:
    """Reads ranges of contents. All methods belong to the event loop's thread.

    recent_blocks: how many fetched blocks are kept in memory, besides those read ahead, for the kernel asks for a block
    in several requests.
    store: the cache on disk, if there is one. kept: whether blocks of this origin are to be kept there.
    checksums: what blocks are checked against. before: what files that hold a content held earlier, the latest first.
    """

    def __init__(
        self,
        failover: FailoverExecutor,
        recent_blocks: int = _RECENT_BLOCKS,
        store: BlockStore | None = None,
        kept: Callable[[OriginId], bool] = lambda origin: True,
        checksums: Checksums | None = None,
        before: Callable[[Content], Sequence[Content]] = lambda content: (),
    ) -> None:
        self._failover = failover
        self._store = store
        self._kept = kept
        self._most_recent = recent_blocks
        checksums = checksums or Checksums()
        self._checked = CheckedReads(failover, checksums, self._forget)
        self._reuse = Reuse(failover, store, checksums, before, self._forget) if store is not None else None
        self._recent: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._fetching: dict[tuple[int, int], asyncio.Task[bytes]] = {}
        self._failed: dict[tuple[int, int], tuple[float, NoReplicaAvailable]] = {}
        self._unasked: set[tuple[int, int]] = set()
        """Blocks that are fetched ahead, and that nobody waits for yet."""
        self._ahead = ReadAhead(self, BLOCK_SIZE, lambda opened: failover.reads_now(opened.replicas), self._gathering)

    @property
    def bytes_held(self) -> int:
        """Of blocks in memory."""
        return sum(map(len, self._recent.values()))

    @property
    def busy(self) -> bool:
        """Whether anything is fetched that somebody reads, or soon will."""
        return bool(self._fetching)

    async def keep(self, opened: OpenContent, index: int) -> None:
        """Has the block of a pinned content stored in the cache on disk, as background work.

        Raises `NoReplicaAvailable`.
        """
        assert self._store is not None
        fetched = await self._checked.fetch(opened, index, background=True)
        if opened.record is not None:
            self._store.put(opened.content, index, fetched.data)

    async def compare(self, opened: OpenContent, index: int, replica: Replica) -> None:
        """Has the replica show the block, as background work whose time and failures say little of its origin.

        Who turns out to be wrong is in quarantine afterwards. Raises `NoReplicaAvailable` when this one can't be read,
        or is wrong.
        """
        await self._checked.fetch(opened, index, urgent=never, background=True, only=replica)

    def prepare(self, opened: OpenContent) -> None:
        """It has been opened, so it is likely to be read soon."""
        self._checked.prepare(opened)

    def read_now(self, opened: OpenContent, offset: int, size: int) -> bytes | memoryview | None:
        """The bytes if they can be had without waiting, else None. A memoryview is valid until the next call."""
        data = self._checked.read_now(opened, offset, size)
        if data is None and self._recent:
            index, start = divmod(offset, BLOCK_SIZE)
            block = self._recent.get((opened.content.id, index))
            end = min(start + size, opened.content.size - index * BLOCK_SIZE)
            if block is not None and end <= len(block):
                self._ahead.note(opened, offset, index * BLOCK_SIZE + end, here=True)
                return memoryview(block)[start:end]
        if data is None and self._store is not None:
            data = self._store.read_now(opened.content, offset, size)
            if data is not None:
                self._ahead.note(opened, offset, offset + len(data), here=True)
        return data

    async def read(self, opened: OpenContent, offset: int, size: int) -> bytes:
        """Exactly `size` bytes at `offset`, fewer only at the end of the content.

        Raises `NoReplicaAvailable` when no replica has them within the deadline.
        """
        end = min(offset + size, opened.content.size)
        if offset >= end:
            return b""
        if opened.awaits_record:
            opened.awaits_record = False
            await self._checked.load(opened)
            if (data := self.read_now(opened, offset, size)) is not None:
                return bytes(data)
        self._ahead.note(opened, offset, end, here=False)
        first, last = offset // BLOCK_SIZE, (end - 1) // BLOCK_SIZE
        blocks = await asyncio.gather(*(self._block(opened, index) for index in range(first, last + 1)))
        base = first * BLOCK_SIZE
        return b"".join(blocks)[offset - base : end - base]

    async def _block(self, opened: OpenContent, index: int) -> bytes:
        key = (opened.content.id, index)
        block = self._recent.get(key)
        if block is not None:
            return block
        if key in self._unasked:
            self._unasked.discard(key)
            deadline = asyncio.get_running_loop().time() + self._failover.patience
            try:
                return await asyncio.shield(self._fetching[key])
            except NoReplicaAvailable as error:
                if not error.timed_out:
                    raise
                # Its time had begun before that of its reader.
                return await asyncio.shield(self._start(opened, index, deadline))
        # Shielded: whoever asked first may go away while others wait for the same block.
        return await asyncio.shield(self._start(opened, index))

    def _start(self, opened: OpenContent, index: int, deadline: float | None = None) -> asyncio.Task[bytes]:
        """The fetch of the block, which may be under way."""
        key = (opened.content.id, index)
        task = self._fetching.get(key)
        if task is None:
            if deadline is None:
                self._fail_again(key)
            task = asyncio.create_task(self._fetch(opened, index, deadline))
            self._fetching[key] = task
            task.add_done_callback(lambda done: self._fetched(key, done))
        return task

    def begin(self, opened: OpenContent, index: int) -> asyncio.Task[bytes] | None:
        """Fetches a block that nobody waits for yet; None when it is here or under way."""
        key = (opened.content.id, index)
        if key in self._recent or key in self._fetching or self._failure_of(key) is not None:
            return None
        if self._store is not None and self._store.has(opened.content, index):
            return None
        self._unasked.add(key)
        return self._start(opened, index)

    def drop(self, opened: OpenContent, index: int) -> None:
        """Ends the fetch of the block if still nobody waits for it."""
        key = (opened.content.id, index)
        if key in self._unasked:
            self._unasked.discard(key)
            self._fetching.pop(key).cancel()

    def close(self, opened: OpenContent) -> None:
        """Nobody reads it any more."""
        self._ahead.close(opened)
        self._trim()

    def _fetched(self, key: tuple[int, int], task: asyncio.Task[bytes]) -> None:
        if self._fetching.get(key) is not task:  # dropped
            return
        del self._fetching[key]
        unasked = key in self._unasked
        self._unasked.discard(key)
        # Looked at in any case, since everyone who waited for it may be gone.
        if not task.cancelled() and isinstance(error := task.exception(), NoReplicaAvailable):
            now = asyncio.get_running_loop().time()
            self._failed = {k: failed for k, failed in self._failed.items() if failed[0] > now}
            if error.timed_out and not unasked:
                self._failed[key] = now + _FAIL_AGAIN_SECS, error

    def _fail_again(self, key: tuple[int, int]) -> None:
        """The kernel asks at once again for what its read-ahead has waited for in vain: one deadline is enough."""
        error = self._failure_of(key)
        if error is not None:
            raise error

    def _failure_of(self, key: tuple[int, int]) -> NoReplicaAvailable | None:
        """What the fetch of the block failed with, if that was a moment ago."""
        until, error = self._failed.get(key, (0.0, None))
        return error if asyncio.get_running_loop().time() < until else None

    async def _fetch(self, opened: OpenContent, index: int, deadline: float | None = None) -> bytes:
        data = await self._find(opened, index, deadline)
        self._recent[opened.content.id, index] = data
        self._trim()
        return data

    def _trim(self) -> None:
        while len(self._recent) > self._most_recent + self._ahead.room // BLOCK_SIZE:
            self._recent.popitem(last=False)

    async def _find(self, opened: OpenContent, index: int, deadline: float | None) -> bytes:
        """From the cache on disk if it is there, else from an origin; from a healthy disk of this machine directly."""
        store, content = self._store, opened.content
        if store is None:
            return (await self._ask(opened, index, deadline)).data
        direct = self._failover.reads_now(opened.replicas) and not any(self._kept(r.origin) for r in opened.replicas)
        if not direct and (data := await store.read(content, index)) is not None:
            return data
        if not direct and (data := await self._reused(opened, index, deadline)) is not None:
            if store.is_pinned(content) or any(self._kept(replica.origin) for replica in opened.replicas):
                store.put(content, index, data)
            return data
        try:
            fetched = await self._ask(opened, index, deadline)
        except NoReplicaAvailable:
            if direct and (data := await store.read(content, index)) is not None:
                return data
            raise
        is_checked = opened.record is not None
        if is_checked and (self._kept(fetched.replica.origin) or store.is_pinned(content)):
            store.put(content, index, fetched.data)
        return fetched.data

    async def _reused(self, opened: OpenContent, index: int, deadline: float | None) -> bytes | None:
        key = opened.content.id, index
        assert self._reuse is not None
        return await self._reuse.block(opened, index, deadline, urgent=lambda: key not in self._unasked)

    async def _ask(self, opened: OpenContent, index: int, deadline: float | None) -> Fetched:
        key = opened.content.id, index
        return await self._checked.fetch(opened, index, deadline, urgent=lambda: key not in self._unasked)

    def _gathering(self, opened: OpenContent) -> float:
        """As ReadAhead has it: only what is kept on disk, and drives out little there; where reads cost money, within
        four times of what is asked for."""
        best, size = self._failover.registry.route(opened.replicas), opened.content.size
        if self._store is None or best is None or not self._kept(best.origin.id):
            return 0
        if size * _FAIR_PART > self._store.disk.limit:
            return 0
        return _FAIR_PART - 1 if best.metered else inf

    def _forget(self, content: Content, index: int) -> None:
        """What is kept of the block is not what it ought to be."""
        self._recent.pop((content.id, index), None)
        if self._store is not None:
            self._store.forget(content, index)

    async def aclose(self) -> None:
        """Ends the fetches under way; their readers get the cancellation."""
        for task in list(self._fetching.values()):
            task.cancel()
        await asyncio.gather(*self._fetching.values(), return_exceptions=True)
        if self._reuse is not None:
            await self._reuse.aclose()
