"""Quick scans: which folders they leave out, and that nothing is lost by it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from musicfs.catalog import folder_times
from musicfs.catalog.database import prepare_catalog
from musicfs.catalog.folder_times import FolderTimes
from musicfs.catalog.writer import Catalog
from musicfs.errors import ReplicaFailed, ReplicaFault
from musicfs.model import Replica, Stat
from musicfs.origin import Origin, ScanObserver
from tests.support.audio import make_album
from tests.support.earlier_catalogue import turn_back
from tests.support.library import CountingOrigin, ScannedLibrary, scanned_library


class TimedOrigin(CountingOrigin):
    """A folder whose folders' times are told. left_out: at the last listing."""

    def __init__(self, origin: Origin, root: Path) -> None:
        super().__init__(origin)
        self.left_out: set[str] = set()
        self.unreadable = ""
        self._root = root

    async def scan_observed(self, observer: ScanObserver, under: str = "") -> AsyncIterator[Stat]:
        self.left_out = set()
        for place, folders, files in os.walk(self._root / under):
            below = Path(place).relative_to(self._root)
            for name in list(folders):
                path = str(below / name)
                if not observer.enters(path, (self._root / path).stat().st_mtime_ns):
                    self.left_out.add(path)
                    folders.remove(name)
            for name in files:
                about = (Path(place) / name).stat()
                yield Stat(str(below / name), about.st_size, about.st_mtime_ns)

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        if replica.path == self.unreadable:
            raise ReplicaFailed(replica.origin, replica.path, ReplicaFault.DENIED)
        return await super().read(replica, offset, size)


class Quick:
    """An origin "a" with two albums, scanned so often that its folders' times are believed."""

    def __init__(self, library: ScannedLibrary, root: Path) -> None:
        self.library = library
        self.root = root
        library.configure({"a": root})
        self.origin = TimedOrigin(library.origins["a"], root)

    async def scan(self, quick: bool = True) -> tuple[int, int, int, int]:
        """(listed, added, removed, held)"""
        done = await self.library.scanner.scan(self.origin, quick=quick)  # type: ignore[arg-type]
        assert done.error is None
        return done.listed, done.added, done.removed, done.removals_held


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScannedLibrary]:
    monkeypatch.setattr(folder_times, "_SETTLING_SECS", 1e-9)
    with scanned_library(tmp_path / "cache") as library:
        yield library


@pytest.fixture
async def quick(library: ScannedLibrary, tmp_path: Path) -> Quick:
    make_album(tmp_path / "a", "Artist", "First", 4)
    make_album(tmp_path / "a", "Artist", "Second", 4, seed=20)
    quick = Quick(library, tmp_path / "a")
    assert await quick.scan() == (8, 8, 0, 0)
    assert await quick.scan() == (8, 0, 0, 0)
    assert quick.origin.left_out == set()
    return quick


ALBUMS = {"Artist/First", "Artist/Second"}


async def test_what_is_left_out_is_still_there(quick: Quick) -> None:
    before = quick.library.nodes()
    assert await quick.scan() == (8, 0, 0, 0)
    assert quick.origin.left_out == ALBUMS
    assert quick.library.nodes() == before


async def test_a_scan_that_is_not_quick_leaves_out_nothing_and_the_next_quick_one_does(quick: Quick) -> None:
    assert await quick.scan(quick=False) == (8, 0, 0, 0)
    assert quick.origin.left_out == set()
    await quick.scan()
    assert quick.origin.left_out == ALBUMS


async def test_files_that_came_and_went_are_noticed(quick: Quick) -> None:
    one, other = sorted((quick.root / "Artist/First").iterdir())[:2]
    one.unlink()
    other.rename(quick.root / "Artist/Second" / "moved.flac")
    assert await quick.scan() == (7, 1, 2, 0)
    assert quick.origin.left_out == set()


async def test_a_folder_within_a_folder_of_files_is_noticed(quick: Quick) -> None:
    make_album(quick.root / "Artist/First", "Artist", "CD2", 2, seed=40)
    assert await quick.scan() == (10, 2, 0, 0)
    for _ in range(2):
        await quick.scan()
    assert quick.origin.left_out == {"Artist/Second", "Artist/First/Artist/CD2"}


async def test_an_album_that_went_is_removed_and_no_other(quick: Quick) -> None:
    for file in sorted((quick.root / "Artist/First").iterdir())[1:]:
        file.unlink()
    quick.library.catalog.set_accept_removals("a", True)
    assert await quick.scan() == (5, 0, 3, 0)


async def test_files_that_are_kept_though_they_are_gone_stay_flagged(quick: Quick) -> None:
    """Also when the folder that they were in has not changed since."""
    for file in (quick.root / "Artist/First").iterdir():
        file.unlink()
    for _ in range(4):
        assert await quick.scan() == (4, 0, 0, 4)


async def test_a_file_that_could_not_be_looked_at_is_tried_again(quick: Quick) -> None:
    make_album(quick.root, "Artist", "Third", 1, seed=60)
    name = next((quick.root / "Artist/Third").iterdir()).name
    quick.origin.unreadable = f"Artist/Third/{name}"
    for _ in range(4):
        await quick.scan()
    assert quick.origin.left_out == ALBUMS
    quick.origin.unreadable = ""
    assert await quick.scan() == (9, 1, 0, 0)


def test_a_time_is_believed_only_when_it_was_the_same_for_some_seconds(tmp_path: Path) -> None:
    """Two changes within the coarseness of a server's clock look like one."""
    now = 1000.0
    prepare_catalog(tmp_path / "catalog")
    with closing(sqlite3.connect(tmp_path / "catalog", isolation_level=None)) as db:

        def listed(*mtimes: int | None) -> list[bool]:
            times = FolderTimes(db, 1, lambda: now)
            left_out = [times.add(str(n), mtime) for n, mtime in enumerate(mtimes)]
            times.keep(())
            return left_out

        assert listed(5, 5, None) == [False, False, False]
        now += 1
        assert listed(5, 6, None) == [False, False, False]
        now += 2.5
        assert listed(5, 6, None) == [False, False, False]  # the first is settled from now on
        now += 1
        assert listed(5, 6, None) == [True, False, False]
        assert listed(5, 6, None) == [True, True, False]
        assert listed(4, 6) == [False, True]


def test_a_catalogue_of_the_second_version_is_kept_with_its_inode_numbers(tmp_path: Path) -> None:
    path = tmp_path / "catalog"
    prepare_catalog(path)
    turn_back(path, 2)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("INSERT INTO nodes (ino, parent, name, shown, size, mtime_ns) VALUES (77, 1, 'x', 1, 0, 0)")
    assert prepare_catalog(path) is None
    with closing(Catalog.open(path)) as catalog:
        assert catalog.names.directory(1, "x") == 77
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        FolderTimes(db, 1).keep(())
