"""All copies are read and compared at leisure: what differs is told by file, origin and block; nobody is held up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.content.checksums import Checksums
from musicfs.content.open_content import OpenContent
from musicfs.content.reader import Reader
from musicfs.errors import ReplicaFault, UserError
from musicfs.events import ScrubFinished, ScrubMismatch, ScrubProgress
from musicfs.federation import RateLimit
from musicfs.maintenance.scrub import Scrub, ScrubQueries
from musicfs.maintenance.scrub_store import ScrubFind, ScrubStore, Unchecked
from musicfs.model import Content, Fingerprint, OriginId
from tests.support.fakes import PATH, UNREACHABLE, FakeOrigin, fails, slow
from tests.support.federation import Federation, federation
from tests.support.virtualtime import virtual_time

A, B, C = OriginId("a"), OriginId("b"), OriginId("c")
DATA = bytes(range(251)) * 3000  # two blocks and a part of one
ROTTEN = DATA[:300_000] + b"!" + DATA[300_001:]
IN_ROT = 300_000 // BLOCK_SIZE
FILE = "Artist/Album/Song.flac"
FAST = 10**9


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual time knows of none."""

    async def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args, **kwargs)

    monkeypatch.setattr(asyncio, "to_thread", call)


@dataclass
class Shelf:
    """A catalogue of so many contents, which all origins have under one path each."""

    made: Federation
    contents: list[Content] = field(default_factory=lambda: [song(1)])

    def totals(self, path: str) -> tuple[int, int] | None:
        several = [len(self.contents) * len(self.made.origins), sum(c.size for c in self.contents)]
        return None if path == "nothing" else (several[0], several[1] * len(self.made.origins))

    def pages(self, path: str) -> Shelf:
        return self

    def after(self, fingerprint: bytes, limit: int) -> list[Content]:
        return [content for content in self.contents if content.fingerprint > fingerprint][:limit]

    def close(self) -> None:
        pass

    def catalogue(self) -> ScrubQueries:
        return ScrubQueries(self.totals, self.pages, lambda content: FILE, lambda content: self.made.replicas)


def song(number: int) -> Content:
    return Content(number, Fingerprint(number.to_bytes(32)), len(DATA))


@asynccontextmanager
async def comparing(made: Federation, file: Path, shelf: Shelf | None = None) -> AsyncIterator[Scrub]:
    """At work, as in a mount; its file outlives it."""
    reader = Reader(made.executor, recent_blocks=0, checksums=Checksums())
    comparison = Scrub(file, (shelf or Shelf(made)).catalogue(), reader, made.registry, made.bus)
    await comparison.start()
    working = asyncio.create_task(comparison.work())
    try:
        yield comparison
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await comparison.aclose()


async def ended(comparison: Scrub) -> Scrub:
    while comparison.run is None or comparison.run.state == "running":
        await asyncio.sleep(0.01)
    return comparison


def told(made: Federation) -> list[ScrubMismatch]:
    return made.published(ScrubMismatch)


def unchecked(comparison: Scrub) -> list[Unchecked]:
    return list(comparison.unchecked.values())


@virtual_time
async def test_copies_that_agree_are_read_whole_and_nothing_is_found(tmp_path: Path) -> None:
    async with federation(FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA)) as made:
        async with comparing(made, tmp_path / "v") as comparison:
            await comparison.ask("", FAST)
            await ended(comparison)
            assert comparison.run is not None
            assert (comparison.run.done_files, comparison.run.done_bytes) == (2, 2 * len(DATA))
            assert (comparison.finds, unchecked(comparison)) == ({}, [])
        assert [sorted(call.offset for call in origin.calls) for origin in made.origins] == [
            [0, BLOCK_SIZE, 2 * BLOCK_SIZE]
        ] * 2
        assert made.published(ScrubFinished) == [ScrubFinished("", 2, 0, 0)]
        assert made.published(ScrubProgress)


@virtual_time
async def test_of_three_the_rotten_one_is_reported_by_file_origin_and_block(tmp_path: Path) -> None:
    origins = [FakeOrigin("a", data=ROTTEN), FakeOrigin("b", data=DATA), FakeOrigin("c", data=DATA)]
    async with federation(*origins) as made, comparing(made, tmp_path / "v") as comparison:
        await comparison.ask("", FAST)
        await ended(comparison)
        assert list(comparison.finds.values()) == [ScrubFind(A, PATH, FILE, IN_ROT, None)]
        assert told(made) == [ScrubMismatch(A, PATH, FILE, IN_ROT, None)]
        assert made.published(ScrubFinished) == [ScrubFinished("", 3, 1, 0)]


