"""Names and inodes: a file is one file under all of its names, and keeps its number while they change."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from musicfs.catalog.database import ROOT_INO
from musicfs.library.tree import TreeBuilder
from musicfs.tags.templates import Template
from tests.support.audio import make_audio
from tests.support.commands import make_album
from tests.support.earlier_catalogue import turn_back
from tests.support.library import ScannedLibrary, scanned_library


@pytest.fixture
def library(tmp_path: Path) -> Iterator[ScannedLibrary]:
    with scanned_library(tmp_path / "cache") as made:
        yield made


async def with_covers(library: ScannedLibrary, music: Path) -> dict[str, int]:
    """Scans two albums with one cover, which the first has under two names. Returns the paths and inode numbers."""
    for album in ("One", "Two"):
        make_album(music / album, tracks=1, album=album, seed=len(album) + ord(album[0]))
        (music / album / "folder.jpg").write_bytes(b"the same picture")
    (music / "One" / "cover.jpg").write_bytes(b"the same picture")
    library.configure({"a": music})
    await library.scan()
    return library.nodes()


async def test_all_names_of_a_content_are_one_inode_and_a_folder_lists_each(
    library: ScannedLibrary, tmp_path: Path
) -> None:
    nodes = await with_covers(library, tmp_path / "a")
    covers = {path: ino for path, ino in nodes.items() if path.endswith(".jpg")}
    assert len(covers) == 3
    assert len(set(covers.values())) == 1
    view, ino = library.view_now(), next(iter(covers.values()))
    album = view.find(next(path for path in covers if path.endswith("cover.jpg")).rpartition("/")[0])
    assert album is not None
    listed = [view.children(album, 0, 1), view.children(album, 1, 1), view.children(album, 2, 10)]
    assert [sorted(row[5] for row in rows) for rows in listed] == [[1], [2], [3]]
    assert {row[1] for rows in listed for row in rows} == {"01 - Song 1.flac", "cover.jpg", "folder.jpg"}
    assert {view.lookup(*place)[0] for place in view.places(ino)} == {ino}  # type: ignore[index]
    assert len(view.places(ino)) == 3
    assert view.path(ino) == min((path.rpartition("/")[2], path) for path in covers)[1]
    cover = library.catalog._db.execute("SELECT size FROM inodes WHERE ino = ?", (ino,)).fetchone()
    totals = view.totals()
    assert (totals.files, totals.bytes) == (5, sum(file.stat().st_size for file in (tmp_path / "a").rglob("*.*")))
    assert cover == (16,)


async def test_another_template_keeps_every_number(library: ScannedLibrary, tmp_path: Path) -> None:
    nodes = await with_covers(library, tmp_path / "a")
    builder = TreeBuilder(library.catalog, Template.parse("$album/$title"))
    with library.catalog.transaction():
        changes = builder.update(library.catalog.all_folders())
    after = library.nodes()
    assert after.keys().isdisjoint(path for path in nodes if path.endswith(".flac"))
    assert sorted(after.values()) == sorted(nodes.values())
    assert {name for _, name in changes.entries} >= {path.rpartition("/")[2] for path in (*after, *nodes)}


async def test_an_origin_that_leaves_and_returns_brings_its_numbers_back(
    library: ScannedLibrary, tmp_path: Path
) -> None:
    nodes = await with_covers(library, tmp_path / "a")
    library.configure({})
    ino = next(iter(nodes.values()))
    assert library.nodes() == {}
    assert library.view_now().open_file(ino) is None  # what has no name is not opened
    library.configure({"a": tmp_path / "a"})
    assert library.nodes() == nodes


async def test_a_file_that_is_gone_leaves_no_inode_and_its_number_to_none(
    library: ScannedLibrary, tmp_path: Path
) -> None:
    nodes = await with_covers(library, tmp_path / "a")
    shutil.move(tmp_path / "a" / "Two", tmp_path / "Two")
    await library.scan()
    numbers = {row[0] for row in library.catalog._db.execute("SELECT ino FROM inodes WHERE content IS NOT NULL")}
    assert numbers == set(library.nodes().values())
    assert len(numbers) == 2
    shutil.move(tmp_path / "Two", tmp_path / "a" / "Two")
    await library.scan()
    new = set(library.nodes().values()) - numbers
    assert len(new) == 1
    assert min(new) > max(nodes.values())


async def test_another_time_reaches_all_names_through_their_inode(library: ScannedLibrary, tmp_path: Path) -> None:
    await with_covers(library, tmp_path / "a")
    library.changes.clear()
    (tmp_path / "a" / "Two" / "folder.jpg").touch()
    make_audio(tmp_path / "a" / "Two" / "2.flac", seed=99, tags={"title": "New", "album": "Two", "artist": "Artist"})
    (tmp_path / "a" / "One" / "cover.jpg").unlink()
    (tmp_path / "a" / "One" / "folder.jpg").unlink()
    await library.scan()
    nodes = library.nodes()
    (cover,) = {ino for path, ino in nodes.items() if path.endswith(".jpg")}
    inode = library.view_now().inode(cover)
    assert inode is not None
    assert inode.mtime_ns == (tmp_path / "a" / "Two" / "folder.jpg").stat().st_mtime_ns
    assert cover in {ino for changes in library.changes for _, ino in changes.attributes}


@pytest.mark.parametrize("version", range(1, 6))
async def test_an_earlier_catalogue_keeps_names_numbers_and_tags_without_a_scan(tmp_path: Path, version: int) -> None:
    path = tmp_path / "cache" / "catalog.sqlite"
    tags = "SELECT c.id, c.fingerprint, c.tags, c.problem FROM contents c"
    with scanned_library(tmp_path / "cache") as library:
        await with_covers(library, tmp_path / "a")
        known = library.catalog._db.execute(tags).fetchall()
    turn_back(path, version)
    with closing(sqlite3.connect(path)) as db:
        before = dict(db.execute("SELECT ino, name FROM nodes WHERE content IS NOT NULL"))
        highest = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'nodes'").fetchone()
    with scanned_library(tmp_path / "cache") as library:
        assert {ino: path.rpartition("/")[2] for path, ino in library.nodes().items()} == before
        assert len(before) == 5  # one for each name, as there were
        assert library.catalog._db.execute(tags).fetchall() == known
        sequence = library.catalog._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'inodes'").fetchone()
        assert sequence == highest
        library.configure({"a": tmp_path / "a"})
        (done,) = await library.scan()
        assert (done.read, done.removed) == (0, 0)
        assert {ino: path.rpartition("/")[2] for path, ino in library.nodes().items()} == before
        assert library.view_now().parent(ROOT_INO) == ROOT_INO


# Dies after so many of SQLite's steps of the migration.
_DIES = """
import os, sys
from pathlib import Path
from musicfs.system import sqlite
configure = sqlite.Database._configure
def limited(self, connection):
    configure(self, connection)
    left = [int(sys.argv[2])]
    def count():
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
    connection.set_progress_handler(count, 1)
sqlite.Database._configure = limited
from musicfs.catalog.database import prepare_catalog
prepare_catalog(Path(sys.argv[1]))
"""


async def test_a_crash_in_the_middle_of_the_migration_leaves_the_earlier_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "catalog.sqlite"
    with scanned_library(tmp_path / "cache") as library:
        await with_covers(library, tmp_path / "a")
    turn_back(path, 5)
    steps, died, ended = 50, 0, False
    while not ended:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", _DIES, str(path), str(steps))
        ended = await process.wait() == 0
        steps *= 3
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            if not ended:
                died += 1
                assert db.execute("PRAGMA user_version").fetchone() == (5,)
                assert db.execute("SELECT count(*) FROM nodes WHERE content IS NOT NULL").fetchone() == (5,)
    assert died > 2
    with scanned_library(tmp_path / "cache") as library:
        assert len(library.nodes()) == 5
