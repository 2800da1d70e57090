"""Builds blocks of a file whose tags have changed from what is cached of the file as it was before.

Tags lie before and behind the audio, which moves as a whole when they grow or shrink. Of each block, the bytes that
belong to tags are fetched, and a small piece of its audio, at a place that depends on the content and the block; the
rest comes from the blocks of the old file. One piece that differs ends this for the whole file: all that is cached of
it is dropped, and fetched again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.cache.store import BlockStore
from musicfs.content.audio_region import AudioRegion, FilePages, Unavailable, find_audio
from musicfs.content.checksums import REUSED, Checksums
from musicfs.content.open_content import OpenContent
from musicfs.content.records import DigestMatch, Record, blocks_of, digest_of
from musicfs.federation.failover import FailoverExecutor
from musicfs.federation.fetch import Demand
from musicfs.model import Content, Fingerprint

log = logging.getLogger(__name__)

_PROBE = 1024  # bytes of each block that are compared, 0.4 %
_SAMPLES, _SAMPLE = 8, 1024  # pieces, and bytes of each, that are compared before the first block
_MIN_SAMPLES = 3
_CONTENTS_IN_MEMORY = 256
_AGREES = (DigestMatch.NEW, DigestMatch.SAME)


@dataclass(frozen=True, slots=True)
class _Match:
    """The audio of the new file, and that of the old one, which has the same length."""

    audio: AudioRegion
    old: Content
    old_audio: AudioRegion

    @property
    def shift(self) -> int:
        return self.old_audio.start - self.audio.start


@dataclass(frozen=True, slots=True)
class _Need:
    """For which read bytes are fetched. deadline: in seconds of the event loop's clock."""

    opened: OpenContent
    deadline: float
    demand: Demand


