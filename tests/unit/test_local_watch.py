"""Changes below a folder are noticed, whatever their names, and the watch ends without a trace."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from inotify_simple import INotify

from musicfs.config.models import OriginConfig
from musicfs.model import OriginId, OriginType
from musicfs.origins.local import driver
from musicfs.origins.local.driver import LocalOrigin
from musicfs.origins.local.watch import FolderWatch
from musicfs.system.threads import WorkerThreads


class Reports:
    """A callback, and a way to wait for what it is told."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self._arrived = asyncio.Event()

    def __call__(self, paths: Sequence[str]) -> None:
        self.batches.append(list(paths))
        self._arrived.set()

    async def until(self, *paths: str) -> None:
        while not set(paths) <= {path for batch in self.batches for path in batch}:
            self._arrived.clear()
            await self._arrived.wait()


class Watched:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.threads = WorkerThreads("test", 2)
        self.reports = Reports()
        self.watches: list[FolderWatch] = []

    async def watch(self, under: str = "", quiet: float = 0.0, inotify: Callable[[], INotify] = INotify) -> FolderWatch:
        watch = FolderWatch(
            OriginId("disk"),
            str(self.root),
            under,
            self.reports,
            self.threads,
            quiet=quiet,
            inotify=inotify,
        )
        self.watches.append(watch)
        assert await watch.start()
        return watch


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    (tmp_path / "music/a/b").mkdir(parents=True)
    watched = Watched(tmp_path / "music")
    yield watched
    for watch in watched.watches:
        watch.close()
    watched.threads.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def queue_limit() -> int:
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


async def test_new_changed_moved_and_removed_files_are_reported(watched: Watched) -> None:
    (watched.root / "a/old.flac").write_bytes(b"x")
    (watched.root / "a/b/gone.flac").write_bytes(b"x")
    await watched.watch()
    (watched.root / "new.flac").write_bytes(b"x")
    (watched.root / "a/old.flac").rename(watched.root / "a/renamed.flac")
    (watched.root / "a/b/gone.flac").unlink()
    await watched.reports.until("new.flac", "a/old.flac", "a/renamed.flac", "a/b/gone.flac")


async def test_a_file_given_another_time_is_reported(watched: Watched) -> None:
    """Its version is another then."""
    (watched.root / "a/x.flac").write_bytes(b"x")
    await watched.watch()
    os.utime(watched.root / "a/x.flac", ns=(1, 1))
    await watched.reports.until("a/x.flac")


async def test_names_that_are_not_utf8_are_reported_as_the_scan_lists_them(watched: Watched) -> None:
    name = b"caf\xe9.flac".decode("utf-8", "surrogateescape")
    await watched.watch()
    (watched.root / name).write_bytes(b"x")
    await watched.reports.until(name)
    (watched.root / "still watching").write_bytes(b"x")
    await watched.reports.until("still watching")


async def test_a_new_folder_is_reported_and_watched(watched: Watched) -> None:
    await watched.watch()
    (watched.root / "new/deep").mkdir(parents=True)
    await watched.reports.until("new")
    (watched.root / "new/deep/x.flac").write_bytes(b"x")
    await watched.reports.until("new/deep/x.flac")


async def test_a_moved_folder_is_watched_under_its_new_name_only(watched: Watched) -> None:
    await watched.watch()
    (watched.root / "a").rename(watched.root / "c")
    await watched.reports.until("a", "c")
    watched.reports.batches.clear()
    (watched.root / "c/b/x.flac").write_bytes(b"x")
    await watched.reports.until("c/b/x.flac")
    assert not any(path.startswith("a") for batch in watched.reports.batches for path in batch)


async def test_a_folder_that_was_moved_away_is_watched_no_more(watched: Watched) -> None:
    await watched.watch()
    away = (watched.root / "a").rename(watched.root.parent / "away")
    await watched.reports.until("a")
    (away / "b/x.flac").write_bytes(b"x")
    (watched.root / "marker").touch()
    await watched.reports.until("marker")
    assert {path for batch in watched.reports.batches for path in batch} == {"a", "marker"}


