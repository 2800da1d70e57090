"""What a folder's tracks say together: which of them are one album, whose it is, and the order that they play in."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicfs.catalog.rows import Copy, FolderFile
from musicfs.config.models import TreeConfig
from musicfs.library.naming import resolve_names
from musicfs.library.placement import FolderPlacer
from musicfs.tags.tags import Tags
from musicfs.tags.templates import Template

ONE, OTHER = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


def track(artist: str, title: str = "T", number: int | None = 1, album: str = "Album", **more: object) -> Tags:
    return replace(Tags("flac", "flac", title, artist, album=album, track=number), **more)  # type: ignore[arg-type]


def shown(tracks: Sequence[tuple[str, Tags]], template: str = TreeConfig().template) -> dict[str, str]:
    """The path in the tree of each file, for (path at the origin, tags) of each."""
    files = [
        FolderFile(number, "a", path, "audio", number, json.dumps(tags.to_json()))
        for number, (path, tags) in enumerate(tracks)
    ]
    entries = FolderPlacer(Template.parse(template), files).entries({}, {})
    paths: dict[str, str] = {}
    for dir in {entry.dir for entry in entries}:
        inside = [entry for entry in entries if entry.dir == dir]
        copies = {e.content: [Copy(e.content, "a", files[e.content].path, e.content, True, 0)] for e in inside}
        for file in resolve_names(inside, copies, ()):
            paths.update((files[content].path, f"{dir}/{file.name}") for content in file.contents)
    return paths


def folders(tracks: Sequence[Tags]) -> list[str]:
    """The folders in which the tree shows these tracks of one folder, in their order."""
    paths = shown([(f"folder/{number}.flac", tags) for number, tags in enumerate(tracks)], "$albumartist/$album/$title")
    return [paths[f"folder/{number}.flac"].rpartition("/")[0] for number in range(len(tracks))]


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
    ],
)
def test_the_artist_of_an_album_is_the_one_that_its_tracks_agree_on(artists: list[str], expected: str) -> None:
    tracks = [track(artist, f"T{number}", number) for number, artist in enumerate(artists)]
    assert folders(tracks) == [f"{expected}/Album"] * len(artists)


def test_albums_with_one_title_and_different_artists_are_different_albums() -> None:
    """Two `Greatest Hits` in one folder: neither takes the other's artist or year."""
    hits = [track("x", albumartist=artist, album="Greatest Hits") for artist in ("Abba", "Queen", "Queen")]
    assert folders(hits) == ["Abba/Greatest Hits", "Queen/Greatest Hits", "Queen/Greatest Hits"]


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


def names(tracks: Sequence[tuple[str, Tags]]) -> list[str]:
    return sorted(path.rpartition("/")[2] for path in shown(tracks).values())


def test_sides_of_a_record_are_shown_as_they_play() -> None:
    sides = (("A1", "Zebra"), ("A2", "Mango"), ("B1", "Apple"), ("B10", "Kiwi"))
    tagged = [(f"LP/{title}.flac", track("Ada", title, None, track_label=side)) for side, title in sides]
    assert names(tagged) == ["A01 - Zebra.flac", "A02 - Mango.flac", "B01 - Apple.flac", "B10 - Kiwi.flac"]
    named = [(f"LP/{side} {title}.flac", track("Ada", title, None)) for side, title in sides[:3]]
    assert names(named) == ["A1 - Zebra.flac", "A2 - Mango.flac", "B1 - Apple.flac"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("0{n} - {title}", "0{n} - {title}"),
        ("0{n}-ada-{title}-grp", "0{n} - {title}"),
        ("{n}. {title}", "0{n} - {title}"),
        ("[0{n}] {title}", "0{n} - {title}"),
        ("0{n}_{title}", "0{n} - {title}"),
        ("Ada - Album - 0{n} - {title}", "0{n} - {title}"),
        ("1-0{n} {title}", "0{n} - {title}"),
        ("2-0{n} {title}", "2-0{n} - {title}"),
        ("30{n} {title}", "30{n} - {title}"),
    ],
)
def test_a_number_that_only_the_name_has_is_kept(pattern: str, expected: str) -> None:
    titles = ["Zebra", "Mango", "Apple"]
    files = [
        (f"N/{pattern.format(n=number, title=title)}.flac", track("Ada", title, None))
        for number, title in enumerate(titles, 1)
    ]
    assert names(files) == [f"{expected.format(n=n, title=title)}.flac" for n, title in enumerate(titles, 1)]


