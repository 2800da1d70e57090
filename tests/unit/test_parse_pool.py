"""Parsing in processes of their own, which may die, hang or lie: each time it costs the file at fault, and no other."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from musicfs.catalog.rows import ScannedFile
from musicfs.config.models import OriginConfig
from musicfs.errors import MusicFSError
from musicfs.library import parse_process
from musicfs.library.analyser import Analyser
from musicfs.library.parse_pool import Parsers
from musicfs.library.parse_process import Fault
from musicfs.model import DiskFolder, OriginId, OriginType
from musicfs.origins.local.driver import LocalOrigin
from musicfs.tags.fingerprint import fingerprint, sample_ranges
from musicfs.tags.parse_messages import FileToParse
from musicfs.tags.parser import HUNG, TOO_SLOW, Examined, FileOnDisk
from tests.support import bad_parser
from tests.support.audio import make_audio

PROBLEMS = {
    "is killed": "the process that read its tags died",
    "crashes": "the process that read its tags died",
    "exits": "the process that read its tags died",
    "says that it retires": "the process that read its tags died",
    "closes its socket": "the process that read its tags died",
    "hangs": HUNG,
    "burns": TOO_SLOW,
    "takes memory": "the process that read its tags died",
}


@asynccontextmanager
async def pool(*args: object, **options: object) -> AsyncIterator[Parsers]:
    parsers = Parsers(*args, **options)  # type: ignore[arg-type]
    try:
        yield parsers
    finally:
        parsers.close()


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in bad_parser.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsers that make no progress are killed sooner."""
    monkeypatch.setattr(parse_process, "PATIENCE_SECS", 0.7)
    monkeypatch.setattr(parse_process, "_ON_DISK_SECS", 0.7)


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_audio(tmp_path_factory.mktemp("song") / "a.flac", seconds=2, tags={"title": "Song"}).read_bytes()


def whole(name: str, data: bytes, cpu_secs: float = 2.0) -> FileToParse:
    return FileToParse(name, "audio", len(data), {0: data}, cpu_secs)


def title(found: object) -> bool:
    return isinstance(found, Examined) and found.tags is not None and '"title":"Song"' in found.tags


@pytest.mark.parametrize("deed", list(bad_parser.DEEDS))
async def test_a_parser_that_dies_hangs_or_lies_costs_the_file_at_fault_alone(
    deed: str, song: bytes, request: pytest.FixtureRequest
) -> None:
    if deed != "burns":
        request.getfixturevalue("hurried")
    names = [f"{number}.flac" for number in range(6)]
    names.insert(3, bad_parser.BAD)
    async with pool(1, bad_parser.command(deed)) as parsers:
        found = dict(zip(names, await asyncio.gather(*(parsers.examine(whole(n, song)) for n in names)), strict=True))
    bad = found.pop(bad_parser.BAD)
    assert [name for name, each in found.items() if not title(each)] == []
    assert bad == Fault(PROBLEMS.get(deed, "the process that read its tags gave an invalid answer"))


@pytest.mark.parametrize("deed", ["is killed", "hangs", "burns", "rubbish", "huge", "exits"])
@pytest.mark.usefixtures("hurried")
async def test_the_same_holds_of_files_on_a_disk(deed: str, song: bytes, tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number}.flac").write_bytes(song)
    (tmp_path / bad_parser.BAD).write_bytes(song)
    origin = LocalOrigin(OriginConfig(id=OriginId("a"), origin_type=OriginType.LOCAL, settings={"path": tmp_path}))
    files = [(stat, "audio") async for stat in origin.scan()]
    found: dict[str, ScannedFile | None] = {}
    async with pool(2, bad_parser.command(deed)) as parsers:
        await Analyser(parsers).analyse_all(origin, files, lambda stat, what: found.update({stat.path: what}))
    await origin.aclose()
    assert len(found) == 101
    problems = {path: what.problem for path, what in found.items() if what is not None and what.problem}
    assert list(problems) == [bad_parser.BAD], problems
    bad = found[bad_parser.BAD]
    assert bad is not None
    assert bad.fingerprint == fingerprint(
        len(song), {offset: song[offset : offset + n] for offset, n in sample_ranges(len(song))}
    )
    assert bad.tags is None


async def test_many_files_that_kill_their_parser_cost_each_a_process(song: bytes) -> None:
    """None of the others is parsed more often for them than a constant number of times."""
    async with pool(1, bad_parser.command("burns")) as parsers:
        started = time.monotonic()
        names = [bad_parser.BAD if number % 4 == 1 else "a.flac" for number in range(8)]
        found = await asyncio.gather(*(parsers.examine(whole(name, song)) for name in names))
    assert [title(each) for each in found] == [name == "a.flac" for name in names]
    assert time.monotonic() - started < 60


async def test_a_parser_that_another_program_kills_costs_nothing(song: bytes) -> None:
    async with pool(1) as parsers:
        assert title(await parsers.examine(whole("a.flac", song)))
        for _ in range(3):
            (pid,) = parsers.pids
            pending = [asyncio.create_task(parsers.examine(whole("a.flac", song))) for _ in range(20)]
            await asyncio.sleep(0)
            os.kill(pid, 9)
            assert all(map(title, await asyncio.gather(*pending)))


async def test_processes_that_never_start_are_an_error_and_the_next_scan_tries_again(song: bytes) -> None:
    commands: list[Callable[[int, int], list[str]]] = [lambda *_: ["/bin/false"]] * 3 + [parse_process.command] * 9

    def command(end: int, progress: int) -> list[str]:
        return commands.pop(0)(end, progress)

    async with pool(1, command) as parsers:
        with pytest.raises(MusicFSError, match="do not start"):
            await parsers.examine(whole("a.flac", song))
        assert title(await parsers.examine(whole("a.flac", song)))


async def test_processes_that_can_not_be_made_are_an_error_and_leave_no_descriptor(song: bytes) -> None:
    async with pool(1, lambda *_: ["/no such program"]) as parsers:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        for _ in range(3):
            with pytest.raises(MusicFSError, match="do not start"):
                await parsers.examine(whole("a.flac", song))
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.usefixtures("hurried")
async def test_files_that_can_not_be_opened_in_time_are_left_to_their_origin(
    song: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.flac").write_bytes(song)
    about = (tmp_path / "a.flac").stat()
    hangs = threading.Event()
    monkeypatch.setattr(parse_process, "open_files", lambda *_: hangs.wait(20) and [])
    answers: list[object] = []
    async with pool(1) as parsers:
        file = FileOnDisk("a.flac", "audio", about.st_size, about.st_mtime_ns)
        await parsers.examine_files(DiskFolder(str(tmp_path), True), [file], lambda _, answer: answers.append(answer))
        assert title(await parsers.examine(whole("a.flac", song)))
        hangs.set()
    assert answers == [None]


async def test_a_caller_that_is_cancelled_takes_its_files_along(song: bytes) -> None:
    async with pool(1) as parsers:
        gone = [asyncio.create_task(parsers.examine(whole("a.flac", song))) for _ in range(50)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        assert title(await parsers.examine(whole("a.flac", song)))


async def test_more_work_starts_more_processes_and_one_is_kept_warm(song: bytes, tmp_path: Path) -> None:
    async with pool(2) as parsers:
        parsers.warm()
        parsers.warm()
        assert len(parsers.pids) == 1
        assert title(await parsers.examine(whole("a.flac", song)))
        assert len(parsers.pids) == 1
        await asyncio.gather(*(parsers.examine(whole("a.flac", song)) for _ in range(40)))
        assert len(parsers.pids) == 2
        pids = parsers.pids
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