async def test_a_burst_is_reported_once_and_only_its_outermost_paths(watched: Watched) -> None:
    watch = await watched.watch(quiet=0.05)
    for n in range(20):
        (watched.root / f"a/{n}.flac").write_bytes(b"x")
    shutil.rmtree(watched.root / "a")
    await watched.reports.until("a")
    assert watched.reports.batches == [["a"]]
    watch.close()


async def test_only_what_lies_below_the_path_is_reported(watched: Watched) -> None:
    await watched.watch("a/b")
    (watched.root / "a/x.flac").write_bytes(b"x")
    (watched.root / "a/b/y.flac").write_bytes(b"x")
    await watched.reports.until("a/b/y.flac")
    assert {path for batch in watched.reports.batches for path in batch} == {"a/b/y.flac"}


async def test_hidden_folders_are_not_watched(watched: Watched) -> None:
    (watched.root / ".trash").mkdir()
    await watched.watch()
    (watched.root / ".trash/x.flac").write_bytes(b"x")
    (watched.root / "a/y.flac").write_bytes(b"x")
    await watched.reports.until("a/y.flac")
    assert watched.reports.batches == [["a/y.flac"]]


async def test_a_vanished_root_is_reported_as_everything_and_ends_the_watch(watched: Watched) -> None:
    before = descriptors()
    watch = await watched.watch()
    shutil.rmtree(watched.root)
    await watched.reports.until("")
    assert watch.ended
    assert descriptors() == before


