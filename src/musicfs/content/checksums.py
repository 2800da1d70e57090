"""Records the checksum of every block when it is first fetched, and which origins are witnesses of it.

A digest with one origin as its only witness is unconfirmed. When a replica at a second origin has the same bytes, it is
confirmed for good. Both outlive restarts, and clearing the block cache.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import weakref
from collections.abc import Iterable
from pathlib import Path

from musicfs.cache.block_checksums import CHECKSUM_SIZE, block_checksum
from musicfs.content.checkloads import CheckLoads
from musicfs.content.checkstore import CheckStore
from musicfs.content.records import CONFIRMED, DIGEST_SIZE, NO_DIGEST, NO_WITNESS, DigestMatch, Record, record_of
from musicfs.content.vote import Vote
from musicfs.content.witnesses import SECRET_SIZE
from musicfs.federation.quarantine import Quarantine
from musicfs.model import Content, OriginId
from musicfs.system.lru import Lru
from musicfs.system.sqlite import SqliteError, is_damage
from musicfs.system.threads import WorkerThreads

log = logging.getLogger(__name__)

_CONTENTS_IN_MEMORY = 2048
_FLUSH_SECS = 1.0
_TRY_AGAIN_SECS = 10.0
_CLOSING_SECS = 3.0
_MAX_CHANGED = 8192
_MAX_ORIGINS = 254
_MAX_SHOWN = 32
"""Versions of copies whose witness is kept, for each content: the latest."""
_UNNAMED = OriginId("")
"""Stands for all origins beyond those that have a number. No origin has this id, so it never repeats its vote."""
REUSED = _UNNAMED
"""The witness of bytes that no origin has returned (retag.py). Any origin overrules it."""


class Checksums:
    """Keeps the records of contents: those used last in memory, all of them in a file. Belongs to the event loop's
    thread.

    path: the file; without one nothing outlives this object. A crash may lose what was recorded in the last second; the
    next read records it again.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._store = CheckStore(path) if path is not None else None
        self._loads: CheckLoads | None = None
        self._writer = WorkerThreads("checksums", 1)
        self._origins: list[OriginId] = []
        self._numbers: dict[OriginId, int] = {}
        self._recent: Lru[bytes, Record] = Lru(_CONTENTS_IN_MEMORY)
        # All users of a record share one object, also when it is not a recent one.
        self._live: weakref.WeakValueDictionary[bytes, Record] = weakref.WeakValueDictionary()
        self._changed: dict[bytes, Record] = {}
        self._quarantine: Quarantine | None = None
        self._quarantine_changed = False
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._failing = False
        self.secret = secrets.token_bytes(SECRET_SIZE)
        """Decides where copies show their witnesses. It leaves this machine in no way, not even in a log."""

    def start(self, quarantine: Quarantine) -> None:
        """Opens the file, restores the quarantine from it, and keeps it there from now on.

        Where the file can't be used, this logs it and goes on without one.
        """
        if self._store is None:
            return
        try:
            if warning := self._store.open():
                log.warning(warning)
            for id in self._store.origins():
                self._number(OriginId(id))
            quarantine.restore(self._store.set_aside())
            self.secret = self._store.secret()
        except SqliteError as error:
            self._give_up(error)
            return
        self._loads = CheckLoads(self._store)
        self._quarantine = quarantine
        quarantine.on_change = self._write_quarantine_soon

    async def aclose(self) -> None:
        """Writes what is left to write. Waits a few seconds for a disk that hangs."""
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

    def prepare(self, contents: Iterable[Content]) -> None:
        """Starts reading the records that are not in memory: reads are likely to need them soon."""
        if self._loads is not None:
            self._loads.begin([each.fingerprint for each in contents if each.fingerprint not in self._live])

    def known(self, content: Content) -> Record | None:
        """Returns the content's record, empty if nothing is recorded; None: it is not in memory yet. Never waits."""
        record = self._live.get(content.fingerprint)
        if record is None:
            if self._loads is None:
                record = record_of(content, None)
            elif (load := self._loads.take(content.fingerprint)) is None:
                return None
            else:
                if load.error is not None:
                    self._give_up(load.error)
                record = record_of(content, load.rows.get(content.fingerprint))
            self._live[content.fingerprint] = record
        self._recent.put(content.fingerprint, record)
        return record

    async def record(self, content: Content) -> Record:
        """Returns the content's record. After a second's wait for the disk, it is empty, with `is_known` False."""
        while (record := self.known(content)) is None and self._loads is not None:
            self._loads.begin([content.fingerprint])
            if not await self._loads.wait(content.fingerprint):
                return record_of(content, None, is_known=False)
        assert record is not None
        return record

    def add_witness(self, record: Record, index: int, vote: Vote, match: DigestMatch) -> None:
        """Records a block that is new, and confirms one that is the recorded one. One that differs changes nothing.

        Args:
            record: of the content.
            index: the number of the block.
            vote: what a replica has returned for it, so its origin is a witness of these bytes.
            match: what `record.compare` says of them now.
        """
        origin = vote.replica.origin
        if match is DigestMatch.NEW:
            self.put(record, index, vote.digest, vote.data, origin)
        elif match is DigestMatch.SAME:
            witness = self.witness(record, index)
            alone = witness in (origin, REUSED)
            if record.digest(index) is None or witness == REUSED:
                self.put(record, index, vote.digest, vote.data, origin if alone else None)
            elif not alone and not record.is_confirmed(index):
                self.set_witness(record, index, None)

    def put_checksum(self, record: Record, index: int, data: bytes | memoryview, origin: OriginId) -> None:
        """Records the checksum alone of a block of which nothing is recorded.

        Args:
            record: of the content.
            index: the number of the block.
            data: its bytes.
            origin: the witness.
        """
        self.put(record, index, NO_DIGEST, data, origin)

    def put(
        self, record: Record, index: int, digest: bytes, data: bytes | memoryview, witness: OriginId | None
    ) -> None:
        """Records the digest and the checksum of a block, in place of what is recorded.

        Args:
            record: of the content.
            index: the number of the block.
            digest: `digest_of` its bytes; zeros for none.
            data: its bytes.
            witness: the only witness; None: the block is confirmed.
        """
        record.digests[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE] = digest
        record.sums[index * CHECKSUM_SIZE : (index + 1) * CHECKSUM_SIZE] = block_checksum(data)
        self.set_witness(record, index, witness)

    def set_witness(self, record: Record, index: int, witness: OriginId | None) -> None:
        """Sets the only witness of what is recorded of a block.

        Args:
            record: of the content.
            index: the number of the block.
            witness: an origin; None: the block is confirmed.
        """
        record.witnesses[index] = CONFIRMED if witness is None else self._number(witness)
        self._write_soon(record)

    def put_shown(self, record: Record, copy: bytes, witness: bytes) -> None:
        """Records what a copy has shown of itself.

        Args:
            record: of the content.
            copy: the `copy_key` of the replica.
            witness: `witness_hash` of its piece at the secret place.
        """
        record.shown[copy] = witness
        while len(record.shown) > _MAX_SHOWN:
            del record.shown[next(iter(record.shown))]
        self._write_soon(record)

    def sole_witnesses(self, record: Record) -> set[OriginId]:
        """Returns the origins that are the only witness of some block."""
        numbers = set(record.witnesses) - {NO_WITNESS, CONFIRMED}
        return {self._origins[number - 1] for number in numbers} - {_UNNAMED}

    def withdraw(self, record: Record, origin: OriginId) -> list[int]:
        """Drops what is recorded of the blocks whose only witness is this origin. Returns their numbers."""
        number = self._number(origin)
        indices = [index for index, witness in enumerate(record.witnesses) if witness == number]
        for index in indices:
            record.witnesses[index] = NO_WITNESS
            record.digests[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE] = NO_DIGEST
        self._write_soon(record)
        return indices

    def _write_soon(self, record: Record) -> None:
        if self._store is not None and record.is_known:
            self._changed[record.fingerprint] = record
            if len(self._changed) > _MAX_CHANGED:  # the disk hangs: what is forgotten is recorded again
                del self._changed[next(iter(self._changed))]
            self._flush_soon()

    def witness(self, record: Record, index: int) -> OriginId | None:
        """Returns the only witness of the recorded block; None where it is confirmed, or nothing is recorded."""
        witness = record.witnesses[index]
        return None if witness in (NO_WITNESS, CONFIRMED) else self._origins[witness - 1]

    def _number(self, origin: OriginId) -> int:
        number = self._numbers.get(origin)
        if number is None:
            if len(self._origins) == _MAX_ORIGINS:
                return self._numbers.setdefault(origin, _MAX_ORIGINS)
            self._origins.append(origin if len(self._origins) < _MAX_ORIGINS - 1 else _UNNAMED)
            number = self._numbers[origin] = len(self._origins)
        return number

    # Writing

    def _write_quarantine_soon(self) -> None:
        self._quarantine_changed = True
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._timer is None and self._store is not None:
            delay = _TRY_AGAIN_SECS if self._failing else _FLUSH_SECS
            self._timer = asyncio.get_running_loop().call_later(delay, self._start_flush)

    def _start_flush(self) -> None:
        self._timer = None
        if self._flushing is not None:
            self._flush_soon()
            return
        self._flushing = asyncio.create_task(self._flush(), name="writing checksums")
        self._flushing.add_done_callback(self._flushed)

    def _flushed(self, task: asyncio.Task[None]) -> None:
        self._flushing = None

    async def _flush(self) -> None:
        if self._store is None or not (self._changed or self._quarantine_changed):
            return
        changed, self._changed = self._changed, {}
        rows = [(key, record.row()) for key, record in changed.items()]
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
        """Goes on without the file: a cache disk that fails must not stop the music."""
        store, self._store = self._store, None
        loads, self._loads = self._loads, None
        if loads is not None:
            loads.close()
        self._changed.clear()
        if store is not None:
            log.warning("checksums are not kept until the next start: %s can't be used (%s)", store.path, error)
            store.give_up(error)
