"""Reading ahead of who reads in sequence: how far, how much at a time, and when not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from math import inf
from pathlib import Path

import pytest

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.cache.store import BlockStore
from musicfs.config.models import RetryConfig
from musicfs.content.open_content import OpenContent
from musicfs.content.readahead import BY_BLOCK, IN_ALL, JUMPS, MAX_GATHERED, ReadAhead
from musicfs.content.reader import Reader
from musicfs.errors import NoReplicaAvailable
from musicfs.events import EventBus, HealthChanged
from musicfs.model import Content, Fingerprint, HealthStatus, Replica
from musicfs.origin import HandOut
from tests.support.fakes import GOOD, HANG, UNREACHABLE, FakeLocal, FakeOrigin, slow
from tests.support.federation import Federation, federation
from tests.support.virtualtime import virtual_time

BLOCKS = 48
DATA = random.Random(1).randbytes(BLOCKS * BLOCK_SIZE)
PIECE = 128 << 10
ROUND_TRIP = 0.02
RATE = 20e6


class FarOrigin(FakeOrigin):
    """A round trip of 20 ms, and 20 MB/s for all that it sends."""

    free_at = 0.0
    round_trip = ROUND_TRIP
    rate = RATE

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        now = asyncio.get_running_loop().time()
        self.free_at = max(self.free_at, now + self.round_trip) + size / self.rate
        self.read_outcome = slow(self.free_at - now)
        return await super().read(replica, offset, size)


class FarStream(FarOrigin):
    """The same, whose answers come as a stream. asked: the sizes of the parts of each request."""

    def __init__(self, id: str, *, data: bytes) -> None:
        super().__init__(id, data=data)
        self.asked: list[list[int]] = []

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        self.asked.append([size])
        return await super().read(replica, offset, size)

    async def read_parts(self, replica: Replica, offset: int, sizes: Sequence[int], hand_out: HandOut) -> None:
        self.asked.append(list(sizes))
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self.round_trip)
        for number, size in enumerate(sizes):
            self.free_at = max(self.free_at, loop.time()) + size / self.rate
            await asyncio.sleep(self.free_at - loop.time())
            hand_out(number, self.data[offset : offset + size])
            offset += size


def opened(made: Federation, number: int = 1, following: OpenContent | None = None) -> OpenContent:
    content = Content(number, Fingerprint(bytes([number]) * 32), len(DATA))
    return OpenContent(content, made.replicas, lambda: following)


def blocks(origin: FakeOrigin) -> list[int]:
    """Those that were asked for, in this order."""
    return [at // BLOCK_SIZE for call in origin.calls for at in range(call.offset, call.offset + call.size, BLOCK_SIZE)]


async def read_piece(reader: Reader, file: OpenContent, offset: int) -> bytes:
    """As the mount does it."""
    now = reader.read_now(file, offset, PIECE)
    return bytes(now) if now is not None else await reader.read(file, offset, PIECE)


async def play(reader: Reader, file: OpenContent, pieces: Sequence[int], rate: float = 0.0) -> list[float]:
    """Reads the pieces, at so many bytes per second, and checks them; the seconds that each was waited for."""
    loop, waits = asyncio.get_running_loop(), []
    for piece in pieces:
        began = loop.time()
        assert await read_piece(reader, file, piece * PIECE) == DATA[piece * PIECE : (piece + 1) * PIECE]
        waits.append(loop.time() - began)
        if rate:
            await asyncio.sleep(PIECE / rate)
    return waits


@virtual_time
async def test_a_copy_over_a_far_link_takes_nearly_all_of_it_after_its_beginning() -> None:
    async with federation(FarOrigin("a", data=DATA)) as made:
        loop, reader, file = asyncio.get_running_loop(), Reader(made.executor), opened(made)
        await play(reader, file, range(8))
        began = loop.time()
        await play(reader, file, range(8, BLOCKS * 2))
        assert (len(DATA) - 8 * PIECE) / (loop.time() - began) > 0.9 * RATE


@virtual_time
async def test_a_player_waits_for_the_first_blocks_only() -> None:
    """At ten times the speed of the densest music; the kernel's own read-ahead, which hides the second block's wait,
    is not here."""
    async with federation(FarOrigin("a", data=DATA)) as made:
        waits = await play(Reader(made.executor), opened(made), range(BLOCKS * 2), rate=6e6)
        first = 3 * BLOCK_SIZE // PIECE
        assert max(waits[first:]) == 0


@virtual_time
async def test_every_block_is_fetched_once() -> None:
    origin = FarOrigin("a", data=DATA)
    async with federation(origin) as made:
        await play(Reader(made.executor), opened(made), range(BLOCKS * 2))
        assert sorted(blocks(origin)) == list(range(BLOCKS))


@virtual_time
async def test_who_stops_early_has_had_no_more_fetched_ahead_than_was_read() -> None:
    for pieces in (1, 3, 8, 40):
        origin = FarOrigin("a", data=DATA)
        async with federation(origin) as made:
            reader, file = Reader(made.executor), opened(made)
            await play(reader, file, range(pieces))
            await asyncio.sleep(5)
            reader.close(file)
            assert len(blocks(origin)) * BLOCK_SIZE <= max(BLOCK_SIZE, 2 * pieces * PIECE + BLOCK_SIZE)
            if pieces <= 3:
                assert len(blocks(origin)) == -(-pieces * PIECE // BLOCK_SIZE)


@virtual_time
async def test_how_far_is_read_ahead_grows_with_what_was_read_to_8_mib_and_not_beyond() -> None:
    origin = FarOrigin("a", data=DATA * 3)
    async with federation(origin) as made:
        reader = Reader(made.executor)
        content = Content(1, Fingerprint(bytes(32)), len(origin.data))
        file, at, ahead = OpenContent(content, made.replicas), 0, []
        for read in (0.25, 0.5, 1, 2, 4, 8, 16):
            while at < read * (1 << 20):
                await read_piece(reader, file, at)
                at += PIECE
            await asyncio.sleep(5)
            ahead.append(max(blocks(origin)) + 1 - at // BLOCK_SIZE)
        wanted = [0, 0, 3, 7, 15, 31, 32]
        # The next request waits until half of it may be asked for at once.
        assert all(most // 2 <= blocks <= most for blocks, most in zip(ahead, wanted, strict=True)), ahead
        await read_piece(reader, file, 30 << 20)
        await asyncio.sleep(5)
        assert max(blocks(origin)) == 30 * 4, "a seek begins anew"


@virtual_time
async def test_reading_here_and_there_fetches_nothing_ahead() -> None:
    origin = FarOrigin("a", data=DATA)
    pieces = [80, 2, 60, 20, 90, 40, 5]
    async with federation(origin) as made:
        await play(Reader(made.executor), opened(made), pieces)
        await asyncio.sleep(1)
        assert blocks(origin) == [piece // 2 for piece in pieces]


@virtual_time
async def test_a_seek_does_not_wait_for_what_was_fetched_ahead() -> None:
    origin = FakeOrigin("a", data=DATA)
    async with federation(origin) as made:
        reader, file = Reader(made.executor), opened(made)
        await play(reader, file, range(16))
        await asyncio.sleep(1)
        origin.read_outcome = slow(0.3)
        await play(reader, file, range(16, 20))
        await asyncio.sleep(0.01)
        under_way = len(blocks(origin))
        origin.read_outcome = GOOD
        await play(reader, file, [90])
        await asyncio.sleep(0.01)
        assert blocks(origin)[under_way:] == [45]
        assert origin.cancelled > 0
        # What was dropped can be read again.
        assert (await play(reader, file, range(20, 40)))[0] == 0


@virtual_time
async def test_closing_the_file_ends_what_is_fetched_ahead_of_it() -> None:
    origin = FakeOrigin("a", data=DATA)
    async with federation(origin) as made:
        await made.probe_all()
        reader, file = Reader(made.executor), opened(made)
        await play(reader, file, range(5))
        origin.read_outcome = HANG
        await play(reader, file, range(5, 8))
        await asyncio.sleep(0.1)
        reader.close(file)
        await asyncio.sleep(0.1)
        assert origin.cancelled > 0
        assert len(made.published(HealthChanged)) == 1


@virtual_time
async def test_a_slow_link_is_asked_for_little_at_a_time() -> None:
    """At 500 kB/s, sixteen blocks at once would all miss the origin's timeout."""

    class SlowOrigin(FarOrigin):
        most = 0

        async def read(self, replica: Replica, offset: int, size: int) -> bytes:
            now = asyncio.get_running_loop().time()
            self.most = max(self.most, round((self.free_at - now) * 500e3 / BLOCK_SIZE))
            self.free_at = max(self.free_at, now + ROUND_TRIP) + size / 500e3
            self.read_outcome = slow(self.free_at - now)
            return await FakeOrigin.read(self, replica, offset, size)

    origin = SlowOrigin("a", data=DATA)
    async with federation(origin) as made:
        await play(Reader(made.executor), opened(made), range(BLOCKS * 2))
        assert origin.most <= 4
        assert len(blocks(origin)) == BLOCKS


