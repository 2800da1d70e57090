"""The local kind keeps the contract; and what only it can do."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import HealthStatus, OriginId, OriginType, Replica
from musicfs.origin import ReadsNow
from musicfs.origins.listing import FolderListing, Lister
from musicfs.origins.local import driver
from musicfs.origins.local.driver import LocalOrigin
from musicfs.testing.folder_env import FolderEnv
from musicfs.testing.origin_contract import OriginContract, listing, replica


class LocalEnv(FolderEnv):
    def table(self) -> Mapping[str, object]:
        return {"id": "disk", "origin_type": OriginType.LOCAL, "path": self.root}

    async def open(self, populated: bool = False, **other: object) -> LocalOrigin:
        origin = await super().open(populated, **other)
        assert isinstance(origin, LocalOrigin)
        return origin

    @contextmanager
    def denied(self, path: str) -> Iterator[None]:
        with super().denied(path), bound_by_modes():
            yield


@contextmanager
def bound_by_modes() -> Iterator[None]:
    """Makes file modes count for the superuser too: in this thread and in those that it starts meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the upper halves
    assert libc.capget(header, data) == 0
    before = data[0]
    data[0] = before & ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, data) == 0
    try:
        yield
    finally:
        data[0] = before
        assert libc.capset(header, data) == 0


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[LocalEnv]:
    (tmp_path / "music").mkdir()
    env = LocalEnv(tmp_path / "music")
    yield env
    await env.aclose()


class TestLocal(OriginContract):
    """The contract, unchanged."""


# Reading at once


async def ready(env: LocalEnv, name: str, data: bytes) -> tuple[LocalOrigin, Replica]:
    env.write(name, data)
    origin = await env.open()
    assert await origin.health() is HealthStatus.HEALTHY
    return origin, await replica(origin, name)


def now(origin: LocalOrigin, file: Replica, offset: int, size: int) -> bytes | None:
    got = origin.read_now(file, offset, size)
    return None if got is None else bytes(got)


@pytest.mark.parametrize("opened", [True, False])
async def test_read_now_equals_read(env: LocalEnv, opened: bool) -> None:
    """Whether a thread opened the file before or read_now opens it itself."""
    data = os.urandom(200_000)
    origin, file = await ready(env, "a/ö.flac", data)
    assert isinstance(origin, ReadsNow)
    if opened:
        await origin.read(file, 0, 1)
    for offset, size in [(0, 10), (5, 130_000), (199_990, 100), (200_000, 10), (300_000, 1), (3, 0), (7, 10)]:
        assert now(origin, file, offset, size) == data[offset : offset + size]


async def test_read_now_alternates_between_files(env: LocalEnv) -> None:
    env.write("b", b"bbbbb")
    origin, a = await ready(env, "a", b"aaaaa")
    b = await replica(origin, "b")
    assert [now(origin, file, 0, 5) for file in (a, b, a, b)] == [b"aaaaa", b"bbbbb"] * 2


async def test_read_now_knows_nothing_before_the_root_was_looked_at(env: LocalEnv) -> None:
    env.write("a", b"12345")
    origin = await env.open()
    assert origin.read_now(await replica(origin, "a"), 0, 5) is None


async def test_read_now_leaves_a_network_mount_alone(env: LocalEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "filesystem_of", lambda fd: "nfs4")
    origin, file = await ready(env, "a", b"12345")
    assert await origin.read(file, 0, 5) == b"12345"
    assert origin.read_now(file, 0, 5) is None


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "gone", "folder", "link-out", "", "nul\0"])
async def test_read_now_leaves_to_read_what_is_no_file_below_the_root(env: LocalEnv, path: str) -> None:
    origin, _ = await ready(env, "folder/b", b"12345")
    (env.root.parent / "x").write_bytes(b"12345")
    (env.root / "link-out").symlink_to(env.root.parent / "x")
    about = (env.root.parent / "x").stat()
    assert origin.read_now(Replica(OriginId("disk"), path, about.st_size, about.st_mtime_ns), 0, 5) is None


