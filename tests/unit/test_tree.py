"""Names in one directory: collisions, variants, and that nothing depends on the order of things."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from musicfs.library.placing import fold
from musicfs.library.rows import Copy, Entry
from musicfs.library.tree import Shown, settle_names


def entry(content: int, name: str, key: str, *, disc_name: str = "", discs: bool = False) -> Entry:
    return Entry(content, "dir", name, disc_name or name, discs, key, content)


def copy(content: int, origin: str = "a", path: str = "", *, reachable: bool = True, priority: int = 0) -> Copy:
    return Copy(content, origin, path or f"p{content}", b"", content, reachable, priority, 1, 1)


def test_different_tracks_that_ask_for_one_name_are_told_apart() -> None:
    entries = [entry(1, "01 - A.flac", "x"), entry(2, "01 - A.flac", "y")]
    shown = settle_names(entries, {1: [copy(1)], 2: [copy(2)]}, ())
    assert shown[0] == Shown("01 - A.flac", (1,))
    assert shown[1].contents == (2,)
    assert shown[1].name.startswith("01 - A [")
    assert shown[1].name.endswith("].flac")


def test_names_that_differ_in_case_only_collide() -> None:
    entries = [entry(1, "song.flac", "x"), entry(2, "Song.flac", "y")]
    names = [s.name for s in settle_names(entries, {1: [copy(1)], 2: [copy(2)]}, ())]
    assert len({fold(n) for n in names}) == 2


def test_one_track_in_two_contents_at_two_origins_is_one_name() -> None:
    """The variant whose best replica ranks first by priority is shown."""
    entries = [entry(1, "A.flac", "x"), entry(2, "A.flac", "x")]
    copies = {1: [copy(1, "slow", priority=2)], 2: [copy(2, "fast", priority=1)]}
    assert settle_names(entries, copies, ()) == [Shown("A.flac", (2, 1))]


def test_a_variant_that_cannot_be_reached_is_not_the_one_shown() -> None:
    entries = [entry(1, "A.flac", "x"), entry(2, "A.flac", "x")]
    copies = {1: [copy(1, "slow", priority=2)], 2: [copy(2, "fast", priority=1, reachable=False)]}
    assert settle_names(entries, copies, ()) == [Shown("A.flac", (1, 2))]


def test_files_of_one_origin_with_equal_tags_are_all_listed() -> None:
    """Two files that somebody keeps side by side are two files, whatever their tags say: none may vanish."""
    entries = [entry(1, "Track.mp3", "x"), entry(2, "Track.mp3", "x"), entry(3, "Track.mp3", "x")]
    copies = {1: [copy(1, "a", "one.mp3")], 2: [copy(2, "a", "two.mp3")], 3: [copy(3, "b", "one.mp3")]}
    shown = settle_names(entries, copies, ())
    assert sorted(len(s.contents) for s in shown) == [1, 2]
    assert {frozenset(s.contents) for s in shown} == {frozenset({1, 3}), frozenset({2})}


def test_a_directory_keeps_its_name_and_the_file_gives_way() -> None:
    shown = settle_names([entry(1, "Live", "x")], {1: [copy(1)]}, ["Live"])
    assert shown[0].name != "Live"


def test_one_track_with_a_second_disc_gives_every_track_its_disc() -> None:
    entries = [
        entry(1, "01 - A.flac", "x", disc_name="1-01 - A.flac"),
        entry(2, "01 - B.flac", "y", disc_name="2-01 - B.flac", discs=True),
    ]
    names = {s.name for s in settle_names(entries, {1: [copy(1)], 2: [copy(2)]}, ())}
    assert names == {"1-01 - A.flac", "2-01 - B.flac"}


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
    shown = settle_names(entries, copies, ["b.mp3"])
    folded = [fold(s.name) for s in shown]
    assert len(set(folded)) == len(folded)
    assert "b.mp3" not in folded
    assert sorted(c for s in shown for c in s.contents) == list(range(len(wanted)))
    assert all(len(s.name.encode()) <= 255 for s in shown)
    shuffled = list(entries)
    random.Random(seed).shuffle(shuffled)
    assert sorted(settle_names(shuffled, copies, ["b.mp3"]), key=str) == sorted(shown, key=str)
