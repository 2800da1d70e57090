"""Names in one directory: collisions, variants, and that nothing depends on the order of things."""

from __future__ import annotations

import asyncio
import random
from itertools import permutations
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from musicfs.catalog.rows import Copy, TreeEntry, make_key
from musicfs.library import naming
from musicfs.library.directories import Directories
from musicfs.library.naming import Shown, resolve_names
from musicfs.library.placement import fold
from musicfs.library.tree_changes import TreeChanges
from musicfs.tags.names import with_suffix_tag
from tests.support.library import scanned_library


def entry(content: int, name: str, key: str, *, disc_name: str = "", discs: bool = False) -> TreeEntry:
    return TreeEntry(content, "dir", name, disc_name or name, discs, key, content)


def copy(content: int, origin: str = "a", path: str = "", *, reachable: bool = True, priority: int = 0) -> Copy:
    return Copy(content, origin, path or f"p{content}", content, reachable, priority)


def test_different_tracks_that_ask_for_one_name_get_different_names() -> None:
    entries = [entry(1, "01 - A.flac", "x"), entry(2, "01 - A.flac", "y")]
    shown = resolve_names(entries, {1: [copy(1)], 2: [copy(2)]}, ())
    assert shown[0] == Shown("01 - A.flac", (1,))
    assert shown[1].contents == (2,)
    assert shown[1].name.startswith("01 - A [")
    assert shown[1].name.endswith("].flac")


def test_names_that_differ_in_case_only_collide() -> None:
    entries = [entry(1, "song.flac", "x"), entry(2, "Song.flac", "y")]
    names = [s.name for s in resolve_names(entries, {1: [copy(1)], 2: [copy(2)]}, ())]
    assert len({fold(n) for n in names}) == 2


def test_one_track_in_two_contents_at_two_origins_is_one_name() -> None:
    """The variant whose best replica ranks first by priority is shown."""
    entries = [entry(1, "A.flac", "x"), entry(2, "A.flac", "x")]
    copies = {1: [copy(1, "slow", priority=2)], 2: [copy(2, "fast", priority=1)]}
    assert resolve_names(entries, copies, ()) == [Shown("A.flac", (2, 1))]


def test_a_variant_that_cannot_be_reached_is_not_the_one_shown() -> None:
    entries = [entry(1, "A.flac", "x"), entry(2, "A.flac", "x")]
    copies = {1: [copy(1, "slow", priority=2)], 2: [copy(2, "fast", priority=1, reachable=False)]}
    assert resolve_names(entries, copies, ()) == [Shown("A.flac", (1, 2))]


def test_files_of_one_origin_with_equal_tags_are_all_listed() -> None:
    """Two files that somebody keeps side by side are two files, whatever their tags say: none may vanish."""
    entries = [entry(1, "Track.mp3", "x"), entry(2, "Track.mp3", "x"), entry(3, "Track.mp3", "x")]
    copies = {1: [copy(1, "a", "one.mp3")], 2: [copy(2, "a", "two.mp3")], 3: [copy(3, "b", "one.mp3")]}
    shown = resolve_names(entries, copies, ())
    assert sorted(len(s.contents) for s in shown) == [1, 2]
    assert {frozenset(s.contents) for s in shown} == {frozenset({1, 3}), frozenset({2})}


def test_files_of_one_origin_whose_paths_differ_only_in_case_or_accents_are_all_listed() -> None:
    paths = ["x/\u00e9.mp3", "x/e\u0301.mp3", "X/\u00c9.mp3"]
    copies = {number: [copy(number, "a", path)] for number, path in enumerate(paths)}
    entries = [entry(number, "Track.mp3", "x") for number in copies]
    results = [resolve_names(order, copies, ()) for order in permutations(entries)]
    assert sorted(shown.contents for shown in results[0]) == [(0,), (1,), (2,)]
    assert all(result == results[0] for result in results)
    twice = {0: [copy(0, "a", "x/a.mp3"), copy(0, "a", "X/a.mp3")], 1: [copy(1, "b", "x/a.mp3")]}
    assert len(resolve_names([entry(0, "Track.mp3", "x"), entry(1, "Track.mp3", "x")], twice, ())) == 1


