"""Covers, lyrics, scans and pictures of artists: where they are in the tree."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from musicfs.catalog.problem_list import count_problems
from musicfs.catalog.rows import ScannedFile
from musicfs.library.placement import folder_of
from musicfs.library.sidecars import is_extras_folder
from musicfs.model import Fingerprint, Stat
from musicfs.problems import Reason
from musicfs.tags.tags import Role, Tags, role_of
from tests.support.audio import make_audio
from tests.support.library import scanned_library

Tree = Callable[..., dict[str, str]]


def song(path: str, album: str, disc: int | None = None, artist: str = "Ada", format: str = "flac") -> tuple[str, Tags]:
    title = path.rpartition("/")[2].partition(".")[0]
    return path, Tags(format, format, title, artist, album=album, track=1, disc=disc)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Scans these tracks and the files beside them; the path in the tree of each that is shown, by its real path."""

    def made(tracks: Iterable[tuple[str, Tags]], *others: str, template: str = DEFAULT) -> dict[str, str]:
        files = [*tracks, *((path, None) for path in others)]
        with scanned_library(tmp_path / "library", template=template) as library, library.catalog.transaction():
            library.catalog.configure_origins({"a": 1})
            # One by one, the pictures first: what a scan finds first must not matter.
            for path, tags in reversed(files):
                role = "sidecar" if tags is None else "audio"
                text = None if tags is None else json.dumps(tags.to_json())
                fingerprint = Fingerprint(blake3(path.encode()).digest())
                found = ScannedFile(Stat(path, 9, 1), folder_of(path, role), role, fingerprint, text, None)
                library.builder.update(*library.catalog.store("a", [found]))
            library.catalog._db.commit()
            library.catalog._db.execute("BEGIN")
            return {library.replicas(path)[0][1]: path for path in library.paths()}

    return made


DEFAULT = "$albumartist/$album/$track - $title.$format"


def test_pictures_of_an_artist_are_in_the_folder_that_holds_all_of_the_artist(tree: Tree) -> None:
    albums = [song("Ada/One/a.flac", "One"), song("Ada/Two/b.flac", "Two")]
    shown = tree(albums, "Ada/artist.jpg", "Ada/folder.jpg", "Ada/fanart.jpg", "Ada/artist.nfo", "Ada/One/folder.jpg")
    assert {shown[f"Ada/{name}"] for name in ("artist.jpg", "folder.jpg", "fanart.jpg", "artist.nfo")} == {
        "Ada/artist.jpg", "Ada/folder.jpg", "Ada/fanart.jpg", "Ada/artist.nfo",
    }  # fmt: skip
    assert shown["Ada/One/folder.jpg"] == "Ada/One/folder.jpg"


def test_a_picture_of_the_artist_does_not_take_the_name_of_the_only_albums_cover(tree: Tree) -> None:
    shown = tree([song("Ada/One/a.flac", "One")], "Ada/folder.jpg", "Ada/One/folder.jpg")
    assert shown["Ada/One/folder.jpg"] == "Ada/One/folder.jpg"
    assert shown["Ada/folder.jpg"].startswith("Ada/One/folder [")


@pytest.mark.parametrize(
    "discs",
    [("CD1", "CD2"), ("Disc One", "Disc Two"), ("Side A", "Side B"), ("I", "II"), ("Bonus disc", "Main"),
     ("CD1 - The Subtitle", "CD2 - Another")],
)  # fmt: skip
def test_the_cover_of_a_box_comes_before_those_of_its_discs(discs: tuple[str, str], tree: Tree) -> None:
    tracks = [song(f"Ada/Box/{name}/t{disc}.flac", "Box", disc) for disc, name in enumerate(discs, 1)]
    covers = [f"Ada/Box/{name}/cover.jpg" for name in discs]
    shown = tree(tracks, "Ada/Box/cover.jpg", "Ada/Box/Scans/back.jpg", "Ada/Box/Scans/HQ/1.jpg", *covers)
    assert shown["Ada/Box/cover.jpg"] == "Ada/Box/cover.jpg"
    assert shown["Ada/Box/Scans/back.jpg"] == "Ada/Box/Scans/back.jpg"
    assert shown["Ada/Box/Scans/HQ/1.jpg"] == "Ada/Box/Scans/HQ/1.jpg"
    assert all(shown[cover].startswith("Ada/Box/cover [") for cover in covers)


def test_where_discs_have_folders_in_the_tree_each_keeps_its_cover(tree: Tree) -> None:
    tracks = [song(f"Box/CD{disc}/t{disc}.flac", "Box", disc) for disc in (1, 2)]
    template = "$albumartist/$album/CD $disc/$track - $title.$format"
    shown = tree(tracks, "Box/cover.jpg", "Box/CD1/cover.jpg", template=template)
    assert shown["Box/cover.jpg"] == "Ada/Box/cover.jpg"
    assert shown["Box/CD1/cover.jpg"] == "Ada/Box/CD 1/cover.jpg"


def test_scans_in_folders_of_folders_keep_them(tree: Tree) -> None:
    shown = tree([song("Ada/One/a.flac", "One")], "Ada/One/Scans/HQ/front.jpg", "Ada/One/Photos/x.jpg")
    assert shown["Ada/One/Scans/HQ/front.jpg"] == "Ada/One/Scans/HQ/front.jpg"
    assert "Ada/One/Photos/x.jpg" not in shown