@virtual_time
async def test_what_nobody_waits_for_is_not_hedged_until_somebody_does() -> None:
    first, second = FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA)
    async with federation(first, second) as made:
        await made.probe_all()
        reader, file = Reader(made.executor), opened(made)
        await play(reader, file, range(5))
        await asyncio.sleep(1)
        ahead = max(blocks(first)) + 1
        first.read_outcome = HANG
        await play(reader, file, range(5, ahead * 2))
        await asyncio.sleep(1)
        assert max(blocks(first)) >= ahead
        assert second.calls == []
        (waited,) = await play(reader, file, [ahead * 2])
        assert waited < 0.4
        assert blocks(second) == [ahead]
        reader.close(file)
        await asyncio.sleep(0)


@virtual_time
async def test_blocks_that_fail_ahead_are_no_failures_of_their_origin() -> None:
    origin = FakeOrigin("a", data=DATA)
    async with federation(origin) as made:
        await made.probe_all()
        reader, file = Reader(made.executor), opened(made)
        await play(reader, file, range(5))
        await asyncio.sleep(1)
        ahead = max(blocks(origin)) + 1
        origin.read_outcome = UNREACHABLE
        await play(reader, file, range(5, ahead * 2))
        await asyncio.sleep(5)
        assert max(blocks(origin)) >= ahead
        assert made.monitor.state(origin.id).consecutive_failures == 0
        # Whoever needs the block asks again, and is told then.
        with pytest.raises(NoReplicaAvailable):
            await read_piece(reader, file, ahead * BLOCK_SIZE)
        assert made.monitor.state(origin.id).status is HealthStatus.UNHEALTHY


