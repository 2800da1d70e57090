"""The cache of blocks beside the event loop: what is read back, what is damaged, and a disk that fails."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from musicfs.cache import breaker
from musicfs.cache import disk as blockdisk
from musicfs.cache import store as blocks
from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.cache.disk import FOLDER, BlockDisk, Changes, LoadedIndex, NewBlock
from musicfs.cache.store import BlockStore
from musicfs.content.open_content import OpenContent
from musicfs.content.reader import Reader
from musicfs.errors import NoReplicaAvailable
from musicfs.events import CacheResumed, CacheStopped, Event, EventBus
from musicfs.model import Content, Fingerprint
from tests.support.blocks import bytes_of, content_of
from tests.support.fakes import UNREACHABLE, FakeLocal, FakeOrigin
from tests.support.federation import federation

PATIENCE = 20.0
SONG = content_of(1, 3 * BLOCK_SIZE + 1000)
WHOLE = b"".join(bytes_of(SONG, number) for number in range(4))


@dataclass
class Made:
    """A running store and what it has told."""

    store: BlockStore
    events: list[Event] = field(default_factory=list)

    def told(self) -> list[type[Event]]:
        return [type(event) for event in self.events]

    async def keep(self, content: Content, *numbers: int) -> None:
        """Stores blocks, and waits until they are there or the disk has failed."""
        for number in numbers:
            self.store.put(content, number, bytes_of(content, number))
        await self.idle()

    async def idle(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.store.waiting:
                await asyncio.sleep(0.001)


@asynccontextmanager
async def stored(cache: Path, limit: int = 1 << 30) -> AsyncIterator[Made]:
    bus = EventBus()
    made = Made(BlockStore(cache, limit, bus))
    bus.listen(made.events.append)
    await made.store.start()
    await made.idle()
    try:
        yield made
    finally:
        await made.store.aclose()


async def test_blocks_are_read_back_at_once_and_after_a_restart(tmp_path: Path) -> None:
    async with stored(tmp_path) as made:
        assert await made.store.read(SONG, 0) is None
        await made.keep(SONG, 0, 1, 3)
        assert await made.store.read(SONG, 1) == bytes_of(SONG, 1)
    async with stored(tmp_path) as made:
        store = made.store
        assert [await store.read(SONG, n) for n in range(4)] == [
            bytes_of(SONG, 0), bytes_of(SONG, 1), None, bytes_of(SONG, 3),
        ]  # fmt: skip
        for offset, size in ((0, 10), (16_000, 1000), (BLOCK_SIZE - 5, 10), (3 * BLOCK_SIZE + 900, 4096)):
            found = store.read_now(SONG, offset, size)
            assert found is not None
            assert bytes(found) == WHOLE[offset : offset + size]
        assert store.read_now(SONG, 2 * BLOCK_SIZE - 5, 10) is None, "half of it is in a block that is not there"
        stats = await store.stats()
        assert (stats.contents, stats.blocks, stats.hits, stats.misses) == (1, 3, 7, 1)


async def test_the_first_blocks_of_a_content_are_here_at_once_when_they_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Fingerprint] = []
    load = BlockDisk.load

    def noting(disk: BlockDisk, fingerprint: Fingerprint) -> LoadedIndex:
        loaded.append(fingerprint)
        return load(disk, fingerprint)

    monkeypatch.setattr(BlockDisk, "load", noting)
    async with stored(tmp_path) as made:
        assert await made.store.read(SONG, 0) is None
        await made.keep(SONG, 0)
        await made.keep(SONG, 1)
        assert [made.store.has(SONG, number) for number in range(3)] == [True, True, False]
        assert [await made.store.read(SONG, number) for number in (0, 1)] == [bytes_of(SONG, 0), bytes_of(SONG, 1)]
        assert await made.store.read(SONG, 2) is None
        assert loaded == [SONG.fingerprint], "the index is read once"
        await made.store.clear()
        assert not made.store.has(SONG, 0)
        await made.keep(SONG, 1)
        assert await made.store.read(SONG, 1) == bytes_of(SONG, 1)
        assert await made.store.read(SONG, 0) is None


async def test_blocks_that_come_together_are_written_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from tasks of their own, one after the other, as those of an album's small files do."""
    written: list[int] = []
    write = BlockDisk.write

    def noting(disk: BlockDisk, blocks: list[NewBlock]) -> Changes:
        written.append(len(blocks))
        return write(disk, blocks)

    monkeypatch.setattr(BlockDisk, "write", noting)
    async with stored(tmp_path) as made:
        for number in range(4):
            made.store.put(SONG, number, bytes_of(SONG, number))
            await asyncio.sleep(0)
        await made.store.written()
        assert [await made.store.read(SONG, number) for number in range(4)] == [bytes_of(SONG, n) for n in range(4)]
    assert written == [4]


