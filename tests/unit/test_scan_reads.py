"""Reads of a scan at a server that does one thing after the other: a file that hangs costs itself alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

from musicfs.catalog.problem_list import find_problems
from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.library.scan_reads import ScanReads
from musicfs.model import HealthStatus, OriginId, Replica
from musicfs.origin import Origin
from musicfs.problems import Problem, Reason
from tests.support.audio import make_album
from tests.support.fakes import FakeOrigin
from tests.support.library import CountingOrigin, scanned_library

TIMEOUT_SECS = 0.2


class Serial(FakeOrigin):
    """Reads one file at a time; "bad" is never read. down: nor does it answer its checks."""

    down = False

    def __init__(self) -> None:
        super().__init__("nas", data=b"music")
        self._turn = asyncio.Lock()
        self.asked = 0

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        self.asked += 1
        try:
            async with asyncio.timeout(TIMEOUT_SECS), self._turn:
                if replica.path == "bad" or self.down:
                    await asyncio.Event().wait()
                return await super().read(replica, offset, size)
        except TimeoutError:
            raise OriginFailed(self.id, OriginFault.TIMEOUT) from None

    async def health(self) -> HealthStatus:
        if self.down:
            raise OriginFailed(self.id, OriginFault.TIMEOUT)
        return HealthStatus.HEALTHY


class Vanishing(CountingOrigin):
    """One of its files is listed, and never there."""

    def __init__(self, origin: Origin, gone: str) -> None:
        super().__init__(origin)
        self._gone = gone

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        if replica.path == self._gone:
            raise ReplicaFailed(replica.origin, self._gone, ReplicaFault.MISSING)
        return await super().read(replica, offset, size)


async def read_all(reads: ScanReads, origin: Serial) -> dict[str, bytes | BaseException]:
    files = [Replica.of(origin.id, await origin.stat(name)) for name in ("bad", "a", "b", "c", "d")]
    answers = await asyncio.gather(*(reads.read(file, 0, file.size) for file in files), return_exceptions=True)
    return dict(zip([file.path for file in files], answers, strict=True))


async def test_a_file_that_hangs_costs_itself_alone() -> None:
    origin = Serial()
    reads = ScanReads(origin)
    answers = await read_all(reads, origin)
    assert isinstance(answers.pop("bad"), ReplicaFailed)
    assert answers == dict.fromkeys("abcd", b"music")
    assert reads.take_problem("bad") == Problem("bad", Reason.READ_ERROR, "")


async def test_nothing_is_read_again_from_an_origin_that_is_away() -> None:
    origin = Serial()
    origin.down = True
    answers = await read_all(ScanReads(origin), origin)
    assert all(isinstance(answer, OriginFailed) for answer in answers.values())
    assert origin.asked == 5


async def test_a_file_that_is_listed_and_never_there_is_a_problem_from_the_second_scan_on(
    tmp_path: Path,
) -> None:
    make_album(tmp_path / "music", "Ada", "Hits", 2, seed=1, seconds=0.1)
    (gone, *_) = sorted(str(file.relative_to(tmp_path / "music")) for file in (tmp_path / "music").rglob("*.*"))
    with scanned_library(tmp_path / "cache") as library:
        library.configure({"a": tmp_path / "music"})
        library.origins["a"] = Vanishing(library.origins["a"], gone)  # type: ignore[assignment]
        (scan,) = await library.scan()
        assert (scan.error, scan.problems) == (None, 0)
        (scan,) = await library.scan()
        assert (scan.error, scan.problems, scan.unreadable) == (None, 1, 1)
    (row,) = find_problems(tmp_path / "cache" / "catalog.sqlite", OriginId("a"))
    assert (row.path, row.reason) == (gone, Reason.READ_ERROR)
