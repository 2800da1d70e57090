"""A folder, link or file that can't be read costs a scan itself and nothing else."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from musicfs.catalog.problem_list import find_problems
from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.events import ScanFinished
from musicfs.model import HealthStatus, OriginId, OriginType, Replica
from musicfs.origins import listing
from musicfs.origins.links import Below
from musicfs.origins.listing import Lister
from musicfs.origins.local import driver, walk
from musicfs.origins.local.driver import LocalOrigin
from musicfs.problems import Reason
from musicfs.testing.observed_contract import RecordingObserver
from tests.contract.test_local import bound_by_modes
from tests.support.audio import make_album
from tests.support.library import CountingOrigin, ScannedLibrary, scanned_library


@pytest.fixture
def library(tmp_path: Path) -> Iterator[ScannedLibrary]:
    with scanned_library(tmp_path / "cache", template="$path") as library:
        yield library


@pytest.fixture
def music(tmp_path: Path, library: ScannedLibrary) -> Path:
    """Three albums of two songs; the one in the middle is what a test breaks."""
    root = tmp_path / "music"
    for number, name in enumerate(("A", "M/M", "Z")):
        make_album(root / name, "Artist", name, 2, seed=10 * number, seconds=0.1)
    library.configure({"a": root})
    return root


def found(library: ScannedLibrary) -> set[str]:
    """The top folders that are shown."""
    return {path.partition("/")[0] for path in library.paths()}


def outcome(done: ScanFinished) -> tuple[str | None, int, int, int]:
    return done.error, done.removed, done.folders_unlisted, done.problems


@contextmanager
def closed(library: ScannedLibrary, music: Path, folder: Path) -> Iterator[None]:
    """No one may enter the folder, as an origin finds that is opened meanwhile."""
    folder.chmod(0)
    try:
        with bound_by_modes():
            library.configure({"a": music})
            yield
    finally:
        folder.chmod(0o755)
    library.configure({"a": music})


@pytest.mark.parametrize("name", ["M", "M/M"])
async def test_a_closed_folder_costs_itself(library: ScannedLibrary, music: Path, name: str) -> None:
    with closed(library, music, music / name):
        (done,) = await library.scan()
    assert outcome(done) == (None, 0, 1, 1)
    assert found(library) == {"A", "Z"}
    (done,) = await library.scan()
    assert outcome(done) == (None, 0, 0, 0)
    assert found(library) == {"A", "M", "Z"}


@pytest.mark.parametrize("under", ["", "M"])
async def test_nothing_below_a_closed_folder_is_removed_and_removals_elsewhere_go_on(
    library: ScannedLibrary, music: Path, under: str
) -> None:
    await library.scan()
    shutil.rmtree(music / "Z")
    with closed(library, music, music / "M" / "M"):
        (done,) = await library.scan(under=[under, "Z"] if under else [""])
    assert outcome(done) == (None, 2, 1, 1)
    assert found(library) == {"A", "M"}


async def test_what_is_left_out_is_recorded_until_it_is_mended(library: ScannedLibrary, music: Path) -> None:
    catalog = music.parent / "cache" / "catalog.sqlite"
    (music / "A" / "noise.flac").write_bytes(b"no music")
    (music / "A" / "gone.flac").symlink_to("nowhere")
    for under in ("", "M"):
        with closed(library, music, music / "M" / "M"):
            await library.scan(under=[under])
        rows = find_problems(catalog, OriginId("a"))
        assert [(row.path, row.reason) for row in rows] == [
            ("A/gone.flac", Reason.LINK_BROKEN),
            ("A/noise.flac", Reason.DAMAGED),
            ("M/M", Reason.CLOSED_FOLDER),
        ]
    assert rows[2].detail == "Permission denied"
    (music / "A" / "gone.flac").unlink()
    await library.scan()
    assert [row.path for row in find_problems(catalog, OriginId("a"))] == ["A/noise.flac"]
    (music / "A" / "noise.flac").unlink()
    await library.scan(under=["A/noise.flac"])
    assert find_problems(catalog, OriginId("a")) == []


async def test_a_scan_of_one_path_that_may_not_be_entered_keeps_what_is_known(
    library: ScannedLibrary, music: Path
) -> None:
    await library.scan()
    with closed(library, music, music / "M"):
        (done,) = await library.scan(under=["M/M", "A"])
    assert outcome(done) == (None, 0, 0, 1)
    assert found(library) == {"A", "M", "Z"}


async def test_a_path_that_is_too_long_for_the_system_costs_itself(library: ScannedLibrary, music: Path) -> None:
    """Made step by step, as any program can."""
    here = os.open(music / "M", os.O_RDONLY)
    for _ in range(22):
        os.mkdir("x" * 220, dir_fd=here)
        below = os.open("x" * 220, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    (done,) = await library.scan()
    assert outcome(done) == (None, 0, 1, 1)
    assert found(library) == {"A", "M", "Z"}


async def test_a_folder_of_too_many_names_is_listed_in_part(
    library: ScannedLibrary, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_NAMES", 1)
    monkeypatch.setattr(listing, "_AT_ONCE", 1)
    (done,) = await library.scan()
    assert done.folders_unlisted > 0
    assert done.error is None
    assert found(library) >= {"A"}


async def test_an_entry_that_can_not_be_looked_at_costs_itself(
    library: ScannedLibrary, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad sector under one entry, for example."""
    await library.scan()
    place, bad = Lister._place, str(min((music / "M/M").iterdir()).relative_to(music))

    def fail(self: Lister, entry: os.DirEntry[str], path: str, *rest: object) -> None:
        if path == bad:
            raise OSError(errno.EIO, "Input/output error", path)
        place(self, entry, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Lister, "_place", fail)
    make_album(music / "New", "Artist", "New", 1, seed=77, seconds=0.1)
    (done,) = await library.scan()
    assert outcome(done) == (None, 0, 0, 1)
    assert len(library.paths()) == 7