@virtual_time
async def test_a_reader_has_its_whole_time_for_a_block_that_was_begun_before_it() -> None:
    origin = FakeOrigin("a", data=DATA)
    async with federation(origin, retry=RetryConfig(deadline_ms=1000)) as made:
        reader, file = Reader(made.executor), opened(made)
        await play(reader, file, range(5))
        await asyncio.sleep(0.1)
        ahead = max(blocks(origin)) + 1
        origin.read_outcome = HANG
        await play(reader, file, range(5, ahead * 2))
        await asyncio.sleep(0.9)
        began = asyncio.get_running_loop().time()
        with pytest.raises(NoReplicaAvailable):
            await read_piece(reader, file, ahead * BLOCK_SIZE)
        assert asyncio.get_running_loop().time() - began == pytest.approx(1.0, abs=0.01)


@virtual_time
async def test_near_the_end_of_a_track_the_next_one_is_begun() -> None:
    origin = FarOrigin("a", data=DATA)
    async with federation(origin) as made:
        reader, second = Reader(made.executor), opened(made, number=2)
        first = opened(made, following=second)
        await play(reader, first, range(BLOCKS * 2 - 16))
        reads = len(blocks(origin))
        await play(reader, first, range(BLOCKS * 2 - 16, BLOCKS * 2))
        reader.close(first)
        await asyncio.sleep(1)
        assert blocks(origin)[-2:] == [0, 1]
        assert len(blocks(origin)) <= reads + 8 + 2
        assert await play(reader, second, [0, 1]) == [0, 0]


