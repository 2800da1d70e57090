"""Keeps in memory which blocks the cache on disk has of the contents that were read last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from musicfs.cache.block_checksums import BLOCK_SIZE, CHECKSUM_SIZE, PIECE_SIZE, PIECES
from musicfs.cache.disk import BlockFile, Changes, LoadedIndex
from musicfs.model import Content, Fingerprint
from musicfs.system.lru import Lru
from musicfs.system.threads import WorkerThreads

_MAX_CONTENTS = 128


class KnownContent:
    """What the cache has of one content.

    file: None if there is none. lost: blocks in the index whose file is missing, until the store drops them.
    present: a byte for each block, 1 if it is there. sums: the checksums of all pieces. touched: the content was read
    since its time of use was last taken.
    """

    __slots__ = ("_size", "file", "lost", "present", "sums", "touched")

    def __init__(self, size: int, loaded: LoadedIndex) -> None:
        self._size = size
        self.file: BlockFile | None = None
        self.touched = bool(loaded.blocks)
        self.present = bytearray(max(1, -(-size // BLOCK_SIZE)))
        self.sums = bytearray()
        self.lost = [] if loaded.file else [number for number, _ in loaded.blocks]
        if loaded.file is not None:
            self.use(loaded.file)
            for number, sums in loaded.blocks:
                self.add(number, sums)

    def use(self, file: BlockFile) -> None:
        """Sets the file, where there was none. What it has is still to be added."""
        self.file = file
        self.sums = bytearray(-(-self._size // PIECE_SIZE) * CHECKSUM_SIZE)

    def add(self, number: int, sums: bytes) -> None:
        at = number * PIECES * CHECKSUM_SIZE
        self.sums[at : at + len(sums)] = sums
        self.present[number] = 1

    def piece_checksums(self, number: int) -> bytes:
        at = number * PIECES * CHECKSUM_SIZE
        return bytes(self.sums[at : at + PIECES * CHECKSUM_SIZE])


class KnownBlocks:
    """The contents that were read last, up to 128 of them. Belongs to the event loop's thread.

    load: reads what the index has of a content; it blocks, so it runs in one of the `readers`.
    """

    def __init__(self, readers: WorkerThreads, load: Callable[[Fingerprint], LoadedIndex]) -> None:
        self._readers = readers
        self._load_index = load
        self._contents: Lru[Fingerprint, KnownContent] = Lru(_MAX_CONTENTS)
        self._used: dict[Fingerprint, float] = {}
        self._loading: dict[Fingerprint, asyncio.Task[KnownContent]] = {}
        self._changed_while_loading: set[Fingerprint] = set()
        self.get = self._contents.get
        self.mark_used = self._contents.move_to_end
        self.clear = self._contents.clear

    def load(self, content: Content) -> asyncio.Future[KnownContent]:
        """Brings what the disk has of the content into memory, once for all callers that want it meanwhile.

        Returns:
            What the disk has. It raises what reading the index raises. A caller may cancel it: the loading goes on.
        """
        fingerprint = content.fingerprint
        task = self._loading.get(fingerprint)
        if task is None:
            task = self._loading[fingerprint] = asyncio.create_task(self._load(content))
            task.add_done_callback(lambda done: self._loaded(fingerprint, done))
        return asyncio.shield(task)

    async def _load(self, content: Content) -> KnownContent:
        while True:
            self._changed_while_loading.discard(content.fingerprint)
            loaded = await self._readers.run(self._load_index, content.fingerprint)
            if content.fingerprint not in self._changed_while_loading:
                return self._add(content, loaded)

    def _loaded(self, fingerprint: Fingerprint, task: asyncio.Task[KnownContent]) -> None:
        del self._loading[fingerprint]
        if not task.cancelled():
            task.exception()  # all its callers may have gone

    async def end_loading(self) -> None:
        for task in self._loading.values():
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)

    def _add(self, content: Content, loaded: LoadedIndex) -> KnownContent:
        known = KnownContent(content.size, loaded)
        forgotten = self._contents.put(content.fingerprint, known)
        if forgotten is not None and forgotten[1].touched:
            self._used[forgotten[0]] = time.time()
        return known

    def apply(self, changes: Changes) -> None:
        """Applies changes of the disk to what is known. A content that changes while it is loaded is loaded again."""
        if self._loading:
            changed = {fingerprint for fingerprint, *_ in (*changes.removed, *changes.stored)}
            self._changed_while_loading |= self._loading.keys() & changed
        for fingerprint in changes.ended:
            self._contents.pop(fingerprint, None)
        for fingerprint, number in changes.removed:
            if (known := self._contents.get(fingerprint)) is not None:
                known.present[number] = 0
        for fingerprint, number, sums in changes.stored:
            known = self._contents.get(fingerprint)
            if known is None:
                continue
            if known.file is None:
                known.use(changes.files[fingerprint])
            known.add(number, sums)

    def take_used(self) -> dict[Fingerprint, float]:
        """Returns the contents used since the last call, with when they were used, in seconds since the epoch."""
        now = time.time()
        for fingerprint, known in self._contents.items():
            if known.touched:
                known.touched = False
                self._used[fingerprint] = now
        used, self._used = self._used, {}
        return used
