"""What a folder's tracks say together: which of them are one album, whose it is, and the order that they play in."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicfs.catalog.rows import Copy, FolderFile, TreeEntry
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


def names(tracks: Sequence[tuple[str, Tags]]) -> list[str]:
    return sorted(path.rpartition("/")[2] for path in shown(tracks).values())


def test_tracks_in_parts_are_shown_as_they_play() -> None:
    parts = [("3a", "Zebra"), ("3b", "Apple"), ("4", "Mango")]
    files = [(f"N/{t}.flac", track("Ada", t, int(label[0]), track_label=label)) for label, t in parts]
    assert names(files) == ["03a - Zebra.flac", "03b - Apple.flac", "04 - Mango.flac"]


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
        ("0{n}", "0{n} - {title}"),
        ("track0{n}", "0{n} - {title}"),
        ("Audio Track 0{n}", "0{n} - {title}"),
        ("000{n} {title}", "0{n} - {title}"),
        ("#0{n} {title}", "0{n} - {title}"),
        ("0{n}\u2013{title}", "0{n} - {title}"),
        ("0{n}~{title}", "0{n} - {title}"),
        ("0{n}{title}", "0{n} - {title}"),
        ("CD2 0{n} {title}", "2-0{n} - {title}"),
        ("CD2-0{n}", "2-0{n} - {title}"),
        ("d2t0{n} {title}", "2-0{n} - {title}"),
        ("Disc 2 - 0{n} - {title}", "2-0{n} - {title}"),
        ("Ada-0{n}-{title}", "0{n} - {title}"),
        ("Ada - Album (0{n}) {title}", "0{n} - {title}"),
        ("Album 0{n} {title}", "0{n} - {title}"),
        ("Chapter {n} {title}", "0{n} - {title}"),
        ("S01E0{n} {title}", "0{n} - {title}"),
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
        ("1999 - Song", "Ada", "Song"),
        ("99 Problems (Explicit)", "Ada", "99 Problems"),
        ("7 Rings", "Ada", "7 Rings (Remix)"),
        ("22", "Ada", "22"),
        ("4'33''", "Ada", "4'33''"),
        ("Ada - Symphony No. 1", "Ada", "Symphony No. 1"),
    ],
)
def test_a_number_of_the_title_or_the_artist_is_no_track_number(stem: str, artist: str, title: str) -> None:
    files = [(f"N/{stem}.flac", track(artist, title, None)), ("N/Other.flac", track(artist, "Other", None))]
    assert names(files) == sorted([f"{title}.flac", "Other.flac"])


def test_numbers_in_names_that_repeat_are_no_track_numbers() -> None:
    files = [(f"N/128 {title}.mp3", track("Ada", title, None)) for title in ("Zebra", "Mango")]
    assert names(files) == ["Mango.flac", "Zebra.flac"]


@pytest.mark.parametrize("title", ["Symphony No. {n}", "Etude {n} in C", "{n} Hours"])
def test_the_number_of_a_title_after_what_all_names_begin_with_is_no_track_number(title: str) -> None:
    titles = [title.format(n=number) for number in (5, 6, 7)]
    files = [(f"N/Ada plays {each}.flac", track("Ada", each, None)) for each in titles]
    assert names(files) == sorted(f"{each}.flac" for each in titles)


@pytest.mark.parametrize(
    "pattern", ["{d}-{n:02} {t}", "{d}.{n:02} {t}", "{d}{n:02} {t}", "CD{d} {n:02} {t}", "d{d}t{n:02}"]
)
def test_discs_that_only_the_names_of_files_say_keep_equal_numbers_apart(pattern: str) -> None:
    titles = ["Zebra", "Mango", "Apple"]
    every = [(disc, number, title) for disc in (1, 2) for number, title in enumerate(titles, 1)]
    files = [(f"Box/{pattern.format(d=d, n=n, t=t)}.flac", track("Ada", f"{t} {d}", n)) for d, n, t in every]
    assert names(files) == [f"{d}-0{n} - {t} {d}.flac" for d, n, t in every]


def test_names_that_number_all_discs_of_a_folder_in_one_go_keep_equal_numbers_apart() -> None:
    files = [(f"Box/{at:02} x.flac", track("Ada", f"T{9 - at}", (at - 1) % 3 + 1)) for at in range(1, 7)]
    assert names(files) == [f"{at:02} - T{9 - at}.flac" for at in range(1, 7)]


def test_where_numbers_in_tags_repeat_those_of_names_count_if_there_are_any() -> None:
    files = [("Box/1-07 x.flac", track("Ada", "One", 1)), ("Box/2-09 x.flac", track("Ada", "Two", 1))]
    assert names(files) == ["1-07 - One.flac", "2-09 - Two.flac"]
    same = [("Box/take one.flac", track("Ada", "One", 1)), ("Box/take two.flac", track("Ada", "Two", 1))]
    assert names(same) == ["01 - One.flac", "01 - Two.flac"]


@pytest.mark.parametrize(
    ("folder", "album"),
    [
        ("Hits/CD{n}", "Hits (Disc {n})"),
        ("Hits [CD{n}]", "Hits [CD{n}]"),
        ("Hits CD{n}", "Hits"),
        ("Ada - Hits - Disc {n}", "Hits"),
        ("Hits (Disc {n} of 2)", "Hits, Disc {n}"),
        ("Hits/{n}", "Hits"),
        ("Hits/Part {n}", "Hits"),
        ("Hits/LP{n}", "Hits"),
        ("Hits (1999)/Vol. 0{n}", "Hits"),
        ("Ada - Hits (2001)/0{n}", "Hits"),
        ("Hits/disc{n}", "Hits (disc {n}: Rare)"),
    ],
)
def test_the_discs_of_an_album_are_one_folder_whichever_name_says_them(folder: str, album: str) -> None:
    paths = {}
    for disc in (1, 2):
        files = [
            (f"{folder.format(n=disc)}/{number}.flac", track("Ada", f"T{9 - number}", number, album.format(n=disc)))
            for number in (1, 2)
        ]
        paths[disc] = shown(files, "$albumartist/$album/$disc-$track")
    assert [sorted(found.values()) for found in paths.values()] == [
        [f"Ada/Hits/{disc}-01", f"Ada/Hits/{disc}-02"] for disc in (1, 2)
    ]


@pytest.mark.parametrize(
    ("folder", "tags"),
    [
        ("Adele/25", track("Adele", album="25 (Deluxe)")),
        ("Hits/Vol. 2 Live", track("Ada", album="Hits")),
        ("Ada/Season 2", track("Ada", album="Show")),
        ("Chicago/17", track("Chicago", album="Chicago 17")),
        ("Hits/Vol. 2", track("Ada", album="Hits Vol. 2")),
        ("Hits", track("Ada", album="Hits (Disc 2)", disc=1)),
        ("ABCD2", track("Ada", album="ABCD2")),
        ("CDs", track("Ada", album="CD2")),
    ],
)
def test_other_numbers_of_albums_and_folders_are_no_discs(folder: str, tags: Tags) -> None:
    paths = shown([(f"{folder}/01.flac", tags)], "$album/x$disc $title")
    assert list(paths.values()) == [f"{tags.album}/x{tags.disc or ''} T"]


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
