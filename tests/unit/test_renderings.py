"""Playlists, cue sheets and lists of checksums are shown with the names that the tree gives the files."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from musicfs.catalog.problem_list import find_problems
from musicfs.catalog.text_table import TextTable
from musicfs.library.renderings import TextRenderer
from musicfs.model import OriginId
from musicfs.problems import Reason
from tests.support.audio import make_audio
from tests.support.library import ScannedLibrary, scanned_library

LIVE = "Ada/Live (1999) [FLAC]"
ONE, TWO = f"{LIVE}/01 - One.flac", f"{LIVE}/02 - Two.flac"


def song(path: Path, title: str, number: int, album: str = "Live") -> Path:
    tags = {"title": title, "artist": "Ada", "album": album, "track": number, "date": 1999}
    return make_audio(path, seed=number, tags=tags)


@pytest.fixture
def music(tmp_path: Path) -> Path:
    root = tmp_path / "music"
    song(root / "live/a.flac", "One", 1)
    song(root / "live/b.flac", "Two", 2)
    return root


@pytest.fixture
def library(tmp_path: Path, music: Path) -> Iterator[ScannedLibrary]:
    with scanned_library(tmp_path / "catalog") as library:
        library.configure({"disk": music})
        yield library


def unresolved(library: ScannedLibrary, tmp_path: Path, origin: str = "disk") -> dict[str, str]:
    catalog = tmp_path / "catalog/catalog.sqlite"
    rows = find_problems(catalog, OriginId(origin), reason=Reason.UNRESOLVED_ENTRIES)
    return {row.path: row.detail for row in rows}


async def test_a_playlist_beside_the_music_has_the_names_of_the_tree(library: ScannedLibrary, music: Path) -> None:
    (music / "live/all.m3u").write_text("#EXTM3U\n#EXTINF:1,One\na.flac\nb.flac\n")
    await library.scan()
    assert library.text(f"{LIVE}/all.m3u") == "#EXTM3U\n#EXTINF:1,One\n01 - One.flac\n02 - Two.flac\n"
    (size,) = [row[3] for row in library.view.children(library.view.find(LIVE) or 0, 0, 9) if row[1] == "all.m3u"]
    assert size == len(library.text(f"{LIVE}/all.m3u") or "")
    assert library.view.totals().files == 3


@pytest.mark.parametrize("place", ["all.m3u8", "Playlists/all.m3u8", "Lists/Of Mine/all.m3u8"])
async def test_a_playlist_of_its_own_is_in_a_folder_for_playlists(
    library: ScannedLibrary, music: Path, place: str
) -> None:
    path = music / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("C:\\Musik\\live\\a.flac\r\nhttp://radio.test/\r\n".encode("cp1252"))
    await library.scan()
    assert library.text("Playlists/all.m3u8") == f"../{ONE}\r\nhttp://radio.test/\r\n"


async def test_playlists_of_one_name_are_all_there(library: ScannedLibrary, music: Path) -> None:
    for number, folder in enumerate(("x", "y")):
        (music / folder).mkdir()
        (music / folder / "p.m3u").write_text(f"../live/{'ab'[number]}.flac\n")
    await library.scan()
    texts = {library.text(path) for path in library.paths() if path.startswith("Playlists/")}
    assert texts == {f"../{ONE}\n", f"../{TWO}\n"}


async def test_a_cue_sheet_and_checksums_follow_their_files(library: ScannedLibrary, music: Path) -> None:
    digest = hashlib.md5((music / "live/a.flac").read_bytes()).hexdigest()
    (music / "live/a.cue").write_text('FILE "a.wav" WAVE\n  TRACK 01 AUDIO\n')
    (music / "live/live.md5").write_text(f"{digest} *a.flac\n")
    await library.scan()
    assert library.text(f"{LIVE}/01 - One.cue") == 'FILE "01 - One.flac" WAVE\n  TRACK 01 AUDIO\n'
    assert library.text(f"{LIVE}/live.md5") == f"{digest} *01 - One.flac\n"


async def test_another_name_of_a_track_is_another_rendering_with_an_inode_of_its_own(
    library: ScannedLibrary, music: Path
) -> None:
    (music / "live/all.m3u").write_text("a.flac\n")
    await library.scan()
    before = library.nodes()[f"{LIVE}/all.m3u"]
    await library.scan()
    assert library.nodes()[f"{LIVE}/all.m3u"] == before
    song(music / "live/a.flac", "Uno", 1)
    library.changes.clear()
    await library.scan()
    assert library.text(f"{LIVE}/all.m3u") == "01 - Uno.flac\n"
    assert library.nodes()[f"{LIVE}/all.m3u"] != before
    folder = library.view.find(LIVE)
    assert any((folder, "all.m3u") in changes.entries for changes in library.changes)


async def test_a_new_text_is_read_and_one_that_goes_is_gone(library: ScannedLibrary, music: Path) -> None:
    path = music / "live/all.m3u"
    path.write_text("a.flac\n")
    await library.scan()
    path.write_text("a.flac\nb.flac\n")
    await library.scan()
    assert library.text(f"{LIVE}/all.m3u") == "01 - One.flac\n02 - Two.flac\n"
    path.unlink()
    await library.scan()
    assert library.paths() == [ONE, TWO]
    assert library.view.totals().files == 2
    counts = library.catalog._db.execute("SELECT count(*) FROM renderings").fetchone()
    assert counts == (0,)


async def test_a_text_whose_names_are_right_or_mean_nothing_is_its_origins(
    library: ScannedLibrary, music: Path, tmp_path: Path
) -> None:
    (music / "live/right.m3u").write_text("01 - One.flac\n")
    (music / "live/wrong.m3u").write_text("gone.flac\n")
    await library.scan()
    assert library.text(f"{LIVE}/right.m3u") is None
    assert library.text(f"{LIVE}/wrong.m3u") is None
    assert unresolved(library, tmp_path) == {"live/right.m3u": "1 of its names", "live/wrong.m3u": "1 of its names"}


async def test_what_was_missing_is_found_once_it_comes(library: ScannedLibrary, music: Path, tmp_path: Path) -> None:
    (music / "live/all.m3u").write_text("a.flac\nc.flac\n")
    await library.scan()
    assert library.text(f"{LIVE}/all.m3u") == "01 - One.flac\nc.flac\n"
    assert unresolved(library, tmp_path) == {"live/all.m3u": "1 of its names"}
    song(music / "live/c.flac", "Three", 3)
    await library.scan()
    assert library.text(f"{LIVE}/all.m3u") == "01 - One.flac\n03 - Three.flac\n"
    assert unresolved(library, tmp_path) == {}


async def test_what_was_missing_is_found_as_a_copy_of_what_the_tree_shows_already(
    library: ScannedLibrary, music: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(music, other)
    (music / "live/b.flac").rename(tmp_path / "b.flac")
    (music / "live/all.m3u").write_text("b.flac\n")
    library.configure({"disk": music, "other": other})
    await library.scan()
    assert library.text(f"{LIVE}/all.m3u") is None
    (tmp_path / "b.flac").rename(music / "live/b.flac")
    await library.scan()
    assert library.text(f"{LIVE}/all.m3u") == "02 - Two.flac\n"


async def test_a_file_that_no_text_misses_costs_no_search_for_names(
    library: ScannedLibrary, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (music / "live/wrong.m3u").write_text("gone.flac\n")
    await library.scan()
    searched: list[int] = []
    paths_of = TextTable.paths_of

    def counting(self: TextTable, origin: int) -> Iterator[str]:
        searched.append(origin)
        return paths_of(self, origin)

    monkeypatch.setattr(TextTable, "paths_of", counting)
    song(music / "live/c.flac", "Three", 3)
    await library.scan()
    assert searched == []
    song(music / "elsewhere/Gone.mp3", "Four", 4, "Gone")  # a cue sheet could mean it
    await library.scan()
    assert len(searched) == 1


async def test_two_places_show_the_text_of_the_better_one_and_the_other_when_that_leaves(
    tmp_path: Path, library: ScannedLibrary, music: Path
) -> None:
    (music / "live/all.m3u").write_text("a.flac\n")
    other = tmp_path / "other"
    shutil.copytree(music, other)
    (other / "live/all.m3u").write_text("b.flac\n")
    library.configure({"disk": music, "other": other})
    await library.scan()
    assert library.text(f"{LIVE}/all.m3u") == "01 - One.flac\n"
    library.configure({"other": other})
    assert library.text(f"{LIVE}/all.m3u") == "02 - Two.flac\n"
    library.configure({"disk": music, "other": other})
    assert library.text(f"{LIVE}/all.m3u") == "01 - One.flac\n"


async def test_a_tree_of_paths_shows_texts_byte_for_byte(tmp_path: Path, music: Path) -> None:
    (music / "live/all.m3u").write_text("a.flac\n")
    with scanned_library(tmp_path / "catalog") as library:
        library.configure({"disk": music})
        await library.scan()
        assert library.text(f"{LIVE}/all.m3u")
    with scanned_library(tmp_path / "by-path", template="$path") as library:
        library.configure({"disk": music})
        await library.scan()
        assert library.paths() == ["live/a.flac", "live/all.m3u", "live/b.flac"]
        assert library.text("live/all.m3u") is None


async def test_texts_are_shown_byte_for_byte_once_the_tree_is_one_of_paths(tmp_path: Path, music: Path) -> None:
    (music / "live/all.m3u").write_text("a.flac\n")
    with scanned_library(tmp_path / "catalog") as library:
        library.configure({"disk": music})
        await library.scan()
        assert library.text(f"{LIVE}/all.m3u")
        number = library.view.find(f"{LIVE}/all.m3u")
        off = TextRenderer(library.catalog, is_on=False)
        with library.catalog.transaction():
            changes = library.builder.render(off)
        library.view.refresh()
        assert library.text(f"{LIVE}/all.m3u") is None
        assert library.view.find(f"{LIVE}/all.m3u") != number
        assert library.view.totals().files == 3
        assert [name for _, name in changes.entries] == ["all.m3u"]


async def test_a_folder_of_the_tree_may_take_the_name_of_a_rendered_text(library: ScannedLibrary, music: Path) -> None:
    """An album called like the playlist that lies beside the artist's albums."""
    (music / "x").mkdir()
    (music / "x/Ada.m3u").write_text("../live/a.flac\n")
    await library.scan()
    assert library.text("Playlists/Ada.m3u")
    tags = {"title": "T", "artist": "Ada.m3u", "albumartist": "Playlists", "album": "Ada.m3u", "track": 1}
    make_audio(music / "y/t.flac", seed=9, tags=tags)
    await library.scan()
    assert any(path.startswith("Playlists/Ada.m3u") for path in library.paths())
    (music / "x/Ada.m3u").write_text("../live/b.flac\n")
    await library.scan()
    assert library.paths()


