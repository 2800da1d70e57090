"""When an origin is scanned, and what of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from musicfs.errors import MusicFSError
from musicfs.events import HealthChanged, ReplicaSuspect, ScanFinished
from musicfs.library.watcher import LibraryWatcher, collapse
from musicfs.model import HealthStatus, OriginId
from musicfs.origin import WatchCallback, WatchHandle
from tests.support.fakes import FakeOrigin
from tests.support.virtualtime import now_ms, virtual_time


class FakeLibrary:
    """Notes the scans that are asked of it."""

    def __init__(self) -> None:
        self.scans: list[tuple[float, tuple[str, ...]]] = []
        self.quick: list[bool] = []
        self.failures = 0
        self.broken_off: list[str] = []
        """Why the next scans end early."""

    async def scan(self, origin: OriginId, under: Sequence[str], *, quick: bool) -> ScanFinished:
        self.scans.append((now_ms(), tuple(under)))
        self.quick.append(quick)
        if self.failures:
            self.failures -= 1
            raise MusicFSError("broken")
        return ScanFinished(origin, 0, 0, 0, 0, 0, 0, 0, self.broken_off.pop(0) if self.broken_off else None)


class FakeHandle:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class WatchedOrigin(FakeOrigin):
    """Can be watched; `change` is how a test reports a change."""

    def __init__(self) -> None:
        super().__init__("a")
        self.handles: list[FakeHandle] = []
        self.change: WatchCallback = lambda paths: None

    async def watch(self, path: str, callback: WatchCallback) -> WatchHandle | None:
        self.change = callback
        self.handles.append(FakeHandle())
        return self.handles[-1]


@asynccontextmanager
async def watching(origin: FakeOrigin, library: FakeLibrary) -> AsyncIterator[LibraryWatcher]:
    watcher = LibraryWatcher(origin, library, lambda handle: None, 60, 600)  # type: ignore[arg-type]
    task = asyncio.create_task(watcher.run())
    await asyncio.sleep(0.001)
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.wait({task})


def paths(library: FakeLibrary) -> list[tuple[str, ...]]:
    return [under for _, under in library.scans]


@virtual_time
async def test_everything_is_scanned_at_the_start_and_what_changes_afterwards() -> None:
    origin, library = WatchedOrigin(), FakeLibrary()
    async with watching(origin, library):
        origin.change(["x/a.flac", "y"])
        await asyncio.sleep(1)
    assert paths(library) == [("",), ("x/a.flac", "y")]


@virtual_time
async def test_an_origin_that_cannot_be_watched_is_polled() -> None:
    library = FakeLibrary()
    async with watching(FakeOrigin("a"), library):
        await asyncio.sleep(130)
    assert [round(at / 1000) for at, _ in library.scans] == [0, 60, 120]


@virtual_time
async def test_a_suspect_file_is_scanned_again_but_not_over_and_over() -> None:
    origin, library = WatchedOrigin(), FakeLibrary()
    async with watching(origin, library) as watcher:
        for _ in range(10):
            watcher.notice(ReplicaSuspect(OriginId("a"), "x.flac", "changed"))
            await asyncio.sleep(0.1)
        watcher.notice(ReplicaSuspect(OriginId("b"), "y.flac", "changed"))
        await asyncio.sleep(0.1)
    assert paths(library) == [("",), ("x.flac",)]


@virtual_time
async def test_an_origin_that_is_back_is_watched_anew_and_scanned_whole() -> None:
    """What was watched may be the folder that has been mounted over since."""
    origin, library = WatchedOrigin(), FakeLibrary()
    async with watching(origin, library) as watcher:
        watcher.notice(HealthChanged(OriginId("a"), HealthStatus.UNHEALTHY, HealthStatus.HEALTHY, "back"))
        await asyncio.sleep(1)
        assert [handle.closed for handle in origin.handles] == [True, False]
    assert paths(library) == [("",), ("",)]


@virtual_time
async def test_a_library_that_fails_is_asked_again_later() -> None:
    library = FakeLibrary()
    library.failures = 1
    async with watching(WatchedOrigin(), library):
        await asyncio.sleep(40)
    assert [round(at / 1000) for at, _ in library.scans] == [0, 30]


@virtual_time
async def test_a_scan_that_broke_off_is_taken_up_soon_and_then_more_seldom() -> None:
    library = FakeLibrary()
    library.broken_off = ["timed out"] * 5
    async with watching(FakeOrigin("a"), library):
        await asyncio.sleep(240)
    assert [round(at / 1000) for at, _ in library.scans] == [0, 5, 15, 35, 75, 135, 195]


@virtual_time
async def test_a_change_that_was_reported_is_not_lost_when_its_scan_breaks_off() -> None:
    origin, library = WatchedOrigin(), FakeLibrary()
    async with watching(origin, library):
        library.broken_off = ["timed out"]
        origin.change(["x"])
        await asyncio.sleep(1)
        origin.change(["y"])
        await asyncio.sleep(100)
    assert paths(library) == [("",), ("x",), ("x", "y")]


@virtual_time
async def test_a_day_of_scans_that_fail_for_one_reason_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    library = FakeLibrary()
    library.broken_off = ["unreachable"] * 2000
    async with watching(FakeOrigin("a"), library):
        await asyncio.sleep(86_400)
    assert len(library.scans) > 1000
    assert len(caplog.records) == 1


@virtual_time
async def test_the_watch_ends_with_the_watcher() -> None:
    origin = WatchedOrigin()
    async with watching(origin, FakeLibrary()):
        pass
    assert all(handle.closed for handle in origin.handles)


def test_paths_below_another_are_one_scan() -> None:
    assert collapse({"a", "a/b", "a/b/c", "ab", "x/y"}) == ("a", "ab", "x/y")
    assert collapse({"a", ""}) == ("",)
    assert collapse({str(n) for n in range(1000)}) == ("",)


@virtual_time
async def test_polls_are_quick_but_for_one_now_and_then_and_what_is_asked_for_is_not() -> None:
    library = FakeLibrary()
    async with watching(FakeOrigin("a"), library) as watcher:
        await asyncio.sleep(1210)
        watcher.ask()
        await asyncio.sleep(1)
    assert [round(at / 1000) for (at, _), quick in zip(library.scans, library.quick, strict=True) if not quick] == [
        0, 600, 1200, 1210,
    ]  # fmt: skip
    assert len(library.scans) == 22


class PartlyWatched(FakeHandle):
    """A watch that does not see what is behind a link to a network mount."""

    def unwatched(self) -> Sequence[str]:
        return ("NAS",)


@virtual_time
async def test_what_a_watch_does_not_see_is_polled_and_the_rest_is_not() -> None:
    origin, library = WatchedOrigin(), FakeLibrary()

    async def watch(path: str, callback: WatchCallback) -> WatchHandle:
        origin.change = callback
        return PartlyWatched()

    origin.watch = watch  # type: ignore[method-assign]
    async with watching(origin, library):
        await asyncio.sleep(61)
        assert paths(library) == [("",), ("NAS",)]
        origin.change(["x"])
        await asyncio.sleep(1)
        assert paths(library)[2:] == [("x",)]


@virtual_time
async def test_a_watch_that_can_not_be_started_is_not_waited_for() -> None:
    """Of a folder with a mount in it that hangs, for example."""
    origin, library = WatchedOrigin(), FakeLibrary()

    async def watch(path: str, callback: WatchCallback) -> WatchHandle:
        await asyncio.Event().wait()
        raise AssertionError

    origin.watch = watch  # type: ignore[method-assign]
    async with watching(origin, library):
        await asyncio.sleep(61)
        assert paths(library) == [("",)]
