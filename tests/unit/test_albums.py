"""What a folder's tracks say together: which of them are one album, and whose it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from musicfs.catalog.rows import Copy, FolderFile, TreeEntry
from musicfs.library.naming import resolve_names
from musicfs.library.placement import FolderPlacer
from musicfs.tags.tags import Tags
from musicfs.tags.templates import Template
from tests.support.placing import shown, track

ONE, OTHER = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


def folders(tracks: Sequence[Tags]) -> list[str]:
    """The folders in which the tree shows these tracks of one folder, in their order."""
    names = [f"folder/{'x' * number}.flac" for number, _ in enumerate(tracks, 1)]
    paths = shown(list(zip(names, tracks, strict=True)), "$albumartist/$album/$title")
    return [paths[name].rpartition("/")[0] for name in names]


@pytest.mark.parametrize(
    ("artists", "expected"),
    [
        (["Sleeping With Sirens"] * 3, "Sleeping With Sirens"),
        (["MAN WITH A MISSION"], "MAN WITH A MISSION"),
        (["Tony Bennett with Diana Krall", "Tony Bennett", "Tony Bennett"], "Tony Bennett"),
        (["Ada", "Ada feat. Bob", "Ada (ft. Cid)"], "Ada"),
        (["Ada featuring Bob", "Ada feat. Cid"], "Ada"),
        (["Ada feat. Bob", "Ada feat. Bob"], "Ada feat. Bob"),
        (["Simon & Garfunkel"] * 3 + ["Simon"], "Simon & Garfunkel"),
        (["Earth, Wind & Fire"] * 2, "Earth, Wind & Fire"),
        (["Ada", "Ada; Bob", "Ada; Cid", "Ada; Dan"], "Ada"),
        (["Ada", "Ada & Bob"], "Ada"),
        (["Ada", "Bob"], "Various Artists"),
        (["Ada feat. Bob", "Cid feat. Bob"], "Various Artists"),
        (["BJORK", "Bjork", "Bjork"], "Bjork"),
        (["Bjo\u0308rk", "Bj\u00f6rk"], "Bj\u00f6rk"),
        (["Ada", "Ada w/ Bob"], "Ada"),
        (["Ada", "Ada (with Bob)"], "Ada"),
        (["Ada", "Ada feat.Bob"], "Ada"),
        (["Ada", "Ada(ft Bob)"], "Ada"),
        (["Ada", "Ada und Bob"], "Ada"),
        (["Ada", "Ada con Bob"], "Ada"),
        (["Ada", "Ada pres. Bob"], "Ada"),
        (["Ada", "Ada \u2022 Bob", "Ada\u3001Cid", "Ada | Dan"], "Ada"),
        (["Ada", "Ada Lovelace"], "Various Artists"),
        (["Beatles", "The Beatles", "Beatles, The"], "Beatles"),
        (["The Beatles", "Beatles"], "The Beatles"),
        (["AC/DC", "ACDC", "AC-DC"], "ACDC"),
        (["Sigur R\u00f3s", "Sigur Ros"], "Sigur R\u00f3s"),
        (["\uff21\uff24\uff21", "ADA"], "\uff21\uff24\uff21"),
        (["It\u2019s", "It's"], "It\u2019s"),
        (["\u30a2\u30c0", "\u30dc\u30d6"], "Various Artists"),
        (["!!!", "???"], "Various Artists"),
    ],
)
def test_the_artist_of_an_album_is_the_one_that_its_tracks_agree_on(artists: list[str], expected: str) -> None:
    tracks = [track(artist, f"T{number}", number) for number, artist in enumerate(artists)]
    assert folders(tracks) == [f"{expected}/Album"] * len(artists)


def test_albums_with_one_title_and_different_artists_are_different_albums() -> None:
    """Two `Greatest Hits` in one folder: neither takes the other's artist or year."""
    hits = [track("x", albumartist=artist, album="Greatest Hits") for artist in ("Abba", "Queen", "Queen")]
    assert folders(hits) == ["Abba/Greatest Hits", "Queen/Greatest Hits", "Queen/Greatest Hits"]


def test_albums_with_one_title_in_a_folder_of_downloads_are_told_apart_by_their_numbers() -> None:
    """No track says whose album it is, but two artists have the same numbers, and no artist has a number twice."""
    hits = [track(artist, f"{artist} {n}", n, "Greatest Hits") for artist in ("Abba", "Queen") for n in (1, 2, 3)]
    assert folders([*hits, track("Abba feat. Cher", "X", 4, "Greatest Hits")]) == (
        ["Abba/Greatest Hits"] * 3 + ["Queen/Greatest Hits"] * 3 + ["Abba/Greatest Hits"]
    )
    split = [track(artist, f"{artist} {n}", n, "Split") for artist, n in (("Ada", 1), ("Ada", 2), ("Bob", 3))]
    assert set(folders(split)) == {"Ada/Split"}
    compilation = [track(f"Artist {at}", f"T{at}", at % 20 + 1, "Hits") for at in range(40)]
    assert set(folders(compilation)) == {"Various Artists/Hits"}
    marked = [replace(each, compilation=True) for each in hits]
    assert set(folders(marked)) == {"Various Artists/Greatest Hits"}