async def test_a_folder_that_gets_another_name_changes_the_way_there(library: ScannedLibrary, music: Path) -> None:
    """Most tracks spell it in another way now."""
    (music / "all.m3u").write_text("live/a.flac\n")
    await library.scan()
    assert library.text("Playlists/all.m3u") == f"../{ONE}\n"
    for number in range(3, 9):
        tags = {"title": f"T{number}", "artist": "ADA", "album": "Other", "track": number}
        make_audio(music / f"other/{number}.flac", seed=number, tags=tags)
    await library.scan()
    assert library.text("Playlists/all.m3u") == f"../{ONE.replace('Ada', 'ADA')}\n"


async def test_a_playlist_of_a_mebibyte_costs_seconds_and_a_larger_one_is_left_as_it_is(
    library: ScannedLibrary, music: Path
) -> None:
    (music / "live/big.m3u").write_bytes(b"a.flac\n" + b"x/" * 500_000 + b"\n" + b"nothing.flac\n" * 3000)
    (music / "live/huge.m3u").write_bytes(b"a.flac\n" * 200_000)
    await library.scan()
    assert (library.text(f"{LIVE}/big.m3u") or "").startswith("01 - One.flac\n")
    assert library.text(f"{LIVE}/huge.m3u") is None


async def test_a_text_that_was_read_and_not_rendered_is_rendered_later(library: ScannedLibrary, music: Path) -> None:
    """As after the end of the library worker between the two."""
    await library.scan()
    (music / "live/all.m3u").write_text("a.flac\n")
    await library.scan()
    with library.catalog.transaction():
        library.catalog.names.remove_rendering(library.view_now().find(LIVE) or 0, "all.m3u")
        library.catalog._db.execute("UPDATE names SET hidden = 0 WHERE name = 'all.m3u'")
        library.catalog._db.execute("UPDATE texts SET is_new = 1")
    assert library.text(f"{LIVE}/all.m3u") is None
    await library.scan()
    assert library.text(f"{LIVE}/all.m3u") == "01 - One.flac\n"
