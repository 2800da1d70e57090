"""Copies serve for each other only once they have shown the same bytes at a secret place."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.content.checksums import Checksums
from musicfs.content.circles import Circles
from musicfs.content.open_content import OpenContent
from musicfs.content.reader import Reader
from musicfs.content.replica_lookup import ReplicaLookup
from musicfs.content.witnesses import PIECE, choose_group, copy_key, pack, unpack, witness_offset
from musicfs.errors import NoReplicaAvailable
from musicfs.events import CopiesDiffer
from musicfs.model import Content, OriginId, Replica
from musicfs.tags.fingerprint import EDGE, SMALL, fingerprint
from tests.support.fakes import GOOD, HANG, PATH, UNREACHABLE, FakeLocal, FakeOrigin
from tests.support.federation import Federation, federation
from tests.support.twins import twin_of
from tests.support.virtualtime import now_ms, virtual_time

DATA = Random(1).randbytes(BLOCK_SIZE * 4)
TWIN = twin_of(DATA)
SONG = Content(1, fingerprint(len(DATA), {0: DATA}), len(DATA))
A, B, C = OriginId("a"), OriginId("b"), OriginId("c")


@asynccontextmanager
async def mounted(*origins: FakeOrigin, checksums: Checksums | None = None) -> AsyncIterator[tuple[Federation, Mount]]:
    """The origins, the first preferred, and a mount of them."""
    async with federation(*origins) as made:
        if checksums is not None:
            checksums.start(made.registry.quarantined)
        mount = Mount(made, checksums)
        try:
            yield made, mount
        finally:
            await mount.reader.aclose()
            if checksums is not None:
                await checksums.aclose()


class Mount:
    """A reader that keeps nothing in memory."""

    def __init__(self, made: Federation, checksums: Checksums | None = None) -> None:
        self.made = made
        self.checksums = checksums or Checksums()
        self.circles = Circles(made.executor, self.checksums)
        self.reader = Reader(made.executor, recent_blocks=0, checksums=self.checksums, circles=self.circles)

    def open(self, *origins: FakeOrigin) -> OpenContent:
        opened = OpenContent(SONG, [origin.replica for origin in origins or self.made.origins])
        self.reader.prepare(opened)
        return opened

    async def read(self, opened: OpenContent, index: int) -> bytes:
        return await self.reader.read(opened, index * BLOCK_SIZE, BLOCK_SIZE)

    async def play(self, opened: OpenContent) -> bytes:
        return b"".join([await self.read(opened, index) for index in range(4)])


def block(data: bytes, index: int) -> bytes:
    return data[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE]


def pieces(origin: FakeOrigin) -> int:
    return sum(call.size == PIECE for call in origin.calls)


def held(made: Federation) -> set[str]:
    return {replica.origin for replica in made.registry.quarantined.held}


def test_the_secret_place_lies_between_the_samples_at_the_ends_and_follows_from_all_of_secret_and_content() -> None:
    places = {witness_offset(bytes([number]) * 32, SONG) for number in range(200)}
    assert len(places) > 190
    assert min(places) >= EDGE
    assert max(places) + PIECE <= SONG.size - EDGE
    secret = bytes(32)
    assert witness_offset(secret, SONG) != witness_offset(secret, Content(1, fingerprint(9, {0: bytes(9)}), SONG.size))
    least = Content(1, SONG.fingerprint, SMALL + 1)
    assert EDGE <= witness_offset(secret, least) <= least.size - EDGE - PIECE


def test_witnesses_are_of_one_version_of_one_file_at_one_origin() -> None:
    one = Replica(A, "p", 1, 2, "e")
    others = [Replica(B, "p", 1, 2, "e"), Replica(A, "q", 1, 2, "e"), Replica(A, "p", 3, 2, "e")]
    others += [Replica(A, "p", 1, 3, "e"), Replica(A, "p", 1, 2, "f"), Replica(A, "p", 1, 2)]
    assert len({copy_key(each) for each in (one, *others)}) == 7
    shown = {copy_key(each): bytes([number]) * 16 for number, each in enumerate(others)}
    assert unpack(pack(shown)) == shown
    assert unpack(pack(shown)[:-1]) == dict(list(shown.items())[:-1])


def test_the_copies_that_go_on_serving_are_those_at_most_trusted_origins_and_then_of_the_best_priority() -> None:
    a, b, c = (Replica(id, "p", 1, 1) for id in (A, B, C))
    priorities = {A: 1, B: 2, C: 3}
    everyone = dict.fromkeys((A, B, C), True)
    assert choose_group({b"x": [b], b"y": [a]}, priorities, everyone) == b"y"
    assert choose_group({b"x": [a], b"y": [b, c]}, priorities, everyone) == b"y"
    assert choose_group({b"x": [a], b"y": [b, c]}, priorities, everyone | {B: False, C: False}) == b"x"
    assert choose_group({b"x": [a], b"y": [b]}, priorities, everyone | {A: False}) == b"y"


@virtual_time
async def test_a_second_copy_continues_once_both_have_shown_the_same() -> None:
    first, second = FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA)
    async with mounted(first, second) as (_made, mount):
        file = mount.open()
        assert await mount.read(file, 0) == block(DATA, 0)
        await asyncio.sleep(0.1)
        first.read_outcome = UNREACHABLE
        assert await mount.read(file, 1) == block(DATA, 1)
        assert (pieces(first), pieces(second)) == (1, 1)
        assert await mount.play(mount.open()) == DATA
        assert (pieces(first), pieces(second)) == (1, 1), "what was shown is recorded"


@virtual_time
async def test_twins_are_told_apart_at_the_first_opening_and_the_preferred_one_serves() -> None:
    first, second = FakeOrigin("a", data=DATA), FakeOrigin("b", data=TWIN)
    async with mounted(first, second) as (made, mount):
        file = mount.open()
        assert await mount.read(file, 0) == block(DATA, 0)
        await asyncio.sleep(0.1)
        assert made.published(CopiesDiffer) == [CopiesDiffer(A, PATH, B, PATH)]
        first.read_outcome = UNREACHABLE
        with pytest.raises(NoReplicaAvailable):
            await mount.read(file, 1)
        with pytest.raises(NoReplicaAvailable):
            await mount.read(mount.open(), 1)
        first.read_outcome = GOOD
        await made.monitor.check_now(A)
        assert await mount.play(mount.open()) == DATA


@virtual_time
async def test_a_twin_that_was_played_while_the_preferred_one_was_away_gives_way_to_it() -> None:
    first, second = FakeOrigin("a", data=DATA, read_outcome=UNREACHABLE), FakeOrigin("b", data=TWIN)
    async with mounted(first, second) as (made, mount):
        file = mount.open()
        assert await mount.play(file) == TWIN, "one content, though not the wanted one"
        first.read_outcome = GOOD
        await made.monitor.check_now(A)
        assert await mount.play(mount.open()) == DATA
        assert held(made) == {"b"}
        assert not mount.reader.keeps_pages(SONG), "the kernel may have the twin's bytes"
        assert mount.reader.keeps_pages(SONG)
        with pytest.raises(NoReplicaAvailable):
            await mount.read(file, 1)


async def test_what_is_known_of_twins_outlives_a_restart(tmp_path: Path) -> None:
    def kept() -> Checksums:
        return Checksums(tmp_path / "checksums.sqlite")

    def twins() -> tuple[FakeOrigin, FakeOrigin]:
        return FakeOrigin("a", data=DATA), FakeOrigin("b", data=TWIN)

    first, second = twins()
    first.read_outcome = UNREACHABLE
    async with mounted(first, second, checksums=kept()) as (_, mount):
        assert await mount.play(mount.open()) == TWIN
        secret = mount.checksums.secret
    first, second = twins()
    async with mounted(first, second, checksums=kept()) as (_, mount):
        assert mount.checksums.secret == secret
        assert await mount.play(mount.open()) == DATA
        assert pieces(second) == 0, "it was shown before the restart"
    async with mounted(*twins(), checksums=kept()) as (made, mount):
        assert held(made) == {"b"}
        assert await mount.play(mount.open()) == DATA


@virtual_time
async def test_an_unproven_copy_never_continues_what_another_began() -> None:
    first, second = FakeOrigin("a", data=DATA), FakeOrigin("b", data=TWIN, read_outcome=UNREACHABLE)
    async with mounted(first, second) as (made, mount):
        file = mount.open()
        assert await mount.read(file, 0) == block(DATA, 0)
        first.read_outcome, second.read_outcome = UNREACHABLE, GOOD
        await made.monitor.check_now(B)
        with pytest.raises(NoReplicaAvailable):
            await mount.read(file, 1)


@virtual_time
async def test_a_block_that_was_recorded_proves_a_copy_where_the_other_can_not_be_asked() -> None:
    first, second = FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA, read_outcome=UNREACHABLE)
    async with mounted(first, second) as (made, mount):
        mount.checksums.put_shown = lambda record, copy, witness: None  # type: ignore[method-assign]
        file = mount.open()
        assert [await mount.read(file, index) for index in range(3)] == [block(DATA, index) for index in range(3)]
        first.read_outcome, second.read_outcome = UNREACHABLE, GOOD
        await made.monitor.check_now(B)
        assert await mount.read(file, 3) == block(DATA, 3)


@virtual_time
async def test_of_several_blocks_asked_for_at_once_all_come_from_copies_that_agree() -> None:
    first, second = FakeOrigin("a", data=DATA), FakeOrigin("b", data=TWIN)
    first.reads.extend([UNREACHABLE] * 2)  # one block comes from either at first
    async with mounted(first, second) as (_made, mount):
        for _ in range(3):
            file = mount.open()
            try:
                data = await mount.reader.read(file, 0, SONG.size)
            except NoReplicaAvailable:
                continue
            assert data in (DATA, TWIN)


@virtual_time
async def test_a_copy_with_another_time_is_proven_again_before_it_continues() -> None:
    first, second = FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA)
    async with mounted(first, second) as (made, mount):
        file = mount.open()
        await mount.read(file, 0)
        await asyncio.sleep(0.1)
        assert len(file.replicas) == 2
        second.data = TWIN
        newer = Replica(B, PATH, len(TWIN), mtime_ns=2)
        mount.circles.divide(file, [first.replica, newer])
        assert (file.replicas, file.unproven) == ([first.replica], [newer])
        first.read_outcome = UNREACHABLE
        with pytest.raises(NoReplicaAvailable):
            await mount.read(file, 1)
        assert held(made) == {"b"}


@virtual_time
async def test_a_copy_that_comes_later_continues_once_it_is_proven() -> None:
    first, later, twin = FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA), FakeOrigin("c", data=TWIN)
    async with mounted(first, later, twin) as (made, mount):
        has = [first.replica]

        async def scan(origin: OriginId, path: str) -> None:
            pass

        lookup = ReplicaLookup(made.executor, lambda key: has, scan, mount.circles.divide)
        mount.reader = Reader(
            made.executor, recent_blocks=0, checksums=mount.checksums, lookup=lookup, circles=mount.circles
        )
        file = mount.open(first)
        assert await mount.read(file, 0) == block(DATA, 0)
        assert await mount.read(file, 1) == block(DATA, 1)
        has.extend([twin.replica, later.replica])
        first.read_outcome = UNREACHABLE
        assert await mount.read(file, 2) == block(DATA, 2)
        assert {each.origin for each in file.replicas} == {A, B}


@virtual_time
async def test_a_local_disk_that_leads_is_read_at_once_after_the_first_block() -> None:
    first, second = FakeLocal("a", data=DATA), FakeOrigin("b", data=DATA)
    async with federation(first, second) as made:
        await made.probe_all()
        mount = Mount(made)
        file = mount.open()
        assert mount.reader.read_now(file, 0, 1000) is None
        assert await mount.reader.read(file, 0, 1000) == DATA[:1000]
        await asyncio.sleep(0.1)
        again = mount.open()
        assert not again.undecided
        assert mount.reader.read_now(again, 0, BLOCK_SIZE) == block(DATA, 0)


@virtual_time
async def test_an_origin_that_hangs_holds_the_first_read_up_by_nothing() -> None:
    first, second = FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA)
    async with mounted(first, second) as (_made, mount):
        second.read_outcome = HANG
        start = now_ms()
        assert await mount.read(mount.open(), 0) == block(DATA, 0)
        assert now_ms() - start < 10


@virtual_time
async def test_many_openings_ask_for_one_proof() -> None:
    first, second = FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA)
    async with mounted(first, second) as (_made, mount):
        files = [mount.open() for _ in range(10)]
        await asyncio.gather(*(mount.read(file, number % 4) for number, file in enumerate(files)))
        await asyncio.sleep(0.1)
        assert (pieces(first), pieces(second)) == (1, 1)
        assert all(len(file.replicas) == 2 for file in files)


def distrust(made: Federation, id: OriginId) -> None:
    known = made.registry._origins
    known[id] = dataclasses.replace(known[id], trusted=False)


@virtual_time
async def test_an_untrusted_origin_serves_only_the_blocks_that_a_trusted_one_has_shown() -> None:
    first, second = FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA)
    async with mounted(first, second) as (made, mount):
        distrust(made, B)
        file = mount.open()
        assert await mount.read(file, 1) == block(DATA, 1)
        first.read_outcome = UNREACHABLE
        assert await mount.read(file, 1) == block(DATA, 1)
        with pytest.raises(NoReplicaAvailable):
            await mount.read(file, 2)
        second.data = DATA[: BLOCK_SIZE + 7] + b"!" + DATA[BLOCK_SIZE + 8 :]
        with pytest.raises(NoReplicaAvailable):
            await mount.read(file, 1)
        assert held(made) == {"b"}


@virtual_time
async def test_an_untrusted_origin_serves_what_only_it_has() -> None:
    only = FakeOrigin("a", data=DATA)
    async with mounted(only) as (made, mount):
        distrust(made, A)
        assert await mount.play(mount.open()) == DATA


@virtual_time
async def test_untrusted_origins_have_no_vote() -> None:
    first, liar, other = FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA), FakeOrigin("c", data=DATA)
    async with mounted(first, liar, other) as (made, mount):
        distrust(made, B)
        distrust(made, C)
        file = mount.open()
        assert await mount.read(file, 1) == block(DATA, 1)
        liar.data = other.data = DATA[: BLOCK_SIZE + 7] + b"!" + DATA[BLOCK_SIZE + 8 :]
        assert await mount.read(file, 1) == block(DATA, 1)
        for origin in (liar, other):
            with pytest.raises(NoReplicaAvailable):
                await mount.reader.compare(file, 1, origin.replica)
        assert held(made) == {"b", "c"}
        assert await mount.play(mount.open()) == DATA


@virtual_time
async def test_an_untrusted_copy_that_was_compared_whole_serves_whole() -> None:
    first, second = FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA)
    async with mounted(first, second) as (made, mount):
        distrust(made, B)
        file = mount.open()
        for index in range(4):
            for origin in (first, second):
                await mount.reader.compare(file, index, origin.replica)
        first.read_outcome = UNREACHABLE
        assert await mount.play(mount.open()) == DATA
