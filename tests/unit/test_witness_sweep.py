"""Copies of shared contents are compared in the background."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from musicfs.content.checksums import Checksums
from musicfs.content.circles import Circles
from musicfs.content.reader import Reader
from musicfs.content.witnesses import PIECE
from musicfs.events import CopiesDiffer, ScanFinished
from musicfs.maintenance.witness_sweep import RATE, WitnessSweep
from musicfs.model import Content, Fingerprint, OriginId, Replica
from tests.support.fakes import GOOD, UNREACHABLE, FakeOrigin
from tests.support.federation import Federation, federation
from tests.support.twins import twin_of
from tests.support.virtualtime import virtual_time

DATA = bytes(range(251)) * 3000
FOUND = ScanFinished(OriginId("a"), 1, 1, 0, 1, 0, 0, 0, None)


class Sweeping:
    """A sweep over the contents `songs`, each held by all origins. pages: how often it has asked for them."""

    def __init__(self, made: Federation, songs: int) -> None:
        self.made = made
        self.songs = [Content(number, Fingerprint(bytes([number]) * 32), len(DATA)) for number in range(1, songs + 1)]
        self.pages = 0
        circles = Circles(made.executor, Checksums())
        self.reader = Reader(made.executor, circles=circles)
        self.sweep = WitnessSweep(self._shared, self._replicas, circles, self.reader)

    async def _shared(self, above: int, most: int) -> list[Content]:
        self.pages += 1
        return [song for song in self.songs if song.id > above][:most]

    def _replicas(self, content: int) -> list[Replica]:
        return self.made.replicas

    @property
    def pieces(self) -> int:
        return sum(call.size == PIECE for origin in self.made.origins for call in origin.calls)


@asynccontextmanager
async def sweeping(*origins: FakeOrigin, songs: int = 1) -> AsyncIterator[Sweeping]:
    async with federation(*origins) as made:
        it = Sweeping(made, songs)
        made.bus.listen(it.sweep.notice)
        work = asyncio.create_task(it.sweep.work())
        try:
            yield it
        finally:
            work.cancel()
            await asyncio.wait({work})
            await it.reader.aclose()


@virtual_time
async def test_each_copy_is_read_once_however_often_it_sweeps() -> None:
    async with sweeping(FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA), songs=3) as it:
        await asyncio.sleep(10)
        assert it.pieces == 6
        it.made.bus.publish(FOUND)
        await asyncio.sleep(10)
        assert it.pages > 2
        assert it.pieces == 6


@virtual_time
async def test_copies_that_differ_are_told_apart_before_any_program_reads_them() -> None:
    async with sweeping(FakeOrigin("a", data=DATA), FakeOrigin("b", data=twin_of(DATA))) as it:
        await asyncio.sleep(10)
        assert len(it.made.published(CopiesDiffer)) == 1
        assert {replica.origin for replica in it.made.registry.quarantined.held} == {"b"}


@virtual_time
async def test_a_copy_at_an_origin_that_was_away_is_compared_when_it_is_back() -> None:
    away = FakeOrigin("b", data=DATA, read_outcome=UNREACHABLE, probe_outcome=UNREACHABLE)
    async with sweeping(FakeOrigin("a", data=DATA), away) as it:
        for _ in range(5):
            await it.made.monitor.check_now(away.id)
        await asyncio.sleep(10)
        before = it.pieces
        away.read_outcome = away.probe_outcome = GOOD
        await it.made.monitor.check_now(away.id)
        await asyncio.sleep(10)
        assert it.pieces == before + 1


@virtual_time
async def test_it_keeps_to_its_rate() -> None:
    songs = 200
    async with sweeping(FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA), songs=songs) as it:
        await asyncio.sleep(songs * 2 * PIECE / RATE / 2)
        assert songs * 0.5 < it.pieces < songs * 1.5
