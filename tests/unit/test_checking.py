"""Blocks are what they were when they were first read, whoever they come from; and who is believed where it is open."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.cache.store import BlockStore
from musicfs.content import checkloads
from musicfs.content.checksums import Checksums
from musicfs.content.open_content import OpenContent
from musicfs.content.reader import Reader
from musicfs.content.vote import Vote, VoteResult, count_votes
from musicfs.errors import NoReplicaAvailable
from musicfs.events import EventBus, ReplicaQuarantined, ReplicasDisagree
from musicfs.model import Content, Fingerprint, OriginId, Replica
from tests.support.blocks import HangingDisk
from tests.support.fakes import GOOD, PATH, UNREACHABLE, WRONG, FakeLocal, FakeOrigin, Outcome
from tests.support.federation import Federation, federation
from tests.support.virtualtime import virtual_time

A, B, C = OriginId("a"), OriginId("b"), OriginId("c")
DATA = bytes(range(251)) * 3000  # two blocks and a part of one
ROTTEN = DATA[:300_000] + b"!" + DATA[300_001:]
IN_ROT = 300_000 // BLOCK_SIZE
SONG = Content(1, Fingerprint(b"f" * 32), len(DATA))


def opened(made: Federation, *origins: FakeOrigin) -> OpenContent:
    return OpenContent(SONG, [origin.replica for origin in origins or made.origins])


def reader_of(made: Federation, checksums: Checksums | None = None) -> Reader:
    """Keeps nothing in memory, so that every read asks."""
    return Reader(made.executor, recent_blocks=0, checksums=checksums)


async def played(reader: Reader, file: OpenContent) -> bytes:
    return await reader.read(file, 0, SONG.size)


def set_aside(made: Federation) -> set[str]:
    return {replica.origin for replica in made.registry.quarantined.held}


# Two that differ, where one has been believed so far


@virtual_time
async def test_of_two_that_differ_the_first_read_goes_on_serving_and_the_other_is_set_aside() -> None:
    first, second = FakeOrigin("a", data=DATA), FakeOrigin("b", data=ROTTEN)
    async with federation(first, second) as made:
        reader, file = reader_of(made), opened(made)
        assert await played(reader, file) == DATA
        first.reads.extend([UNREACHABLE] * 3)
        assert await played(reader, file) == DATA
        assert made.published(ReplicasDisagree) == [ReplicasDisagree(A, PATH, B, PATH, IN_ROT)]
        assert made.published(ReplicaQuarantined) == []
        assert set_aside(made) == {"b"}


@virtual_time
async def test_nothing_is_served_when_the_first_read_is_away_and_the_other_differs() -> None:
    first, second = FakeOrigin("a", data=DATA), FakeOrigin("b", data=ROTTEN)
    async with federation(first, second) as made:
        reader, file = reader_of(made), opened(made)
        await played(reader, file)
        first.read_outcome = UNREACHABLE
        assert await reader.read(file, 0, 1000) == DATA[:1000]
        with pytest.raises(NoReplicaAvailable):
            await reader.read(file, 300_000, 10)
        assert made.published(ReplicasDisagree) == [ReplicasDisagree(A, PATH, B, PATH, IN_ROT)]
        first.read_outcome = WRONG
        with pytest.raises(NoReplicaAvailable):
            await reader.read(file, 300_000, 10)


@virtual_time
async def test_a_third_replica_decides_for_the_first_read() -> None:
    origins = [FakeOrigin("a", data=DATA), FakeOrigin("b", data=ROTTEN), FakeOrigin("c", data=DATA)]
    async with federation(*origins) as made:
        reader, file = reader_of(made), opened(made)
        await played(reader, file)
        origins[0].read_outcome = UNREACHABLE
        assert await played(reader, file) == DATA
        assert made.published(ReplicaQuarantined) == [ReplicaQuarantined(B, PATH, IN_ROT)]
        assert made.published(ReplicasDisagree) == []


@virtual_time
async def test_a_third_replica_decides_against_the_first_read() -> None:
    origins = [FakeOrigin("a", data=ROTTEN), FakeOrigin("b", data=DATA), FakeOrigin("c", data=DATA)]
    async with federation(*origins) as made:
        reader, file = reader_of(made), opened(made)
        assert await played(reader, file) == ROTTEN
        origins[0].reads.extend([UNREACHABLE] * 3)
        assert await played(reader, file) == DATA
        assert made.published(ReplicaQuarantined) == [ReplicaQuarantined(A, PATH, IN_ROT)]
        assert await played(reader, file) == DATA


@virtual_time
async def test_one_that_is_outvoted_while_it_is_away_is_quarantined_when_it_is_back() -> None:
    origins = [FakeOrigin("a", data=ROTTEN), FakeOrigin("b", data=DATA), FakeOrigin("c", data=DATA)]
    async with federation(*origins) as made:
        reader, file = reader_of(made), opened(made)
        await played(reader, file)
        origins[0].read_outcome = UNREACHABLE
        assert await played(reader, file) == DATA
        assert set_aside(made) == set()
        origins[0].read_outcome = FakeOrigin("x").read_outcome
        await made.probe_all()
        assert await played(reader, file) == DATA
        assert set_aside(made) == {"a"}


@virtual_time
async def test_a_record_that_its_own_origin_takes_back_is_replaced_and_no_copy_quarantined() -> None:
    first, second = FakeOrigin("a", data=ROTTEN), FakeOrigin("b", data=DATA)
    async with federation(first, second) as made:
        reader, file = reader_of(made), opened(made)
        assert await played(reader, file) == ROTTEN
        first.data = DATA
        first.reads.extend([UNREACHABLE] * 3)
        assert await played(reader, file) == DATA
        assert set_aside(made) == set()
        first.data = ROTTEN  # by now it is known what is right
        assert await played(reader, file) == DATA
        assert set_aside(made) == {"a"}


@virtual_time
async def test_an_origin_that_lies_in_one_block_has_no_say_in_blocks_requested_at_the_same_time() -> None:
    liar, other = FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA, read_outcome=UNREACHABLE)
    async with federation(liar, other) as made:
        reader, file = reader_of(made), opened(made)
        await played(reader, file)
        liar.read_outcome = WRONG
        reads = [reader.read(file, index * BLOCK_SIZE, 10) for index in range(3)]
        answers = await asyncio.gather(*reads, return_exceptions=True)
        assert [type(answer) for answer in answers] == [NoReplicaAvailable] * 3
        other.read_outcome = GOOD
        await made.probe_all()
        assert await played(reader, file) == DATA
        assert set_aside(made) == {"a"}


@virtual_time
async def test_an_origin_that_lies_is_not_believed_in_earlier_requests() -> None:
    """Neither where nothing is known yet."""
    liar = FakeOrigin("a", data=DATA)
    async with federation(liar) as made:
        reader, file = reader_of(made), opened(made)
        await reader.read(file, 0, 10)
        liar.reads.extend([WRONG, Outcome(after=0.1, wrong=True), WRONG])
        reads = [reader.read(file, index * BLOCK_SIZE, 10) for index in range(2)]
        answers = await asyncio.gather(*reads, return_exceptions=True)
        assert [type(answer) for answer in answers] == [NoReplicaAvailable] * 2


@virtual_time
async def test_one_wrong_answer_that_is_not_repeated_quarantines_no_copy() -> None:
    first, second = FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA)
    async with federation(first, second) as made:
        reader, file = reader_of(made), opened(made, first)
        await reader.read(file, 0, 10)
        first.reads.append(WRONG)
        assert await reader.read(opened(made), 0, 10) == DATA[:10]
        assert set_aside(made) == set()


@virtual_time
async def test_the_word_of_an_origin_that_has_no_part_any_more_counts_for_nothing() -> None:
    first, second = FakeOrigin("a", data=DATA), FakeOrigin("b", data=ROTTEN)
    async with federation(first, second) as made:
        reader = reader_of(made)
        await played(reader, opened(made, first))
        assert await played(reader, opened(made, second)) == ROTTEN
        assert set_aside(made) == set()


@virtual_time
async def test_what_was_set_aside_in_a_dispute_serves_when_its_opponent_no_longer_can() -> None:
    first, second = FakeOrigin("a", data=DATA), FakeOrigin("b", data=ROTTEN)
    async with federation(first, second) as made:
        reader = reader_of(made)
        made.registry.quarantined.dispute(second.replica, IN_ROT, first.replica)
        first.read_outcome = UNREACHABLE
        with pytest.raises(NoReplicaAvailable):
            await played(reader, opened(made))
        assert await played(reader, opened(made, second)) == ROTTEN
        made.registry.quarantined.dispute(second.replica, IN_ROT, first.replica)
        await made.registry.unregister(A)
        assert set_aside(made) == set()


@virtual_time
async def test_a_dispute_ends_when_the_wrong_file_is_replaced() -> None:
    first, second = FakeOrigin("a", data=ROTTEN), FakeOrigin("b", data=DATA)
    async with federation(first, second) as made:
        reader = reader_of(made)
        await played(reader, opened(made))
        first.reads.extend([UNREACHABLE] * 3)
        assert await played(reader, opened(made)) == ROTTEN
        assert set_aside(made) == {"b"}
        first.data, first.replica = DATA, Replica(A, PATH, len(DATA), mtime_ns=2)
        assert await played(reader, opened(made)) == DATA
        assert set_aside(made) == set()


@virtual_time
async def test_what_two_have_shown_is_held_against_a_third_at_once() -> None:
    origins = [FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA), FakeOrigin("c", data=ROTTEN)]
    async with federation(*origins) as made:
        reader = reader_of(made)
        await played(reader, opened(made, origins[0]))
        await played(reader, opened(made, origins[1]))
        calls = len(origins[0].calls)
        with pytest.raises(NoReplicaAvailable):
            await played(reader, opened(made, origins[2]))
        assert made.published(ReplicaQuarantined) == [ReplicaQuarantined(C, PATH, IN_ROT)]
        assert len(origins[0].calls) == calls


@virtual_time
async def test_what_two_have_shown_needs_no_other_vote_against_a_third() -> None:
    """The next replica is asked, and no other: one that hangs would hold up the read."""
    origins = [FakeOrigin(id, data=DATA) for id in "abcd"]
    async with federation(*origins) as made:
        reader = reader_of(made)
        await played(reader, opened(made, origins[0]))
        await played(reader, opened(made, origins[1]))
        origins[2].data = ROTTEN
        before = [len(origin.calls) for origin in origins]
        assert await reader.read(opened(made, *origins[2:]), 300_000, 10) == DATA[300_000:300_010]
        assert [len(origin.calls) for origin in origins] == [*before[:2], before[2] + 1, before[3] + 1]


# The verdict


def says(origin: str, digest: bytes) -> Vote:
    return Vote(Replica(OriginId(origin), PATH, 1, 1), digest, digest)


OLD, NEW, OTHER = b"old", b"new", b"other"


@pytest.mark.parametrize(
    ("witness", "said", "digest", "vouching", "wrong", "disputed"),
    [
        ("a", [("b", NEW), ("a", OLD)], OLD, "a", "", "b"),
        ("a", [("b", NEW)], OLD, "a", "", "b"),
        ("a", [("b", NEW), ("c", OLD)], OLD, None, "b", ""),
        ("a", [("b", NEW), ("a", OLD), ("c", OLD)], OLD, None, "b", ""),
        ("a", [("b", NEW), ("c", NEW)], NEW, None, "", ""),
        ("a", [("b", NEW), ("a", OLD), ("c", NEW)], NEW, None, "a", ""),
        ("a", [("b", NEW), ("a", NEW)], NEW, None, "", ""),
        ("a", [("b", NEW), ("a", OTHER)], OLD, "a", "a", "b"),
        ("a", [("b", NEW), ("a", OLD), ("c", OTHER)], OLD, "a", "", "bc"),
        ("a", [("a", NEW)], OLD, "a", "a", ""),
        ("a", [("a", NEW), ("a", OLD), ("b", OLD)], OLD, None, "a", ""),
        (None, [("b", NEW)], NEW, "b", "", ""),
        (None, [("b", NEW), ("c", OTHER)], NEW, "b", "", "c"),
        (None, [("b", NEW), ("c", OLD)], OLD, "c", "", "b"),
    ],
)
def test_the_verdict(
    witness: str | None,
    said: list[tuple[str, bytes]],
    digest: bytes,
    vouching: str | None,
    wrong: str,
    disputed: str,
) -> None:
    found: VoteResult = count_votes(OLD, None if witness is None else OriginId(witness), [says(*each) for each in said])
    assert (found.digest, found.witness) == (digest, vouching)
    assert [replica.origin for replica in found.wrong] == list(wrong)
    assert [replica.origin for replica in found.disputed] == list(disputed)
    assert (found.data is None) == (digest not in [each for _, each in said])
    assert found.data is None or found.data.data == digest


# Disks of this machine


@virtual_time
async def test_a_local_file_that_has_rotted_is_found_out_before_a_byte_of_it_is_given() -> None:
    disk, other = FakeLocal("a", data=DATA), FakeOrigin("b", data=DATA)
    async with federation(disk, other) as made:
        await made.probe_all()
        reader = reader_of(made)
        assert await played(reader, opened(made)) == DATA
        disk.data = ROTTEN
        file = opened(made)
        assert reader.read_now(file, 0, 1000) == DATA[:1000]
        assert reader.read_now(file, 300_000, 10) is None
        assert await reader.read(file, 300_000, 10) == DATA[300_000:300_010]
        assert made.published(ReplicaQuarantined) == [ReplicaQuarantined(A, PATH, IN_ROT)]


@virtual_time
async def test_reading_on_records_what_a_local_disk_gives_and_a_small_read_does_not() -> None:
    disk = FakeLocal("a", data=DATA)
    async with federation(disk) as made:
        await made.probe_all()
        reader = reader_of(made)
        assert reader.read_now(opened(made), 300_000, 4096) == DATA[300_000:304_096]
        disk.data = ROTTEN
        assert reader.read_now(opened(made), 300_000, 4096) == ROTTEN[300_000:304_096]
        disk.data = DATA
        file = opened(made)
        for offset in range(0, len(DATA), 131_072):
            assert reader.read_now(file, offset, 131_072) == DATA[offset : offset + 131_072]
        disk.data = ROTTEN
        assert reader.read_now(opened(made), 300_000, 4096) is None
        assert reader.read_now(opened(made), BLOCK_SIZE - 10, 20) is None, "a range over two blocks is of both"
        with pytest.raises(NoReplicaAvailable):
            await reader.read(opened(made), 300_000, 4096)


@virtual_time
async def test_a_small_file_and_the_short_end_of_a_large_one_are_recorded_when_they_are_read_whole() -> None:
    data = DATA[: 2 * BLOCK_SIZE + 1000]
    end = 2 * BLOCK_SIZE
    disk = FakeLocal("a", data=data)
    async with federation(disk) as made:
        await made.probe_all()
        reader = reader_of(made)
        content = Content(2, Fingerprint(b"s" * 32), len(data))
        assert reader.read_now(OpenContent(content, made.replicas), end, 4096) == data[end:]
        disk.data = data[:end] + bytes(1000)
        assert reader.read_now(OpenContent(content, made.replicas), end + 10, 10) is None


class CountingLocal(FakeLocal):
    """Notes how much each immediate read was of."""

    def __init__(self, id: str, data: bytes) -> None:
        super().__init__(id, data=data)
        self.sizes: list[int] = []

    def read_now(self, replica: Replica, offset: int, size: int) -> bytes | memoryview | None:
        self.sizes.append(size)
        return super().read_now(replica, offset, size)


@virtual_time
async def test_a_handle_checks_each_block_once_and_again_when_another_disk_serves() -> None:
    first, second = CountingLocal("a", DATA), CountingLocal("b", ROTTEN)
    async with federation(first, second) as made:
        await made.probe_all()
        reader, file = reader_of(made), opened(made)
        reader.read_now(file, 0, len(DATA))
        first.sizes.clear()
        assert reader.read_now(opened(made), 300_000, 10) == DATA[300_000:300_010]
        assert first.sizes == [BLOCK_SIZE]
        for _ in range(2):
            assert reader.read_now(file, 300_000, 10) == DATA[300_000:300_010]
        assert first.sizes == [BLOCK_SIZE, 10, 10]
        made.registry.set_priority(B, 0)
        assert reader.read_now(file, 0, 10) == DATA[:10]
        assert reader.read_now(file, 300_000, 10) is None
        assert second.sizes == [BLOCK_SIZE, BLOCK_SIZE]


@virtual_time
async def test_reading_on_within_a_block_takes_what_was_checked() -> None:
    disk = CountingLocal("a", DATA)
    async with federation(disk) as made:
        await made.probe_all()
        reader, file = reader_of(made), opened(made)
        for offset in range(0, 2 * BLOCK_SIZE, 131_072):
            assert reader.read_now(file, offset, 131_072) == DATA[offset : offset + 131_072]
        assert disk.sizes == [BLOCK_SIZE, BLOCK_SIZE]
        assert reader.read_now(opened(made), 5, 10) == DATA[5:15], "another handle's are its own to check"


@virtual_time
async def test_a_block_of_which_a_local_disk_left_the_seal_alone_is_judged_like_any_other() -> None:
    disk, second = FakeLocal("a", data=DATA), FakeOrigin("b", data=ROTTEN)
    async with federation(disk, second) as made:
        await made.probe_all()
        checksums = Checksums()
        reader = reader_of(made, checksums)
        for offset in range(0, len(DATA), BLOCK_SIZE):
            assert reader.read_now(opened(made), offset, BLOCK_SIZE)
        record = await checksums.record(SONG)
        assert [record.digest(index) for index in range(3)] == [None] * 3
        assert await played(reader, opened(made)) == DATA
        assert all(record.digest(index) for index in range(3))
        assert not record.is_confirmed(0)
        made.registry.set_priority(B, 0)
        assert await played(reader, opened(made)) == DATA
        assert made.published(ReplicasDisagree) == [ReplicasDisagree(A, PATH, B, PATH, IN_ROT)]
        assert record.is_confirmed(0)
        assert not record.is_confirmed(IN_ROT)


@virtual_time
async def test_a_seal_alone_counts_as_the_word_of_a_disk_that_is_away() -> None:
    disk, second, third = FakeLocal("a", data=DATA), FakeOrigin("b", data=ROTTEN), FakeOrigin("c", data=DATA)
    async with federation(disk, second, third) as made:
        await made.probe_all()
        reader = reader_of(made)
        assert reader.read_now(opened(made), 0, len(DATA)) == DATA
        disk.read_outcome = UNREACHABLE
        assert await played(reader, opened(made)) == DATA
        assert made.published(ReplicaQuarantined) == [ReplicaQuarantined(B, PATH, IN_ROT)]


@virtual_time
async def test_what_is_recorded_and_not_all_at_hand_is_waited_for() -> None:
    disk = CountingLocal("a", DATA)
    async with federation(disk) as made:
        await made.probe_all()
        reader = reader_of(made)
        disk.now_misses = True
        assert reader.read_now(opened(made), 0, BLOCK_SIZE) is None
        await reader.read(opened(made), 0, 10)
        disk.now_misses = False
        file = opened(made)
        assert await reader.read(file, 0, 10) == DATA[:10]
        disk.sizes.clear()
        assert reader.read_now(file, 0, 10) == DATA[:10]
        assert reader.read_now(file, len(DATA), 4096) == b""


# While the disk with the records does not answer


async def kept_records(made: Federation, path: Path) -> Checksums:
    """Checksums whose file has all blocks of the song, and none of them in memory."""
    before = Checksums(path)
    before.start(made.registry.quarantined)
    assert await played(reader_of(made, before), opened(made)) == DATA
    await before.aclose()
    checksums = Checksums(path)
    checksums.start(made.registry.quarantined)
    return checksums


async def test_reads_go_on_while_the_disk_with_the_records_hangs_and_are_checked_again_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkloads, "_WAIT_SECS", 0.05)
    disk = FakeLocal("a", data=DATA)
    async with federation(disk) as made:
        await made.probe_all()
        checksums = await kept_records(made, tmp_path / "checksums")
        hanging = HangingDisk(monkeypatch, "load")
        store = BlockStore(tmp_path, 10**8, EventBus())
        await store.start()
        reader, file = Reader(made.executor, recent_blocks=0, store=store, checksums=checksums), opened(made)
        try:
            reader.prepare(file)
            assert reader.read_now(file, 0, 1000) is None  # a call that waited for the disk would not return
            disk.data = ROTTEN
            assert await played(reader, file) == ROTTEN  # it is not known to be wrong
            with pytest.raises(NoReplicaAvailable):
                await reader.compare(file, IN_ROT, disk.replica)
            await store.written()
            assert await store.missing(SONG) == [0, 1, 2]
            assert file.record is None
        finally:
            hanging.answer.set()
        while checksums.known(SONG) is None:
            await asyncio.sleep(0.001)
        with pytest.raises(NoReplicaAvailable):
            await played(reader, file)
        await store.aclose()
        await checksums.aclose()


async def test_a_first_read_whose_record_comes_late_is_answered_as_soon_as_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FakeLocal("a", data=DATA)
    async with federation(disk) as made:
        await made.probe_all()
        checksums = await kept_records(made, tmp_path / "checksums")
        hanging = HangingDisk(monkeypatch, "load")
        try:
            reader, file = reader_of(made, checksums), opened(made)
            reader.prepare(file)
            assert reader.read_now(file, 0, 1000) is None
            reading = asyncio.create_task(reader.read(file, 0, 1000))
            await asyncio.to_thread(hanging.asked.wait)
            asked = len(disk.calls)
        finally:
            hanging.answer.set()
        assert await reading == DATA[:1000]
        assert len(disk.calls) == asked
        assert file.record is not None
        await checksums.aclose()


class GatedOrigin(FakeOrigin):
    """Answers a read once its gate is open."""

    def __init__(self, data: bytes) -> None:
        super().__init__("a", data=data)
        self.gate, self.asked = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        self.asked.set()
        await self.gate.wait()
        return await super().read(replica, offset, size)


async def test_bytes_that_were_not_checked_are_not_cached_though_the_record_arrives_before_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkloads, "_WAIT_SECS", 0.05)
    origin = GatedOrigin(DATA)
    async with federation(origin) as made:
        await made.probe_all()
        checksums = await kept_records(made, tmp_path / "checksums")
        hanging = HangingDisk(monkeypatch, "load")
        store = BlockStore(tmp_path, 10**8, EventBus())
        await store.start()
        reader, file = Reader(made.executor, recent_blocks=0, store=store, checksums=checksums), opened(made)
        origin.data = ROTTEN
        origin.gate.clear()
        origin.asked.clear()
        try:
            unchecked = asyncio.create_task(reader.read(file, IN_ROT * BLOCK_SIZE, 10))
            await origin.asked.wait()
        finally:
            hanging.answer.set()
        while checksums.known(SONG) is None:
            await asyncio.sleep(0.001)
        checked = asyncio.create_task(reader.read(file, 0, 10))
        while file.record is None:
            await asyncio.sleep(0.001)
        origin.gate.set()
        await asyncio.gather(unchecked, checked)
        await store.written()
        assert await store.missing(SONG) == [IN_ROT, 2]
        await store.aclose()
        await checksums.aclose()