async def test_links_that_lead_nowhere_are_counted(library: ScannedLibrary, music: Path, tmp_path: Path) -> None:
    (music / "A" / "gone.flac").symlink_to("nowhere.flac")
    (music / "A" / "round.flac").symlink_to("round.flac")
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "x.flac").write_bytes(b"")
    (music / "A" / "barred.flac").symlink_to(tmp_path / "closed" / "x.flac")
    with closed(library, music, tmp_path / "closed"):
        (done,) = await library.scan()
    assert outcome(done) == (None, 0, 0, 3)
    assert len(library.paths()) == 6


class Hanging:
    """A system call that does not return at one path, until it is freed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.freed = threading.Event()
        self.times = 0
        self._path = str(path)
        monkeypatch.setattr(walk, "STUCK_SECS", 0.3)
        list_entries = Lister._entries

        @contextmanager
        def entries(lister: Lister, under: str) -> Iterator[Iterator[os.DirEntry[str]]]:
            self.wait(f"{lister._root}/{under}")
            with list_entries(lister, under) as some:
                yield some

        real = os.path.realpath

        def realpath(path: str) -> str:
            self.wait(path)
            return real(path)

        monkeypatch.setattr(Lister, "_entries", entries)
        monkeypatch.setattr(os.path, "realpath", realpath)

    def wait(self, path: str) -> None:
        if path.rstrip("/") == self._path and not self.freed.is_set():
            self.times += 1
            self.freed.wait()


@pytest.mark.parametrize("place", ["M/M", "A/link"])
async def test_a_place_that_hangs_costs_one_timeout(
    library: ScannedLibrary, music: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A folder such as a dead mount, and a link to one."""
    (music / "A" / "link").symlink_to("/nowhere")
    hanging = Hanging(monkeypatch, music / place)
    try:
        async with asyncio.timeout(30):
            (done,) = await library.scan()
            assert (done.error, done.folders_unlisted) == (None, 1)
            assert found(library) >= {"A", "Z"}
            assert len(library.paths()) == (4 if place == "M/M" else 6)
            shutil.rmtree(music / "Z")
            (done,) = await library.scan()  # while the thread still hangs there
        assert (done.error, done.folders_unlisted, done.removed, hanging.times) == (None, 1, 2, 1)
    finally:
        hanging.freed.set()
    async with asyncio.timeout(30):
        while (await library.scan())[0].folders_unlisted:
            await asyncio.sleep(0.05)
    assert len(library.paths()) == 4


