"""Files are read from the catalogue with their neighbours, and are never other than it has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from musicfs.catalog import folder_files
from musicfs.catalog.folder_files import TreeFile
from musicfs.model import Content
from tests.support.commands import make_album
from tests.support.library import ScannedLibrary, scanned_library


@pytest.fixture
def library(tmp_path: Path) -> Iterator[ScannedLibrary]:
    with scanned_library(tmp_path / "cache") as made:
        yield made


async def with_pictures(library: ScannedLibrary, music: Path, count: int) -> list[int]:
    """Scans an album of a track and so many pictures. Returns their inode numbers in the order of the listing."""
    make_album(music / "One", tracks=1, album="One")
    for number in range(count):
        (music / "One" / f"page-{number:04}.jpg").write_bytes(b"%d" % number)
    library.configure({"a": music})
    await library.scan()
    view = library.view_now()
    folder = view.find(library.paths()[0].rpartition("/")[0])
    assert folder is not None
    rows = view.children(folder, 0, 10_000)
    assert len(rows) == count + 1
    return [row[0] for row in rows]


class Queries:
    """Counts the statements that the view of a library runs from now on."""

    def __init__(self, library: ScannedLibrary) -> None:
        self.count = 0
        library.view._db.set_trace_callback(self._add)

    def _add(self, statement: str) -> None:
        self.count += 1


async def test_the_neighbours_of_a_file_come_with_it_and_their_contents_are_named_once(
    library: ScannedLibrary, tmp_path: Path
) -> None:
    inos = await with_pictures(library, tmp_path / "a", 20)
    named: list[Content] = []
    library.view.files.on_read = named.extend
    queries = Queries(library)
    opened = [library.view.open_file(ino) for ino in inos]
    assert queries.count == 2
    assert named == [
        file.content for file in sorted((each for each in opened if each), key=lambda file: file.content.id)
    ]
    for ino, file in zip(inos, opened, strict=True):
        assert file is not None
        assert file.replicas == library.view.replicas(file.content.id)
        assert (file.content.size, file.mtime_ns) == library.view.inode(ino)[2:]  # type: ignore[index]


async def test_a_program_that_goes_on_through_a_large_folder_costs_few_queries_and_one_that_jumps_reads_no_others(
    library: ScannedLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_files, "_FIRST", 4)
    monkeypatch.setattr(folder_files, "_MOST", 16)
    inos = await with_pictures(library, tmp_path / "a", 99)
    read: list[int] = []
    library.view.files.on_read = lambda contents: read.append(len(contents))
    assert all(library.view.open_file(ino) for ino in inos)
    assert read == [4, 8, 16, 16, 16, 16, 16, 8]
    library.view.files.forget()
    read.clear()
    assert all(library.view.open_file(inos[at]) for at in (90, 10, 50, 20, 70))
    assert read == [1, 1, 1, 1, 1]


async def test_a_program_that_wants_one_file_of_each_folder_soon_reads_no_others(
    library: ScannedLibrary, tmp_path: Path
) -> None:
    """Such as a media server that looks at a cover of each album: else the neighbours drive out what it wants again."""
    for number in range(12):
        make_album(tmp_path / "a" / f"{number:02}", tracks=5, album=f"Album {number:02}", seed=10 * number)
    library.configure({"a": tmp_path / "a"})
    await library.scan()
    named: list[Content] = []
    library.view_now().files.on_read = named.extend
    nodes = sorted(library.nodes().items())
    albums = [[ino for _, ino in nodes[at : at + 5]] for at in range(0, 60, 5)]
    for album in albums:
        library.view.open_file(album[0])
    assert len(named) == 4 * 5 + 8
    named.clear()
    library.view.open_file(albums[11][1])
    assert len(named) == 4, "who goes on in a folder gets the rest of it"


async def test_after_a_change_no_file_is_what_it_was(library: ScannedLibrary, tmp_path: Path) -> None:
    inos = await with_pictures(library, tmp_path / "a", 3)
    before = [library.view.open_file(ino) for ino in inos]
    (tmp_path / "a" / "One" / "page-0001.jpg").unlink()
    (tmp_path / "a" / "One" / "page-0002.jpg").rename(tmp_path / "a" / "One" / "page-0009.jpg")
    await library.scan()
    assert [library.view.open_file(ino) for ino in inos] == before  # no reader sees a commit before it is published
    view = library.view_now()
    after = [view.open_file(ino) for ino in inos]
    gone = [now for now, was in zip(after, before, strict=True) if now is None and was is not None]
    assert gone == [None]
    paths = [each.replicas[0].path for each in after if each is not None]
    assert "One/page-0009.jpg" in paths
    assert "One/page-0002.jpg" not in paths


async def test_a_file_whose_origin_is_not_configured_has_no_replicas_and_hides_no_other(
    library: ScannedLibrary, tmp_path: Path
) -> None:
    inos = await with_pictures(library, tmp_path / "a", 2)
    db = library.catalog._db
    with library.catalog.transaction():
        db.execute("DELETE FROM replicas WHERE content = (SELECT content FROM inodes WHERE ino = ?)", (inos[1],))
    view = library.view_now()
    opened = [view.open_file(ino) for ino in inos]
    assert [None if file is None else len(file.replicas) for file in opened] == [1, 0, 1]
    assert view.open_file(1) is None
    assert view.open_file(10**6) is None


async def test_no_more_files_are_kept_than_there_is_room_for(
    library: ScannedLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inos = await with_pictures(library, tmp_path / "a", 40)
    monkeypatch.setattr(library.view.files._files, "limit", 5)
    opened: list[TreeFile | None] = [library.view.open_file(ino) for ino in inos]
    assert all(opened)
    assert len(library.view.files._files) <= 5
