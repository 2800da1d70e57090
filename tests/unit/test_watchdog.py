"""A library worker that makes no progress is replaced, and the file at which it was stuck costs itself alone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from musicfs.events import ScanFinished
from musicfs.library import client
from musicfs.library.beacon import NOWHERE, Beacon, Place, Watchdog
from musicfs.system import processes
from tests.support.audio import make_album
from tests.unit.test_library_service import A, Setup, setup

__all__ = ["setup"]


def test_a_beacon_shows_beats_and_places_to_another_process() -> None:
    beacon = Beacon.make()
    other = Beacon(os.dup(beacon.fd))
    assert (other.beats(), other.place()) == (0, NOWHERE)
    beacon.beat()
    beacon.enter("nas", "a/\udcff.flac")
    assert (other.beats(), other.place()) == (2, Place("nas", "a/\udcff.flac"))
    beacon.beat()
    assert other.place() == Place("nas", "a/\udcff.flac")
    beacon.enter("nas", "x" * 100_000)
    assert other.place().path.startswith("xxx")
    beacon.leave()
    assert (other.beats(), other.place()) == (5, NOWHERE)
    other.close()
    beacon.close()


def test_only_a_worker_with_work_and_without_beats_is_stuck() -> None:
    now = 0.0
    beacon = Beacon.make()
    watchdog = Watchdog(beacon, 60, lambda: now)
    now = 59.0
    assert not watchdog.is_stuck(has_work=True)
    beacon.beat()
    assert not watchdog.is_stuck(has_work=True)
    now = 200.0
    assert not watchdog.is_stuck(has_work=False)
    assert not watchdog.is_stuck(has_work=True)
    now = 229.0
    assert not watchdog.is_stuck(has_work=True)
    now = 258.0
    assert not watchdog.is_stuck(has_work=True)
    now = 260.0
    assert watchdog.is_stuck(has_work=True)
    beacon.close()


async def test_a_suspended_worker_is_replaced_and_its_scan_completes(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "STUCK_SECS", 3.0)
    monkeypatch.setattr(client, "_CHECK_SECS", 0.2)
    make_album(setup.root, "Artist", "Album", 2, seconds=0.1)
    await setup.library.scan(A)
    worker = setup.worker()
    os.kill(worker.pid, signal.SIGSTOP)
    async with asyncio.timeout(60):
        done = await setup.library.scan(A)
    assert (done.error, done.listed) == (None, 2)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


_STUCK_AT = """
    import sys, time
    from musicfs.catalog.writer import Catalog
    compare = Catalog.compare
    def stuck(self, origin, listed):
        if any(stat.path.endswith("02 - Title 2.flac") for stat in listed):
            while True:
                pass
        return compare(self, origin, listed)
    Catalog.compare = stuck
    from musicfs.library.worker import main
    main(["worker", *sys.argv[1:]])
"""


async def test_a_file_at_which_the_worker_is_stuck_is_named_and_skipped(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop without end, for the sake of one file."""

    def command(module: str, *arguments: str) -> list[str]:
        assert module == "musicfs.library"
        return [sys.executable, "-c", textwrap.dedent(_STUCK_AT), *arguments]

    monkeypatch.setattr(processes, "python_command", command)
    monkeypatch.setattr(client, "STUCK_SECS", 4.0)
    monkeypatch.setattr(client, "_CHECK_SECS", 0.2)
    make_album(setup.root, "Artist", "Album", 4, seconds=0.1)
    async with asyncio.timeout(90):
        done = await setup.library.scan(A)
        assert (done.error, done.listed, done.added, done.problems) == (None, 3, 3, 1)
        assert setup.files() == 3
        assert (await setup.library.scan(A)).problems == 1
    assert [type(event) for event in setup.events].count(ScanFinished) == 2


def test_the_place_of_a_file_is_a_path(tmp_path: Path) -> None:
    """Whatever is in its name: the beacon's text ends at the first NUL."""
    beacon = Beacon.make()
    beacon.enter("a", "x\0y")
    assert beacon.place() == Place("a", "x\0y")
    beacon.close()
