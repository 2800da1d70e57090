"""A day with a dead NAS: how much of it the log tells. In virtual time, with everything that looks at an origin."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import cycle

import pytest

from musicfs.errors import MusicFSError, OriginFailed, OriginFault
from musicfs.events import ScanFinished
from musicfs.library.watcher import LibraryWatcher
from musicfs.model import OriginId
from tests.support.fakes import GOOD, HANG, FakeOrigin, Outcome
from tests.support.federation import Federation, federation
from tests.support.virtualtime import virtual_time

DAY_SECS = 24 * 3600.0
MAX_LINES = 50
# As a server that is off, on another network and then half awake would have it; no two are worded alike.
OFF, REFUSED = (OriginFailed(OriginId("nas"), OriginFault.UNREACHABLE, why) for why in ("no route", "refused"))
DENIED = OriginFailed(OriginId("nas"), OriginFault.DENIED, "who are you")
WAYS_TO_BE_AWAY = [
    HANG if error is None else Outcome(error=error)
    for error in (OFF, None, DENIED, REFUSED, None, RuntimeError("a fault of the driver"), DENIED)
]


class LibraryOfOne:
    """Scans by asking the origin how it is: what fails ends early, as the real one's scans do."""

    def __init__(self, origin: FakeOrigin) -> None:
        self._origin = origin
        self.scans = 0

    async def scan(self, origin: OriginId, under: Sequence[str], *, quick: bool) -> ScanFinished:
        self.scans += 1
        error = None
        if self.scans % 20 == 7 and self._origin.probe_outcome is not GOOD:
            raise MusicFSError("the library worker keeps ending; see the log")
        try:
            async with asyncio.timeout(5):
                await self._origin.health()
        except (OriginFailed, RuntimeError, TimeoutError) as failure:
            error = f"{failure!r} at the {self.scans}. time"
        return ScanFinished(origin, 0, 0, 0, 0, 0, 0, 0, error)


async def a_day(fed: Federation, nas: FakeOrigin, ways: Callable[[], Outcome]) -> int:
    """Half an hour of good health, a day of none, and a good hour; how many reads there were meanwhile."""
    library = LibraryOfOne(nas)
    watcher = LibraryWatcher(nas, library, lambda handle: None, 60, 3600)  # type: ignore[arg-type]
    fed.bus.listen(watcher.notice)
    watching = asyncio.create_task(watcher.run())
    fed.monitor.start()
    reads = 0
    try:
        for until, away in ((1800.0, False), (1800.0 + DAY_SECS, True), (5400.0 + DAY_SECS, False)):
            while asyncio.get_running_loop().time() < until:
                nas.read_outcome = nas.probe_outcome = ways() if away else GOOD
                if not away:
                    nas.release()
                await asyncio.sleep(600)
                reads += 1
                await fed.fetch()  # which the disk has, too
    finally:
        watching.cancel()
        await asyncio.wait({watching})
    assert library.scans > DAY_SECS / 3600
    return reads


def test_a_day_with_a_dead_nas_is_a_few_lines_with_its_beginning_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "musicfs")
    turn = cycle(WAYS_TO_BE_AWAY)

    @virtual_time
    async def scenario() -> None:
        nas = FakeOrigin("nas")
        async with federation(nas, FakeOrigin("disk")) as fed:
            assert await a_day(fed, nas, lambda: next(turn)) > 100
            assert len(nas.probed_ms) > DAY_SECS / 60, "it was hardly asked"

    scenario()
    of_it = [record for record in caplog.records if getattr(record, "origin", None) == "nas"]
    told = [record.getMessage() for record in of_it]
    assert len(caplog.records) < MAX_LINES, told
    bad = [record for record in of_it if record.levelno >= logging.WARNING]
    assert "'nas' is unhealthy" in "".join(record.getMessage() for record in bad)
    assert sum("ended early" in text or "could not run" in text for text in told) == 1
    assert "origin 'nas' is healthy" in told[-2:]
    assert "origin nas can be scanned again" in told[-2:]
