"""What of the cache on disk is known in memory: which blocks there are of the contents that were read last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from musicfs.cache.block_checksums import CHECKSUM_SIZE, PIECE_SIZE, PIECES
from musicfs.cache.disk import BlockFile, Changes, LoadedIndex
from musicfs.cache.index import last_block
from musicfs.model import Content, Fingerprint
from musicfs.system.lru import Lru

_MAX_CONTENTS = 128


class KnownContent:
    """One of them. present: a byte for each block; seals: of all its pieces; touched: it was read since that was
    last asked."""

    __slots__ = ("_lost", "file", "present", "sums", "touched")

    def __init__(self, size: int, loaded: LoadedIndex) -> None:
        self.file: BlockFile | None = loaded.file
        self.touched = bool(loaded.blocks)
        self.present = bytearray(last_block(size) + 1)
        self.sums = bytearray(-(-size // PIECE_SIZE) * CHECKSUM_SIZE if loaded.file else 0)
        self._lost = [] if loaded.file else [number for number, _ in loaded.blocks]
        if loaded.file is not None:
            for number, sums in loaded.blocks:
                self.add(number, sums)

    def take_lost(self) -> list[int]:
        """The blocks whose file was missing, the first time that this is asked."""
        lost, self._lost = self._lost, []
        return lost

    def add(self, number: int, sums: bytes) -> None:
        at = number * PIECES * CHECKSUM_SIZE
        self.sums[at : at + len(sums)] = sums
        self.present[number] = 1

    def piece_checksums(self, number: int) -> bytes:
        at = number * PIECES * CHECKSUM_SIZE
        return bytes(self.sums[at : at + PIECES * CHECKSUM_SIZE])


class KnownBlocks:
    """The contents that were read last, as many as memory is given for. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._contents: Lru[Fingerprint, KnownContent] = Lru(_MAX_CONTENTS)
        self._used: dict[Fingerprint, float] = {}
        self._loading: dict[Fingerprint, asyncio.Task[KnownContent]] = {}
        self._changed_while_loading: set[Fingerprint] = set()
        self.get = self._contents.get
        self.note_read = self._contents.move_to_end
        self.clear = self._contents.clear

    async def load(self, content: Content, load: Callable[[Content], Awaitable[LoadedIndex]]) -> KnownContent:
        """What there is of the content, from now on in memory. load: asks the disk; what it raises, this does."""
        fingerprint = content.fingerprint
        task = self._loading.get(fingerprint)
        if task is None:
            task = self._loading[fingerprint] = asyncio.create_task(self._load(content, load))
            task.add_done_callback(lambda done: self._loaded(fingerprint, done))
        return await asyncio.shield(task)

    async def _load(self, content: Content, load: Callable[[Content], Awaitable[LoadedIndex]]) -> KnownContent:
        while True:
            self._changed_while_loading.discard(content.fingerprint)
            loaded = await load(content)
            if content.fingerprint not in self._changed_while_loading:
                return self._add(content, loaded)

    def _loaded(self, fingerprint: Fingerprint, task: asyncio.Task[KnownContent]) -> None:
        del self._loading[fingerprint]
        if not task.cancelled():
            task.exception()  # whoever waited for it may be gone

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
        """Brings what is known up to date; what is being loaded is loaded again if it has changed."""
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
            if known is not None and known.file is None:
                del self._contents[fingerprint]  # it has a file now
            elif known is not None:
                known.add(number, sums)

    def take_used(self) -> dict[Fingerprint, float]:
        """When contents were used last that were since this was last asked, in seconds since the epoch."""
        now = time.time()
        for fingerprint, known in self._contents.items():
            if known.touched:
                known.touched = False
                self._used[fingerprint] = now
        used, self._used = self._used, {}
        return used
