"""What every block of a content was when it was first fetched, and who says so.

A digest that one origin alone has vouched for is unconfirmed; when a second replica shows the same bytes, it is
confirmed for good. Both outlive restarts, and clearing the cache of blocks.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Iterable
from enum import Enum
from pathlib import Path

from blake3 import blake3

from musicfs.cache.block_checksums import BLOCK_SIZE, CHECKSUM_SIZE, block_checksum
from musicfs.content.checkloads import CheckLoads, Row
from musicfs.content.checkstore import CheckStore
from musicfs.federation.quarantine import Quarantine
from musicfs.model import Content, OriginId
from musicfs.system.lru import Lru
from musicfs.system.sqlite import SqliteError, is_damage
from musicfs.system.threads import WorkerThreads

log = logging.getLogger(__name__)

DIGEST_SIZE = 16

_CONTENTS_IN_MEMORY = 1024
_FLUSH_SECS = 1.0
_TRY_AGAIN_SECS = 10.0
_CLOSING_SECS = 3.0
_NO_DIGEST = bytes(DIGEST_SIZE)
_NOBODY, _CONFIRMED = 0, 255
_MAX_ORIGINS = 254
_SOMEBODY = OriginId("")
"""Stands for whoever came after as many origins as have a number: nobody answers to it, so its word counts little."""
REUSED = _SOMEBODY
"""Vouches for bytes that no origin has shown (retag.py): against any that does, it has no say."""


def digest_of(data: bytes | memoryview) -> bytes:
    """BLAKE3, the first 16 bytes."""
    return blake3(data).digest(DIGEST_SIZE)


def blocks_of(content: Content) -> int:
    return (content.size + BLOCK_SIZE - 1) // BLOCK_SIZE


class DigestMatch(Enum):
    """How a block's digest compares with the recorded one."""

    NEW = "nothing is recorded"
    SAME = "it is the recorded one"
    DOUBTFUL = "another one is recorded, for which one origin alone has vouched"
    WRONG = "another one is recorded and confirmed"


class Record:
    """What is known of one content's blocks. seals: of those that were ever read. digests: of the same ones, but zeros
    for those that came from local disks only, which computing them would slow down. vouchers: a byte for each block:
    nobody, an origin by its number, or confirmed. is_known: False: it stands for one that could not be read, so it says
    nothing, and what is noted in it is not kept."""

    __slots__ = ("__weakref__", "digests", "fingerprint", "is_known", "sums", "witnesses")

    def __init__(
        self, fingerprint: bytes, digests: bytearray, sums: bytearray, witnesses: bytearray, is_known: bool = True
    ) -> None:
        self.is_known = is_known
        self.fingerprint = fingerprint
        self.digests = digests
        self.sums = sums
        self.witnesses = witnesses

    def has_checksum(self, index: int, data: bytes | memoryview) -> bool:
        """Whether the block, of which something is recorded, is the recorded one as far as its seal tells."""
        return block_checksum(data) == self.sums[index * CHECKSUM_SIZE : (index + 1) * CHECKSUM_SIZE]

    def digest(self, index: int) -> bytes | None:
        """The recorded digest of a block, if there is one."""
        digest = bytes(self.digests[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE])
        return None if digest == _NO_DIGEST else digest

    def is_confirmed(self, index: int) -> bool:
        return self.witnesses[index] == _CONFIRMED

    def compare(self, index: int, digest: bytes, data: bytes | memoryview) -> DigestMatch:
        """How the block `data`, whose digest this is, compares with what is recorded."""
        witness = self.witnesses[index]
        if witness == _NOBODY:
            return DigestMatch.NEW
        recorded = self.digest(index)
        if recorded == digest or (recorded is None and self.has_checksum(index, data)):
            return DigestMatch.SAME
        return DigestMatch.WRONG if witness == _CONFIRMED else DigestMatch.DOUBTFUL


