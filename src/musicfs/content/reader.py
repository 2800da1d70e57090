"""From a byte range of a content to the blocks it lies in, each fetched once however many readers wait for it.

Two ways in, as the mount needs them: `read_now` answers at once or not at all, `read` may wait. Every block that is
fetched is checked against the checksum recorded when it was first seen, so that a replica that has rotted, or that
lies, is found out by the reading of it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from blake3 import blake3

from musicfs.errors import NoReplicaAvailable
from musicfs.federation.failover import FailoverExecutor
from musicfs.model import Content, Replica

BLOCK_SIZE = 256 * 1024
_RECENT_BLOCKS = 32
_CONTENTS_WITH_CHECKSUMS = 4096
_FAIL_AGAIN_SECS = 0.1


@dataclass(frozen=True, slots=True)
class OpenContent:
    """A content that a file handle is pinned to, and the replicas that may serve it."""

    content: Content
    replicas: Sequence[Replica]


class _Checksums:
    """The first digest seen of each block, for the contents read most recently."""

    def __init__(self) -> None:
        self._contents: OrderedDict[bytes, dict[int, bytes]] = OrderedDict()

    def agrees(self, content: Content, index: int, data: bytes) -> bool:
        """Whether `data` is what this block was before; True, and recorded, when it was never seen."""
        blocks = self._contents.setdefault(content.fingerprint, {})
        self._contents.move_to_end(content.fingerprint)
        if len(self._contents) > _CONTENTS_WITH_CHECKSUMS:
            self._contents.popitem(last=False)
        digest = blake3(data).digest(16)
        return blocks.setdefault(index, digest) == digest


class Reader:
    """Reads ranges of contents. All methods belong to the event loop's thread.

    recent_blocks: how many fetched blocks are kept in memory, for the kernel asks for a block in several requests.
    """

    def __init__(self, failover: FailoverExecutor, recent_blocks: int = _RECENT_BLOCKS) -> None:
        self._failover = failover
        self._most_recent = recent_blocks
        self._checksums = _Checksums()
        self._recent: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._fetching: dict[tuple[int, int], asyncio.Task[bytes]] = {}
        self._failed: dict[tuple[int, int], tuple[float, NoReplicaAvailable]] = {}

    def read_now(self, opened: OpenContent, offset: int, size: int) -> bytes | memoryview | None:
        """The bytes if they can be had without waiting, else None. A memoryview is valid until the next call."""
        data = self._failover.fetch_now(opened.replicas, offset, size)
        if data is None and self._recent:
            index, start = divmod(offset, BLOCK_SIZE)
            block = self._recent.get((opened.content.id, index))
            end = min(start + size, opened.content.size - index * BLOCK_SIZE)
            if block is not None and end <= len(block):
                return memoryview(block)[start:end]
        return data

    async def read(self, opened: OpenContent, offset: int, size: int) -> bytes:
        """Exactly `size` bytes at `offset`, fewer only at the end of the content.

        Raises `NoReplicaAvailable` when no replica has them within the deadline.
        """
        end = min(offset + size, opened.content.size)
        if offset >= end:
            return b""
        first, last = offset // BLOCK_SIZE, (end - 1) // BLOCK_SIZE
        blocks = await asyncio.gather(*(self._block(opened, index) for index in range(first, last + 1)))
        base = first * BLOCK_SIZE
        return b"".join(blocks)[offset - base : end - base]

    async def _block(self, opened: OpenContent, index: int) -> bytes:
        key = (opened.content.id, index)
        block = self._recent.get(key)
        if block is not None:
            self._recent.move_to_end(key)
            return block
        task = self._fetching.get(key)
        if task is None:
            self._fail_again(key)
            task = asyncio.create_task(self._fetch(opened, index))
            self._fetching[key] = task
            task.add_done_callback(lambda done: self._fetched(key, done))
        # Shielded: whoever asked first may go away while others wait for the same block.
        return await asyncio.shield(task)

    def _fetched(self, key: tuple[int, int], task: asyncio.Task[bytes]) -> None:
        del self._fetching[key]
        # Looked at in any case, since everyone who waited for it may be gone.
        if not task.cancelled() and isinstance(error := task.exception(), NoReplicaAvailable):
            now = asyncio.get_running_loop().time()
            self._failed = {k: failed for k, failed in self._failed.items() if failed[0] > now}
            if error.timed_out:
                self._failed[key] = now + _FAIL_AGAIN_SECS, error

    def _fail_again(self, key: tuple[int, int]) -> None:
        """The kernel asks at once again for what its read-ahead has waited for in vain: one deadline is enough."""
        until, error = self._failed.get(key, (0.0, None))
        if error is not None and asyncio.get_running_loop().time() < until:
            raise error

    async def _fetch(self, opened: OpenContent, index: int) -> bytes:
        content = opened.content
        offset = index * BLOCK_SIZE
        size = min(BLOCK_SIZE, content.size - offset)

        def check(_: Replica, data: bytes) -> bool:
            return self._checksums.agrees(content, index, data)

        fetched = await self._failover.fetch(opened.replicas, offset, size, check=check, block=index)
        self._recent[content.id, index] = fetched.data
        if len(self._recent) > self._most_recent:
            self._recent.popitem(last=False)
        return fetched.data

    async def aclose(self) -> None:
        """Ends the fetches under way; their readers get the cancellation."""
        for task in list(self._fetching.values()):
            task.cancel()
        await asyncio.gather(*self._fetching.values(), return_exceptions=True)