async def test_an_overflowing_queue_is_reported_as_everything(watched: Watched) -> None:
    """The kernel's queue is real: its owner just does not read it while the files are made."""
    await watched.watch()
    one, other = watched.root / "a/1", watched.root / "a/2"
    one.touch()
    for _ in range(queue_limit() // 4 + 10):  # two names, two events each: the kernel merges only identical neighbours
        one.rename(other)
        other.rename(one)
    await watched.reports.until("")


async def test_a_failing_callback_does_not_end_the_watch(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    arrived = asyncio.Event()

    def callback(paths: Sequence[str]) -> None:
        told.extend(paths)
        arrived.set()
        raise ValueError("no")

    watch = FolderWatch(OriginId("disk"), str(watched.root), "", callback, watched.threads, quiet=0.0)
    assert await watch.start()
    for name in ("1", "2"):
        (watched.root / name).mkdir()
        while name not in told:
            arrived.clear()
            await arrived.wait()
    watch.close()
    assert "failed" in caplog.text


async def test_close_stops_at_once_leaves_no_descriptor_and_may_be_repeated(watched: Watched) -> None:
    before = descriptors()
    watch = await watched.watch()
    (watched.root / "x").touch()
    watch.close()
    watch.close()
    assert descriptors() == before
    assert watched.reports.batches == []


async def test_close_while_the_watch_is_being_opened_leaves_no_descriptor(watched: Watched) -> None:
    before = descriptors()
    watch = FolderWatch(OriginId("disk"), str(watched.root), "", watched.reports, watched.threads)
    starting = asyncio.create_task(watch.start())
    await asyncio.sleep(0)
    watch.close()
    assert not await starting
    assert descriptors() == before


async def test_a_start_that_is_cancelled_while_a_thread_opens_the_watch_leaves_no_descriptor(watched: Watched) -> None:
    before = descriptors()
    begun, go_on = threading.Event(), threading.Event()

    def slowly() -> INotify:
        begun.set()
        assert go_on.wait(30)
        return INotify()

    starting = asyncio.create_task(watched.watch(inotify=slowly))
    assert await asyncio.to_thread(begun.wait, 30)
    starting.cancel()
    await asyncio.wait({starting})
    go_on.set()
    async with asyncio.timeout(30):
        while watched.threads.blocked:
            await asyncio.sleep(0.001)
    assert descriptors() == before


class FewWatches(INotify):
    """The kernel after `allowed` watches; the real limit is the whole machine's, so a test can't lower it."""

    def __init__(self, allowed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.allowed = allowed

    def add_watch(self, path: str, mask: int) -> int:
        self.allowed -= 1
        if self.allowed < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(super().add_watch(path, mask))  # type: ignore[no-untyped-call]


async def test_running_out_of_watches_is_told_once_with_the_remedy(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    before = descriptors()
    watch = FolderWatch(
        OriginId("disk"), str(watched.root), "", watched.reports, watched.threads, inotify=lambda: FewWatches(2)
    )
    assert not await watch.start()
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "'disk'" in record.getMessage()
    assert "fs.inotify.max_user_watches" in record.getMessage()
    assert descriptors() == before


async def test_an_origin_that_can_not_be_watched_says_so_once_however_often_it_is_tried(
    origin: LocalOrigin, watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(driver, "FolderWatch", partial(FolderWatch, inotify=lambda: FewWatches(0)))
    for _ in range(3):  # as a day's polls would
        assert await origin.watch("", watched.reports) is None
    assert [record.getMessage() for record in caplog.records if "can't be watched" in record.getMessage()] == [
        "Origin 'disk' is polled for changes, as it can't be watched: the limit of watched folders is reached; raise"
        " fs.inotify.max_user_watches with sysctl."
    ]


async def test_running_out_of_watches_later_is_told_once_and_the_rest_goes_on(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    await watched.watch(inotify=lambda: FewWatches(3))
    for name in ("1", "2"):
        (watched.root / name).mkdir()
        await watched.reports.until(name)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    (watched.root / "a/b/x").touch()
    await watched.reports.until("a/b/x")


# Through the origin


@pytest.fixture
async def origin(watched: Watched) -> AsyncIterator[LocalOrigin]:
    settings = {"path": watched.root}
    origin = LocalOrigin(OriginConfig(id=OriginId("disk"), origin_type=OriginType.LOCAL, settings=settings))
    yield origin
    await origin.aclose()


async def test_the_origin_watches_until_it_is_closed(watched: Watched, origin: LocalOrigin) -> None:
    before = descriptors()
    assert await origin.watch("", watched.reports) is not None
    (watched.root / "x.flac").touch()
    await watched.reports.until("x.flac")
    await origin.aclose()
    assert descriptors() == before


async def test_a_root_that_came_back_is_watched_again_after_the_health_check(
    watched: Watched, origin: LocalOrigin
) -> None:
    """A disk that was unplugged and mounted again. The kernel says nothing of a root that is still held open."""
    assert await origin.watch("", watched.reports) is not None
    shutil.rmtree(watched.root)
    await watched.reports.until("a")
    (watched.root / "new").mkdir(parents=True)
    watched.reports.batches.clear()
    await origin.health()
    await watched.reports.until("")
    (watched.root / "new/x.flac").touch()
    await watched.reports.until("new/x.flac")


async def test_a_network_mount_is_not_watched(
    watched: Watched, origin: LocalOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel would accept the watch, and never tell what other machines change."""
    monkeypatch.setattr(driver, "filesystem_of", lambda fd: "cifs")
    assert await origin.watch("", watched.reports) is None


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another filesystem than the tests' folders."""
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


async def test_a_folder_that_is_not_on_a_disk_is_to_be_polled_and_the_rest_is_watched(
    watched: Watched, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands for a network mount; `elsewhere` alone would be watched, as it is in memory."""
    (elsewhere / "x/y").mkdir(parents=True)
    (watched.root / "a/nas").symlink_to(elsewhere)
    watch = await watched.watch()
    assert watch.unwatched() == ()
    monkeypatch.setattr("musicfs.origins.local.watch.is_on_disk", lambda path: False)
    await watch.restart()
    assert watch.unwatched() == ("a/nas",)
    async with asyncio.timeout(30):
        await watched.reports.until("")
    (watched.root / "a/new").write_bytes(b"")
    async with asyncio.timeout(30):
        await watched.reports.until("a/new")
    (watched.root / "a/nas").unlink()
    await watch.restart()
    assert watch.unwatched() == ()