def test_a_compilation_of_which_each_track_names_its_own_artist_as_the_albums_is_one_album() -> None:
    songs = [track(f"Artist {n}", f"T{n}", n, "Hits", albumartist=f"Artist {n}") for n in (1, 2, 3, 4)]
    assert set(folders(songs)) == {"Various Artists/Hits"}
    assert len(set(folders(songs[1:]))) == 3
    assert len(set(folders([*songs, replace(songs[0], albumartist="Bob", artist="Bob")]))) == 5
    assert len(set(folders([replace(each, artist="Guest") for each in songs]))) == 4


@pytest.mark.parametrize(
    ("artists", "expected"),
    [
        (["The Beatles", "Beatles", "The Beatles"], "The Beatles"),
        (["Ada", "Ada feat. Bob", "Ada"], "Ada"),
        (["Ada", "Ada", "Ada & Bob"], "Ada"),
        (["Various Artists", "VA", "Various Artists", "Various"], "Various Artists"),
        (["Ada\u2019s", "Ada's", "Ada's"], "Ada's"),
    ],
)
def test_guests_and_ways_to_write_the_artist_of_an_album_do_not_split_it(artists: list[str], expected: str) -> None:
    tracks = [track("x", f"T{n}", n, albumartist=artist) for n, artist in enumerate(artists)]
    assert set(folders(tracks)) == {f"{expected}/Album"}


def test_one_album_in_two_formats_is_no_two_albums() -> None:
    both = [track("Ada", f"T{n}", n, format=format) for n in (1, 2) for format in ("flac", "mp3")]
    guests = [replace(each, artist="Bob") if each.track == 2 else each for each in both]
    assert set(folders(guests)) == {"Various Artists/Album"}


@pytest.mark.parametrize(
    ("titles", "expected"),
    [
        (["It\u2019s Ada", "It's Ada", "It\u2019s Ada"], "It\u2019s Ada"),
        (["A\u2013B", "A-B", "A\u2010B", "A-B"], "A-B"),
        (["Low  Tide", "Low Tide", "Low Tide"], "Low Tide"),
        (["\uff2c\uff4f\uff57", "Low", "Low"], "Low"),
        (["\ufb01sh", "fish", "fish"], "fish"),
        (["Wait\u2026", "Wait...", "Wait", "Wait..."], "Wait"),
        (["Low .", "Low", "Low"], "Low"),
        (["\u201cLow\u201d", '"Low"', '"Low"'], "'Low'"),
    ],
)
def test_other_ways_to_write_the_same_characters_split_no_album(titles: list[str], expected: str) -> None:
    tracks = [track("Ada", f"T{number}", number, album=title) for number, title in enumerate(titles)]
    assert set(folders(tracks)) == {f"Ada/{expected}"}


@pytest.mark.parametrize(
    "titles", [["...", "???"], ["1", "\u00b9x"], ["A (Deluxe)", "A"], ["+", "="], ["\u00d7", "\u00f7"], ["Low", "Lo W"]]
)
def test_titles_that_differ_in_what_they_say_are_different_albums(titles: list[str]) -> None:
    assert len(set(folders([track("Ada", album=title) for title in titles]))) == 2


def test_tracks_that_name_no_artist_of_the_album_follow_those_that_do() -> None:
    assert folders([track("Ada", albumartist="Ada"), track("Bob")]) == ["Ada/Album"] * 2


def test_one_release_is_one_album_whatever_its_tracks_say_of_its_artist() -> None:
    tracks = [track("x", albumartist=name, musicbrainz_albumid=ONE) for name in ("Ada", "Ada & Bob", "Ada")]
    assert folders(tracks) == ["Ada/Album"] * 3


def test_releases_with_one_title_keep_their_years() -> None:
    tracks = [track("Ada", musicbrainz_albumid=id, year=year) for id, year in ((ONE, 1999), (OTHER, 2009))]
    paths = shown([("f/1.flac", tracks[0]), ("f/2.flac", tracks[1])], "$album $year/$title.$format")
    assert sorted(paths.values()) == ["Album 1999/T.flac", "Album 2009/T.flac"]


@pytest.mark.parametrize("hidden", ["\u200b", "\ufeff", "\u200e", "\u00ad", "\u2060", "\u061c"])
def test_case_unicode_form_and_invisible_characters_split_no_album(hidden: str) -> None:
    titles = [
        "Cafe\u0301 Tacuba",
        "Caf\u00e9 Tacuba",
        "CAF\u00c9 TACUBA",
        "Caf\u00e9\u00a0Tacuba",
        f"{hidden}Caf\u00e9 {hidden}Tacuba",
    ]
    tracks = [track("Ada", f"T{number}", number, album=title) for number, title in enumerate([*titles, titles[1]])]
    assert set(folders(tracks)) == {"Ada/Caf\u00e9 Tacuba"}


@pytest.mark.parametrize("other", ["It's  Low...", "IT\u2019S LOW\u2026", "\uff29t's Low..."])
def test_a_track_that_two_origins_write_in_other_characters_is_one_track(other: str) -> None:
    entries: list[TreeEntry] = []
    copies: dict[int, list[Copy]] = {}
    for number, (origin, title) in enumerate((("a", "It\u2019s Low..."), ("b", other))):
        tags = json.dumps(track(title, title, album=title).to_json())
        found = [FolderFile(number, origin, f"{origin}/x.flac", "audio", number, tags)]
        entries += FolderPlacer(Template.parse("$title.$format"), found).entries({}, {})
        copies[number] = [Copy(number, origin, f"{origin}/x.flac", number, True, 0)]
    (shown,) = resolve_names(entries, copies, ())
    assert sorted(shown.contents) == [0, 1]
