"""Directories of the tree whose names differ only in letters' case, form or invisible characters are one directory."""

from __future__ import annotations

import itertools
import random
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from musicfs.catalog.database import ROOT_INO
from musicfs.catalog.entry_table import EntryTable
from musicfs.catalog.spellings import Spelling
from musicfs.library.directories import leading_name
from musicfs.tags.templates import Template
from tests.support.audio import make_audio
from tests.support.earlier_catalogue import turn_back
from tests.support.library import ScannedLibrary, scanned_library

TEMPLATE = "$albumartist/$album/$track - $title.$format"


@pytest.fixture
def library(tmp_path: Path) -> Iterator[ScannedLibrary]:
    with scanned_library(tmp_path / "cache", template=TEMPLATE) as made:
        yield made


_seeds = itertools.count()


def make_tracks(folder: Path, artist: str, album: str = "Album", numbers: Sequence[int] = (1,)) -> None:
    for number in numbers:
        tags = {"artist": artist, "album": album, "title": f"Song {number}", "track": number}
        make_audio(folder / f"{number}.flac", seconds=0.1, seed=next(_seeds), tags=tags)


def directories(paths: Sequence[str]) -> set[str]:
    return {path.rpartition("/")[0] for path in paths}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ada", "ada"),
        ("Ada", "ADA"),
        ("Ada", "A\u200bda"),
        ("Ada Lovelace", "Ada\u00a0lovelace"),
        ("Bj\u00f6rk", unicodedata.normalize("NFD", "BJ\u00d6RK")),
        ("Stra\u00dfe", "STRASSE"),
        ("Guns N' Roses", "Guns N\u2019 Roses"),
        ("R.E.M.", "R.E.M"),
        ("100 \u2100", "100 A-C"),
    ],
)
async def test_two_spellings_at_different_folders_and_origins_are_one_directory(
    library: ScannedLibrary, tmp_path: Path, one: str, other: str
) -> None:
    make_tracks(tmp_path / "a/1", one, "First", [1, 2])
    make_tracks(tmp_path / "a/2", other, "Second")
    make_tracks(tmp_path / "b/3", other, "FIRST", [3])
    library.configure({"a": tmp_path / "a", "b": tmp_path / "b"})
    await library.scan()
    top = {path.partition("/")[0] for path in library.paths()}
    assert len(top) == 1
    (shown,) = top
    assert library.paths() == [
        f"{shown}/First/01 - Song 1.flac",
        f"{shown}/First/02 - Song 2.flac",
        f"{shown}/First/03 - Song 3.flac",
        f"{shown}/Second/01 - Song 1.flac",
    ]


def test_most_tracks_decide_then_most_files_then_the_order_of_code_points() -> None:
    assert leading_name([Spelling("Ada", 3, 1), Spelling("ada", 2, 2)]) == "ada"
    assert leading_name([Spelling("Ada", 2, 1), Spelling("ada", 3, 1)]) == "ada"
    assert leading_name([Spelling("ada", 2, 1), Spelling("Ada", 2, 1)]) == "Ada"
    assert (
        leading_name([Spelling("A/x", 2, 2), Spelling("a/X", 3, 3), Spelling("A/X", 0, 0), Spelling("B/x", 2, 2)])
        == "x"
    )
    assert leading_name([Spelling("Ada", 0, 0)]) is None


async def test_another_majority_renames_the_directory_and_all_in_it_keeps_its_number(
    library: ScannedLibrary, tmp_path: Path
) -> None:
    make_tracks(tmp_path / "a/1", "Ada", "First", [1, 2])
    make_tracks(tmp_path / "a/2", "ADA", "Second")
    library.configure({"a": tmp_path / "a"})
    await library.scan()
    nodes = library.nodes()
    view = library.view_now()
    folders = [view.find(path) for path in ("Ada", "Ada/First", "Ada/Second")]
    assert None not in folders
    position = view.children(ROOT_INO, 0, 10)[0][5]

    library.changes.clear()
    make_tracks(tmp_path / "a/2", "ADA", "Second", [2, 3])
    await library.scan()
    view = library.view_now()
    assert [view.find(path) for path in ("ADA", "ADA/First", "ADA/Second")] == folders
    assert view.find("Ada") is None
    assert {path: ino for path, ino in library.nodes().items() if path.replace("ADA", "Ada") in nodes} == {
        path.replace("Ada", "ADA"): ino for path, ino in nodes.items()
    }
    assert view.children(ROOT_INO, 0, 10)[0][5] == position
    entries = {name for changes in library.changes for parent, name in changes.entries if parent == ROOT_INO}
    assert entries == {"Ada", "ADA"}
    assert view.totals().directories == 4

    shutil.rmtree(tmp_path / "a/2")
    await library.scan()
    with library.catalog.transaction():
        library.catalog.set_accept_removals("a", True)
    await library.scan()
    view = library.view_now()
    assert [view.find(path) for path in ("Ada", "Ada/First")] == folders[:2]
    assert directories(library.paths()) == {"Ada/First"}