async def test_a_file_modified_in_place_is_refused_by_both_ways(env: LocalEnv) -> None:
    """Its descriptor is open already, and both must notice on it."""
    origin, file = await ready(env, "a", b"12345")
    assert now(origin, file, 0, 5) == b"12345"
    env.write("a", b"54321")
    assert origin.read_now(file, 0, 5) is None
    with pytest.raises(ReplicaFailed) as failed:
        await origin.read(file, 0, 5)
    assert failed.value.fault is ReplicaFault.CHANGED


async def test_read_alone_notices_a_modification_on_an_open_descriptor(env: LocalEnv) -> None:
    origin, file = await ready(env, "a", b"12345")
    assert await origin.read(file, 0, 5) == b"12345"
    env.write("a", b"54321")
    with pytest.raises(ReplicaFailed) as failed:
        await origin.read(file, 0, 5)
    assert failed.value.fault is ReplicaFault.CHANGED


async def test_a_file_replaced_by_rename_serves_the_old_bytes_or_none(env: LocalEnv) -> None:
    """An open descriptor goes on giving the pinned content; a new one is refused."""
    origin, file = await ready(env, "a", b"12345")
    assert await origin.read(file, 0, 5) == b"12345"
    env.write("new", b"54321")
    (env.root / "new").rename(env.root / "a")
    assert await origin.read(file, 0, 5) == b"12345"
    assert now(origin, file, 0, 5) == b"12345"
    fresh = await env.open()
    with pytest.raises(ReplicaFailed) as failed:
        await fresh.read(file, 0, 5)
    assert failed.value.fault is ReplicaFault.CHANGED


async def test_a_pipe_in_the_place_of_a_file_is_refused_and_does_not_hang(env: LocalEnv) -> None:
    origin, file = await ready(env, "a", b"12345")
    env.write("b", b"x")
    env.remove("a")
    os.mkfifo(env.root / "a")
    with pytest.raises(ReplicaFailed) as failed:
        await origin.read(file, 0, 5)
    assert failed.value.fault is ReplicaFault.CHANGED


# Descriptors


def descriptors() -> int:
    """Those that this process has open of the origin's folder and what is in it."""
    return sum("/music" in target_of(fd) for fd in Path("/proc/self/fd").iterdir())


def target_of(fd: Path) -> str:
    try:
        return str(fd.readlink())
    except OSError:  # that of the listing itself
        return ""


async def test_descriptors_are_bounded_and_all_closed_at_the_end(env: LocalEnv) -> None:
    before = descriptors()
    names = [f"{n}.flac" for n in range(300)]
    for name in names:
        env.write(name, name.encode())
    origin = await env.open()
    files = [await replica(origin, name) for name in names]
    assert await asyncio.gather(*(origin.read(file, 0, 99) for file in files)) == [name.encode() for name in names]
    assert 100 < descriptors() - before <= 130
    for file in files:
        assert now(origin, file, 0, 99) in (None, file.path.encode())
    assert descriptors() - before <= 131
    for name in names[:50]:
        env.write(name, b"changed")
    for file in files[:50]:
        with pytest.raises(ReplicaFailed):
            await origin.read(file, 0, 99)
    await origin.aclose()
    assert descriptors() == before


async def test_an_idle_origin_holds_no_descriptor_so_that_its_disk_can_be_unmounted(env: LocalEnv) -> None:
    before = descriptors()
    origin, file = await ready(env, "a", b"12345")
    assert now(origin, file, 0, 5) == b"12345"
    await origin.health()
    assert descriptors() > before
    await origin.health()
    assert descriptors() == before
    assert origin.read_now(file, 0, 5) is None
    assert await origin.read(file, 0, 5) == b"12345"
    assert now(origin, file, 0, 5) == b"12345"


