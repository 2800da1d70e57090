"""What lies below a path of the tree, found once and handed out page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from sqlite3 import Connection

import pytest

from musicfs.catalog import queries
from musicfs.catalog.database import ROOT_INO, connect
from musicfs.catalog.queries import ContentPages, find_contents
from musicfs.model import Content
from tests.support.audio import make_album
from tests.support.library import ScannedLibrary, scanned_library


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[ScannedLibrary]:
    make_album(tmp_path / "music", "Artist", "First", 7, seconds=0.1)
    make_album(tmp_path / "music", "Artist", "Second", 3, seconds=0.1, seed=1)
    with scanned_library(tmp_path / "catalogue") as library:
        library.configure({"a": tmp_path / "music"})
        await library.scan()
        yield library


def all_of(pages: ContentPages, limit: int, after: bytes = b"") -> list[Content]:
    found: list[Content] = []
    while page := pages.after(found[-1].fingerprint if found else after, limit):
        assert len(page) <= limit
        found += page
    return found


def catalog(tmp_path: Path) -> Path:
    return tmp_path / "catalogue" / "catalog.sqlite"


def below(tmp_path: Path, path: str) -> list[Content]:
    return sorted(find_contents(catalog(tmp_path), [path], [])[0][path], key=lambda content: content.fingerprint)


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
async def test_pages_have_everything_below_the_path_once_in_order(
    library: ScannedLibrary, tmp_path: Path, limit: int
) -> None:
    album = next(path.rpartition("/")[0] for path in library.paths() if "First" in path)
    for path, number in ((album, 7), ("Artist", 10), ("", 10)):
        pages = ContentPages(catalog(tmp_path), path)
        found = all_of(pages, limit)
        assert found == below(tmp_path, path)
        assert len(found) == number
        assert all_of(pages, limit, after=found[3].fingerprint) == found[4:]
        pages.close()
    assert all_of(ContentPages(catalog(tmp_path), "Nothing"), limit) == []


async def test_the_tree_is_searched_once_however_many_pages_there_are(
    library: ScannedLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def traced(path: Path, *, cache_mb: int) -> Connection:
        connection = connect(path, cache_mb=cache_mb)
        connection.set_trace_callback(asked.append)
        return connection

    monkeypatch.setattr(queries, "connect", traced)
    pages = ContentPages(catalog(tmp_path), "Artist")
    assert len(all_of(pages, 1)) == 10
    assert sum("RECURSIVE" in sql for sql in asked) == 1
    pages.close()


async def test_pages_that_are_closed_are_empty(library: ScannedLibrary, tmp_path: Path) -> None:
    pages = ContentPages(catalog(tmp_path), "Artist")
    assert pages.after(b"", 5)
    pages.close()
    assert pages.after(b"", 5) == []


async def test_a_path_leads_to_its_inode_and_the_inode_back_to_the_path(library: ScannedLibrary) -> None:
    view = library.view_now()
    for path in library.paths():
        folder = path.rpartition("/")[0]
        for each in (path, folder):
            ino = view.find(each)
            assert ino is not None
            assert view.path(ino) == each
        assert view.find(f"/{folder}//") == view.find(folder)
        assert view.find(f"{path}/more") is None
    assert view.find("") == ROOT_INO
    assert view.path(ROOT_INO) == ""


@pytest.mark.parametrize("path", ["Nothing", "Artist/Nothing", "\udcff", "Artist/\udcff/x"])
async def test_a_path_that_is_not_there_leads_nowhere(library: ScannedLibrary, path: str) -> None:
    assert library.view_now().find(path) is None


async def test_an_inode_that_is_gone_has_no_path(library: ScannedLibrary) -> None:
    assert library.view_now().path(10**9) == ""