async def test_a_scan_of_a_path_that_hangs_costs_one_timeout_and_one_thread(
    library: ScannedLibrary, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to a mount that died since, which is polled."""
    await library.scan()
    freed, times, look = threading.Event(), [], Below.stat

    def stat(below: Below, path: str) -> os.stat_result:
        if path == "M":
            times.append(path)
            freed.wait()
        return look(below, path)

    monkeypatch.setattr(walk, "STUCK_SECS", 0.3)
    monkeypatch.setattr(Below, "stat", stat)
    try:
        async with asyncio.timeout(30):
            for _ in range(3):
                (done,) = await library.scan(under=["M"])
                assert outcome(done) == (None, 0, 1, 1)
        assert times == ["M"]
        assert found(library) == {"A", "M", "Z"}
    finally:
        freed.set()


async def test_a_root_that_hangs_fails_the_scan(
    library: ScannedLibrary, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed = threading.Event()
    monkeypatch.setattr(walk, "STUCK_SECS", 0.3)
    monkeypatch.setattr(driver.LocalOrigin, "_check_root", lambda self: freed.wait())
    try:
        async with asyncio.timeout(30):
            (done,) = await library.scan()
    finally:
        freed.set()
    assert done.error == "origin 'a' timed out: no answer within 0 s"
    assert done.removed == 0


class BadSectors:
    """Reads of these files fail as a disk with bad sectors does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: set[str] = set()
        read = LocalOrigin._read

        def fail(origin: LocalOrigin, replica: Replica, offset: int, size: int) -> bytes:
            if replica.path in self.files:
                raise OSError(errno.EIO, "Input/output error", replica.path)
            return read(origin, replica, offset, size)

        async def nowhere(origin: LocalOrigin) -> None:
            """The origin reads, and not the parser."""

        monkeypatch.setattr(LocalOrigin, "_read", fail)
        monkeypatch.setattr(LocalOrigin, "folder_on_disk", nowhere)


@pytest.fixture
def bad_sectors(monkeypatch: pytest.MonkeyPatch) -> BadSectors:
    return BadSectors(monkeypatch)


def songs(music: Path, folder: str) -> list[str]:
    return sorted(str(file.relative_to(music)) for file in (music / folder).rglob("*.flac"))


async def test_a_file_on_a_bad_sector_costs_itself_however_often_it_is_scanned(
    library: ScannedLibrary, music: Path, bad_sectors: BadSectors
) -> None:
    bad = songs(music, "M/M")[0]
    bad_sectors.files.add(bad)
    for read in (5, 0):
        (done,) = await library.scan()
        assert (*outcome(done), done.read, done.unreadable) == (None, 0, 0, 1, read, 1)
        assert set(library.paths()) == {*songs(music, "A"), *songs(music, "M/M"), *songs(music, "Z")} - {bad}
    assert await library.origins["a"].health() is HealthStatus.HEALTHY
    bad_sectors.files.clear()
    assert (await library.scan())[0].problems == 0
    assert len(library.paths()) == 6


async def test_a_whole_album_on_bad_sectors_costs_itself(
    library: ScannedLibrary, music: Path, bad_sectors: BadSectors
) -> None:
    make_album(music / "M/M", "Artist", "M", 12, seed=50, seconds=0.1)
    bad_sectors.files.update(songs(music, "M/M"))
    (done,) = await library.scan()
    assert (done.error, done.read, done.unreadable, done.problems) == (None, 4, 14, 14)
    assert found(library) == {"A", "Z"}


async def test_one_bad_file_is_not_the_disk_and_several_in_a_row_are(music: Path, bad_sectors: BadSectors) -> None:
    """Else the first bad sector would make the whole origin unhealthy, and a dead disk would never be."""
    origin = LocalOrigin(OriginConfig(id=OriginId("a"), origin_type=OriginType.LOCAL, settings={"path": music}))
    files = [Replica.of(origin.id, await origin.stat(path)) for path in (*songs(music, "A"), *songs(music, "Z"))]
    bad_sectors.files.update(file.path for file in files[:3])
    with pytest.raises(ReplicaFailed) as failed:
        await origin.read(files[0], 0, 4)
    assert failed.value.fault is ReplicaFault.IO
    assert await origin.read(files[3], 0, 4) == b"fLaC"
    for file in files[:2]:
        with pytest.raises(ReplicaFailed):
            await origin.read(file, 0, 4)
    with pytest.raises(OriginFailed) as whole:
        await origin.read(files[2], 0, 4)
    assert whole.value.fault is OriginFault.IO
    await origin.aclose()


async def test_a_file_that_may_not_be_read_is_counted_and_no_other_is_lost(
    library: ScannedLibrary, music: Path
) -> None:
    (music / songs(music, "A")[0]).chmod(0)
    with bound_by_modes():
        library.configure({"a": music})
        (done,) = await library.scan()
    assert (*outcome(done), done.unreadable) == (None, 0, 0, 1, 1)
    assert len(library.paths()) == 5


class Unanswered(CountingOrigin):
    """An origin whose reads of some files time out."""

    unanswered: frozenset[str] = frozenset()
    is_away = False

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        if replica.path in self.unanswered:
            raise OriginFailed(replica.origin, OriginFault.TIMEOUT, "no answer")
        return await super().read(replica, offset, size)

    async def health(self) -> HealthStatus:
        if self.is_away:
            raise OriginFailed(OriginId("a"), OriginFault.UNREACHABLE)
        return await self._origin.health()


@pytest.mark.parametrize("is_away", [False, True])
async def test_a_read_without_answer_is_the_files_fault_while_the_origin_answers(
    library: ScannedLibrary, music: Path, is_away: bool
) -> None:
    origin = Unanswered(library.origins["a"])
    library.origins["a"] = origin  # type: ignore[assignment]
    origin.unanswered, origin.is_away = frozenset(songs(music, "M/M")), is_away
    (done,) = await library.scan()
    if is_away:
        assert done.error == "origin 'a' unreachable"
    else:
        assert (*outcome(done), done.read) == (None, 0, 0, 2, 4)
        assert found(library) == {"A", "Z"}


async def test_an_origin_of_which_nothing_can_be_read_ends_the_scan(library: ScannedLibrary, music: Path) -> None:
    make_album(music / "M/M", "Artist", "M", 70, seed=100, seconds=0.05)
    origin = Unanswered(library.origins["a"])
    library.origins["a"] = origin  # type: ignore[assignment]
    origin.unanswered = frozenset(songs(music, "A") + songs(music, "M/M") + songs(music, "Z"))
    (done,) = await library.scan()
    assert done.error == "origin 'a' timed out: no answer"


@pytest.mark.parametrize("target", ["", "Artist", "Artist/song.flac"])
async def test_nothing_of_the_mount_itself_is_listed_whichever_link_leads_there(
    music: Path, target: str, tmp_path: Path
) -> None:
    """`outside` stands for the mount: another filesystem, all of whose folders have the marker."""
    with TemporaryDirectory(dir="/dev/shm") as outside:
        folder = Path(outside) / "Artist"
        folder.mkdir()
        for place in (folder, folder.parent):
            (place / ".musicfs-1234").write_bytes(b"")
        (folder / "song.flac").write_bytes(b"x")
        (music / "A" / "loop.flac").symlink_to(Path(outside) / target)
        origin = LocalOrigin(OriginConfig(id=OriginId("a"), origin_type=OriginType.LOCAL, settings={"path": music}))
        for marker, under in ((".musicfs-1234", ""), (".musicfs-1234", "A/loop.flac"), ("", "")):
            reported = bool(marker)
            observer = RecordingObserver()
            observer.marker = marker
            listed = {stat.path async for stat in origin.scan_observed(observer, under)}
            assert any(path.startswith("A/loop.flac") for path in listed) is not reported
            assert [(each.path, each.reason) for each in observer.problems] == (
                [("A/loop.flac", Reason.OWN_MOUNT)] if reported else []
            )
        await origin.aclose()
