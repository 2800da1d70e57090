"""What is known of blocks, and who is in quarantine, outlives restarts."""

from __future__ import annotations

import asyncio
import gc
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.content import checkloads, checksums
from musicfs.content.checkstore import CheckStore
from musicfs.content.checksums import Checksums
from musicfs.content.records import DigestMatch, digest_of
from musicfs.content.vote import Vote
from musicfs.events import EventBus
from musicfs.federation.quarantine import Quarantine, SetAside
from musicfs.model import Content, Fingerprint, OriginId, Replica
from tests.support.blocks import HangingDisk

A, B = OriginId("a"), OriginId("b")
SONG = Content(1, Fingerprint(b"s" * 32), 3 * BLOCK_SIZE - 5)
GOOD, BAD = b"good", b"bad"


def replica(origin: OriginId, path: str = "x\udcff.flac") -> Replica:
    return Replica(origin, path, 5, 7, "etag")


def started(path: Path | None) -> tuple[Checksums, Quarantine]:
    quarantine = Quarantine(EventBus())
    made = Checksums(path)
    made.start(quarantine)
    return made, quarantine


async def note(made: Checksums, index: int, data: bytes, origin: OriginId, content: Content = SONG) -> DigestMatch:
    record, digest = await made.record(content), digest_of(data)
    match = record.compare(index, digest, data)
    made.add_witness(record, index, Vote(replica(origin), digest, data), match)
    return match


async def test_a_block_is_recorded_doubted_confirmed_and_then_certain() -> None:
    made, _ = started(None)
    assert await note(made, 2, GOOD, A) is DigestMatch.NEW
    assert await note(made, 2, GOOD, A) is DigestMatch.SAME
    assert await note(made, 2, BAD, B) is DigestMatch.DOUBTFUL
    assert made.witness(await made.record(SONG), 2) == A
    assert await note(made, 2, GOOD, B) is DigestMatch.SAME
    assert await note(made, 2, BAD, A) is DigestMatch.WRONG
    assert await note(made, 1, BAD, A) is DigestMatch.NEW
    assert made.witness(await made.record(SONG), 2) is None


async def test_all_of_it_outlives_a_restart(tmp_path: Path) -> None:
    made, quarantine = started(tmp_path / "checksums")
    await note(made, 0, GOOD, B)
    await note(made, 1, GOOD, A)
    await note(made, 1, GOOD, B)
    quarantine.add(replica(A), 4)
    quarantine.dispute(replica(B), 5, replica(A))
    await made.aclose()
    made, quarantine = started(tmp_path / "checksums")
    assert made.witness(await made.record(SONG), 0) == B
    assert await note(made, 0, BAD, A) is DigestMatch.DOUBTFUL
    assert await note(made, 1, BAD, A) is DigestMatch.WRONG
    assert (await made.record(SONG)).has_checksum(0, GOOD)
    assert not (await made.record(SONG)).has_checksum(0, BAD)
    assert await note(made, 2, GOOD, A) is DigestMatch.NEW
    assert set(quarantine.held.values()) == {SetAside(replica(A), 4), SetAside(replica(B), 5, A)}
    quarantine.free(A)
    await made.aclose()
    made, quarantine = started(tmp_path / "checksums")
    assert quarantine.held == {}
    await made.aclose()


async def test_a_crash_costs_the_last_moments_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "_FLUSH_SECS", 0.01)
    made, _ = started(tmp_path / "checksums")
    await note(made, 0, GOOD, A)
    crashed = tmp_path / "crashed"

    def is_kept() -> bool:
        """In a copy, as a crash would leave it."""
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"checksums{suffix}", f"{crashed}{suffix}")
        with closing(sqlite3.connect(crashed)) as connection:
            return bool(connection.execute("SELECT count(*) FROM contents").fetchone()[0])

    async with asyncio.timeout(30):
        while not is_kept():
            await asyncio.sleep(0.01)
    after, _ = started(crashed)
    assert await note(after, 0, BAD, B) is DigestMatch.DOUBTFUL
    await after.aclose()
    await made.aclose()


