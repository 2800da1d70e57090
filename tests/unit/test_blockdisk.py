"""The cache's files and index: what is evicted, what the disk says, and what a kill at any instant leaves."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from musicfs.cache import disk as blockdisk
from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.cache.disk import FOLDER, INDEX, BlockDisk, Changes, NewBlock, read_block
from musicfs.cache.index import BlockIndex
from musicfs.model import Content
from musicfs.system.linux import punch_hole
from musicfs.system.sqlite import Database, SqliteError
from tests.support.blocks import blocks_of, bytes_of, content_of, disk_usage

ROOMY = 1 << 30


@contextmanager
def opened(cache: Path, limit: int = ROOMY) -> Iterator[BlockDisk]:
    disk = BlockDisk(cache, limit)
    disk.open()
    disk.free_excess()
    try:
        yield disk
    finally:
        disk.close()


def taken(disk: BlockDisk) -> int:
    totals = disk.totals()
    return totals.edge + totals.middle


def there(disk: BlockDisk, content: Content) -> list[int]:
    """The blocks that can be read; fails if one that is listed reads as other bytes."""
    loaded = disk.load(content.fingerprint)
    good = []
    for number, sums in loaded.blocks:
        assert loaded.file is not None
        data = read_block(loaded.file, content.size, number, sums)
        assert data in (None, bytes_of(content, number))
        good += [number] if data is not None else []
    return good


def test_what_is_stored_is_there_after_a_restart_and_the_disk_agrees(tmp_path: Path) -> None:
    long, short, empty_tail = content_of(1, 5 * BLOCK_SIZE + 1234), content_of(2, 100), content_of(3, 2 * BLOCK_SIZE)
    with opened(tmp_path) as disk:
        for content in (long, short, empty_tail):
            disk.write(blocks_of(content))
        disk.drop(long.fingerprint, [2])
    with opened(tmp_path) as disk:
        assert [there(disk, content) for content in (long, short, empty_tail)] == [[0, 1, 3, 4, 5], [0], [0, 1]]
        assert disk.totals()[:2] == (3, 8)
        assert taken(disk) == disk_usage(tmp_path)


def test_a_single_block_far_inside_takes_the_space_of_one(tmp_path: Path) -> None:
    content = content_of(1, 100 * BLOCK_SIZE)
    with opened(tmp_path) as disk:
        disk.write([NewBlock(content, 60, bytes_of(content, 60))])
        assert there(disk, content) == [60]
        assert taken(disk) == disk_usage(tmp_path) == BLOCK_SIZE


def test_the_limit_holds_and_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    contents = [content_of(number, 10 * BLOCK_SIZE) for number in range(6)]
    with opened(tmp_path, 30 * BLOCK_SIZE) as disk:
        for content in contents[:3]:
            disk.write(blocks_of(content))
        disk.touch({contents[0].fingerprint: 4e9})
        for content in contents[3:]:
            for block in blocks_of(content):
                disk.write([block])
                assert disk_usage(tmp_path) == taken(disk) <= disk.limit
        assert there(disk, contents[0]) == list(range(10)), "it was used last"
        assert there(disk, contents[5]) == list(range(10))
        assert there(disk, contents[1]) == [0, 9], "the ends stay longest"


def test_ends_of_files_do_not_fill_the_whole_cache(tmp_path: Path) -> None:
    with opened(tmp_path, 40 * BLOCK_SIZE) as disk:
        for number in range(30):
            disk.write([block for block in blocks_of(content_of(number, 5 * BLOCK_SIZE)) if block.number in (0, 4)])
        played = content_of(99, 18 * BLOCK_SIZE)
        disk.write(blocks_of(played))
        other = content_of(100, 2 * BLOCK_SIZE)
        disk.write(blocks_of(other))
        assert there(disk, played) == list(range(18))
        assert taken(disk) <= disk.limit


def test_pinned_contents_are_never_evicted(tmp_path: Path) -> None:
    pinned, other = content_of(1, 6 * BLOCK_SIZE), content_of(2, 20 * BLOCK_SIZE)
    with opened(tmp_path, 8 * BLOCK_SIZE) as disk:
        disk.pin(pinned, pinned=True)
        disk.write(blocks_of(pinned))
        changes = disk.write(blocks_of(other))
        assert len(changes.stored) == 2
        assert there(disk, pinned) == list(range(6))
        assert disk.totals().pinned == 6 * BLOCK_SIZE
        disk.clear(pinned=False)
        assert (there(disk, pinned), there(disk, other)) == (list(range(6)), [])
    with opened(tmp_path, 8 * BLOCK_SIZE) as disk:
        assert disk.pinned() == {pinned.fingerprint}
        disk.pin(pinned, pinned=False)
        for block in blocks_of(other):
            disk.write([block])
        assert len(there(disk, pinned)) == 2, "its ends stay longest"
        disk.clear(pinned=True)
        assert taken(disk) == disk_usage(tmp_path) == 0


def test_a_lower_limit_is_kept_from_the_start(tmp_path: Path) -> None:
    with opened(tmp_path) as disk:
        disk.write(blocks_of(content_of(1, 20 * BLOCK_SIZE)))
    with opened(tmp_path, 5 * BLOCK_SIZE) as disk:
        assert taken(disk) == disk_usage(tmp_path) <= 5 * BLOCK_SIZE


def test_where_files_can_have_no_holes_they_go_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "no holes here")

    monkeypatch.setattr(blockdisk, "punch_hole", refuse)
    contents = [content_of(number, 5 * BLOCK_SIZE) for number in range(5)]
    with opened(tmp_path, 12 * BLOCK_SIZE) as disk:
        for content in contents:
            disk.write(blocks_of(content))
            assert disk_usage(tmp_path) == taken(disk) <= disk.limit
        assert there(disk, contents[-1]) == list(range(5))


@pytest.mark.parametrize("damage", ["no database", "half of it", "another version"])
def test_an_index_that_is_damaged_begins_anew(tmp_path: Path, damage: str) -> None:
    content = content_of(1, 3 * BLOCK_SIZE)
    with opened(tmp_path) as disk:
        disk.write(blocks_of(content))
    index = tmp_path / INDEX
    if damage == "no database":
        index.write_bytes(b"x" * 10_000)
    elif damage == "half of it":
        os.truncate(index, 4096 + 100)
    else:
        disk_index = BlockIndex.open(index)
        disk_index._db.execute("PRAGMA user_version = 99")
        disk_index.close()
    with opened(tmp_path) as disk:
        for _ in range(2):  # a broken page may be met only when it is used
            with suppress(SqliteError):
                disk.write(blocks_of(content))
        assert there(disk, content) == [0, 1, 2]
        assert taken(disk) == disk_usage(tmp_path)


# A kill at any instant

KILLED = content_of(1, 4 * BLOCK_SIZE + 5000)
OLD = content_of(2, 3 * BLOCK_SIZE)
LATER = content_of(3, 6 * BLOCK_SIZE)
WRITES = re.compile(r"\s*(BEGIN|COMMIT|INSERT|UPDATE|DELETE)\b")


def work(disk: BlockDisk) -> Changes:
    """Everything that writes: new files and old ones, evictions of parts and of wholes, drops, clearing."""
    disk.open()
    disk.free_excess()
    disk.write(blocks_of(KILLED)[:2])
    disk.write(blocks_of(KILLED)[2:])
    disk.drop(KILLED.fingerprint, [1])
    disk.write(blocks_of(LATER))
    disk.write(blocks_of(OLD))
    disk.clear(pinned=False)
    changes = disk.write(blocks_of(KILLED)[:1])
    disk.close()
    return changes


def kill_at(step: int) -> None:
    """Makes this process end, by SIGKILL, at that one of the instants between all steps of writing: before every
    statement of the index, before, within and after each write of bytes, around each removal."""
    left = [step]

    def instant() -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def stepping(call: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*args: Any, **kwargs: Any) -> Any:
            instant()
            result = call(*args, **kwargs)
            instant()
            return result

        return stepped

    pwrite = os.pwrite

    def halved(fd: int, data: memoryview, at: int) -> int:
        instant()
        half = pwrite(fd, data[: len(data) // 2], at)
        instant()
        return half + pwrite(fd, data[half:], at + half)

    connect = Database.connect

    def traced(database: Database) -> sqlite3.Connection:
        db = connect(database)
        db.set_trace_callback(lambda statement: instant() if WRITES.match(statement) else None)
        return db

    Database.connect = traced  # type: ignore[assignment, method-assign]
    os.open = stepping(os.open)
    os.pwrite = halved  # type: ignore[assignment]
    blockdisk.punch_hole = stepping(punch_hole)  # type: ignore[attr-defined]
    Path.unlink = stepping(Path.unlink)  # type: ignore[method-assign]


@pytest.fixture
def quick_disk() -> Iterator[Path]:
    """In memory: so many databases are begun and closed that a disk would take most of the time."""
    with TemporaryDirectory(prefix="musicfs-", dir="/dev/shm") as name:
        yield Path(name)


def test_a_kill_at_any_instant_leaves_a_cache_that_is_whole(quick_disk: Path) -> None:
    step, killed = 0, True
    while killed:
        cache = quick_disk / str(step)
        cache.mkdir()
        limit = 10 * BLOCK_SIZE
        with opened(cache, limit) as disk:
            disk.write(blocks_of(OLD))
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                kill_at(step)
                work(BlockDisk(cache, limit))
                os._exit(0)
            os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL)
        killed = status != 0
        with opened(cache, limit) as disk:
            assert taken(disk) == disk_usage(cache) <= limit, f"killed at step {step}"
            for content in (KILLED, OLD, LATER):
                listed = [number for number, _ in disk.load(content.fingerprint).blocks]
                assert there(disk, content) == listed, f"killed at step {step}"
            disk.write(blocks_of(KILLED))
            assert there(disk, KILLED) == [0, 1, 2, 3, 4]
        shutil.rmtree(cache)
        step += 1
    assert step > 150, "it was killed at too few instants to mean anything"


def test_files_that_are_none_of_ours_are_removed_when_things_are_put_in_order(tmp_path: Path) -> None:
    disk = BlockDisk(tmp_path, ROOMY)
    disk.open()  # and never closed
    (tmp_path / FOLDER / "junk").write_text("junk")
    with opened(tmp_path) as again:
        assert list((tmp_path / FOLDER).iterdir()) == []
        assert taken(again) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link to another user")
def test_a_folder_of_blocks_that_another_user_has_put_there_is_not_swept(tmp_path: Path) -> None:
    """What no index knows is removed there."""
    documents, cache = tmp_path / "documents", tmp_path / "cache"
    for folder in (documents, cache):
        folder.mkdir(mode=0o700)
    (documents / "thesis").write_text("kept")
    (cache / FOLDER).symlink_to(documents)
    os.chown(cache / FOLDER, 65534, -1, follow_symlinks=False)
    disk = BlockDisk(cache, 10 * BLOCK_SIZE)
    with pytest.raises(PermissionError, match="belongs to the user nobody"):
        disk.free_excess()
    assert (documents / "thesis").read_text() == "kept"


def test_a_second_name_of_another_file_in_place_of_a_block_file_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    with opened(tmp_path, 10 * BLOCK_SIZE) as disk:
        block = next(iter(blocks_of(OLD)))
        (tmp_path / FOLDER / block.content.fingerprint.hex()).hardlink_to(tmp_path / "precious")
        with pytest.raises(PermissionError, match="another name"):
            disk.write([block])
    assert (tmp_path / "precious").read_text() == "kept"