@pytest.mark.parametrize(
    "folder", ["Booklet Scans", "artwork (HQ)", "[Covers]", "_info", "EAC Logs", "Scans 600dpi", "Hi-Res Art", "Proof"]
)
def test_folders_of_scans_have_many_names(folder: str, tree: Tree) -> None:
    shown = tree([song("A/One/a.flac", "One")], f"A/One/{folder}/b.jpg")
    assert shown[f"A/One/{folder}/b.jpg"] == f"Ada/One/{folder}/b.jpg"


@pytest.mark.parametrize("folder", ["Art of Noise", "Front", "CD", "Log Lady", "Holiday Photos", "Digital", "600"])
def test_folders_with_similar_names_hold_no_scans(folder: str) -> None:
    assert not is_extras_folder(folder)


def test_pictures_without_music_near_them_are_not_shown(tree: Tree) -> None:
    others = ("Holiday/beach.jpg", "cover.jpg", "Scans/a.jpg")
    shown = tree([song("A/One/a.flac", "One"), song("B/Two/b.flac", "Two", artist="Bob")], *others)
    assert not shown.keys() & {*others}


@pytest.mark.parametrize(("artists", "expected"), [(1, "Ada0/cover.jpg"), (9, None)])
def test_a_picture_of_more_than_eight_albums_is_where_all_of_them_are(
    artists: int, expected: str | None, tree: Tree
) -> None:
    tracks = [song(f"All/{n}.flac", f"Album {n}", artist=f"Ada{n % artists}") for n in range(9)]
    tracks = [(path, replace(tags, albumartist=tags.artist)) for path, tags in tracks]
    assert tree(tracks, "All/cover.jpg").get("All/cover.jpg") == expected


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        ("x.lrc", "01 - x.lrc"),
        ("X.LRC", "01 - x.lrc"),
        ("x.flac.lrc", "01 - x.flac.lrc"),
        ("x.txt", "01 - x.txt"),
        ("x.en.lrc", "01 - x.en.lrc"),
        ("x.pt-BR.lrc", "01 - x.pt-br.lrc"),
        ("x.flac.cue", "01 - x.flac.cue"),
        ("y.lrc", "y.lrc"),
    ],
)
def test_what_is_named_like_a_track_follows_it(beside: str, expected: str, tree: Tree) -> None:
    assert tree([song("f/x.flac", "One")], f"f/{beside}")[f"f/{beside}"] == f"Ada/One/{expected}"


def test_a_correction_file_is_beside_its_wavpack_and_no_other_format(tree: Tree) -> None:
    template = "$albumartist/$album [$format]/$track - $title.$format"
    shown = tree(
        [song("f/x.mp3", "One", format="mp3"), song("f/x.wv", "One", format="wv")], "f/x.wvc", template=template
    )
    assert shown["f/x.wvc"] == "Ada/One [wv]/01 - x.wvc"


def test_a_small_cover_is_left_out_only_beside_another_picture(tree: Tree) -> None:
    assert role_of("f/AlbumArtSmall.jpg") is Role.SIDECAR
    shown = tree(
        [song("f/x.flac", "One"), song("g/y.flac", "Two")], "f/AlbumArtSmall.jpg", "g/AlbumArtSmall.jpg", "g/a.png"
    )
    assert shown["f/AlbumArtSmall.jpg"] == "Ada/One/AlbumArtSmall.jpg"
    assert "g/AlbumArtSmall.jpg" not in shown


async def test_files_without_a_place_are_counted_until_music_is_beside_them(tmp_path: Path) -> None:
    def unplaced() -> list[tuple[str, str, int]]:
        counts = count_problems(tmp_path / "cache" / "catalog.sqlite")
        return [(count.origin, count.subject, count.number) for count in counts if count.reason is Reason.UNPLACED]

    for path in ("a/X/cover.jpg", "a/X/SCAN.JPEG", "a/X/Y/log.txt", "b/Z/cover.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(path.encode())
    make_audio(tmp_path / "b/1.flac", seconds=0.1)
    with scanned_library(tmp_path / "cache") as library:
        library.configure({"a": tmp_path / "a", "b": tmp_path / "b"})
        await library.scan()
        assert unplaced() == [("a", ".jpeg", 1), ("a", ".jpg", 1), ("a", ".txt", 1), ("b", ".jpg", 1)]
        # Music at one origin places what is in the same folder of the other; a scan of a part suffices.
        make_audio(tmp_path / "b/X/1.flac", seconds=0.1, seed=1, tags={"title": "Song", "artist": "Ada", "album": "X"})
        await library.scan("b", under=["X"])
        assert unplaced() == [("a", ".txt", 1), ("b", ".jpg", 1)]
        (tmp_path / "a/X/AlbumArtSmall.jpg").write_bytes(b"small")
        (tmp_path / "b/Z/cover.jpg").unlink()
        await library.scan("a", under=["X"])
        await library.scan("b", under=["Z"])
        assert unplaced() == [("a", ".jpg", 1), ("a", ".txt", 1)]
        await library.scan("a")
        assert unplaced() == [("a", ".jpg", 1), ("a", ".txt", 1)]
