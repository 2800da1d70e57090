"""Reads blocks and checks them against what was recorded of them, whichever replica they come from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.content.checksums import Checksums
from musicfs.content.circles import Circles
from musicfs.content.open_content import OpenContent
from musicfs.content.records import DigestMatch, Record, blocks_of, digest_of
from musicfs.content.vote import Vote, VoteResult, count_votes
from musicfs.errors import MusicFSError, NoReplicaAvailable, ReplicaFailed, ReplicaFault
from musicfs.federation.failover import FailoverExecutor
from musicfs.federation.fetch import URGENT, Demand, Fetched
from musicfs.federation.quarantine import Quarantine
from musicfs.federation.registry import ReadNow
from musicfs.model import Content, Replica

_VOTING_SECS = 2.0
"""How long a vote waits for replicas."""
_STREAMING = 64 * 1024
"""A reader that asks for so many bytes at once reads on, so reading the whole block costs little more."""


class VerifiedBlock(NamedTuple):
    """A block that was fetched. is_checked: False where the record could not be read, so no cache may keep it."""

    data: bytes
    replica: Replica
    is_checked: bool


class _BlockCheck:
    """Says whether what a replica has returned of a block may serve.

    guarded: replicas that must repeat what is recorded. votes: all that was returned, and how it compares with the
    record.
    """

    def __init__(self, quarantined: Quarantine, record: Record, index: int, guarded: Sequence[Replica]) -> None:
        self._quarantined = quarantined
        self._guarded = guarded
        self._record = record
        self._index = index
        self.votes: dict[Replica, tuple[Vote, DigestMatch]] = {}

    def __call__(self, replica: Replica, data: bytes) -> bool:
        # A read of another block may have found the replica wrong while this one was under way.
        if self._quarantined.held and self._quarantined.is_wrong(replica):
            return False
        digest = digest_of(data)
        match = self._record.compare(self._index, digest, data)
        self.votes[replica] = Vote(replica, digest, data), match
        if replica in self._guarded:
            return self._record.digest(self._index) == digest
        return match is not DigestMatch.WRONG


class VerifiedReads:
    """Reads and checks blocks. Belongs to the event loop's thread.

    on_replaced: takes a content and the number of a block for which other bytes than the recorded ones are right.
    circles: decides which copies may serve a content. None: all that it was opened with.
    """

    def __init__(
        self,
        failover: FailoverExecutor,
        checksums: Checksums,
        on_replaced: Callable[[Content, int], None] = lambda content, index: None,
        circles: Circles | None = None,
    ) -> None:
        self._failover = failover
        self._on_replaced = on_replaced
        self._circles = circles
        self._checksums = checksums
        self._route_now = failover.registry.route_now
        self._generations = failover.registry.generations
        self._quarantined = failover.registry.quarantined
        self._held: tuple[OpenContent, int, bytes | memoryview] | None = None
        """The whole blocks that were read and checked last, and their offset in bytes: their rest is mostly next."""

    def read_now(self, opened: OpenContent, offset: int, size: int) -> bytes | memoryview | None:
        """Returns the bytes if the best replica is at a healthy origin that has them without waiting, else None.

        A memoryview is valid until the next call. Every block with a recorded digest is read whole and checked before
        this handle gets its first byte. A block without one is recorded if the caller asks for all or much of it, and
        else returned unchecked. For a block that is not the recorded one this returns None, and `fetch` finds out why.

        Args:
            opened: the content.
            offset: in bytes.
            size: in bytes, at least 1; fewer are returned at the end of the content.
        """
        held, self._held = self._held, None
        if held is not None and held[0] is opened and held[1] <= offset and offset + size <= held[1] + len(held[2]):
            self._held = held
            return held[2][offset - held[1] : offset - held[1] + size]
        if opened.routed_at != (generations := self._generations()):
            opened.routed, opened.routed_at = self._route_now(opened.replicas), generations
        routed = opened.routed
        if routed is None:
            return None
        if routed[1] is not opened.checked_of:
            self._begin_checking(opened, routed[1])
        first, last = offset // BLOCK_SIZE, (offset + size - 1) // BLOCK_SIZE
        if opened.checked.find(0, first, last + 1) < 0:
            return self._failover.read_now(routed, offset, size)
        record, inside = opened.record, first == last and offset % BLOCK_SIZE
        if inside and size < _STREAMING and record is not None and not record.witnesses[first]:
            # What `_check_now` would return, sooner: a reader that jumps about in a file asks often.
            return self._failover.read_now(routed, offset, size)
        return self._check_now(opened, routed, offset, size)

    def is_near(self, opened: OpenContent) -> bool:
        """Whether the best replica is at a healthy origin on a disk of this machine."""
        if opened.routed_at != (generations := self._generations()):
            opened.routed, opened.routed_at = self._route_now(opened.replicas), generations
        return opened.routed is not None

    def _begin_checking(self, opened: OpenContent, replica: Replica) -> None:
        opened.checked = bytearray(blocks_of(opened.content))
        opened.checked_of = replica

    async def load(self, opened: OpenContent) -> Record:
        """Returns the record of the content; sets `opened.record` to it, if it could be read."""
        if opened.record is None:
            record = await self._checksums.record(opened.content)
            if not record.is_known:
                return record
            opened.record = record
        return opened.record

    def _check_now(
        self, opened: OpenContent, routed: tuple[ReadNow, Replica], offset: int, size: int
    ) -> bytes | memoryview | None:
        record, total = opened.record, opened.content.size
        if record is None:
            record = opened.record = self._checksums.known(opened.content)
        if record is None:
            opened.awaits_record = True
            return None
        first, end = offset // BLOCK_SIZE, min(offset + size + BLOCK_SIZE - 1, total + BLOCK_SIZE - 1) // BLOCK_SIZE
        known = any(record.witnesses[first:end])
        base, stop = first * BLOCK_SIZE, min(end * BLOCK_SIZE, total)
        whole = offset == base and offset + size >= stop
        if not known and size < _STREAMING and not whole:
            return self._failover.read_now(routed, offset, size)
        blocks = self._failover.read_now(routed, base, stop - base)
        if blocks is None:
            return None if known else self._failover.read_now(routed, offset, size)
        for index in range(first, end):
            if opened.checked[index]:
                continue
            block = blocks[index * BLOCK_SIZE - base : (index + 1) * BLOCK_SIZE - base]
            if not record.witnesses[index]:
                self._checksums.put_checksum(record, index, block, routed[1].origin)
            elif not record.has_checksum(index, block):
                return None
            opened.checked[index] = 1
        self._held = opened, base, blocks
        return blocks[offset - base : offset - base + size]

    async def fetch(
        self,
        opened: OpenContent,
        index: int,
        deadline: float | None = None,
        *,
        demand: Demand = URGENT,
        background: bool = False,
        only: Replica | None = None,
    ) -> VerifiedBlock:
        """Returns a block, in bytes that are the recorded ones.

        A replica that differs from what two origins have returned goes into quarantine, and another is asked. Where one
        origin alone is the witness of the recorded bytes, all replicas are asked, and `count_votes` decides. Where the
        record can't be read, the bytes are neither checked nor recorded.

        Args:
            opened: the content.
            index: the number of the block.
            deadline: in seconds of the event loop's clock; None: `FailoverExecutor.patience` from now, or none for
                background work.
            demand: whether a reader waits for the block now.
            background: no reader will ever wait for it.
            only: the replica to ask. The others still vote where its bytes are in doubt.

        Raises:
            NoReplicaAvailable: no replica has the bytes within the deadline, or, with `only`, the record can't be read.
        """
        until = self._failover.deadline() if deadline is None and not background else deadline
        await self._prepare_copies(opened, only)
        record = await self.load(opened)
        if only is not None and not record.is_known:
            raise NoReplicaAvailable([])
        if self._quarantined.held:
            self._quarantined.review(opened.replicas)
        check = _BlockCheck(self._quarantined, record, index, opened.guarded)
        while True:
            fetched = await self._failover.fetch(
                self._may_serve(opened, record, index, only),
                *_range_of(opened.content, index),
                check=check,
                deadline=until,
                block=index,
                demand=demand,
                background=background,
            )
            if self._is_admitted(opened, fetched.replica, only):
                break
        if opened.guarded and fetched.replica in opened.guarded:
            return VerifiedBlock(fetched.data, fetched.replica, record.is_known)
        vote, match = check.votes[fetched.replica]
        self._checksums.add_witness(record, index, vote, match)
        if match in (DigestMatch.DOUBTFUL, DigestMatch.WRONG):
            until = self._failover.deadline() if until is None else until
            fetched = await self._resolve(opened, record, index, vote, until)
        if fetched.replica is opened.checked_of and record.is_known:
            opened.checked[index] = 1
        return VerifiedBlock(fetched.data, fetched.replica, record.is_known)

    async def _prepare_copies(self, opened: OpenContent, only: Replica | None) -> None:
        if self._circles is not None:
            if not opened.admitted:
                self._circles.admit(opened)
            if opened.undecided and only is None:
                await self._circles.settle(opened)

    def _may_serve(self, opened: OpenContent, record: Record, index: int, only: Replica | None) -> Sequence[Replica]:
        """Returns whom to ask for the block: untrusted origins only if a trusted one has shown it."""
        if not opened.guarded:
            return opened.replicas if only is None else [only]
        witness = self._checksums.witness(record, index)
        is_shown = record.digest(index) is not None and witness not in {each.origin for each in opened.guarded}
        asked = [*opened.replicas, *opened.guarded] if only is None else [only]
        return [each for each in asked if is_shown or each not in opened.guarded]

    def _is_admitted(self, opened: OpenContent, replica: Replica, only: Replica | None) -> bool:
        """Whether the content may have bytes of this replica: another may have become the first meanwhile."""
        if only is not None or self._circles is None:
            return True
        if opened.undecided and not opened.is_lost:
            self._circles.bind(opened, replica)
        return replica in opened.replicas or replica in opened.guarded

    async def _resolve(
        self, opened: OpenContent, record: Record, index: int, doubtful: Vote, deadline: float
    ) -> Fetched:
        """Lets every replica vote, the doubtful one again, and applies the result."""
        self._quarantined.reopen(opened.replicas)
        answers = await self._collect_votes(opened, index, doubtful, deadline)
        # A read of another block may have shown meanwhile that one of them is wrong.
        votes = [each for each in answers if not self._quarantined.is_wrong(each.replica)]
        if not votes:
            raise self._disagree(answers)
        witness = self._checksums.witness(record, index)
        matching = (each.digest for each in votes if record.has_checksum(index, each.data))
        recorded = record.digest(index) or next(matching, b"")
        if record.is_confirmed(index):  # by another read, meanwhile
            vote_result = VoteResult(
                recorded,
                None,
                next((each for each in votes if each.digest == recorded), None),
                tuple(each.replica for each in votes if each.digest != recorded),
                (),
            )
        else:
            serving = {replica.origin for replica in opened.replicas if replica not in self._quarantined.held}
            vote_result = count_votes(recorded, witness if witness in serving else None, votes)
        if vote_result.data is None:
            self._checksums.set_witness(record, index, vote_result.witness)
        else:
            self._checksums.put(record, index, vote_result.digest, vote_result.data.data, vote_result.witness)
            self._on_replaced(opened.content, index)
        for replica in vote_result.wrong:
            self._failover.registry.quarantine(replica, index)
        for replica in vote_result.disputed:
            self._quarantined.dispute(replica, index, self._opponent(opened, vote_result, witness))
        if vote_result.data is None:
            raise self._disagree(votes)
        return Fetched(vote_result.data.data, vote_result.data.replica)

    @staticmethod
    def _disagree(votes: Sequence[Vote]) -> NoReplicaAvailable:
        causes: list[MusicFSError] = [
            ReplicaFailed(each.replica.origin, each.replica.path, ReplicaFault.CORRUPT, "the replicas disagree")
            for each in votes
        ]
        return NoReplicaAvailable(causes)

    @staticmethod
    def _opponent(opened: OpenContent, vote_result: VoteResult, witness: str | None) -> Replica:
        """Returns the replica that still serves: the one with the bytes that won, or the one of the witness."""
        if vote_result.data is not None:
            return vote_result.data.replica
        return next(replica for replica in opened.replicas if replica.origin == witness)

    async def _collect_votes(self, opened: OpenContent, index: int, doubtful: Vote, deadline: float) -> list[Vote]:
        """Returns what the replicas have of the block now, the doubtful one first.

        Those that do not answer in time have no vote, except the doubtful one, whose first answer counts then.
        """
        offset, size = _range_of(opened.content, index)
        until = min(asyncio.get_running_loop().time() + _VOTING_SECS, deadline)

        async def ask(replica: Replica) -> Vote | None:
            try:
                fetched = await self._failover.fetch([replica], offset, size, deadline=until)
            except NoReplicaAvailable:
                return doubtful if replica == doubtful.replica else None
            return Vote(replica, digest_of(fetched.data), fetched.data)

        others = [replica for replica in opened.replicas if replica != doubtful.replica]
        answers = await asyncio.gather(*map(ask, (doubtful.replica, *others)))
        return [answer for answer in answers if answer is not None]


def _range_of(content: Content, index: int) -> tuple[int, int]:
    """Returns the offset and the size of a block, in bytes."""
    offset = index * BLOCK_SIZE
    return offset, min(BLOCK_SIZE, content.size - offset)