async def test_clearing_removes_what_waits_to_be_written_too(tmp_path: Path) -> None:
    async with stored(tmp_path) as made:
        made.store.put(SONG, 0, bytes_of(SONG, 0))
        await made.store.clear()
        await made.idle()
        assert (await made.store.stats()).blocks == 0


@pytest.mark.parametrize("damage", ["a flipped bit", "cut short", "removed", "another file"])
async def test_what_is_damaged_is_never_served_and_comes_back(tmp_path: Path, damage: str) -> None:
    async with stored(tmp_path) as made:
        await made.keep(SONG, 0, 1, 2, 3)
    file = tmp_path / FOLDER / SONG.fingerprint.hex()
    match damage:
        case "a flipped bit":
            with file.open("r+b") as opened:
                opened.seek(BLOCK_SIZE + 20_000)
                opened.write(bytes([WHOLE[BLOCK_SIZE + 20_000] ^ 1]))
        case "cut short":
            os.truncate(file, 2 * BLOCK_SIZE - 1)
        case "removed":
            file.unlink()
        case "another file":
            file.write_bytes(os.urandom(SONG.size))
    async with stored(tmp_path) as made:
        await made.store.read(SONG, 0)
        at = 2 * BLOCK_SIZE - 10 if damage == "cut short" else BLOCK_SIZE + 20_000
        assert made.store.read_now(SONG, at, 10) is None
        assert await made.store.read(SONG, 1) is None
        await made.idle()
        await made.keep(SONG, 1)
        assert await made.store.read(SONG, 1) == bytes_of(SONG, 1)
        for number in range(4):
            assert await made.store.read(SONG, number) in (None, bytes_of(SONG, number))
        assert (await made.store.stats()).corrupt >= 1


async def test_what_waits_to_be_written_is_there_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, write = threading.Event(), blockdisk.BlockDisk.write

    def slow(self: blockdisk.BlockDisk, new: Iterable[blockdisk.NewBlock]) -> blockdisk.Changes:
        assert go_on.wait(PATIENCE)
        return write(self, new)

    monkeypatch.setattr(blockdisk.BlockDisk, "write", slow)
    async with stored(tmp_path) as made:
        try:
            made.store.put(SONG, 0, bytes_of(SONG, 0))
            assert made.store.has(SONG, 0)
            assert await made.store.read(SONG, 0) == bytes_of(SONG, 0)
            assert await made.store.read(SONG, 1) is None
            made.store.put(SONG, 1, bytes_of(SONG, 1))
            made.store.forget(SONG, 1)
            assert not made.store.has(SONG, 1)
        finally:
            go_on.set()
        await made.idle()
        assert await made.store.read(SONG, 0) == bytes_of(SONG, 0)
        assert await made.store.read(SONG, 1) is None


