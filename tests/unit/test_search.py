"""Searches find what the tree shows, and the index follows the catalogue."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from musicfs.catalog.database import CATALOG, STEPS
from musicfs.catalog.search import Found, open_search
from musicfs.catalog.search_index import SEARCH
from musicfs.errors import UserError
from musicfs.library.search_indexer import SearchIndexer
from musicfs.query.syntax import parse_query
from musicfs.testing.scanned_library import ScannedLibrary, scanned_library
from tests.support.audio import make_audio

Tags = dict[str, object]
TRACKS: dict[str, Tags] = {
    "a1.flac": {"artist": "Nina Simone", "album": "Pastel Blues", "title": "Sinnerman", "date": "1965", "track": 1},
    "a2.flac": {
        "artist": "Nina Simone",
        "album": "Pastel Blues",
        "title": "Trouble in Mind",
        "date": "1965",
        "track": 2,
    },
    "b1.mp3": {
        "artist": "Björk",
        "album": "Début",
        "title": "Human Behaviour",
        "date": "1993",
        "genre": ["Pop", "Jazz"],
    },
    "c1.flac": {"artist": "Metallica", "album": "Ride the Lightning", "title": "Fade to Black", "date": "1984"},
    "d1.mp3": {"artist": "坂本龍一", "album": "千のナイフ", "title": "千のナイフ", "date": "1978", "genre": ["Jazz"]},
}


def file_of(root: Path, name: str) -> Path:
    return root / str(TRACKS[name]["artist"]) / name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, (name, tags) in enumerate(TRACKS.items()):
        make_audio(file_of(tmp_path / "music", name), seconds=1 + number, seed=number, tags=tags)
    return tmp_path / "music"


@pytest.fixture
def library(tmp_path: Path, root: Path) -> Iterator[ScannedLibrary]:
    with scanned_library(tmp_path / "cache") as made:
        made.configure({"disk": root})
        yield made


class Searching:
    """Scans, brings the index up to date, and searches."""

    def __init__(self, library: ScannedLibrary, cache: Path) -> None:
        self.library = library
        self.cache = cache

    async def scan(self) -> None:
        await self.library.scan()
        await self.index()

    async def index(self) -> None:
        indexer = SearchIndexer(self.library.catalog, self.cache / SEARCH)
        indexer.start()
        async with asyncio.timeout(60):
            await indexer.finish()
        await indexer.aclose()

    def found(self, query: str, most: int = 100) -> Found:
        with open_search(self.cache / CATALOG, self.cache / SEARCH) as search:
            return search.tracks(parse_query(query), most)

    def titles(self, query: str) -> list[str]:
        return [track.tags["title"] for track in self.found(query).tracks]

    def albums(self, query: str, most: int = 100) -> list[tuple[str, int]]:
        with open_search(self.cache / CATALOG, self.cache / SEARCH) as search:
            return [(album.tags["album"], album.tracks) for album in search.albums(parse_query(query), most).albums]


@pytest.fixture
def searching(library: ScannedLibrary, tmp_path: Path) -> Searching:
    return Searching(library, tmp_path / "cache")


ALL = ["Human Behaviour", "Fade to Black", "Sinnerman", "Trouble in Mind", "千のナイフ"]


async def test_queries_find_tracks(searching: Searching) -> None:
    await searching.scan()
    for query, titles in {
        "": ALL,
        "simone": ["Sinnerman", "Trouble in Mind"],
        "SIMONE sinn": ["Sinnerman"],
        "bjork": ["Human Behaviour"],
        "début": ["Human Behaviour"],
        "album:debut": ["Human Behaviour"],
        "artist:ina": ["Sinnerman", "Trouble in Mind"],
        "artist:n": ["Human Behaviour", "Sinnerman", "Trouble in Mind"][1:],
        "title:=Sinnerman": ["Sinnerman"],
        "title:=sinnerman": [],
        "title:=~sinnerman": ["Sinnerman"],
        "artist::^N.*e$": ["Sinnerman", "Trouble in Mind"],
        "::(Black|Mind)$": ["Fade to Black", "Trouble in Mind"],
        "year:1970..1990": ["Fade to Black", "千のナイフ"],
        "genre:jazz": ["Human Behaviour", "千のナイフ"],
        "genre:jazz ^genre:pop": ["千のナイフ"],
        "format:mp3": ["Human Behaviour", "千のナイフ"],
        "year:..1970 | bjork": ["Human Behaviour", "Sinnerman", "Trouble in Mind"],
        "龍一": ["千のナイフ"],
        "ナイ": ["千のナイフ"],
        "龍": ["千のナイフ"],
        "length:4..": ["Fade to Black", "千のナイフ"],
        "year:1965 track-": ["Trouble in Mind", "Sinnerman"],
        "year- title+": ["Human Behaviour", "Fade to Black", "千のナイフ", "Sinnerman", "Trouble in Mind"],
        "copies:1": ALL,
        "copies:2..": [],
        "origin:disk year:1965": ["Sinnerman", "Trouble in Mind"],
        "origin:nas": [],
        "size:1..": ALL,
        "size:100M..": [],
        "added:2020..": ALL,
        "added:..2020": [],
        "problem:damaged": [],
        "nothing-has-this": [],
    }.items():
        assert searching.titles(query) == titles, query


async def test_a_path_means_what_is_below_it_in_the_tree(searching: Searching) -> None:
    await searching.scan()
    assert searching.titles("path:Björk") == ["Human Behaviour"]
    (found,) = searching.found("path:Metallica").tracks
    assert found.path in searching.library.paths()
    assert searching.titles(f'path:"{found.path}"') == ["Fade to Black"]
    assert searching.titles("path:Metal") == []


async def test_albums_are_the_folders_of_what_was_found(searching: Searching) -> None:
    await searching.scan()
    assert searching.albums("year:..1990") == [("Ride the Lightning", 1), ("Pastel Blues", 2), ("千のナイフ", 1)]
    assert searching.albums("simone mind") == [("Pastel Blues", 1)]
    assert searching.albums("year- ^genre:jazz", 1) == [("Ride the Lightning", 1)]


async def test_of_many_results_the_first_are_found_in_the_same_order(
    searching: Searching, monkeypatch: pytest.MonkeyPatch
) -> None:
    await searching.scan()
    queries = ["", "simone", "genre:jazz", "year:..1990", "^bjork", "format:flac year-"]
    few = [(searching.titles(query), searching.albums(query)) for query in queries]
    monkeypatch.setattr("musicfs.catalog.search._FEW", 0)
    monkeypatch.setattr("musicfs.catalog.search_conditions._FEW_HOLDERS", 0)
    assert [(searching.titles(query), searching.albums(query)) for query in queries] == few
    found = searching.found("", 2)
    assert [track.tags["title"] for track in found.tracks] == ALL[:2]
    assert found.more


async def test_a_misspelt_word_finds_what_is_near_and_says_so(searching: Searching) -> None:
    await searching.scan()
    for asked, used, titles in (
        ("metalica", "metallica", ["Fade to Black"]),
        ("Simoen", "simone", ["Sinnerman", "Trouble in Mind"]),
        ("pastell blues", None, ["Sinnerman", "Trouble in Mind"]),
        ('"ride teh lightning"', "ride the lightning", ["Fade to Black"]),
    ):
        found = searching.found(asked)
        assert [track.tags["title"] for track in found.tracks] == titles, asked
        assert used is None or [each[1] for each in found.instead] == [used]
    assert searching.found("simone").instead == ()
    assert searching.found("^metalica").instead == ()


async def test_the_index_follows_what_scans_find(searching: Searching, root: Path) -> None:
    await searching.scan()
    make_audio(file_of(root, "c1.flac"), seconds=3, seed=77, tags=TRACKS["c1.flac"] | {"title": "Creeping Death"})
    file_of(root, "d1.mp3").unlink()
    await searching.scan()
    assert searching.titles("metallica") == ["Creeping Death"]
    assert searching.titles("fade") == []
    assert searching.titles("千のナイフ") == []
    with closing(sqlite3.connect(searching.cache / SEARCH)) as db:
        texts = {text for (text,) in db.execute("SELECT text FROM texts")}
        assert "Fade to Black" not in texts
        assert "千のナイフ" not in texts
        assert db.execute("SELECT count(*) FROM runs WHERE runs MATCH '\"ade\"'").fetchone() == (0,)


async def test_what_the_index_lacks_is_said(searching: Searching, root: Path) -> None:
    await searching.scan()
    make_audio(root / "New" / "1.flac", seed=50, tags={"artist": "New", "title": "Newer"})
    await searching.library.scan()
    found = searching.found("newer")
    assert (found.tracks, found.pending) == ((), 1)
    await searching.index()
    assert searching.titles("newer") == ["Newer"]
    assert searching.found("newer").pending == 0


async def test_an_index_that_is_damaged_or_of_another_catalogue_is_made_again(
    searching: Searching, caplog: pytest.LogCaptureFixture
) -> None:
    await searching.scan()
    index = searching.cache / SEARCH
    index.write_bytes(b"no database" * 1000)
    with pytest.raises(UserError, match="is damaged; the next mount makes it again"):
        searching.found("simone")
    await searching.index()
    assert searching.titles("simone") == ["Sinnerman", "Trouble in Mind"]
    assert [record.message for record in caplog.records if "was damaged" in record.message]
    with closing(sqlite3.connect(index)) as db:
        db.execute("UPDATE meta SET value = 'another'")
        db.execute("DELETE FROM tracks")
        db.commit()
    await searching.index()
    assert searching.titles("simone") == ["Sinnerman", "Trouble in Mind"]
    index.unlink()
    with pytest.raises(UserError, match="There is no search index"):
        searching.found("simone")
    await searching.index()
    assert searching.titles("simone") == ["Sinnerman", "Trouble in Mind"]


async def test_an_index_that_cant_be_written_costs_searches_alone(
    searching: Searching, caplog: pytest.LogCaptureFixture
) -> None:
    (searching.cache / SEARCH).mkdir()
    await searching.scan()
    assert len(searching.library.paths()) == len(TRACKS)
    assert any("can't be written" in record.message for record in caplog.records)


async def test_dates_count_from_when_the_music_was_first_seen(searching: Searching) -> None:
    await searching.scan()
    this_year = datetime.now().year
    assert searching.titles(f"added:{this_year}") == ALL
    assert searching.titles("added:-1d..") == ALL
    assert searching.titles("added:..-1d") == []


async def test_a_catalogue_from_before_is_indexed_without_a_scan(tmp_path: Path, root: Path) -> None:
    with scanned_library(tmp_path / "cache") as library:
        library.configure({"disk": root})
        await library.scan()
    with closing(sqlite3.connect(tmp_path / "cache" / CATALOG)) as db:
        for trigger in ("comes", "changes", "goes"):
            db.execute(f"DROP TRIGGER search_content_{trigger}")
        db.execute("DROP TABLE search_pending")
        db.execute(f"PRAGMA user_version = {STEPS.index('search_pending.sql')}")
    with scanned_library(tmp_path / "cache") as library:
        searching = Searching(library, tmp_path / "cache")
        await searching.index()
        assert searching.titles("simone") == ["Sinnerman", "Trouble in Mind"]