def test_a_directory_keeps_its_name_and_the_file_gives_way() -> None:
    shown = resolve_names([entry(1, "Live", "x")], {1: [copy(1)]}, ["Live"])
    assert shown[0].name != "Live"


def test_one_track_with_a_second_disc_gives_every_track_its_disc() -> None:
    entries = [
        entry(1, "01 - A.flac", "x", disc_name="1-01 - A.flac"),
        entry(2, "01 - B.flac", "y", disc_name="2-01 - B.flac", discs=True),
    ]
    names = {s.name for s in resolve_names(entries, {1: [copy(1)], 2: [copy(2)]}, ())}
    assert names == {"1-01 - A.flac", "2-01 - B.flac"}


def music(content: int, seconds: float | None = None, *ids: str) -> TreeEntry:
    traits = (*ids, "", "", "")[:3]
    return entry(content, "01 - A.flac", make_key("tags:", ["x"], [*traits, str(seconds or "")]))


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (music(1, 100.0), music(2, 102.9), True),
        (music(1, 100.0), music(2, 103.1), False),
        (music(1, 100.0), music(2), True),
        (music(1, 100.0, "release"), music(2, 100.0, "release"), True),
        (music(1, 100.0, "release"), music(2, 100.0, "reissue"), False),
        (music(1, 100.0, "release"), music(2, 100.0), True),
        (music(1, 100.0, "release", "studio"), music(2, 100.0, "release", "live"), False),
        (music(1, 100.0, "release", "studio", "a1"), music(2, 100.0, "release", "studio", "b1"), False),
    ],
)
def test_equal_tags_at_two_origins_are_one_track_unless_length_or_ids_differ(
    one: TreeEntry, other: TreeEntry, is_same: bool
) -> None:
    copies = {1: [copy(1, "a")], 2: [copy(2, "b")]}
    shown = resolve_names([one, other], copies, ())
    assert len(shown) == (1 if is_same else 2)
    assert sorted(content for each in shown for content in each.contents) == [1, 2]
    assert sorted(resolve_names([other, one], copies, ()), key=str) == sorted(shown, key=str)


def test_a_track_has_one_name_though_its_number_is_wider_at_one_origin() -> None:
    key = make_key("tags:", ["x"], ["", "", "", ""])
    entries = [entry(1, "1-01 - A.flac", key), entry(2, "01-01 - A.flac", key)]
    assert resolve_names(entries, {1: [copy(1, "a")], 2: [copy(2, "b")]}, ()) == [Shown("01-01 - A.flac", (1, 2))]


def test_what_follows_a_track_has_its_name_also_after_a_collision() -> None:
    tracks = [entry(1, "01 - A.wv", "x"), entry(2, "01 - A.wv", "y")]
    keys = {n: make_key("of:", ["xy"[n - 1], ".wvc"], [str(n)]) for n in (1, 2)}
    followers = [TreeEntry(10 + n, "dir", "A.wvc", "A.wvc", False, key, 10 + n) for n, key in keys.items()]
    copies = {n: [copy(n)] for n in (1, 2, 11, 12)}
    names = {each.contents[0]: each.name for each in resolve_names([*followers, *tracks], copies, ())}
    assert names[1] != names[2]
    assert {names[n + 10] for n in (1, 2)} == {f"{names[n]}c" for n in (1, 2)}
    assert names[12] == f"{names[2]}c"


names = st.sampled_from(["a.mp3", "A.mp3", "b.mp3", "b [123456].mp3", "é.mp3", "é.mp3", "x" * 251 + ".mp3"])
keys = st.sampled_from(["k1", "k2", "k3"])
origins = st.sampled_from(["o1", "o2", "o3"])


