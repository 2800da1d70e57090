"""From ranges to blocks: exact bytes, one fetch per block, and blocks that are not what they were."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.config.models import RetryConfig
from musicfs.content.open_content import OpenContent
from musicfs.content.reader import Reader
from musicfs.errors import NoReplicaAvailable, OriginFault
from musicfs.events import ReplicaQuarantined
from musicfs.model import Content, Fingerprint
from tests.support.fakes import HANG, UNREACHABLE, WRONG, FakeOrigin
from tests.support.federation import Federation, federation
from tests.support.virtualtime import run, virtual_time

DATA = random.Random(0).randbytes(2 * BLOCK_SIZE + 1234)


def opened(made: Federation) -> OpenContent:
    return OpenContent(Content(1, Fingerprint(b"f" * 32), len(DATA)), made.replicas)


@given(st.integers(0, len(DATA) + 10), st.integers(1, len(DATA) + 10))
def test_any_range_is_exact(offset: int, size: int) -> None:
    async def read() -> bytes:
        async with federation(FakeOrigin("a", data=DATA)) as made:
            reader = Reader(made.executor)
            return await reader.read(opened(made), offset, size)

    assert run(read()) == DATA[offset : offset + size]


@virtual_time
async def test_many_readers_of_one_block_cost_one_fetch() -> None:
    origin = FakeOrigin("a", data=DATA)
    async with federation(origin) as made:
        reader = Reader(made.executor)
        reads = [reader.read(opened(made), n * 1000, 1000) for n in range(50)]
        found = await asyncio.gather(*reads)
        assert b"".join(found) == DATA[:50_000]
        assert len(origin.calls) == 1


@virtual_time
async def test_a_reader_that_goes_away_does_not_take_the_block_from_the_others() -> None:
    origin = FakeOrigin("a", data=DATA)
    origin.reads.append(HANG)
    async with federation(origin) as made:
        reader = Reader(made.executor)
        first = asyncio.create_task(reader.read(opened(made), 0, 10))
        second = asyncio.create_task(reader.read(opened(made), 5, 10))
        await asyncio.sleep(0.1)
        first.cancel()
        await asyncio.wait({first})
        assert await second == DATA[5:15]


@virtual_time
async def test_what_was_just_read_is_read_again_without_asking() -> None:
    origin = FakeOrigin("a", data=DATA)
    async with federation(origin) as made:
        reader = Reader(made.executor)
        await reader.read(opened(made), 0, 10)
        assert reader.read_now(opened(made), 100, 200) == DATA[100:300]
        assert reader.read_now(opened(made), BLOCK_SIZE - 10, 20) is None
        assert len(origin.calls) == 1


@virtual_time
async def test_a_block_that_is_not_what_it_was_is_fetched_elsewhere_and_its_replica_quarantined() -> None:
    liar, honest = FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA)
    async with federation(liar, honest) as made:
        reader = Reader(made.executor, recent_blocks=0)
        await reader.read(opened(made), 0, len(DATA))
        liar.read_outcome = WRONG
        assert await reader.read(opened(made), 0, len(DATA)) == DATA
        (event, *_) = made.published(ReplicaQuarantined)
        assert (event.origin, event.block) in {("a", 0), ("a", 1), ("a", 2)}
        asked = len(liar.calls)
        assert await reader.read(opened(made), 0, len(DATA)) == DATA
        assert len(liar.calls) == asked


@virtual_time
async def test_wrong_bytes_with_no_other_replica_are_an_error_and_never_served() -> None:
    origin = FakeOrigin("a", data=DATA)
    async with federation(origin) as made:
        reader = Reader(made.executor, recent_blocks=0)
        await reader.read(opened(made), 0, 10)
        origin.read_outcome = WRONG
        with pytest.raises(NoReplicaAvailable):
            await reader.read(opened(made), 0, 10)


@virtual_time
async def test_serving_while_every_origin_is_away_is_a_clear_quick_error() -> None:
    """The seed's test_serve_cached_offline, the part without the cache."""
    origin = FakeOrigin("a", data=DATA)
    origin.read_outcome = UNREACHABLE
    origin.probe_outcome = UNREACHABLE
    async with federation(origin) as made:
        for _ in range(3):
            await made.probe_all()
        reader = Reader(made.executor)
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(NoReplicaAvailable) as caught:
            await reader.read(opened(made), 0, 10)
        assert loop.time() - started < 1
        assert OriginFault.UNREACHABLE.value in str(caught.value)


@virtual_time
async def test_a_block_that_has_just_failed_fails_at_once_and_is_tried_again_soon() -> None:
    """The kernel repeats a failed read-ahead as a read: its reader waits for one deadline, not for two."""
    origin = FakeOrigin("a", data=DATA)
    origin.reads.append(HANG)
    async with federation(origin, retry=RetryConfig(deadline_ms=1000)) as made:
        reader = Reader(made.executor)
        loop = asyncio.get_running_loop()
        for _ in range(2):
            with pytest.raises(NoReplicaAvailable):
                await reader.read(opened(made), 0, 10)
        assert loop.time() == pytest.approx(1.0)
        await asyncio.sleep(0.3)
        assert await reader.read(opened(made), 0, 10) == DATA[:10]


@virtual_time
async def test_a_block_that_failed_once_is_read_ahead_again_after_a_while() -> None:
    origin = FakeOrigin("a", data=DATA)
    origin.reads.append(HANG)
    async with federation(origin, retry=RetryConfig(deadline_ms=1000)) as made:
        reader, file = Reader(made.executor), opened(made)
        with pytest.raises(NoReplicaAvailable):
            await reader.read(file, 0, 10)
        assert reader.begin(file, 0) is None
        await asyncio.sleep(0.3)
        ahead = reader.begin(file, 0)
        assert ahead is not None
        assert (await ahead)[:10] == DATA[:10]


@virtual_time
async def test_closing_ends_the_reads_under_way() -> None:
    origin = FakeOrigin("a", data=DATA)
    origin.read_outcome = HANG
    async with federation(origin) as made:
        reader = Reader(made.executor)
        reading = asyncio.create_task(reader.read(opened(made), 0, 10))
        await asyncio.sleep(0.1)
        await reader.aclose()
        await asyncio.wait({reading})
        assert reading.cancelled()
