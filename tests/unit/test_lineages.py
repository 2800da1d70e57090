"""What is known of a track stays when its file moves, is retagged, is copied, or comes back."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from musicfs.catalog import content_table, lineages
from musicfs.catalog.rows import ScannedFile
from musicfs.testing.scanned_library import ScannedLibrary
from tests.support.audio import make_audio
from tests.support.earlier_catalogue import turn_back
from tests.support.library import scanned_library

OLD = 1_000_000.0
TAGS = {"title": "Song", "artist": "Artist", "album": "Album"}


class Clock:
    """Stands in for the module `time` where contents are stored."""

    def __init__(self) -> None:
        self.now = OLD

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(content_table, "time", made)
    return made


@pytest.fixture
def library(tmp_path: Path, clock: Clock) -> Iterator[ScannedLibrary]:
    with scanned_library(tmp_path / "cache") as made:
        yield made


def seen(library: ScannedLibrary) -> dict[str, float | None]:
    """The path of every file of the tree, and when its music was first seen."""
    view = library.view_now()
    inodes = {path: view.inode(ino) for path, ino in library.nodes().items()}
    return {path: view.first_seen(inode.content) for path, inode in inodes.items() if inode and inode.content}


async def scanned_at(library: ScannedLibrary, clock: Clock, now: float, *ids: str) -> dict[str, float | None]:
    clock.now = now
    await library.scan(*ids)
    return seen(library)


async def test_music_is_first_seen_by_the_scan_that_finds_it(
    library: ScannedLibrary, clock: Clock, tmp_path: Path
) -> None:
    make_audio(tmp_path / "a" / "1.flac", tags=TAGS)
    (tmp_path / "a" / "cover.jpg").write_bytes(b"no music")
    library.configure({"a": tmp_path / "a"})
    times = await scanned_at(library, clock, OLD)
    assert sorted(times.values(), key=str) == [OLD, None]
    make_audio(tmp_path / "a" / "2.flac", seed=2, tags=TAGS | {"title": "Second"})
    times = await scanned_at(library, clock, OLD + 5)
    assert sorted(filter(None, times.values())) == [OLD, OLD + 5]


async def test_it_stays_when_the_file_moves_is_retagged_or_is_copied(
    library: ScannedLibrary, clock: Clock, tmp_path: Path
) -> None:
    song = make_audio(tmp_path / "a" / "1.flac", tags=TAGS)
    (tmp_path / "b").mkdir()
    library.configure({"a": tmp_path / "a", "b": tmp_path / "b"})
    await scanned_at(library, clock, OLD)
    moved = song.rename(tmp_path / "a" / "other.flac")
    assert set((await scanned_at(library, clock, OLD + 1)).values()) == {OLD}
    shutil.copy(moved, tmp_path / "b" / "copy.flac")
    assert set((await scanned_at(library, clock, OLD + 2)).values()) == {OLD}
    make_audio(moved, tags=TAGS | {"title": "With another title"})
    times = await scanned_at(library, clock, OLD + 3)
    assert len(times) == 2
    assert set(times.values()) == {OLD}


async def test_it_stays_when_the_file_comes_back(library: ScannedLibrary, clock: Clock, tmp_path: Path) -> None:
    song = make_audio(tmp_path / "a" / "1.flac", tags=TAGS)
    make_audio(tmp_path / "a" / "2.flac", seed=2, tags=TAGS | {"title": "Second"})
    library.configure({"a": tmp_path / "a"})
    await scanned_at(library, clock, OLD)
    song.rename(tmp_path / "away")
    assert len(await scanned_at(library, clock, OLD + 1)) == 1
    (tmp_path / "away").rename(tmp_path / "a" / "back.flac")
    assert set((await scanned_at(library, clock, OLD + 2)).values()) == {OLD}
    assert library.catalog._db.execute("SELECT count(*) FROM departed").fetchone() == (0,)


async def test_only_so_many_departed_files_are_remembered(
    library: ScannedLibrary, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineages, "MAX_DEPARTED", 2)
    songs = [make_audio(tmp_path / "a" / f"{n}.flac", seed=n, tags=TAGS | {"title": f"Song {n}"}) for n in range(1, 7)]
    library.configure({"a": tmp_path / "a"})
    await scanned_at(library, clock, OLD)
    for song in songs[:3]:
        song.unlink()
        await library.scan()
    count = "SELECT (SELECT count(*) FROM departed), (SELECT count(*) FROM lineages)"
    assert library.catalog._db.execute(count).fetchone() == (2, 5)


async def test_in_an_earlier_catalogue_it_is_the_oldest_time_of_the_files(tmp_path: Path) -> None:
    for origin, mtime in (("a", 2000), ("b", 1000)):
        song = make_audio(tmp_path / origin / "1.flac", tags=TAGS)
        os.utime(song, (mtime, mtime))
    with scanned_library(tmp_path / "cache") as library:
        library.configure({"a": tmp_path / "a", "b": tmp_path / "b"})
        await library.scan()
    turn_back(tmp_path / "cache" / "catalog.sqlite", 5)
    with scanned_library(tmp_path / "cache") as library:
        assert list(seen(library).values()) == [1000]


# What an earlier parser read


def age(path: Path, version: int = 1) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE contents SET parser = ?, tags = json_set(tags, '$.title', 'Wrong')", (version,))


async def test_tags_of_an_earlier_parser_are_read_again_after_a_scan(tmp_path: Path) -> None:
    for origin in "ab":
        make_audio(tmp_path / origin / "1.flac", tags=TAGS)
    with scanned_library(tmp_path / "cache") as library:
        library.configure({"a": tmp_path / "a", "b": tmp_path / "b"})
        await library.scan()
        nodes = library.nodes()
        age(tmp_path / "cache" / "catalog.sqlite")
        assert [len(library.catalog.stale_contents(origin, 10)) for origin in "ab"] == [1, 1]
        await library.scan()
        assert len(library.catalog.stale_contents("a", 10)) == 1  # a metered origin is not asked
        done = await library.scanner.scan(library.origins["b"], reparse=True)
        assert (done.read, done.changed) == (0, 0)
        assert library.catalog.stale_contents("a", 10) == []
        assert library.nodes() == nodes
        (tags,) = library.catalog._db.execute("SELECT title FROM contents").fetchone()
        assert tags == "Song"


async def test_a_parser_that_fails_takes_no_tags_away_and_is_not_asked_again(tmp_path: Path) -> None:
    song = make_audio(tmp_path / "a" / "1.flac", tags=TAGS)
    with scanned_library(tmp_path / "cache") as library:
        library.configure({"a": tmp_path / "a"})
        await library.scan()
        age(tmp_path / "cache" / "catalog.sqlite")
        (stale,) = library.catalog.stale_contents("a", 10)
        fingerprint = library.catalog._db.execute("SELECT fingerprint FROM contents").fetchone()[0]
        failed = ScannedFile(stale.stat, "", "audio", fingerprint, None, "the parser failed")
        with library.catalog.transaction():
            library.builder.update(*library.catalog.store("a", [failed]))
        assert library.catalog.stale_contents("a", 10) == []
        assert library.catalog._db.execute("SELECT title, problem FROM contents").fetchone() == ("Wrong", None)
        assert song.exists()