@virtual_time
async def test_of_two_that_differ_it_reports_that_neither_is_known_to_be_right(tmp_path: Path) -> None:
    origins = FakeOrigin("a", data=DATA), FakeOrigin("b", data=ROTTEN)
    async with federation(*origins) as made, comparing(made, tmp_path / "v") as comparison:
        await comparison.ask("", FAST)
        await ended(comparison)
        assert told(made) == [ScrubMismatch(B, PATH, FILE, IN_ROT, A)]


@virtual_time
async def test_a_copy_that_is_the_only_one_is_compared_with_what_was_read_before(tmp_path: Path) -> None:
    origin = FakeOrigin("a", data=DATA)
    async with federation(origin) as made, comparing(made, tmp_path / "v") as comparison:
        await comparison.ask("", FAST)
        assert (await ended(comparison)).finds == {}
        origin.data = ROTTEN
        await comparison.ask("", FAST)
        await ended(comparison)
        assert told(made) == [ScrubMismatch(A, PATH, FILE, IN_ROT, None)]
        await comparison.ask("", FAST)  # and again as long as it is so
        await ended(comparison)
        assert told(made) == [ScrubMismatch(A, PATH, FILE, IN_ROT, None)] * 2
        assert comparison.run is not None
        assert comparison.run.number == 3


@virtual_time
async def test_an_origin_that_is_away_is_left_out_and_named(tmp_path: Path) -> None:
    origins = [FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA, probe_outcome=UNREACHABLE)]
    async with federation(*origins) as made, comparing(made, tmp_path / "v") as comparison:
        for _ in range(3):
            await made.probe_all()
        await comparison.ask("", FAST)
        await ended(comparison)
        assert unchecked(comparison) == [Unchecked(B, "unhealthy", 1, len(DATA))]
        assert origins[1].calls == []
        assert made.published(ScrubFinished) == [ScrubFinished("", 2, 0, 1)]


@virtual_time
async def test_a_copy_that_can_not_be_read_is_named_with_the_reason_and_its_origin_keeps_its_health(
    tmp_path: Path,
) -> None:
    origins = [FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA, read_outcome=fails(ReplicaFault.CHANGED))]
    async with federation(*origins) as made, comparing(made, tmp_path / "v") as comparison:
        await made.probe_all()
        await comparison.ask("", FAST)
        await ended(comparison)
        assert unchecked(comparison) == [Unchecked(B, "changed since it was scanned", 1, len(DATA))]
        assert made.registry.health().is_healthy(B)


@virtual_time
async def test_reads_that_cost_money_are_made_only_if_that_was_said(tmp_path: Path) -> None:
    async with federation(FakeOrigin("a", data=DATA)) as made:
        made.add(FakeOrigin("b", data=DATA), metered=True)
        async with comparing(made, tmp_path / "v") as comparison:
            await comparison.ask("", FAST)
            await ended(comparison)
            assert unchecked(comparison) == [Unchecked(B, "metered", 1, len(DATA))]
            assert made.origins[1].calls == []
            await comparison.ask("", FAST, metered=True)
            await ended(comparison)
            assert unchecked(comparison) == []
            assert made.origins[1].calls


@virtual_time
async def test_it_reads_no_faster_than_it_was_told_and_than_an_origin_allows(tmp_path: Path) -> None:
    async with federation(FakeOrigin("a", data=DATA)) as made:
        made.add(FakeOrigin("b", data=DATA), bandwidth=RateLimit(50_000))
        async with comparing(made, tmp_path / "v") as comparison:
            began = asyncio.get_running_loop().time()
            await comparison.ask("", 100_000)
            await ended(comparison)
            # All but a second's worth of it, and the last block, for a block is let through and paid for afterwards.
            taken = asyncio.get_running_loop().time() - began
            assert taken >= (2 * len(DATA) - 100_000 - BLOCK_SIZE) / 100_000
            began = asyncio.get_running_loop().time()
            await comparison.ask("", FAST)
            await ended(comparison)
            assert asyncio.get_running_loop().time() - began >= (len(DATA) - 50_000 - BLOCK_SIZE) / 50_000


@virtual_time
async def test_it_waits_while_a_program_reads(tmp_path: Path) -> None:
    playing, other = FakeOrigin("a", data=DATA), FakeOrigin("b", data=DATA)
    async with federation(playing, other) as made:
        reader = Reader(made.executor, recent_blocks=0)
        comparison = Scrub(tmp_path / "v", Shelf(made).catalogue(), reader, made.registry, made.bus)
        working = asyncio.create_task(comparison.work())
        playing.reads.append(slow(3.0))
        played = asyncio.create_task(reader.read(OpenContent(song(9), [playing.replica]), 0, 1000))
        while not playing.calls:
            await asyncio.sleep(0)
        await comparison.ask("", FAST)
        await asyncio.sleep(2.5)
        assert (len(playing.calls), len(other.calls)) == (1, 0)
        assert await played == DATA[:1000]
        await ended(comparison)
        assert len(other.calls) == 3
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await reader.aclose()