class Reuse:
    """Reuses cached blocks of earlier versions. Belongs to the event loop's thread.

    before: returns what the files that hold a content held earlier, the latest first.
    forget: takes a content and the number of a block whose bytes may be wrong.
    """

    def __init__(
        self,
        failover: FailoverExecutor,
        store: BlockStore,
        checksums: Checksums,
        before: Callable[[Content], Sequence[Content]],
        forget: Callable[[Content, int], None],
    ) -> None:
        self._failover = failover
        self._store = store
        self._checksums = checksums
        self._before = before
        self._forget = forget
        self._matches: OrderedDict[Fingerprint, asyncio.Task[_Match | None]] = OrderedDict()
        self._refused: set[Fingerprint] = set()

    async def block(self, opened: OpenContent, index: int, deadline: float, demand: Demand) -> bytes | None:
        """Returns the block if most of it need not be fetched; None: fetch it as any other.

        Where nothing of the whole content can be reused, it also sets `opened.may_reuse` to False.

        Args:
            deadline: in seconds of the event loop's clock.
            demand: whether a reader waits for the block now.

        Raises:
            NoReplicaAvailable: the few bytes that have to be fetched can't be.
        """
        content = opened.content
        need = _Need(opened, deadline, demand)
        match = await self._match(need) if content.fingerprint not in self._refused else None
        if match is None:
            opened.may_reuse = False
            return None
        begin, end = index * BLOCK_SIZE, min((index + 1) * BLOCK_SIZE, content.size)
        first, last = max(begin, match.audio.start), min(end, match.audio.end)
        if last - first <= _PROBE:
            return None
        audio = await self._cached(match.old, first + match.shift, last + match.shift)
        if audio is None:
            return None
        at = Random(f"{content.fingerprint.hex()} {index}").randrange(last - first - _PROBE + 1)
        head, probe, tail = await asyncio.gather(
            self._fetch(need, begin, first), self._fetch(need, first + at, first + at + _PROBE),
            self._fetch(need, last, end),
        )  # fmt: skip
        data = b"".join((head, audio, tail))
        record = await self._checksums.record(content)
        if content.fingerprint in self._refused or not record.is_known:
            return None
        if audio[at : at + _PROBE] != probe or not self._record_reused(record, index, data):
            self._refuse(content)
            return None
        return data

    async def aclose(self) -> None:
        tasks = list(self._matches.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _record_reused(self, record: Record, index: int, data: bytes) -> bool:
        """Records the block, for which no origin is a witness; returns False if another is recorded."""
        digest = digest_of(data)
        answer = record.compare(index, digest, data)
        if answer is DigestMatch.NEW:
            self._checksums.put(record, index, digest, data, REUSED)
        return answer in _AGREES

    def _refuse(self, content: Content) -> None:
        self._refused.add(content.fingerprint)
        log.warning("%s has changed in more than its tags: all of it is fetched", content.fingerprint.hex())
        for index in range(blocks_of(content)):
            self._forget(content, index)

    # The match

    async def _match(self, need: _Need) -> _Match | None:
        """Finds the match once for all blocks that need it, and again after a failure."""
        fingerprint = need.opened.content.fingerprint
        task = self._matches.get(fingerprint)
        if task is None:
            olds = [old for old in self._before(need.opened.content) if self._store.share(old)]
            if not olds:
                return None
            task = self._matches[fingerprint] = asyncio.create_task(self._find_match(need, olds))
            task.add_done_callback(lambda done: self._found(fingerprint, done))
        match = await asyncio.shield(task)
        if fingerprint in self._matches:
            self._matches.move_to_end(fingerprint)
        return match

    def _found(self, fingerprint: Fingerprint, task: asyncio.Task[_Match | None]) -> None:
        # Retrieves the exception in any case, since all its callers may have gone.
        if task.cancelled() or task.exception() is not None:
            self._matches.pop(fingerprint, None)
        done = [key for key, each in self._matches.items() if each.done()]
        for key in done[: max(0, len(self._matches) - _CONTENTS_IN_MEMORY)]:
            del self._matches[key]

    async def _find_match(self, need: _Need, olds: Sequence[Content]) -> _Match | None:
        content, audio = need.opened.content, None
        for old in olds:
            old_audio = await self._old_audio(old)
            if old_audio is None:
                continue
            audio = audio or await find_audio(
                FilePages(content.size, lambda offset, size: self._fetch(need, offset, offset + size))
            )
            if audio is None:
                return None
            if (audio.identity, audio.length) != (old_audio.identity, old_audio.length):
                continue
            match = _Match(audio, old, old_audio)
            if await self._samples_agree(need, match):
                return match
        return None

    async def _old_audio(self, old: Content) -> AudioRegion | None:
        async def get(offset: int, size: int) -> bytes:
            if (data := await self._cached(old, offset, offset + size)) is None:
                raise Unavailable
            return data

        try:
            return await find_audio(FilePages(old.size, get))
        except Unavailable:
            return None

    async def _samples_agree(self, need: _Need, match: _Match) -> bool:
        """Returns whether the cached ones of eight pieces, spread from the start of the audio to its end, agree."""
        last = match.audio.length - _SAMPLE
        if last < _SAMPLES * _SAMPLE:
            return False
        places = [match.audio.start + last * number // (_SAMPLES - 1) for number in range(_SAMPLES)]
        cached = [(at, await self._cached(match.old, at + match.shift, at + match.shift + _SAMPLE)) for at in places]
        wanted = [(at, piece) for at, piece in cached if piece is not None]
        if len(wanted) < _MIN_SAMPLES:
            return False
        found = await asyncio.gather(*(self._fetch(need, at, at + _SAMPLE) for at, _ in wanted))
        return found == [piece for _, piece in wanted]

    # Bytes

    async def _fetch(self, need: _Need, start: int, stop: int) -> bytes:
        if start >= stop:
            return b""
        fetched = await self._failover.fetch(
            need.opened.replicas, start, stop - start, deadline=need.deadline, demand=need.demand
        )
        return fetched.data

    async def _cached(self, old: Content, start: int, stop: int) -> bytes | None:
        """Returns these bytes of the old content if all of them are cached and are the recorded ones."""
        blocks, record = [], await self._checksums.record(old)
        if not record.is_known:
            return None
        for index in range(start // BLOCK_SIZE, (stop - 1) // BLOCK_SIZE + 1):
            block = await self._store.read(old, index)
            # A vote may have decided against the cached bytes.
            if block is None or record.compare(index, digest_of(block), block) not in _AGREES:
                return None
            blocks.append(block)
        base = start // BLOCK_SIZE * BLOCK_SIZE
        return b"".join(blocks)[start - base : stop - base]