@pytest.mark.parametrize(
    ("stem", "artist", "title"),
    [
        ("99 Luftballons", "Nena", "99 Luftballons"),
        ("7_rings", "Ada", "7 Rings"),
        ("50 Cent - Candy Shop", "50 Cent", "Candy Shop"),
        ("2019-05-01 Monday", "Radio", "Monday"),
        ("U2 - One", "U2", "One"),
        ("1979 live", "Ada", "Live"),
    ],
)
def test_a_number_of_the_title_or_the_artist_is_no_track_number(stem: str, artist: str, title: str) -> None:
    files = [(f"N/{stem}.flac", track(artist, title, None)), ("N/Other.flac", track(artist, "Other", None))]
    assert names(files) == sorted([f"{title}.flac", "Other.flac"])


def test_numbers_in_names_that_repeat_are_no_track_numbers() -> None:
    files = [(f"N/128 {title}.mp3", track("Ada", title, None)) for title in ("Zebra", "Mango")]
    assert names(files) == ["Mango.flac", "Zebra.flac"]


def test_numbers_are_as_wide_as_the_greatest_of_the_album() -> None:
    book = [(f"Book/{n}.flac", track("Ada", f"Chapter {n}", n)) for n in (9, 11, 100)]
    assert names(book) == ["009 - Chapter 9.flac", "011 - Chapter 11.flac", "100 - Chapter 100.flac"]
    box = [(f"Box/CD{n}/1.flac", track("Ada", f"D{n}", 1, disc=n)) for n in (1, 2, 10)]
    assert names(box) == ["01-01 - D1.flac", "02-01 - D2.flac", "10-01 - D10.flac"]


@pytest.mark.parametrize("title", ["...", ".", " . . ", "\u200d..."])
def test_a_title_that_no_name_can_show_gives_way_to_the_name_of_the_file(title: str) -> None:
    assert names([("N/01 Dots.flac", track("Ada", title, 1))]) == ["01 - Dots.flac"]


def natural(name: str) -> list[tuple[bool, int, str]]:
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.findall(r"\d+|\D+", name)]


TITLES = st.lists(st.sampled_from(["Zebra", "apple", "Mango", "Éclair", "kiwi", "Live", "b"]), min_size=1, max_size=30)


@given(
    TITLES,
    st.integers(1, 3),
    st.sampled_from(["{n:02} - {t}", "{n} {t}", "{n:03}. {t}", "Ada - {n:02} - {t}", "{t} {n:04}"]),
    st.booleans(),
    st.sampled_from([0, 90, 95]),
)
def test_a_folder_that_sorts_as_it_plays_sorts_so_in_the_tree(
    titles: list[str], discs: int, pattern: str, tagged: bool, first: int
) -> None:
    """By number, whether the tags or only the names have it, with up to three discs and any number of tracks."""
    tagged = tagged or pattern.startswith("{t}")
    files = []
    for disc in range(1, discs + 1):
        for number, title in enumerate(titles, first + 1):
            folder = f"A/CD{disc}" if discs > 1 else "A"
            tags = track("Ada", title, number if tagged else None)
            files.append((f"{folder}/{pattern.format(n=number, t=title)}.flac", tags))
    paths = shown(files)
    assert len(set(paths.values())) == len(files)
    assert sorted(paths.values(), key=str.encode) == [paths[path] for path, _ in files]