@virtual_time
async def test_after_a_restart_it_goes_on_in_the_file_where_it_was(tmp_path: Path) -> None:
    origins = [FakeOrigin("a", data=ROTTEN), FakeOrigin("b", data=DATA), FakeOrigin("c", data=DATA)]
    async with federation(*origins) as made:
        shelf = Shelf(made, [song(number) for number in range(1, 7)])
        async with comparing(made, tmp_path / "v", shelf) as comparison:
            await comparison.ask("", 300_000)
            while comparison.run is None or comparison.run.done_files < 9:
                await asyncio.sleep(0.1)
        first = comparison.run
        found = len(comparison.finds)
        assert (first.state, first.done_files) == ("running", 9)
        seen = [len(origin.calls) for origin in origins]
        async with comparing(made, tmp_path / "v", shelf) as comparison:
            assert len(comparison.finds) == found == 1  # all of them have one path here
            assert comparison.run is not None
            assert comparison.run.position == first.position
            await ended(comparison)
            run = comparison.run
            assert (run.number, run.rate, run.done_files, run.state) == (1, 300_000, 18, "done")
        assert [len(origin.calls) - before for origin, before in zip(origins, seen, strict=True)][1:] == [9, 9]
        assert made.published(ScrubFinished) == [ScrubFinished("", 18, 1, 0)]


@virtual_time
async def test_what_was_stopped_goes_on_when_it_is_asked_for_again_or_begins_anew(tmp_path: Path) -> None:
    origin = FakeOrigin("a", data=DATA)
    async with federation(origin) as made:
        shelf = Shelf(made, [song(number) for number in range(1, 5)])
        async with comparing(made, tmp_path / "v", shelf) as comparison:
            await comparison.ask("", 300_000)
            with pytest.raises(UserError, match="The whole mount is being verified"):
                await comparison.ask("Artist", None)
            while comparison.run is None or comparison.run.done_files < 2:
                await asyncio.sleep(0.1)
            await comparison.stop()
            calls = len(origin.calls)
            await asyncio.sleep(10)
            assert (comparison.run.state, len(origin.calls)) == ("stopped", calls)
        async with comparing(made, tmp_path / "v", shelf) as comparison:  # a restart does not make it go on
            await asyncio.sleep(10)
            assert len(origin.calls) == calls
            run = await comparison.ask("", None)
            assert (run.number, run.done_files, run.rate) == (1, 2, 300_000)
            await ended(comparison)
            assert len(origin.calls) <= 4 * 3 + 3
            await comparison.ask("", FAST)
            await comparison.stop()
            assert (await comparison.ask("", FAST, anew=True)).done_files == 0
            await ended(comparison)
            with pytest.raises(UserError, match="There is no nothing in the mount"):
                await comparison.ask("nothing", None)


@virtual_time
async def test_a_file_of_its_own_that_is_damaged_costs_what_was_known_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "v").write_bytes(b"no database" * 1000)
    async with federation(FakeOrigin("a", data=DATA)) as made, comparing(made, tmp_path / "v") as comparison:
        assert "it starts again" in caplog.text
        await comparison.ask("", FAST)
        await ended(comparison)
    async with federation() as made, comparing(made, tmp_path / "v") as comparison:
        assert comparison.run is not None
        assert comparison.run.state == "done"
    caplog.clear()


@virtual_time
async def test_a_disk_that_fails_does_not_end_it_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    origins = FakeOrigin("a", data=DATA), FakeOrigin("b", data=ROTTEN)
    async with federation(*origins) as made, comparing(made, tmp_path / "v") as comparison:
        (tmp_path / "v").unlink()
        (tmp_path / "v").mkdir()
        await comparison.ask("", FAST)
        await ended(comparison)
        assert [find.origin for find in comparison.finds.values()] == [B]
        assert caplog.text.count("can't be saved at the moment") == 1
        (tmp_path / "v").rmdir()
        await comparison.ask("", FAST)
        await ended(comparison)
    kept = ScrubStore(tmp_path / "v").load()
    assert kept is not None
    assert (kept.run.state, [find.origin for find in kept.finds]) == ("done", [B])
    caplog.clear()
