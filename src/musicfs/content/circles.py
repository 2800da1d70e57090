"""Which copies of a content may serve one open file: those that have shown the same bytes at a secret place.

An open file begins with any copy, and the first that gives it a byte binds it: from then on only copies that agree with
that one serve. Proving that costs one read of 64 KiB from each copy, in the background of the first read, and is
recorded for each version of each file. If a copy can no longer be asked, a block that was recorded of it stands in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from random import SystemRandom
from weakref import WeakSet

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.content.checksums import Checksums
from musicfs.content.open_content import OpenContent
from musicfs.content.records import DigestMatch, Record, digest_of
from musicfs.content.witnesses import PIECE, choose_group, copy_key, is_covered, witness_hash, witness_offset
from musicfs.errors import NoReplicaAvailable
from musicfs.federation.failover import FailoverExecutor
from musicfs.federation.fetch import Demand
from musicfs.model import Content, Fingerprint, Replica
from musicfs.system.tasks import Tasks

log = logging.getLogger(__name__)

_SETTLING_SECS = 2.0
"""How long a read waits for a proof where bytes of an unproven copy may be cached."""
_AT_ONCE = 8
"""Proofs under way."""


class Circles:
    """Admits copies to open contents. Belongs to the event loop's thread. Costs reads nothing once all have agreed.

    on_replaced: takes a content and the number of a block whose cached bytes must go.
    """

    def __init__(self, failover: FailoverExecutor, checksums: Checksums) -> None:
        self._failover = failover
        self._registry = failover.registry
        self._quarantined = failover.registry.quarantined
        self._checksums = checksums
        self.on_replaced: Callable[[Content, int], None] = lambda content, index: None
        self._proofs: dict[Fingerprint, tuple[asyncio.Task[None], WeakSet[OpenContent]]] = {}
        """The proofs under way, each with the open contents that wait for it."""
        self._bound: WeakSet[OpenContent] = WeakSet()
        """The open contents that some copy was left out of."""
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._tasks = Tasks(log)

    async def aclose(self) -> None:
        await self._tasks.aclose(timeout=1.0)

    # An open content

    def admit(self, opened: OpenContent) -> None:
        """Takes up a content that has just been opened with all of its replicas. Waits for nothing."""
        opened.admitted = True
        if len(opened.replicas) < 2 or len({replica.origin for replica in opened.replicas}) < 2:
            return
        self._quarantined.review(opened.replicas)
        opened.replicas, opened.guarded = self._apart(opened.replicas)
        several = len({replica.origin for replica in opened.replicas}) > 1
        opened.undecided = several and not is_covered(opened.content)
        if opened.undecided and (record := self._checksums.known(opened.content)) is not None:
            self._all_agree(opened, record)

    def _apart(self, replicas: Sequence[Replica]) -> tuple[Sequence[Replica], Sequence[Replica]]:
        """Returns the replicas that serve freely, and those at untrusted origins of a content that others have, too."""
        trusted = [replica for replica in replicas if self._registry.is_trusted(replica.origin)]
        if not trusted or len(trusted) == len(replicas):
            return replicas, ()
        return trusted, [replica for replica in replicas if replica not in trusted]

    async def settle(self, opened: OpenContent) -> None:
        """Decides which copies serve, as far as that is known, before a content gives its first byte.

        Where bytes of a copy that has not been proven may be cached, this waits for the proof, for two seconds at most.

        Raises:
            NoReplicaAvailable: The copies that it was bound to turned out to be another content than the cached one.
        """
        if opened.is_lost:
            raise NoReplicaAvailable(())
        record = await self._checksums.record(opened.content)
        if self._all_agree(opened, record):
            return
        proof = self._prove(opened)
        holders = self._checksums.sole_witnesses(record) & {replica.origin for replica in opened.replicas}
        if not holders:
            return
        await asyncio.wait({proof}, timeout=_SETTLING_SECS)
        if opened.undecided and not self._all_agree(opened, record):
            ranked = [each.replica for each in self._registry.route_all(opened.replicas)]
            self.bind(opened, next((each for each in ranked if each.origin in holders), opened.replicas[0]))

    def bind(self, opened: OpenContent, replica: Replica) -> None:
        """Binds the content to the replica that gives it its first byte, and to those that agree with it."""
        everything, opened.undecided = opened.replicas, False
        shown = {} if opened.record is None else opened.record.shown
        opened.witness = shown.get(copy_key(replica))
        circle = [
            each
            for each in everything
            if each.origin == replica.origin or shown.get(copy_key(each), b"") == opened.witness
        ]
        opened.unproven = [each for each in everything if each not in circle]
        opened.take(circle)
        if opened.unproven:
            self._bound.add(opened)
            self._prove(opened)

    def divide(self, opened: OpenContent, present: Sequence[Replica]) -> None:
        """Gives the content other replicas. Those that have not been proven wait until they are."""
        present, opened.guarded = self._apart(present)
        record = opened.record
        witness = None if record is None else self._witness(opened, record)
        opened.sources |= {replica.origin for replica in opened.replicas}
        circle: Sequence[Replica] = []
        if record is not None and witness is not None:
            circle = [each for each in present if record.shown.get(copy_key(each)) == witness]
        if not circle:
            same = [each for each in present if each.origin in opened.sources]
            best = self._registry.route(same)
            circle = [] if best is None else [each for each in same if each.origin == best.replica.origin]
        if opened.undecided or is_covered(opened.content):
            circle = list(present)
        opened.unproven = [each for each in present if each not in circle]
        opened.take(circle)

    async def widen(self, opened: OpenContent, tried: Sequence[Replica], deadline: float) -> bool:
        """Looks for a copy that may continue, because those that may serve have failed.

        Args:
            opened: The content.
            tried: Its replicas when they failed.
            deadline: When this returns at the latest, in seconds of the event loop's clock.

        Returns:
            Whether there is one.
        """
        time = asyncio.get_running_loop().time
        if opened.replicas is not tried:
            return True
        if not opened.unproven:
            return False
        await asyncio.wait({self._prove(opened)}, timeout=max(0.0, deadline - time()))
        if opened.replicas is not tried:
            return True
        record = await self._checksums.record(opened.content)
        for candidate in self._registry.route_all(opened.unproven):
            if time() < deadline and await self._repeats(opened, candidate.replica, record, deadline):
                self._join(opened, [candidate.replica])
                return True
        return False

    def _join(self, opened: OpenContent, replicas: Sequence[Replica]) -> None:
        opened.unproven = [each for each in opened.unproven if each not in replicas]
        opened.take([*opened.replicas, *replicas])

    def _all_agree(self, opened: OpenContent, record: Record) -> bool:
        """Lets all copies that agree by now serve; returns whether nothing is open any longer."""
        if opened.undecided:
            usable = [each for each in opened.replicas if each not in self._quarantined.held]
            shown = {record.shown.get(copy_key(each)) for each in usable}
            if len(shown) != 1 or None in shown:
                return False
            opened.undecided = False
            opened.take(usable)
            return True
        witness = self._witness(opened, record)
        joining = [each for each in opened.unproven if record.shown.get(copy_key(each)) == witness]
        if joining and witness is not None:
            self._join(opened, joining)
        return not opened.unproven

    def _witness(self, opened: OpenContent, record: Record) -> bytes | None:
        """Returns what the copies that serve the content have shown; None: none of them has."""
        if opened.witness is None:
            shown = (record.shown.get(copy_key(each)) for each in opened.replicas)
            opened.witness = next((witness for witness in shown if witness is not None), None)
        return opened.witness

    # Proofs

    async def is_proven(self, content: Content, replicas: Sequence[Replica]) -> bool:
        """Whether all these copies have shown their witness, and those that differ are separated."""
        record = await self._checksums.record(content)
        shown = [record.shown.get(copy_key(replica)) for replica in replicas]
        usable = {
            witness for replica, witness in zip(replicas, shown, strict=True) if replica not in self._quarantined.held
        }
        return None not in shown and len(usable) < 2

    async def prove(self, content: Content, replicas: Sequence[Replica]) -> None:
        """Proves all copies of a content that can be asked now, and separates those that differ."""
        await asyncio.wait({self._prove(OpenContent(content, replicas))})

    def _prove(self, opened: OpenContent) -> asyncio.Task[None]:
        """Returns the proof of the content that is under way, or starts one."""
        key = opened.content.fingerprint
        if key not in self._proofs:
            waiting: WeakSet[OpenContent] = WeakSet()
            everything = [*opened.replicas, *opened.unproven, *opened.guarded]
            task = self._tasks.spawn(self._run(opened.content, everything, waiting), "a proof")
            task.add_done_callback(lambda _: self._proofs.pop(key, None))
            self._proofs[key] = task, waiting
        self._proofs[key][1].add(opened)
        return self._proofs[key][0]

    async def _run(self, content: Content, replicas: Sequence[Replica], waiting: WeakSet[OpenContent]) -> None:
        record = await self._checksums.record(content)
        if not record.is_known:
            return
        async with self._turns:
            await asyncio.gather(*(self._show(content, replica, record) for replica in replicas))
        self._judge(content, replicas, record)
        for opened in list(waiting):
            self._all_agree(opened, record)

    async def _show(self, content: Content, replica: Replica, record: Record) -> None:
        """Records the witness of a copy, unless that is known or the copy can't be asked."""
        if copy_key(replica) in record.shown or self._registry.health().is_unhealthy(replica.origin):
            return
        offset = witness_offset(self._checksums.secret, content)
        try:
            fetched = await self._failover.fetch([replica], offset, PIECE, demand=Demand(urgent=False))
        except NoReplicaAvailable:
            return
        self._checksums.put_shown(record, copy_key(replica), witness_hash(fetched.data))

    def _judge(self, content: Content, replicas: Sequence[Replica], record: Record) -> None:
        """Separates copies that have shown other bytes than those that go on serving."""
        groups: dict[bytes, list[Replica]] = {}
        for replica in replicas:
            witness = record.shown.get(copy_key(replica))
            if witness is not None and not self._quarantined.is_wrong(replica):
                groups.setdefault(witness, []).append(replica)
        if len(groups) < 2:
            return
        origins = {replica.origin for replica in replicas}
        priorities = {origin: self._registry.router.get_priority(origin) for origin in origins}
        trusted = {origin: self._registry.is_trusted(origin) for origin in origins}
        winner = choose_group(groups, priorities, trusted)
        for replica in (each for witness, group in groups.items() if witness != winner for each in group):
            self._quarantined.separate(replica, groups[winner][0])
            if all(each.origin != replica.origin for each in groups[winner]):
                for index in self._checksums.withdraw(record, replica.origin):
                    self.on_replaced(content, index)
        for opened in [each for each in self._bound if each.content.fingerprint == content.fingerprint]:
            if all(each in self._quarantined.held for each in opened.replicas):
                # It has bytes that no cache may add to.
                opened.take(())
                opened.unproven, opened.undecided, opened.is_lost = (), True, True

    async def _repeats(self, opened: OpenContent, replica: Replica, record: Record, deadline: float) -> bool:
        """Whether a copy shows a block that is recorded of the copies that served: any one, so it can't be foreseen."""
        origins = opened.sources | {each.origin for each in opened.replicas}
        recorded = [
            index
            for index, witness in enumerate(record.witnesses)
            if witness and (record.is_confirmed(index) or self._checksums.witness(record, index) in origins)
        ]
        if not recorded:
            return False
        # The ends are in the fingerprint for the most part.
        index = SystemRandom().choice(recorded[1:-1] or recorded)
        size = min(BLOCK_SIZE, opened.content.size - index * BLOCK_SIZE)
        try:
            fetched = await self._failover.fetch([replica], index * BLOCK_SIZE, size, deadline=deadline)
        except NoReplicaAvailable:
            return False
        return record.compare(index, digest_of(fetched.data), fetched.data) is DigestMatch.SAME