async def test_what_is_in_use_is_one_record_however_many_others_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "_CONTENTS_IN_MEMORY", 2)
    made, _ = started(tmp_path / "checksums")
    mine = await made.record(SONG)
    for number in range(10):
        await note(made, 0, GOOD, A, Content(number, Fingerprint(bytes([number]) * 32), 100))
    assert await made.record(SONG) is mine
    assert await note(made, 0, BAD, B, Content(3, Fingerprint(b"\3" * 32), 100)) is DigestMatch.DOUBTFUL
    await made.aclose()


@pytest.mark.parametrize("damage", ["no database at all" * 100, ""])
async def test_a_file_that_can_not_be_used_is_replaced(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checksums"
    path.write_text(damage)
    if not damage:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 99")
    made, _ = started(path)
    assert "they are recorded again" in caplog.text
    await note(made, 0, GOOD, A)
    await made.aclose()
    made, _ = started(path)
    assert await note(made, 0, GOOD, A) is DigestMatch.SAME
    await made.aclose()


async def test_a_folder_that_can_not_be_used_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made, quarantine = started(tmp_path / "missing" / "checksums")
    assert "checksums are not kept" in caplog.text
    await note(made, 0, GOOD, A)
    quarantine.add(replica(A), 0)
    assert await note(made, 0, BAD, B) is DigestMatch.DOUBTFUL
    await made.aclose()


async def test_a_file_that_fails_while_it_is_used_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, _ = started(tmp_path / "checksums")
    with closing(sqlite3.connect(tmp_path / "checksums")) as connection:
        connection.execute("DROP TABLE contents")
    await note(made, 0, GOOD, A)
    await made.aclose()
    assert "checksums are not kept" in caplog.text
    assert await note(made, 0, BAD, B) is DigestMatch.DOUBTFUL


async def test_a_disk_that_was_full_is_written_to_again_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checksums, "_FLUSH_SECS", 0.001)
    monkeypatch.setattr(checksums, "_TRY_AGAIN_SECS", 0.001)
    made, quarantine = started(tmp_path / "checksums")
    write, tried, go_on = CheckStore.write, asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def full(*args: Any) -> None:
        if go_on.is_set():
            write(*args)
            return
        loop.call_soon_threadsafe(tried.set)
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(CheckStore, "write", full)
    await note(made, 0, GOOD, A)
    quarantine.add(replica(A), 4)
    for _ in range(3):
        tried.clear()
        await tried.wait()
    await note(made, 1, GOOD, A)
    go_on.set()
    await made.aclose()
    assert caplog.text.count("checksums are not kept for now") == 1
    made, quarantine = started(tmp_path / "checksums")
    assert [await note(made, index, GOOD, A) for index in (0, 1)] == [DigestMatch.SAME, DigestMatch.SAME]
    assert len(quarantine.held) == 1
    await made.aclose()


async def test_more_origins_than_have_numbers_stop_nothing(tmp_path: Path) -> None:
    made, _ = started(tmp_path / "checksums")
    several = [OriginId(f"o{number}") for number in range(300)]
    for number, origin in enumerate(several):
        await note(made, 0, GOOD, origin, Content(number, Fingerprint(number.to_bytes(32, "little")), 100))
    await made.aclose()
    made, _ = started(tmp_path / "checksums")

    async def witness(number: int) -> OriginId | None:
        record = await made.record(Content(number, Fingerprint(number.to_bytes(32, "little")), 100))
        return made.witness(record, 0)

    assert [await witness(number) for number in (0, 100, 252)] == [several[0], several[100], several[252]]
    assert {await witness(number) for number in range(253, 300)} == {OriginId("")}
    await made.aclose()


async def recorded(path: Path) -> None:
    """Makes a file in which the first block of the song is `GOOD`, says one."""
    made, _ = started(path)
    await note(made, 0, GOOD, A)
    await made.aclose()