async def all_closed(before: int) -> None:
    """Waits until there are no more descriptors than before."""
    async with asyncio.timeout(60):
        while descriptors() > before:
            await asyncio.sleep(0.001)


async def test_descriptors_of_an_idle_origin_are_closed_though_the_health_check_is_cancelled(env: LocalEnv) -> None:
    """At every turn of the event loop at which it may be."""
    before = descriptors()
    origin, file = await ready(env, "a", b"12345")
    for turns in range(30):
        assert await origin.read(file, 0, 5) == b"12345"
        await origin.health()
        checking = asyncio.create_task(origin.health())
        for _ in range(turns):
            await asyncio.sleep(0)
        checking.cancel()
        await asyncio.wait({checking})
        await origin.health()
        await all_closed(before)


async def test_the_root_is_closed_though_who_had_it_opened_is_cancelled(
    env: LocalEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, file = await ready(env, "a", b"12345")
    await origin.health()
    await origin.health()
    before = descriptors()
    looking, may_open, opened = threading.Event(), threading.Event(), driver.LocalOrigin._open_root

    def slowly(self: LocalOrigin) -> object:
        looking.set()
        may_open.wait()
        return opened(self)

    monkeypatch.setattr(LocalOrigin, "_open_root", slowly)
    reading = asyncio.create_task(origin.read(file, 0, 5))
    await asyncio.to_thread(looking.wait)
    reading.cancel()
    await asyncio.wait({reading})
    may_open.set()
    monkeypatch.undo()
    assert (await origin.stat("a")).size == 5
    await all_closed(before)


async def test_descriptors_are_closed_though_every_thread_of_the_origin_hangs(env: LocalEnv) -> None:
    before = descriptors()
    env.write("a", b"12345")
    origin = HangingOrigin(env.config(pool_size=1))
    origin.answer = threading.Event()
    origin.answer.set()
    file = await replica(origin, "a")
    try:
        assert await origin.read(file, 0, 5) == b"12345"
        origin.answer.clear()
        hanging = asyncio.create_task(origin.read(file, 0, 5))
        while not origin.hangs:
            await asyncio.sleep(0.001)
        hanging.cancel()
        resting = asyncio.create_task(origin._rest())
        with pytest.raises(OriginFailed, match="held by calls that do not return") as caught:
            await resting
        assert caught.value.fault is OriginFault.TIMEOUT
        await all_closed(before)
    finally:
        origin.answer.set()
        await origin.aclose()


async def test_a_root_that_was_replaced_is_noticed_by_the_health_check(env: LocalEnv) -> None:
    origin, _ = await ready(env, "a", b"12345")
    env.root.rename(env.root.parent / "old")
    env.write("b", b"67890")
    new = (env.root / "b").stat()
    file = Replica(OriginId("disk"), "b", 5, new.st_mtime_ns)
    assert origin.read_now(file, 0, 5) is None
    await origin.health()
    assert now(origin, file, 0, 5) == b"67890"


# Hanging


class HangingOrigin(LocalOrigin):
    """A disk that does not answer reads until it is told to."""

    answer: threading.Event
    hangs = False

    def _read(self, replica: Replica, offset: int, size: int) -> bytes:
        self.hangs = not self.answer.is_set()
        self.answer.wait()
        return super()._read(replica, offset, size)


async def test_a_hung_origin_blocks_neither_the_others_nor_its_own_closing(env: LocalEnv) -> None:
    env.write("a", b"12345")
    hung = HangingOrigin(env.config(pool_size=2))
    hung.answer = threading.Event()
    other = await env.open()
    file = await replica(other, "a")
    try:
        reads = [asyncio.create_task(hung.read(file, 0, 5)) for _ in range(10)]
        assert await other.read(file, 0, 5) == b"12345"
        await hung.aclose()
        for result in await asyncio.gather(*reads, return_exceptions=True):
            assert isinstance(result, OriginFailed)
            assert result.fault is OriginFault.UNREACHABLE
    finally:
        hung.answer.set()


# Listing


async def test_links_are_followed_once_and_loops_end(env: LocalEnv) -> None:
    outside = env.root.parent / "outside"
    outside.mkdir()
    (outside / "far.flac").write_bytes(b"x")
    (outside / "back").symlink_to(env.root)
    env.write("z/a.flac", b"x")
    env.write("z/self", b"x")
    (env.root / "a-link-to-z").symlink_to("z")
    (env.root / "z/loop").symlink_to("..")
    (env.root / "z/file-link.flac").symlink_to("a.flac")
    (env.root / "link-1").symlink_to(outside)
    (env.root / "link-2").symlink_to(outside)
    (env.root / "link-file.flac").symlink_to(outside / "far.flac")
    (env.root / "dangling").symlink_to("nowhere")
    (env.root / "circle").symlink_to("circle")
    found = await listing(await env.open())
    assert sorted(found) == ["link-1/far.flac", "link-file.flac", "z/a.flac", "z/self"]


async def test_hidden_and_system_folders_are_not_listed(env: LocalEnv) -> None:
    """`lost+found` is closed to everyone on every disk: it must not fail the scan of a whole disk."""
    for name in ("a.flac", ".hidden/b", "lost+found/c", "x/.Trash/d", "x/e.flac"):
        env.write(name, b"x")
    with env.denied("lost+found"):
        assert sorted(await listing(await env.open())) == ["a.flac", "x/e.flac"]


async def test_a_folder_that_vanishes_during_the_scan_is_skipped(env: LocalEnv) -> None:
    many = [f"a/{number:03}" for number in range(300)]  # more than are listed at once
    for name in (*many, "b/2", "c/3"):
        env.write(name, b"x")
    seen = []
    async for stat in (await env.open()).scan():
        seen.append(stat.path)
        if stat.path == "a/000":
            shutil.rmtree(env.root / "b")
    assert seen == [*many, "c/3"]


@pytest.mark.parametrize("again", [True, False], ids=["replaced", "gone"])
async def test_a_root_that_vanishes_during_the_scan_fails_it(env: LocalEnv, again: bool) -> None:
    """Even when another folder has taken its place: what was listed is not the whole of either."""
    for name in ("a/1", "b/2", "c/3"):
        env.write(name, b"x")
    origin = await env.open()
    scan = origin.scan()
    assert (await anext(scan)).path == "a/1"
    env.root.rename(env.root.parent / "away")
    if again:
        env.write("d/4", b"x")
    with pytest.raises(OriginFailed) as failed:
        [stat async for stat in scan]
    assert failed.value.fault is OriginFault.UNREACHABLE


async def test_a_root_that_was_away_for_one_folder_fails_the_scan(
    env: LocalEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is away while its folder "b" is listed, and back before the next folder."""
    for name in ("a/1", "b/2", "c/3"):
        env.write(name, b"x")
    origin, away, list_one, check = await env.open(), env.root.parent / "away", Lister.list, LocalOrigin._check_same

    def list_away(lister: Lister, folder: str, files: bool = True) -> FolderListing:
        if folder == "b":
            env.root.rename(away)
        return list_one(lister, folder, files)

    def check_and_return(self: LocalOrigin, lister: Lister) -> None:
        try:
            check(self, lister)
        finally:
            if away.exists():
                away.rename(env.root)

    monkeypatch.setattr(Lister, "list", list_away)
    monkeypatch.setattr(LocalOrigin, "_check_same", check_and_return)
    with pytest.raises(OriginFailed) as failed:
        await listing(origin)
    assert failed.value.fault is OriginFault.UNREACHABLE


async def test_a_root_that_is_a_file_is_unreachable(env: LocalEnv) -> None:
    env.remove_root()
    env.root.write_bytes(b"x")
    with pytest.raises(OriginFailed, match="not a folder"):
        await (await env.open()).health()
