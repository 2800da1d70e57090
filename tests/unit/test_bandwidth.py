"""Limits on what is read from an origin: exact, in virtual time, for background work and only if asked for others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from musicfs.config.models import RetryConfig
from musicfs.errors import NoReplicaAvailable
from musicfs.federation import RateLimit
from musicfs.library.analyser import Analyser, ExaminesFiles
from musicfs.model import Fingerprint, OriginId, Stat
from musicfs.tags.parser import Examined
from tests.support.fakes import DATA, FakeLocal, FakeOrigin, slow
from tests.support.federation import Federation, federation
from tests.support.virtualtime import now_ms, virtual_time

A = OriginId("a")


async def background(fed: Federation, *sizes: int) -> None:
    for size in sizes:
        await fed.executor.fetch(fed.replicas, 0, size, background=True)


@virtual_time
async def test_what_is_saved_up_goes_at_once_and_the_rest_at_the_rate() -> None:
    limit = RateLimit(1000)
    await asyncio.sleep(60)
    for at in (60_000, 60_000, 60_500, 61_000):
        await limit.take(500 if at > 60_000 else 750)
        assert now_ms() == at


@virtual_time
async def test_many_at_once_share_the_rate() -> None:
    limit = RateLimit(1000)
    await asyncio.gather(*(limit.take(500) for _ in range(10)))
    # A second's worth was there at the start, and the last waits for those before it only.
    assert now_ms() == 3_500


@virtual_time
async def test_who_gives_up_waiting_takes_nothing() -> None:
    limit = RateLimit(1000)
    await limit.take(2000)
    waiting = asyncio.create_task(limit.take(60_000))
    await asyncio.sleep(0.5)
    waiting.cancel()
    await asyncio.wait({waiting})
    await limit.take(1)
    assert now_ms() == 1_000


@virtual_time
async def test_background_reads_keep_to_the_limit_and_others_do_not() -> None:
    origin = FakeOrigin("a")
    async with federation() as fed:
        fed.add(origin, bandwidth=RateLimit(100))
        await background(fed, 200, 100)
        assert origin.called_ms == [0, 1000]
        await fed.fetch(0, 1000)
        assert origin.called_ms[2:] == [1000]


@virtual_time
async def test_background_reads_give_way_to_what_is_played_and_are_not_starved_by_it() -> None:
    origin = FakeOrigin("a")
    async with federation() as fed:
        fed.add(origin, bandwidth=RateLimit(100))
        for _ in range(50):
            await fed.fetch(0, 1000)
        await background(fed, 1)
        assert origin.called_ms[-1] == 1000


@virtual_time
async def test_a_limit_for_everything_holds_back_what_is_played_too() -> None:
    """Also what could be had without waiting."""
    origin = FakeLocal("a")
    async with federation() as fed:
        fed.add(origin, bandwidth=RateLimit(100, everything=True))
        await fed.probe_all()
        assert fed.executor.fetch_now(fed.replicas, 0, 100) is None
        await fed.fetch(0, 200)
        await fed.fetch(0, 100)
        assert origin.called_ms == [0, 1000]


@virtual_time
async def test_waiting_for_bandwidth_ends_at_the_deadline_of_a_read() -> None:
    async with federation(retry=RetryConfig(deadline_ms=3000)) as fed:
        fed.add(FakeOrigin("a"), bandwidth=RateLimit(10, everything=True))
        await fed.fetch(0, 100)
        with pytest.raises(NoReplicaAvailable, match="bandwidth_limit") as failed:
            await fed.fetch(0, 100)
        assert failed.value.timed_out
        assert now_ms() == 3000


@virtual_time
async def test_the_wait_for_bandwidth_is_no_latency_of_the_origin() -> None:
    """It would be taken for slow, and given up."""
    async with federation() as fed:
        fed.add(FakeOrigin("a"), bandwidth=RateLimit(10))
        await background(fed, 1000, 100)
        assert now_ms() == 99_000
        assert fed.router.latency(A).p99_ms == 0


@virtual_time
async def test_background_reads_are_never_hedged() -> None:
    late, other = FakeOrigin("a", read_outcome=slow(2)), FakeOrigin("b")
    async with federation(late, other) as fed:
        await background(fed, 100)
        assert (late.called_ms, other.called_ms) == ([0], [])


class NoParsers:
    """In the place of parsers, which need processes: everything is fine, and has no tags."""

    async def examine(self, *_: Any) -> Examined:
        return Examined(Fingerprint(bytes(32)), None, None)


@virtual_time
async def test_scans_keep_to_the_limit() -> None:
    origin = FakeOrigin("a")
    analyser = Analyser(cast(ExaminesFiles, NoParsers()), {A: RateLimit(len(DATA))})
    stats: Sequence[Stat] = [Stat("song.flac", len(DATA), 1)] * 4
    for stat in stats:
        await analyser.analyse(origin, stat, "audio")
    assert origin.called_ms == [0, 0, 1000, 2000]
