"""The discs and numbers of tracks, whichever names say them, and that names sort as the music plays."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicfs.tags.tags import Tags
from tests.support.placing import names, shown, track


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
        ("Santana/Santana 3", track("Santana", album="Santana")),
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


def test_a_disc_of_number_zero_is_a_disc_if_there_is_another() -> None:
    every = [(f"Box/{d}{n}.flac", track("Ada", f"T{d}{n}", n, disc=d)) for d in (0, 1) for n in (1, 2)]
    assert names(every) == ["0-01 - T01.flac", "0-02 - T02.flac", "1-01 - T11.flac", "1-02 - T12.flac"]
    assert names(every[:2]) == ["01 - T01.flac", "02 - T02.flac"]


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