async def test_a_change_of_the_majority_writes_one_name(library: ScannedLibrary, tmp_path: Path) -> None:
    make_tracks(tmp_path / "a/1", "Ada", "First", range(1, 6))
    make_tracks(tmp_path / "b/1", "ADA", "Second", range(1, 7))
    library.configure({"a": tmp_path / "a", "b": tmp_path / "b"})
    await library.scan("a")
    written: list[str] = []
    library.catalog._db.set_trace_callback(written.append)
    await library.scan("b")
    library.catalog._db.set_trace_callback(None)
    assert sum(sql.startswith("UPDATE names SET name") for sql in written) == 1
    assert not any(sql.startswith("DELETE FROM names") for sql in written)
    assert len(library.paths()) == 11


async def test_each_directory_is_asked_once_whether_files_of_its_own_must_give_way(
    library: ScannedLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has as many spellings as tracks here, and as many directories in it."""
    for number in range(16):
        artist = "".join(c.upper() if number >> bit & 1 else c for bit, c in enumerate("adal"))
        make_tracks(tmp_path / f"a/{number}", artist, f"Album {number}")
    asked: list[str] = []
    any_in = EntryTable.any_in

    def counted(table: EntryTable, path: str) -> bool:
        asked.append(path)
        return any_in(table, path)

    monkeypatch.setattr(EntryTable, "any_in", counted)
    library.configure({"a": tmp_path / "a"})
    await library.scan()
    assert len(directories(library.paths())) == 16
    assert sorted(asked) == ["", "adal"]


async def test_the_spelling_depends_on_what_is_there_only(tmp_path: Path) -> None:
    """However the files came, and whether or not others were there before, the tree is that of a first scan."""
    choice = random.Random(8)
    artists = ["Ada", "ada", "ADA", "Bob", "BOB"]
    albums = ["One", "ONE", "Two", "two"]
    for folder in range(12):
        make_tracks(
            tmp_path / f"all/{folder}",
            choice.choice(artists),
            choice.choice(albums),
            [10 * folder + n for n in range(folder % 3 + 1)],
        )
    (tmp_path / "all/3/cover.jpg").write_bytes(b"picture")
    (tmp_path / "all/5/Scans").mkdir()
    (tmp_path / "all/5/Scans/1.jpg").write_bytes(b"scan")
    (tmp_path / "all/7/scans").mkdir()
    (tmp_path / "all/7/scans/2.jpg").write_bytes(b"other scan")
    keep = {"3", "5", "6", "7", "11"}
    for number in range(3):
        root = tmp_path / f"music{number}"
        order = [str(n) for n in range(12)]
        choice.shuffle(order)
        with scanned_library(tmp_path / f"cache{number}", template=TEMPLATE) as library:
            root.mkdir()
            library.configure({"a": root})
            for name in order:
                shutil.copytree(tmp_path / "all" / name, root / name)
                await library.scan()
            for name in order:
                if name not in keep:
                    shutil.rmtree(root / name)
                    with library.catalog.transaction():
                        library.catalog.set_accept_removals("a", True)
                    await library.scan()
            changed = library.paths()
            spellings = library.catalog._db.execute("SELECT * FROM spellings ORDER BY dir").fetchall()
        with scanned_library(tmp_path / f"fresh{number}", template=TEMPLATE) as library:
            library.configure({"a": root})
            await library.scan()
            assert library.paths() == changed
            assert library.catalog._db.execute("SELECT * FROM spellings ORDER BY dir").fetchall() == spellings
            assert len({path.casefold().rpartition("/")[0] for path in changed}) == len(directories(changed))
            library.builder.count_spellings()
            assert library.catalog._db.execute("SELECT * FROM spellings ORDER BY dir").fetchall() == spellings


async def test_pictures_follow_the_one_directory(library: ScannedLibrary, tmp_path: Path) -> None:
    """The picture of an artist whose albums spell the name differently, and scans at two origins."""
    make_tracks(tmp_path / "a/Ada/First", "Ada", "First", [1, 2])
    make_tracks(tmp_path / "a/Ada/Second", "ada", "Second")
    (tmp_path / "a/Ada/artist.jpg").write_bytes(b"artist")
    (tmp_path / "a/Ada/First/Scans").mkdir()
    (tmp_path / "a/Ada/First/Scans/1.jpg").write_bytes(b"one")
    make_tracks(tmp_path / "b/x", "ADA", "first", [3])
    (tmp_path / "b/x/scans").mkdir()
    (tmp_path / "b/x/scans/2.jpg").write_bytes(b"two")
    library.configure({"a": tmp_path / "a", "b": tmp_path / "b"})
    await library.scan()
    assert [path for path in library.paths() if path.endswith(".jpg")] == [
        "Ada/First/Scans/1.jpg",
        "Ada/First/Scans/2.jpg",
        "Ada/artist.jpg",
    ]


@pytest.mark.parametrize("template", ["$path", "$folder/$title.$format", "$genre/$folder/$title.$format"])
async def test_folders_of_the_origins_own_stay_as_they_are(tmp_path: Path, template: str) -> None:
    make_tracks(tmp_path / "a/Ada", "Ada")
    make_tracks(tmp_path / "a/ada", "ada")
    with scanned_library(tmp_path / "cache", template=template) as library:
        library.configure({"a": tmp_path / "a"})
        await library.scan()
        assert {path.split("/")[-2] for path in library.paths()} == {"Ada", "ada"}


async def test_the_template_decides_before_the_folders_of_the_origins_own(tmp_path: Path) -> None:
    for number, genre in enumerate(("Folk", "FOLK", "Folk")):
        tags = {"artist": "Ada", "title": f"Song {number}", "genre": genre}
        make_audio(tmp_path / f"a/{number}/song.flac", seconds=0.1, seed=number, tags=tags)
    with scanned_library(tmp_path / "cache", template="$genre/$folder/$title.$format") as library:
        library.configure({"a": tmp_path / "a"})
        await library.scan()
        assert directories(library.paths()) == {"Folk/0", "Folk/1", "Folk/2"}


async def test_a_catalogue_that_shows_both_spellings_shows_one_from_now_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tracks(tmp_path / "a/1", "Ada", "First", [1, 2])
    make_tracks(tmp_path / "a/2", "ada", "Second")
    make_tracks(tmp_path / "a/3", "ada", "first", [3])
    with monkeypatch.context() as earlier, scanned_library(tmp_path / "cache", template=TEMPLATE) as library:
        earlier.setattr(Template, "folded", lambda _, dir: dir)
        library.configure({"a": tmp_path / "a"})
        await library.scan()
        assert directories(library.paths()) == {"Ada/First", "ada/Second", "ada/first"}
        numbers = library.nodes()
        first = library.view_now().find("Ada/First")
    turn_back(tmp_path / "cache" / "catalog.sqlite", 5)
    with scanned_library(tmp_path / "cache", template=TEMPLATE) as library:
        assert library.catalog.get_meta("template") is None  # so the worker counts and places everything
        with library.catalog.transaction():
            library.builder.count_spellings()
            library.builder.update(library.catalog.all_folders())
        assert directories(library.paths()) == {"Ada/First", "Ada/Second"}
        assert sorted(library.nodes().values()) == sorted(numbers.values())
        assert library.view_now().find("Ada/First") == first
        assert library.view_now().totals().directories == 4


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
async def test_a_file_gives_way_to_a_directory_whose_name_differs_in_case_only(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    make_audio(tmp_path / "a/Live.mp3", seconds=0.1)
    make_audio(tmp_path / "b/live.mp3/1.mp3", seconds=0.1, seed=1)
    with scanned_library(tmp_path / "cache", template="$path") as library:
        library.configure({id: tmp_path / id for id in order})
        for id in order:
            await library.scan(id)
        tagged, inside = sorted(library.paths())
        assert tagged.startswith("Live [")
        assert inside == "live.mp3/1.mp3"
        (tmp_path / "b/live.mp3/1.mp3").unlink()
        make_audio(tmp_path / "b/2.mp3", seconds=0.1, seed=2)
        with library.catalog.transaction():
            library.catalog.set_accept_removals("b", True)
        await library.scan("b")
        assert library.paths() == ["2.mp3", "Live.mp3"]


@pytest.mark.parametrize("template", ["$path", TEMPLATE])
async def test_files_of_one_folder_whose_names_differ_in_case_only_are_all_listed(
    tmp_path: Path, template: str
) -> None:
    for number, name in enumerate(("song", "Song", "SONG")):
        make_audio(tmp_path / f"a/x/{name}.mp3", seconds=0.1, seed=number)
        (tmp_path / f"a/x/{name} cover.jpg").write_bytes(bytes([number]))
    with scanned_library(tmp_path / "cache", template=template) as library:
        library.configure({"a": tmp_path / "a"})
        await library.scan()
        names = [path.rpartition("/")[2] for path in library.paths()]
        assert len({name.casefold() for name in names}) == 6
        assert len(set(library.nodes().values())) == 6