async def test_reads_go_on_while_the_disk_is_slow_and_what_is_too_much_goes_uncached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    write = blockdisk.BlockDisk._write

    def slow(*args: object) -> None:
        go_on.wait(PATIENCE)
        write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(blockdisk.BlockDisk, "_write", slow)
    long = content_of(2, 200 * BLOCK_SIZE)
    async with stored(tmp_path) as made:
        made.store.put(long, 0, bytes_of(long, 0))
        await asyncio.sleep(0.01)
        for number in range(1, 100):
            made.store.put(long, number, bytes_of(long, 0))
        stats = await made.store.stats()
        assert 30 < stats.skipped < 99
        go_on.set()
        await made.idle()
        assert (await made.store.stats()).blocks == 100 - stats.skipped


async def test_a_disk_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, asked = threading.Event(), []
    monkeypatch.setattr(blocks, "_READ_SECS", 0.05)

    def hang(*_: object) -> None:
        asked.append(1)
        go_on.wait(PATIENCE)

    async with stored(tmp_path) as made:
        await made.keep(SONG, 0)
        monkeypatch.setattr(blocks, "read_block", hang)
        assert await made.store.read(SONG, 0) is None
        assert await made.store.read(SONG, 0) is None
        assert len(asked) == 1
        assert made.told() == [CacheStopped]
        go_on.set()