class Checksums:
    """The records of contents: in memory those used last, all of them in a file. Belongs to the event loop's thread.

    path: the file; without one nothing outlives this object. What was recorded in the last second may be lost by a
    crash, and is recorded again at the next reading.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._store = CheckStore(path) if path is not None else None
        self._loads: CheckLoads | None = None
        self._writer = WorkerThreads("checksums", 1)
        self._origins: list[OriginId] = []
        self._numbers: dict[OriginId, int] = {}
        self._recent: Lru[bytes, Record] = Lru(_CONTENTS_IN_MEMORY)
        # Whoever has a record in use and whoever asks for it again share it, also when it is not a recent one.
        self._live: weakref.WeakValueDictionary[bytes, Record] = weakref.WeakValueDictionary()
        self._changed: dict[bytes, Record] = {}
        self._quarantine: Quarantine | None = None
        self._quarantine_changed = False
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._failing = False

    def start(self, quarantine: Quarantine) -> None:
        """Opens the file, and keeps in it what is in quarantine. A file that can't be used is logged and done
        without."""
        if self._store is None:
            return
        try:
            if warning := self._store.open():
                log.warning(warning)
            for id in self._store.origins():
                self._number(OriginId(id))
            quarantine.restore(self._store.set_aside())
        except SqliteError as error:
            self._give_up(error)
            return
        self._loads = CheckLoads(self._store)
        self._quarantine = quarantine
        quarantine.on_change = self._note_quarantine

    async def aclose(self) -> None:
        """Writes what is left to write. A disk that hangs is waited for a few seconds."""
        if self._timer is not None:
            self._timer.cancel()
        if self._loads is not None:
            self._loads.close()
            self._loads = None
        try:
            async with asyncio.timeout(_CLOSING_SECS):
                if self._flushing is not None:
                    await asyncio.wait({self._flushing})
                await self._flush()
        except TimeoutError:
            log.warning("the last checksums are not kept: the disk of the cache folder does not answer")
            self._store = None  # which its thread uses
        self._writer.close()
        if self._store is not None:
            self._store.close()
            self._store = None
        if self._timer is not None:
            self._timer.cancel()

    def prepare(self, content: Content) -> None:
        """Begins to read the content's record, if it is not in memory: it is likely to be wanted soon."""
        if self._loads is not None and content.fingerprint not in self._live:
            self._loads.begin(content.fingerprint)

    def known(self, content: Content) -> Record | None:
        """The content's record, an empty one if nothing is recorded; None: it is not in memory yet. Never waits."""
        record = self._live.get(content.fingerprint)
        if record is None:
            if self._loads is None:
                record = _record(content, None)
            elif (load := self._loads.take(content.fingerprint)) is None:
                return None
            else:
                if load.error is not None:
                    self._give_up(load.error)
                record = _record(content, load.row)
            self._live[content.fingerprint] = record
        self._recent.put(content.fingerprint, record)
        return record

    async def record(self, content: Content) -> Record:
        """As `known`, but waits a second for a disk that is slow. Then the record is one with `is_known` False."""
        while (record := self.known(content)) is None and self._loads is not None:
            self._loads.begin(content.fingerprint)
            if not await self._loads.wait(content.fingerprint):
                return _record(content, None, is_known=False)
        assert record is not None
        return record

    def note(
        self, record: Record, index: int, digest: bytes, data: bytes | memoryview, origin: OriginId
    ) -> DigestMatch:
        """Compares the block `data`, whose digest this is, and records or confirms what agrees."""
        answer = record.compare(index, digest, data)
        if answer is DigestMatch.NEW:
            self.put(record, index, digest, data, origin)
        elif answer is DigestMatch.SAME:
            witness = self.witness(record, index)
            alone = witness in (origin, REUSED)
            if record.digest(index) is None or witness == REUSED:
                self.put(record, index, digest, data, origin if alone else None)
            elif not alone and not record.is_confirmed(index):
                self.set_witness(record, index, None)
        return answer

    def seal(self, record: Record, index: int, data: bytes | memoryview, origin: OriginId) -> None:
        """Records the seal alone of the block `data`, of which nothing is recorded."""
        self.put(record, index, _NO_DIGEST, data, origin)

    def put(
        self, record: Record, index: int, digest: bytes, data: bytes | memoryview, witness: OriginId | None
    ) -> None:
        """Records the digest and the seal of the block `data`, whatever was recorded. recorder: as in `set_witness`."""
        record.digests[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE] = digest
        record.sums[index * CHECKSUM_SIZE : (index + 1) * CHECKSUM_SIZE] = block_checksum(data)
        self.set_witness(record, index, witness)

    def set_witness(self, record: Record, index: int, witness: OriginId | None) -> None:
        """recorder: who alone vouches for what is recorded of the block; None: it is confirmed."""
        record.witnesses[index] = _CONFIRMED if witness is None else self._number(witness)
        if self._store is not None and record.is_known:
            self._changed[record.fingerprint] = record
            self._flush_soon()

    def witness(self, record: Record, index: int) -> OriginId | None:
        """Who alone vouches for the recorded digest of the block; None where it is confirmed, or there is none."""
        witness = record.witnesses[index]
        return None if witness in (_NOBODY, _CONFIRMED) else self._origins[witness - 1]

    def _number(self, origin: OriginId) -> int:
        number = self._numbers.get(origin)
        if number is None:
            if len(self._origins) == _MAX_ORIGINS:
                return self._numbers.setdefault(origin, _MAX_ORIGINS)
            self._origins.append(origin if len(self._origins) < _MAX_ORIGINS - 1 else _SOMEBODY)
            number = self._numbers[origin] = len(self._origins)
        return number

    # Writing

    def _note_quarantine(self) -> None:
        self._quarantine_changed = True
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._timer is None and self._store is not None:
            delay = _TRY_AGAIN_SECS if self._failing else _FLUSH_SECS
            self._timer = asyncio.get_running_loop().call_later(delay, self._begin_flush)

    def _begin_flush(self) -> None:
        self._timer = None
        if self._flushing is not None:
            self._flush_soon()
            return
        self._flushing = asyncio.create_task(self._flush(), name="keeping checksums")
        self._flushing.add_done_callback(self._flushed)

    def _flushed(self, task: asyncio.Task[None]) -> None:
        self._flushing = None

    async def _flush(self) -> None:
        if self._store is None or not (self._changed or self._quarantine_changed):
            return
        changed, self._changed = self._changed, {}
        rows = [
            (key, bytes(record.digests), bytes(record.sums), bytes(record.witnesses)) for key, record in changed.items()
        ]
        aside = None
        if self._quarantine is not None and self._quarantine_changed:
            aside = tuple(self._quarantine.held.values())
        self._quarantine_changed = False
        origins: Iterable[str] = tuple(self._origins)
        try:
            await self._writer.run(self._store.write, rows, origins, aside)
        except SqliteError as error:
            if is_damage(error):
                self._give_up(error)
                return
            self._changed = changed | self._changed
            self._quarantine_changed = self._quarantine_changed or aside is not None
            if not self._failing:
                log.warning("checksums are not kept for now: %s can't be written (%s)", self._store.path, error)
            self._failing = True
            self._flush_soon()
        else:
            self._failing = False

    def _give_up(self, error: SqliteError) -> None:
        """Goes on in memory: a cache disk that fails must not stop the music."""
        store, self._store = self._store, None
        loads, self._loads = self._loads, None
        if loads is not None:
            loads.close()
        self._changed.clear()
        if store is not None:
            log.warning(
                "checksums are not kept any more until the next start: %s can't be used (%s)", store.path, error
            )
            store.give_up(error)


def _record(content: Content, row: Row | None, *, is_known: bool = True) -> Record:
    """row: what is recorded; None, or of another length than the content's: nothing is."""
    sizes = tuple(blocks_of(content) * size for size in (DIGEST_SIZE, CHECKSUM_SIZE, 1))
    is_right = row is not None and tuple(map(len, row)) == sizes
    digests, sums, witnesses = map(bytearray, row if row is not None and is_right else sizes)
    return Record(content.fingerprint, digests, sums, witnesses, is_known)