async def test_while_the_disk_hangs_nothing_is_known_and_nothing_recorded_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await recorded(tmp_path / "checksums")
    monkeypatch.setattr(checkloads, "_WAIT_SECS", 0.05)
    made, _ = started(tmp_path / "checksums")
    hanging = HangingDisk(monkeypatch, "load")
    try:
        made.prepare([SONG])
        assert made.known(SONG) is None
        assert not (await made.record(SONG)).is_known
        assert await note(made, 0, BAD, B) is DigestMatch.NEW
        assert await note(made, 1, BAD, B) is DigestMatch.NEW
        monkeypatch.setattr(checkloads, "_WAIT_SECS", 1e6)
        assert not (await made.record(SONG)).is_known  # it has just been waited for
        assert not made._changed
    finally:
        hanging.answer.set()
    while made.known(SONG) is None:
        await asyncio.sleep(0.001)
    assert await note(made, 0, BAD, B) is DigestMatch.DOUBTFUL
    assert await note(made, 1, GOOD, B) is DigestMatch.NEW
    await made.aclose()


async def test_what_is_expected_together_is_read_by_one_question_and_stays_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "_CONTENTS_IN_MEMORY", 1)
    monkeypatch.setattr(checksums, "_FLUSH_SECS", 0.0)
    several = [Content(number, Fingerprint(number.to_bytes(32, "little")), 100) for number in range(2, 130)]
    made, _ = started(tmp_path / "checksums")
    for each in several:
        made.put_checksum(await made.record(each), 0, GOOD, A)
    await made.aclose()
    made, _ = started(tmp_path / "checksums")
    made.prepare([SONG, *several])
    assert not (await made.record(SONG)).has_checksum(0, GOOD)
    hanging = HangingDisk(monkeypatch, "load")
    try:
        made.prepare([SONG, *several])
        records = [made.known(each) for each in several]
        assert all(record is not None and record.has_checksum(0, GOOD) for record in records)
        record = made.known(several[0])
        assert record is not None
        made.set_witness(record, 0, B)
        while made._changed or made._flushing is not None:
            await asyncio.sleep(0.001)
        made.known(several[1])
        del record, records
        gc.collect()
        made.prepare(several[:1])  # its record is in memory no longer
        assert made.known(several[0]) is None
    finally:
        hanging.answer.set()
    for each in several:
        assert made.witness(await made.record(each), 0) == (B if each is several[0] else A)
    await made.aclose()


async def test_many_contents_that_are_asked_for_while_the_disk_hangs_take_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await recorded(tmp_path / "checksums")
    made, _ = started(tmp_path / "checksums")
    hanging = HangingDisk(monkeypatch, "load")
    try:
        for number in range(5000):
            made.prepare([Content(number, Fingerprint(number.to_bytes(32, "little")), 100)])
        assert made._loads is not None
        assert len(made._loads._loads) <= 100
    finally:
        hanging.answer.set()
    while not (record := await made.record(SONG)).is_known:
        await asyncio.sleep(0.001)
    assert record.has_checksum(0, GOOD)
    await made.aclose()


async def test_what_waits_to_be_written_while_the_disk_hangs_takes_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "_MAX_CHANGED", 10)
    several = [Content(number, Fingerprint(number.to_bytes(32, "little")), 100) for number in range(2, 40)]
    made, _ = started(tmp_path / "checksums")
    for each in several:
        made.put_checksum(await made.record(each), 0, GOOD, A)
    assert list(made._changed) == [each.fingerprint for each in several[-10:]]
    await made.aclose()


async def test_a_disk_that_hangs_does_not_keep_the_mount_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checksums, "_CLOSING_SECS", 0.05)
    made, _ = started(tmp_path / "checksums")
    await note(made, 0, GOOD, A)
    hanging = HangingDisk(monkeypatch, "write")
    try:
        async with asyncio.timeout(60):
            await made.aclose()
        assert "does not answer" in caplog.text
    finally:
        hanging.answer.set()
