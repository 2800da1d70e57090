"""Scans of several origins go on side by side: one that is slow, endless or hung holds up no other."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from musicfs.library import listed_batches, scan_reads, scanner
from musicfs.model import HealthStatus, Replica, Stat
from musicfs.origin import Origin
from tests.support.audio import make_album
from tests.support.library import CountingOrigin, ScannedLibrary, scanned_library


@pytest.fixture
def library(tmp_path: Path) -> Iterator[ScannedLibrary]:
    with scanned_library(tmp_path / "cache", template="$path") as library:
        for number, id in enumerate("ab"):
            make_album(tmp_path / id / id, "Artist", id, 3, seed=10 * number, seconds=0.1)
        library.configure({"a": tmp_path / "a", "b": tmp_path / "b"})
        yield library


def roots(library: ScannedLibrary) -> set[str]:
    return {path.partition("/")[0] for path in library.paths()}


class HungListing(CountingOrigin):
    """Lists its files, and then nothing."""

    async def scan(self, under: str = "") -> AsyncIterator[Stat]:
        async for stat in self._origin.scan(under):
            yield stat
        await asyncio.Event().wait()


class HungReads(CountingOrigin):
    """Answers no read."""

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError


class Trickle(CountingOrigin):
    """Lists a new file, or the same one, now and then, without end."""

    same = False

    async def scan(self, under: str = "") -> AsyncIterator[Stat]:
        async for stat in self._origin.scan(under):
            yield stat
        for number in itertools.count():
            await asyncio.sleep(0.001)
            yield Stat("x.jpg" if self.same else f"{number}.exe", 1, 1)

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        return b"x" * size if replica.path == "x.jpg" else await super().read(replica, offset, size)


def replace(library: ScannedLibrary, origin: Origin) -> None:
    library.origins["a"] = origin


@pytest.mark.parametrize("kind", [HungListing, HungReads, Trickle])
async def test_an_origin_that_never_ends_holds_up_no_other(library: ScannedLibrary, kind: type[CountingOrigin]) -> None:
    replace(library, kind(library.origins["a"]))  # type: ignore[arg-type]
    endless = asyncio.create_task(library.scan("a"))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(20):
        (done,) = await library.scan("b")
        assert (done.error, done.added) == (None, 3)
        assert roots(library) >= {"b"}
        assert not endless.done()
        endless.cancel()
        await asyncio.wait({endless})


async def test_a_listing_that_brings_nothing_new_is_given_up_with_what_it_brought(
    library: ScannedLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed_batches, "PATIENCE_SECS", 1.0)
    replace(library, HungListing(library.origins["a"]))  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        (done,) = await library.scan("a")
    assert done.error == "origin 'a' timed out: its listing has brought nothing new for 1 s"
    assert (done.removed, roots(library)) == (0, {"a"})


async def test_a_listing_of_the_same_file_over_and_over_is_given_up(
    library: ScannedLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed_batches, "PATIENCE_SECS", 0.5)
    monkeypatch.setattr(listed_batches, "MAX_NAMES", 20)
    origin = Trickle(library.origins["a"])
    origin.same = True
    replace(library, origin)  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        (done,) = await library.scan("a")
    assert done.error is not None
    assert "brought nothing new" in done.error
    assert (done.folders_unlisted, roots(library) & {"a"}) == (1, {"a"})


async def test_an_origin_invents_only_so_many_files(library: ScannedLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed_batches, "MAX_FILES", 50)
    replace(library, Trickle(library.origins["a"]))  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        (done,) = await library.scan("a")
    assert done.error == "origin 'a' input/output error: it lists more than 50 files"


async def test_reads_without_answer_end(library: ScannedLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_reads, "_READ_SECS", 0.2)
    replace(library, HungReads(library.origins["a"]))  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        (done,) = await library.scan("a")
    assert (done.error, done.unreadable, done.problems) == (None, 3, 3)


async def test_what_a_slow_origin_brought_is_shown_after_some_seconds(
    library: ScannedLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanner, "_SHOWN_SECS", 0.1)
    replace(library, Trickle(library.origins["a"]))  # type: ignore[arg-type]
    endless = asyncio.create_task(library.scan("a"))
    try:
        async with asyncio.timeout(20):
            while roots(library) != {"a"}:
                await asyncio.sleep(0.02)
    finally:
        endless.cancel()
        await asyncio.wait({endless})


async def test_scans_at_the_same_time_mix_nothing_up(
    library: ScannedLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each removes what is gone of its own, though both remember what they met."""
    monkeypatch.setattr(listed_batches, "BATCH", 3)
    monkeypatch.setattr(scanner, "BATCH", 3)
    for id in "ab":
        make_album(tmp_path / id / "more", "Artist", id * 2, 12, seed=ord(id), seconds=0.1)
    done = await asyncio.gather(*(library.scanner.scan(library.origins[id]) for id in "ab"))
    assert [(scan.error, scan.added) for scan in done] == [(None, 15), (None, 15)]
    for id in "ab":
        os.unlink(min((tmp_path / id / id).rglob("*.flac")))  # noqa: PTH108
    done = await asyncio.gather(*(library.scanner.scan(library.origins[id]) for id in "ab"))
    assert [(scan.error, scan.removed, scan.read) for scan in done] == [(None, 1, 0), (None, 1, 0)]
    assert len(library.paths()) == 28


class HungChecks(CountingOrigin):
    """Answers no question about a file or itself."""

    async def stat(self, path: str) -> Stat:
        await asyncio.Event().wait()
        raise AssertionError

    async def health(self) -> HealthStatus:
        await asyncio.Event().wait()
        raise AssertionError


async def test_checks_without_answer_end(library: ScannedLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_reads, "_CHECK_SECS", 0.2)
    replace(library, HungChecks(library.origins["a"]))  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        (done,) = await library.scan("a", under=["gone/song.flac"])
    assert done.error == "origin 'a' timed out: no answer within 0 s"
