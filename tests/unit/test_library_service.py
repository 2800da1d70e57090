"""The library's process: real worker processes, asked through `Library`."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest

from musicfs.catalog.database import prepare_catalog
from musicfs.catalog.view import TreeView
from musicfs.catalog.writer import Catalog
from musicfs.config.models import Config, OriginConfig
from musicfs.errors import MusicFSError
from musicfs.events import Event, EventBus, ScanFinished
from musicfs.library import client, worker
from musicfs.library.client import Library
from musicfs.library.tree_changes import TreeChanges
from musicfs.model import OriginId, OriginType
from tests.support.audio import make_album

A = OriginId("a")


class Setup:
    def __init__(self, folder: Path) -> None:
        self.root = folder / "music"
        self.root.mkdir()
        self.catalog = folder / "catalog.sqlite"
        prepare_catalog(self.catalog)
        self.events: list[Event] = []
        self.changes: list[TreeChanges] = []
        bus = EventBus()
        bus.listen(self.events.append)
        self.origin = OriginConfig(id=A, origin_type=OriginType.LOCAL, settings={"path": self.root})
        config = Config(cache_dir=folder, origins=(self.origin,))
        self.config = config
        self._bus = bus
        self.library = self.made_library()

    def made_library(self) -> Library:
        return Library(self.config, self.catalog, self._bus, self.changes.append)

    def numbers(self) -> list[tuple[str, int]]:
        """The names of all files in the tree, with their inode numbers."""
        with closing(sqlite3.connect(self.catalog)) as db:
            return db.execute("SELECT name, ino FROM names WHERE name LIKE '%.flac' ORDER BY name").fetchall()

    def worker(self) -> psutil.Process:
        (worker,) = [p for p in psutil.Process().children() if "musicfs.library" in p.cmdline()]
        return worker

    def files(self) -> int:
        view = TreeView.open(self.catalog)
        try:
            return view.totals().files
        finally:
            view.close()


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    made = Setup(tmp_path)
    try:
        yield made
    finally:
        await made.library.aclose()


async def test_a_scan_reports_its_events_and_its_changes(setup: Setup) -> None:
    make_album(setup.root, "Artist", "Album", 3)
    result = await setup.library.scan(A)
    assert (result.added, result.error) == (3, None)
    assert any(isinstance(e, ScanFinished) for e in setup.events)
    assert any(setup.changes)
    assert setup.files() == 3


async def test_a_catalogue_of_earlier_rules_for_names_is_placed_again_without_a_scan(setup: Setup) -> None:
    make_album(setup.root, "Artist", "Album", 1)
    await setup.library.scan(A)
    (before,) = setup.numbers()
    await setup.library.aclose()
    with closing(sqlite3.connect(setup.catalog)) as db:
        for table, column in (("entries", "name"), ("entries", "disc_name"), ("names", "name")):
            db.execute(f"UPDATE {table} SET {column} = 'old ' || {column} WHERE {column} LIKE '%.flac'")
        db.execute("UPDATE meta SET value = ? WHERE key = 'template'", (setup.config.tree.template,))
        db.commit()
    (old,) = setup.numbers()
    assert old[0].startswith("old ")
    setup.library = setup.made_library()
    await setup.library.set_reachable(A, True)
    assert setup.numbers() == [before]


def parsers_of(worker: psutil.Process) -> list[psutil.Process]:
    return [process for process in worker.children() if "musicfs.tags.parser_process" in process.cmdline()]


async def test_even_one_file_is_parsed_in_another_process_which_stays_for_the_next(setup: Setup) -> None:
    make_album(setup.root, "Artist", "Album", 1, seconds=0.1)
    await setup.library.scan(A)
    (parser,) = parsers_of(setup.worker())
    make_album(setup.root, "Artist", "Another", 1, seconds=0.1, seed=1)
    assert (await setup.library.scan(A)).added == 1
    assert parsers_of(setup.worker()) == [parser]
    parser.suspend()
    make_album(setup.root, "Artist", "Third", 1, seconds=0.1, seed=2)
    scanning = asyncio.create_task(setup.library.scan(A))
    await asyncio.wait({scanning}, timeout=1)
    assert not scanning.done(), "the worker parses nothing itself"
    parser.resume()
    assert (await scanning).added == 1


def test_the_worker_has_no_parser_of_tags() -> None:
    code = "import musicfs.library.worker, sys; print('mutagen' in sys.modules, 'musicfs.tags.formats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "False"]


async def test_parse_processes_load_nothing_of_the_worker(setup: Setup) -> None:
    """Each of them would need half a second for that, and 30 MB."""
    make_album(setup.root, "Artist", "Album", 40, seconds=0.1)
    await setup.library.scan(A)
    worker = setup.worker()
    parsers = parsers_of(worker)
    assert parsers
    for process, loaded in [(worker, True), *((parser, False) for parser in parsers)]:
        assert ("pydantic_core" in Path(f"/proc/{process.pid}/maps").read_text()) is loaded


async def test_an_unknown_origin_is_a_sentence(setup: Setup) -> None:
    with pytest.raises(MusicFSError, match="no origin 'b'"):
        await setup.library.scan(OriginId("b"))


async def test_a_worker_that_is_killed_in_a_scan_is_started_again_and_the_scan_completes(setup: Setup) -> None:
    for number in range(50):
        make_album(setup.root, "Artist", f"Album {number}", 60, seconds=0.1)
    scanning = asyncio.create_task(setup.library.scan(A))
    while setup.files() == 0:
        await asyncio.sleep(0.01)
    assert not scanning.done()
    os.kill(setup.worker().pid, signal.SIGKILL)
    result = await scanning
    assert result.error is None
    assert setup.files() == 3000


async def test_closing_ends_the_worker_and_everything_it_started(setup: Setup) -> None:
    make_album(setup.root, "Artist", "Album", 3)
    await setup.library.scan(A)
    worker = setup.worker()
    family = [worker, *worker.children(recursive=True)]
    await setup.library.aclose()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive


def many_origins(first: OriginConfig, megabytes: int) -> list[OriginConfig]:
    """As many that are not enabled as make a command of this size."""
    long = "x" * 4000
    ids = range(250 * megabytes)
    more = ({"id": OriginId(f"{n}"), "enabled": False, "settings": {"path": f"/{n}{long}"}} for n in ids)
    return [first, *(first.model_copy(update=each) for each in more)]


async def test_a_worker_that_reads_nothing_holds_nothing_up_and_gets_its_commands_later(setup: Setup) -> None:
    """A socket takes 216 kB; this is 4 MB, and the worker has as much to say meanwhile."""
    make_album(setup.root, "Artist", "Album", 3, seconds=0.1)
    await setup.library.scan(A)
    worker = setup.worker()
    worker.suspend()
    asking = [
        asyncio.create_task(setup.library.configure(many_origins(setup.origin, 4))),
        asyncio.create_task(setup.library.scan(A)),
    ]
    began, turns = time.monotonic(), 0
    while time.monotonic() < began + 0.5:
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 50
    assert not any(task.done() for task in asking)
    worker.resume()
    await asyncio.gather(*asking)


async def test_a_worker_that_is_suspended_is_ended_in_time(setup: Setup) -> None:
    make_album(setup.root, "Artist", "Album", 1, seconds=0.1)
    await setup.library.scan(A)
    worker = setup.worker()
    worker.suspend()
    asking = asyncio.create_task(setup.library.configure(many_origins(setup.origin, 1)))
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await setup.library.aclose()
    assert not worker.is_running()
    await asyncio.wait({asking})
    assert asking.cancelled()


async def test_a_worker_that_takes_no_commands_for_long_is_replaced_before_they_fill_the_memory(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_album(setup.root, "Artist", "Album", 1, seconds=0.1)
    await setup.library.scan(A)
    monkeypatch.setattr(client, "_MAX_UNSENT", 1 << 20)
    monkeypatch.setattr(client, "_STALLED_SECS", 0.2)
    worker = setup.worker()
    worker.suspend()
    asking = [asyncio.create_task(setup.library.configure(many_origins(setup.origin, 2)))]
    while worker.is_running():
        asking.append(asyncio.create_task(setup.library.set_reachable(A, True)))
        await asyncio.sleep(0.02)
    await asyncio.gather(*asking)
    assert (await setup.library.scan(A)).error is None


PARENT = """
    import asyncio, sys
    from pathlib import Path
    from musicfs.config.models import Config, OriginConfig
    from musicfs.events import EventBus
    from musicfs.library.client import Library

    async def main(folder):
        origin = OriginConfig(id="a", origin_type="local", settings={"path": folder / "music"})
        config = Config(cache_dir=folder, origins=(origin,))
        library = Library(config, folder / "catalog.sqlite", EventBus(), lambda changes: None)
        await library.scan("a")
        print(library._process.pid, flush=True)
        await asyncio.Event().wait()

    asyncio.run(main(Path(sys.argv[1])))