@virtual_time
async def test_looking_at_the_end_of_a_track_does_not_begin_the_next() -> None:
    origin = FarOrigin("a", data=DATA)
    async with federation(origin) as made:
        reader = Reader(made.executor)
        await play(reader, opened(made, following=opened(made, number=2)), [0, BLOCKS * 2 - 1])
        await asyncio.sleep(1)
        assert blocks(origin) == [0, BLOCKS - 1]


@virtual_time
async def test_a_disk_of_this_machine_is_not_read_ahead() -> None:
    disk = FakeLocal("a", data=DATA)
    disk.now_misses = True
    async with federation(disk) as made:
        await made.probe_all()
        await play(Reader(made.executor, recent_blocks=1), opened(made), range(20))
        await asyncio.sleep(1)
        assert max(blocks(disk)) == 9


class Begun:
    """In the place of a reader: how far each file was begun."""

    def __init__(self) -> None:
        self.blocks: dict[int, int] = {}

    def begin(self, opened: OpenContent, index: int) -> asyncio.Task[bytes]:
        self.blocks[opened.content.id] = index + 1
        return asyncio.create_task(asyncio.sleep(0, b""))

    def drop(self, opened: OpenContent, index: int) -> None:
        raise AssertionError("nobody seeks")


@virtual_time
@pytest.mark.parametrize(("readers", "pieces"), [(2, 200), (30, 40), (300, 10)])
async def test_what_is_ahead_of_all_readers_is_bounded_however_many_they_are(readers: int, pieces: int) -> None:
    begun = Begun()
    ahead = ReadAhead(begun, BLOCK_SIZE)
    files = [OpenContent(Content(n, Fingerprint(bytes(32)), 1 << 30), []) for n in range(readers)]
    for piece in range(pieces):
        for file in files:
            ahead.record_read(file, piece * PIECE, (piece + 1) * PIECE, here=True)
            await asyncio.sleep(0.1)
            at = {each.content.id: (piece + (each.content.id <= file.content.id)) * PIECE for each in files}
            total = sum(max(0, end - -(-at[id] // BLOCK_SIZE)) * BLOCK_SIZE for id, end in begun.blocks.items())
            assert total <= IN_ALL
    assert total > IN_ALL // 4 - (1 << 20)
    assert ahead.room == min(IN_ALL, readers * BY_BLOCK.ahead)


@virtual_time
async def test_readers_that_are_not_read_ahead_for_take_no_memory() -> None:
    """Three hundred that look at the beginning of a file each, as programs that read tags do."""
    ahead = ReadAhead(Begun(), BLOCK_SIZE)
    for number in range(300):
        ahead.record_read(OpenContent(Content(number, Fingerprint(bytes(32)), 1 << 30), []), 0, PIECE, here=True)
    assert ahead.room == 0


@virtual_time
async def test_memory_is_bounded_however_many_read_and_given_back_when_they_end() -> None:
    origin = FarOrigin("a", data=DATA)
    async with federation(origin) as made:
        reader = Reader(made.executor)
        files = [opened(made, number) for number in range(1, 41)]
        for piece in range(20):
            await asyncio.gather(*(play(reader, file, [piece]) for file in files))
        assert 24 << 20 < reader.bytes_held <= 32 << 20
        for file in files:
            reader.close(file)
        assert reader.bytes_held <= 8 << 20


async def jump_about(
    cache: Path, jumps: int, *, metered: bool = False, kept: bool = True, limit: int = 1 << 30
) -> list[int]:
    """Reads a piece at each of so many places that are far apart, twice; the blocks that were fetched, sorted.

    A slow disk may refuse to store some, which the second time fetches again.
    """
    cache.mkdir(exist_ok=True)
    store = BlockStore(cache, limit, EventBus())
    await store.start()
    data = random.Random(2).randbytes(160 * BLOCK_SIZE)
    origin = FakeOrigin("a", data=data)
    try:
        async with federation() as made:
            made.add(origin, metered=metered)
            reader = Reader(made.executor, store=store, kept=lambda origin: kept)
            file = OpenContent(Content(1, Fingerprint(bytes(32)), len(data)), made.replicas)
            for _ in range(2):
                for jump in range(jumps):
                    at = jump * 37 % 160 * BLOCK_SIZE + 5
                    assert await read_piece(reader, file, at) == data[at : at + PIECE]
                async with asyncio.timeout(10):
                    while reader.busy or store.waiting:
                        await asyncio.sleep(0.001)
            reader.close(file)
            await reader.aclose()
    finally:
        await store.aclose()
    return sorted(blocks(origin))


async def test_who_jumps_about_in_a_file_soon_has_all_of_it_on_disk(tmp_path: Path) -> None:
    fetched = await jump_about(tmp_path, JUMPS + 1)
    assert set(fetched) == set(range(160))
    assert len(fetched) < 160 + JUMPS


async def test_a_few_jumps_as_of_whoever_reads_tags_fetch_no_more_than_was_asked_for(tmp_path: Path) -> None:
    assert len(set(await jump_about(tmp_path, JUMPS))) == JUMPS


async def test_where_reads_cost_money_no_more_than_four_times_what_was_read_is_fetched(tmp_path: Path) -> None:
    assert len(set(await jump_about(tmp_path / "a", JUMPS, metered=True))) == JUMPS
    assert JUMPS < len(set(await jump_about(tmp_path / "b", 20, metered=True))) <= 80
    fetched = await jump_about(tmp_path / "c", 50, metered=True)
    assert set(fetched) == set(range(160))


async def test_a_file_of_which_nothing_is_kept_is_not_fetched_whole(tmp_path: Path) -> None:
    assert len(set(await jump_about(tmp_path, 20, kept=False))) == 20


async def test_a_file_that_would_drive_out_much_of_the_cache_is_not_fetched_whole(tmp_path: Path) -> None:
    assert len(set(await jump_about(tmp_path / "a", 20, limit=639 * BLOCK_SIZE))) == 20
    assert len(set(await jump_about(tmp_path / "b", 20, limit=640 * BLOCK_SIZE))) == 160


async def test_an_origin_that_fails_ends_the_fetching_of_a_whole_file() -> None:
    begun: list[int] = []
    failing = True

    class Failing:
        def begin(self, opened: OpenContent, index: int) -> asyncio.Task[bytes]:
            async def fetch() -> bytes:
                if failing:
                    raise NoReplicaAvailable(())
                return b""

            begun.append(index)
            return asyncio.create_task(fetch())

        def drop(self, opened: OpenContent, index: int) -> None:
            raise AssertionError("nothing was begun before")

    ahead = ReadAhead(Failing(), BLOCK_SIZE, lambda opened: inf)
    file = OpenContent(Content(1, Fingerprint(bytes(32)), 400 * BLOCK_SIZE), [])
    for jump in range(JUMPS + 4):
        ahead.record_read(file, jump * 30 * BLOCK_SIZE, jump * 30 * BLOCK_SIZE + 1, here=False)
        await asyncio.sleep(0.01)
    assert 0 < len(begun) <= 16
    failing = False
    begun.clear()
    for piece in range(16):
        ahead.record_read(file, piece * PIECE, (piece + 1) * PIECE, here=False)
        await asyncio.sleep(0.01)
    assert max(begun, default=0) >= 11, "who reads on in sequence is read ahead of"


async def test_where_reads_cost_money_whoever_stops_jumping_about_ends_the_fetching() -> None:
    """As much as four times what was read, and then nothing more until somebody reads on."""
    begun: list[int] = []

    class Counting(Begun):
        def begin(self, opened: OpenContent, index: int) -> asyncio.Task[bytes]:
            begun.append(index)
            return super().begin(opened, index)

    ahead = ReadAhead(Counting(), BLOCK_SIZE, lambda opened: 3)
    file = OpenContent(Content(1, Fingerprint(bytes(32)), 400 * BLOCK_SIZE), [])
    for jump in range(JUMPS + 4):
        ahead.record_read(file, jump * 30 * BLOCK_SIZE, jump * 30 * BLOCK_SIZE + 1, here=False)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(begun) == (3 * (jump + 1) if jump + 1 >= JUMPS + 1 else 0)


async def read_whole(origin: FarStream) -> float:
    """Reads the origin's file from its beginning to its end; the seconds that takes."""
    async with federation(origin) as made:
        reader, loop = Reader(made.executor), asyncio.get_running_loop()
        file = OpenContent(Content(1, Fingerprint(bytes(32)), len(origin.data)), made.replicas)
        began = loop.time()
        for at in range(0, len(origin.data), PIECE):
            assert await read_piece(reader, file, at) == origin.data[at : at + PIECE]
        return loop.time() - began


@virtual_time
async def test_requests_of_a_stream_grow_with_what_was_read_to_8_mib() -> None:
    origin = FarStream("a", data=DATA * 5)
    await read_whole(origin)
    sizes = [sum(sizes) for sizes in origin.asked]
    assert len(sizes) <= 20
    assert max(sizes) == 8 << 20
    assert sum(sizes) == len(origin.data), "and no byte was fetched twice"


@virtual_time
async def test_a_fast_link_to_a_slow_server_is_used_for_the_most_part() -> None:
    """Three long requests are under way, so that 35 ms until an answer begins cost little."""
    origin = FarStream("a", data=DATA * 8)
    origin.round_trip, origin.rate = 0.035, 300e6
    ideal = 0.035 + len(origin.data) / 300e6
    assert ideal / await read_whole(origin) > 0.67
    assert len(origin.asked) <= 22


@virtual_time
async def test_who_stops_reading_a_stream_early_has_had_at_most_twice_as_much_fetched_ahead() -> None:
    for pieces in (1, 3, 8, 40, 150):
        origin = FarStream("a", data=DATA * 4)
        async with federation(origin) as made:
            reader = Reader(made.executor)
            content = Content(1, Fingerprint(bytes(32)), len(origin.data))
            file = OpenContent(content, made.replicas)
            for piece in range(pieces):
                await read_piece(reader, file, piece * PIECE)
            await asyncio.sleep(5)
            reader.close(file)
            fetched = sum(map(sum, origin.asked))
            assert fetched <= 3 * pieces * PIECE + BLOCK_SIZE
            assert pieces <= 3 or fetched > 2 * pieces * PIECE - (2 << 20)


@virtual_time
async def test_nobody_waits_for_the_end_of_a_long_request() -> None:
    origin = FarStream("a", data=DATA)
    async with federation(origin) as made:
        reader, file = Reader(made.executor), opened(made)
        loop = asyncio.get_running_loop()
        await reader.read(file, 0, 4 * BLOCK_SIZE)
        assert len(origin.asked) == 1
        reads = [asyncio.create_task(reader.read(file, (8 + n) * BLOCK_SIZE, PIECE)) for n in range(4)]
        began = loop.time()
        await reads[0]
        first = loop.time() - began
        await asyncio.gather(*reads)
        assert first < (loop.time() - began) / 2
        assert len(origin.asked[-1]) > 1
        reader.close(file)
        await asyncio.sleep(0)


async def test_a_file_larger_than_a_track_is_not_fetched_whole() -> None:
    begun = Begun()
    ahead = ReadAhead(begun, BLOCK_SIZE, lambda opened: inf)
    for number, size in enumerate((MAX_GATHERED, MAX_GATHERED + 1)):
        file = OpenContent(Content(number, Fingerprint(bytes(32)), size), [])
        for jump in range(JUMPS + 2):
            ahead.record_read(file, jump * 9 * (1 << 20), jump * 9 * (1 << 20) + 1, here=False)
            await asyncio.sleep(0)
    assert list(begun.blocks) == [0]
