"""The block cache as the event loop sees it: nothing here waits for a disk.

It keeps in memory which blocks it has of the contents that were read last, so it returns a block at once if the kernel
has it in memory, and knows at once that a block is missing. Everything else goes to threads, through `BlockDisk`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence, Set
from dataclasses import dataclass
from functools import partial
from os import RWF_NOWAIT, preadv
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from musicfs.cache.block_checksums import BLOCK_SIZE, PIECE_SIZE, matches
from musicfs.cache.breaker import CircuitBreaker
from musicfs.cache.disk import BlockDisk, Changes, NewBlock, read_block
from musicfs.cache.index import Indexed, last_block
from musicfs.cache.resident import KnownBlocks, KnownContent
from musicfs.cache.write_queue import WriteQueue
from musicfs.errors import MusicFSError
from musicfs.events import EventBus
from musicfs.model import Content, Fingerprint
from musicfs.system.sqlite import SqliteError
from musicfs.system.tasks import Tasks
from musicfs.system.threads import WorkersUnavailable, WorkerThreads

log = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_MAX_NOW = 1 << 20  # bytes: the longest request of the kernel
_READING_THREADS = 4
_READ_SECS = 1.0  # then an origin is asked: a disk that hangs must not make music wait
_CLOSING_SECS = 2.0
_TOUCH_EVERY_SECS = 5.0

_FAILURES = (OSError, SqliteError)


class CacheFailed(MusicFSError):
    """The cache's disk failed or is full."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What the cache holds, and how it did since the start. Bytes are those on disk.

    hits: requests that the cache answered. misses: blocks that it did not have. skipped: blocks that were not kept,
    because the disk was too slow, full or failing.
    """

    limit: int
    bytes: int
    pinned_bytes: int
    contents: int
    blocks: int
    hits: int
    misses: int
    skipped: int
    corrupt: int
    working: bool


class BlockStore:
    """Keeps blocks of contents on disk. All methods belong to the event loop's thread.

    folder: of the cache; it must exist. limit: the most bytes that blocks may take on disk.
    """

    def __init__(self, folder: Path, limit: int, bus: EventBus) -> None:
        self.disk = BlockDisk(folder, limit)
        self._readers = WorkerThreads("cache-read", _READING_THREADS)
        self._writer = WorkerThreads("cache-write", 1)
        self._breaker = CircuitBreaker(bus)
        self._known = KnownBlocks(self._readers, self.disk.load)
        self._pinned: set[Fingerprint] = set()
        self._touching: asyncio.Task[Any] | None = None
        self._tasks = Tasks(log, quiet=(CacheFailed,))
        self._queue = WriteQueue(self._store, partial(self._tasks.spawn, name="writing to the cache"))
        self._buffer = memoryview(bytearray(_MAX_NOW + 2 * PIECE_SIZE))
        self._now = True
        self._closed = False
        self._hits = self._misses = self._skipped = self._corrupt = 0
        self.changes = 0
        """How many blocks were stored and removed since the start."""

    @property
    def waiting(self) -> bool:
        """Whether anything must still be written."""
        return any(task is not self._touching for task in self._tasks)

    async def start(self) -> None:
        """Opens the cache. Publishes an event for a disk that fails, and raises nothing."""
        with contextlib.suppress(CacheFailed):
            await self._run_writing(self.disk.open)
        await self._load_pinned()
        self._spawn(self._free_excess())
        self._touching = self._spawn(self._keep_touching())

    async def aclose(self) -> None:
        """Stores what waits and closes the cache in order, if that takes no more than seconds."""
        if self._closed:
            return
        await self._queue.written(_CLOSING_SECS)
        self._closed = True
        await asyncio.gather(self._tasks.aclose(), self._known.end_loading(), return_exceptions=True)
        with contextlib.suppress(CacheFailed, *_FAILURES, TimeoutError):
            async with asyncio.timeout(_CLOSING_SECS):
                await self._write_touched()
                await self._writer.run(self.disk.close)
        self._readers.close()
        self._writer.close()
        self._known.clear()

    # reading

    def read_now(self, content: Content, offset: int, size: int) -> memoryview | None:
        """Returns the bytes if that takes no waiting, else None. They are valid until the next call.

        Args:
            content: which content.
            offset: in bytes.
            size: in bytes; fewer are returned at the end of the content.
        """
        known = self._known.get(content.fingerprint)
        if known is None or known.file is None or size > _MAX_NOW or not self._now:
            return None
        end = offset + size
        if end > content.size:
            end = content.size
        if offset >= end:
            return None
        present = known.present
        number, last = offset // BLOCK_SIZE, (end - 1) // BLOCK_SIZE
        if not present[number] or (number != last and not all(present[number : last + 1])):
            return None
        piece = offset // PIECE_SIZE
        start = piece * PIECE_SIZE
        length = min(-(-end // PIECE_SIZE) * PIECE_SIZE, content.size) - start
        view = self._buffer[:length]
        try:
            done = preadv(known.file.fd, (view,), start, RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError:
            self._now = False  # the filesystem can't, or fails: `read` finds out, and works in any case
            return None
        # `read` deals with what is damaged, or not in memory as a whole.
        if done != length or not matches(view, known.sums, piece):
            return None
        known.touched = True
        self._known.mark_used(content.fingerprint)
        self._hits += 1
        return view[offset - start : end - start]

    def has(self, content: Content, number: int) -> bool:
        """Whether the cache has the block, of a content that was read lately; False where that is not known."""
        known = self._known.get(content.fingerprint)
        if (content.fingerprint, number) in self._queue.unwritten:
            return True
        return known is not None and bool(known.present[number])

    async def read(self, content: Content, number: int) -> bytes | None:
        """Returns the block, verified; None when the cache does not have it. Raises nothing."""
        if (unwritten := self._queue.unwritten.get((content.fingerprint, number))) is not None:
            self._hits += 1
            return unwritten
        known = self._known.get(content.fingerprint)
        if not self._breaker.working and not self._breaker.may_read():
            return None
        try:
            async with asyncio.timeout(_READ_SECS):
                if known is None:
                    known = await self._known.load(content)
                    if known.lost:
                        self._spawn(self.drop(content.fingerprint, known.lost))
                        known.lost = []
                data = await self._read(known, content, number)
        except WorkersUnavailable:
            data = None
        except TimeoutError:  # an OSError, too
            self._breaker.record_failure(f"its disk did not answer within {_READ_SECS:g} s", hangs=True)
            data = None
        except _FAILURES as error:
            self._breaker.record_failure(_reason(error))
            data = None
        if data is None:
            self._misses += 1
        else:
            self._hits += 1
        return data

    async def _read(self, known: KnownContent, content: Content, number: int) -> bytes | None:
        if known.file is None or not known.present[number]:
            return None
        sums = known.piece_checksums(number)
        try:
            data = await self._readers.run(read_block, known.file, content.size, number, sums)
        except OSError as error:
            self._breaker.record_failure(_reason(error))
            data = None
        if data is None:
            self.forget(content, number)
        else:
            known.touched = True
        return data

    # writing

    def put(self, content: Content, number: int, data: bytes) -> None:
        """Queues a block to be stored, unless too many wait already or the disk fails. Returns at once.

        Args:
            content: which content.
            number: of the block.
            data: its bytes, which were checked.
        """
        may_write = not self._closed and (self._breaker.working or self._breaker.may_write())
        if not (may_write and self._queue.put(NewBlock(content, number, data))):
            self._skipped += 1

    async def written(self) -> None:
        """Waits until all that was put is stored, or is given up."""
        await self._queue.written()

    async def _store(self, blocks: Sequence[NewBlock]) -> None:
        try:
            changes = await self._run_writing(self.disk.write, blocks)
        except CacheFailed:
            self._skipped += len(blocks)
            self._known.clear()  # it does not say what it evicted before it failed
        else:
            self._apply(changes)
            self._skipped += len(blocks) - len(changes.stored)

    def forget(self, content: Content, number: int) -> None:
        """Drops the block, also if it still waits to be stored. Returns at once."""
        self._queue.forget((content.fingerprint, number))
        self._spawn(self.drop(content.fingerprint, [number]))

    async def drop(self, fingerprint: Fingerprint, numbers: Iterable[int]) -> int:
        """Removes damaged blocks; returns how many of these the cache had."""
        numbers = list(numbers)
        self._apply(Changes(removed=[(fingerprint, number) for number in numbers]))
        changes = await self._run_writing(self.disk.drop, fingerprint, numbers)
        self._apply(changes)
        if changes.removed:
            self._corrupt += len(changes.removed)
            log.warning("%d damaged blocks of %s are dropped from the cache", len(changes.removed), fingerprint.hex())
        return len(changes.removed)

    async def pin(self, content: Content) -> None:
        """Keeps the blocks of the content from eviction, also those stored later. Raises `CacheFailed`."""
        await self._pin(content, True)

    async def unpin(self, content: Content) -> None:
        """Ends `pin`. Raises `CacheFailed`."""
        await self._pin(content, False)

    async def _pin(self, content: Content, pinned: bool) -> None:
        await self._run_writing(lambda: self.disk.pin(content, pinned=pinned))
        (self._pinned.add if pinned else self._pinned.discard)(content.fingerprint)

    @property
    def pinned(self) -> Set[Fingerprint]:
        return self._pinned.copy()

    def is_pinned(self, content: Content) -> bool:
        return content.fingerprint in self._pinned

    async def clear(self, *, pinned: bool = False) -> Changes:
        """Removes all blocks; pinned: those of pinned contents too, which stay pinned. Raises `CacheFailed`."""
        await self.written()
        changes = await self._run_writing(lambda: self.disk.clear(pinned=pinned))
        self._apply(changes)
        return changes

    # queries

    def share(self, content: Content) -> float:
        """Returns which part of the content's blocks the cache has, 0 to 1; 0 for an empty one. Takes microseconds."""
        try:
            indexed = self.disk.find(content.fingerprint)
        except SqliteError:
            indexed = None
        return indexed.blocks / (last_block(content.size) + 1) if indexed is not None else 0.0

    async def missing(self, content: Content) -> list[int]:
        """Returns the numbers of the blocks that the cache does not have. Raises `CacheFailed`."""
        return await self._run_reading(self.disk.missing, content)

    async def blocks_of(self, contents: Sequence[Content]) -> list[int]:
        """Returns how many blocks of each the cache has. Raises `CacheFailed`."""
        return await self._run_reading(self.disk.counts, contents)

    async def whole(self) -> set[Fingerprint]:
        """Returns the contents whose blocks are all here. Raises `CacheFailed`."""
        return await self._run_reading(self.disk.whole)

    async def after(self, content: int) -> list[Indexed]:
        """Returns some contents with an id above `content`, by id; none at the end. Raises `CacheFailed`."""
        return await self._run_reading(self.disk.after, content)

    async def verify(self, fingerprint: Fingerprint, size: int) -> tuple[int, int]:
        """Reads all blocks of a content and drops those that are damaged. Returns how many it read, and dropped.

        Raises `CacheFailed`.
        """
        checked, bad = await self._run_reading(self.disk.damaged, fingerprint, size)
        return checked, await self.drop(fingerprint, bad) if bad else 0

    async def stats(self) -> CacheStats:
        """Raises `CacheFailed`."""
        totals = await self._run_reading(self.disk.totals)
        return CacheStats(
            limit=self.disk.limit,
            bytes=totals.edge + totals.middle,
            pinned_bytes=totals.pinned,
            contents=totals.contents,
            blocks=totals.blocks,
            hits=self._hits,
            misses=self._misses,
            skipped=self._skipped,
            corrupt=self._corrupt,
            working=self._breaker.working,
        )

    # internals

    def _apply(self, changes: Changes) -> None:
        """Applies changes of the disk to what is in memory."""
        self.changes += len(changes.stored) + len(changes.removed)
        self._known.apply(changes)

    async def _load_pinned(self) -> None:
        with contextlib.suppress(*_FAILURES, WorkersUnavailable):
            self._pinned = await self._readers.run(self.disk.pinned)

    async def _free_excess(self) -> None:
        with contextlib.suppress(CacheFailed):
            self._apply(await self._run_writing(self.disk.free_excess))

    async def _keep_touching(self) -> None:
        while True:
            await asyncio.sleep(_TOUCH_EVERY_SECS)
            with contextlib.suppress(CacheFailed):
                await self._write_touched()

    @property
    def problem(self) -> str | None:
        """Why nothing is cached now; None: the cache works."""
        return self._breaker.reason

    async def _write_touched(self) -> None:
        used = self._known.take_used()
        if used and self._breaker.working:
            await self._run_writing(self.disk.touch, used)

    async def _run_reading(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """Runs a call in one of the threads that read. Raises `CacheFailed`."""
        try:
            return await self._readers.run(call, *args)
        except WorkersUnavailable as error:
            raise _failed(error) from None
        except _FAILURES as error:
            raise _failed(error) from error

    async def _run_writing(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """Runs a call in the thread that writes; a failure stops caching for a while. Raises `CacheFailed`."""
        try:
            result = await self._writer.run(call, *args)
        except WorkersUnavailable as error:
            raise _failed(error) from None
        except _FAILURES as error:
            self._breaker.record_failure(_reason(error))
            raise _failed(error) from error
        if self._breaker.record_success():
            self._now = True
            self._spawn(self._load_pinned())
        return result

    def _spawn(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        return self._tasks.spawn(work, "a task of the cache")


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _failed(error: BaseException) -> CacheFailed:
    return CacheFailed(f"the cache on disk can't be used now ({_reason(error)})")