"""


def test_the_worker_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    make_album(tmp_path / "music", "Artist", "Album", 1, seconds=0.1)
    prepare_catalog(tmp_path / "catalog.sqlite")
    command = [sys.executable, "-c", textwrap.dedent(PARENT), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    _, alive = psutil.wait_procs([worker], timeout=30)
    assert not alive


async def test_removals_are_held_until_they_are_accepted(setup: Setup) -> None:
    tracks = make_album(setup.root, "Artist", "Album", 10)
    await setup.library.scan(A)
    for track in tracks[:6]:
        track.unlink()
    assert (await setup.library.scan(A)).removals_held == 6
    assert setup.files() == 10
    await setup.library.accept_removals(A)
    assert (await setup.library.scan(A)).removed == 6
    assert setup.files() == 4


def test_a_worker_that_keeps_ending_on_a_full_disk_is_explained_by_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = list(os.statvfs(tmp_path))
    full[4] = 1  # f_bavail
    assert client._why_it_keeps_ending(tmp_path) == "the library worker keeps ending; see the log"
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(full))
    assert client._why_it_keeps_ending(tmp_path).startswith(f"the disk of {tmp_path} is full, so the catalogue can't")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (sqlite3.SQLITE_FULL, "the catalogue can't be written (it says so); check the disk"),
        (sqlite3.SQLITE_BUSY, "the catalogue is locked by another program"),
    ],
)
def test_a_worker_that_can_not_write_the_catalogue_ends_with_a_sentence(
    code: int, told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failure = sqlite3.OperationalError("it says so")
    failure.sqlite_errorcode = code
    parsers = Mock()
    monkeypatch.setattr(Catalog, "open", Mock(side_effect=failure))
    with pytest.raises(SystemExit):
        worker._prepared(Mock(), Mock(), parsers, Mock())
    parsers.close.assert_called_once()
    (record,) = caplog.records
    assert record.getMessage().startswith(told)
    assert record.exc_info is None