@given(
    st.lists(st.tuples(names, keys, st.lists(origins, min_size=1, max_size=3, unique=True)), max_size=12),
    st.integers(),
)
def test_names_are_unique_complete_and_independent_of_order(
    wanted: list[tuple[str, str, list[str]]], seed: int
) -> None:
    entries = [entry(n, name, key) for n, (name, key, _) in enumerate(wanted)]
    copies = {
        n: sorted((copy(n, o, f"path{n}") for o in held), key=lambda c: (c.path, c.origin))
        for n, (_, _, held) in enumerate(wanted)
    }
    shown = resolve_names(entries, copies, ["b.mp3"])
    folded = [fold(s.name) for s in shown]
    assert len(set(folded)) == len(folded)
    assert "b.mp3" not in folded
    assert sorted(c for s in shown for c in s.contents) == list(range(len(wanted)))
    assert all(len(s.name.encode()) <= 255 for s in shown)
    shuffled = list(entries)
    random.Random(seed).shuffle(shuffled)
    assert sorted(resolve_names(shuffled, copies, ["b.mp3"]), key=str) == sorted(shown, key=str)


def crafted(count: int) -> tuple[list[TreeEntry], dict[int, list[Copy]]]:
    """Two files that ask for one name, and as many that have the names that the second would get."""
    digest = blake3(b"y").hexdigest()
    tags = [digest[:length] for length in range(6, 65)] + [f"{digest}-{number}" for number in range(2, count)]
    names = ["01.mp3", "01.mp3", *(f"01 [{tag}].mp3" for tag in tags[:count])]
    entries = [entry(number, name, "xy"[number] if number < 2 else name) for number, name in enumerate(names)]
    return entries, {each.content: [copy(each.content)] for each in entries}


@pytest.mark.parametrize("count", [0, 1, 58, 59, 60, 61, 500])
def test_a_name_is_found_however_many_of_its_tags_are_taken(count: int) -> None:
    entries, copies = crafted(count)
    shown = resolve_names(entries, copies, ())
    assert len({fold(each.name) for each in shown}) == len(entries)
    (tagged,) = [each.name for each in shown if each.contents == (1,)]
    digest = blake3(b"y").hexdigest()
    tag = digest[: 6 + count] if count < 59 else f"{digest}-{count - 57}"
    assert tagged == f"01 [{tag}].mp3"
    random.Random(1).shuffle(entries)
    assert sorted(resolve_names(entries, copies, ()), key=str) == sorted(shown, key=str)


def test_names_that_are_cut_to_one_are_counted_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one key, so that one digest has to serve for all: each of them gets its number at once."""
    made = []

    def counted(name: str, tag: str) -> str:
        made.append(tag)
        return with_suffix_tag(name, tag)

    monkeypatch.setattr(naming, "with_suffix_tag", counted)
    names = ["a" * 240 + f"{number:04}.mp3" for number in range(300)]
    entries = [entry(number, name, "x") for number, name in enumerate(names)]
    entries += [entry(300 + number, name, "x") for number, name in enumerate(names)]
    copies = {each.content: [copy(each.content)] for each in entries}
    shown = resolve_names(entries, copies, dict.fromkeys(names, ""))
    assert len({fold(each.name) for each in shown}) == len(shown)
    assert len(made) <= 62 * len(shown)


def test_many_files_that_give_way_to_directories_are_settled_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder at one origin has the name of a file at the other, a hundred times."""
    for number in range(100):
        for path, data in ((f"b/{number}.mp3", b"x"), (f"a/{number}.mp3/cover.jpg", b"y")):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(data + str(number).encode())
    settled: list[str] = []
    with scanned_library(tmp_path / "library", template="$path") as library:
        settle = library.builder._resolve

        def counted(dir: str, directories: Directories, changes: TreeChanges) -> None:
            settled.append(dir)
            settle(dir, directories, changes)

        monkeypatch.setattr(library.builder, "_resolve", counted)
        library.configure({"b": tmp_path / "b", "a": tmp_path / "a"})
        asyncio.run(library.scan())
        assert len(library.paths()) == 200
    assert settled.count("") <= 3