@pytest.mark.parametrize("fault", [errno.EIO, errno.EROFS, errno.ENOSPC])
async def test_a_failing_disk_is_reported_once_and_caching_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    monkeypatch.setattr(breaker, "_TRY_AGAIN_SECS", (0.0, 0.0))
    failing = [True]
    pwrite = os.pwrite

    def write(fd: int, data: memoryview, at: int) -> int:
        if failing[0]:
            pwrite(fd, data[: len(data) // 2], at)
            raise OSError(fault, os.strerror(fault))
        return pwrite(fd, data, at)

    monkeypatch.setattr(os, "pwrite", write)
    async with stored(tmp_path) as made:
        for _ in range(3):
            await made.keep(SONG, 0)
            assert await made.store.read(SONG, 0) is None
        assert made.told() == [CacheStopped]
        assert not (await made.store.stats()).working
        failing[0] = False
        await made.keep(SONG, 0)
        assert await made.store.read(SONG, 0) == bytes_of(SONG, 0)
        assert made.told() == [CacheStopped, CacheResumed]


async def test_reads_that_fail_are_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async with stored(tmp_path) as made:
        await made.keep(SONG, 0)
        monkeypatch.setattr(blocks, "read_block", fail)
        monkeypatch.setattr(blocks, "preadv", fail)
        assert await made.store.read(SONG, 0) is None
        assert made.store.read_now(SONG, 0, 10) is None
        assert made.told()[:1] == [CacheStopped]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    options = f"size=4m,uid={os.geteuid()},gid={os.getegid()}"
    subprocess.run([*as_root, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run([*as_root, "umount", "--lazy", str(tmp_path)], check=True)


async def test_a_full_disk_stops_the_caching_until_there_is_room(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "_TRY_AGAIN_SECS", (0.0, 0.0))
    other = small_disk / "other"
    other.write_bytes(bytes(2_500_000))
    long = content_of(2, 30 * BLOCK_SIZE)
    async with stored(small_disk) as made:
        for number in range(30):
            await made.keep(long, number)
        assert made.told() == [CacheStopped]
        there = [number for number in range(30) if await made.store.read(long, number) == bytes_of(long, number)]
        assert there
        other.unlink()
        await made.keep(long, 20)
        assert await made.store.read(long, 20) == bytes_of(long, 20)
        assert made.told() == [CacheStopped, CacheResumed]


async def test_a_folder_that_cannot_be_used_is_told_and_reads_go_on(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file where the folder ought to be")
    async with stored(tmp_path) as made:
        await made.keep(SONG, 0)
        assert await made.store.read(SONG, 0) is None
        assert made.told() == [CacheStopped]


# With the reader


def opened(*origins: FakeOrigin) -> OpenContent:
    return OpenContent(SONG, [origin.replica for origin in origins])


async def test_what_was_played_plays_when_every_place_is_gone(tmp_path: Path) -> None:
    origin = FakeOrigin("a", data=WHOLE)
    async with federation(origin) as made, stored(tmp_path) as cache:
        reader = Reader(made.executor, store=cache.store)
        assert await reader.read(opened(origin), 0, BLOCK_SIZE + 10) == WHOLE[: BLOCK_SIZE + 10]
        await cache.idle()
        await reader.aclose()
    origin.read_outcome = origin.probe_outcome = UNREACHABLE
    async with federation(origin) as made, stored(tmp_path) as cache:
        for _ in range(3):
            await made.probe_all()
        reader = Reader(made.executor, store=cache.store)
        assert await reader.read(opened(origin), 100, BLOCK_SIZE + 10) == WHOLE[100 : BLOCK_SIZE + 110]
        with pytest.raises(NoReplicaAvailable):
            await reader.read(opened(origin), 3 * BLOCK_SIZE, 10)
        await reader.aclose()


async def test_what_is_cached_is_not_asked_for_again_though_the_origin_is_fine(tmp_path: Path) -> None:
    origin = FakeOrigin("a", data=WHOLE)
    for _ in range(2):
        async with federation(origin) as made, stored(tmp_path) as cache:
            reader = Reader(made.executor, store=cache.store)
            assert await reader.read(opened(origin), 0, SONG.size) == WHOLE
            assert bytes(reader.read_now(opened(origin), 10, 10) or b"") == WHOLE[10:20]
            await cache.idle()
            await reader.aclose()
    assert len(origin.calls) == 4


async def test_a_handle_asks_once_whether_an_earlier_version_of_its_file_is_cached(tmp_path: Path) -> None:
    origin, asked = FakeOrigin("a", data=WHOLE), []

    def before(content: Content) -> list[Content]:
        asked.append(content)
        return []

    async with federation(origin) as made, stored(tmp_path) as cache:
        for handles in (1, 2):
            reader, handle = Reader(made.executor, store=cache.store, before=before), opened(origin)
            for number in range(3):
                await reader.read(handle, number * BLOCK_SIZE, 10)
            assert asked == [SONG] * handles
            await reader.aclose()
            await cache.store.clear()


async def test_a_disk_of_this_machine_is_read_directly_and_not_cached_unless_its_music_is_pinned(
    tmp_path: Path,
) -> None:
    local = FakeLocal("a", data=WHOLE)
    local.now_misses = True
    async with federation(local) as made, stored(tmp_path) as cache:
        await made.probe_all()
        reader = Reader(made.executor, 0, cache.store, kept=lambda origin: False)
        await reader.read(opened(local), 0, 10)
        await cache.idle()
        assert (await cache.store.stats()).blocks == 0
        await cache.store.pin(SONG)
        for _ in range(2):
            await reader.read(opened(local), 0, 10)
            await cache.idle()
        assert len(local.calls) == 3, "the origin is fine, so it is asked"
        local.read_outcome = UNREACHABLE
        assert await reader.read(opened(local), 0, 10) == WHOLE[:10]
        await reader.aclose()


async def test_a_cached_block_that_turns_out_to_be_wrong_is_not_served_any_more(tmp_path: Path) -> None:
    rotten = b"rotten" + WHOLE[6:]
    origins = [FakeLocal(id, data=data) for id, data in (("a", rotten), ("b", WHOLE), ("c", WHOLE))]
    for origin in origins:
        origin.now_misses = True
    async with federation(*origins) as made, stored(tmp_path) as cache:
        await made.probe_all()
        reader = Reader(made.executor, 0, cache.store, kept=lambda origin: False)
        await cache.store.pin(SONG)
        assert await reader.read(opened(*origins), 0, 10) == rotten[:10]
        await cache.idle()
        origins[0].reads.extend([UNREACHABLE] * 3)
        assert await reader.read(opened(*origins), 0, 10) == WHOLE[:10], "two against one"
        await cache.idle()
        for origin in origins:
            origin.read_outcome = UNREACHABLE
        assert await reader.read(opened(*origins), 0, 10) == WHOLE[:10]
        await reader.aclose()
