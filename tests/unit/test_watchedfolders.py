"""The folders that the kernel watches, by the numbers of their watches."""

from __future__ import annotations

import sys

from musicfs.origins.local.watch_table import WatchedFolders


def test_each_number_has_its_folder_until_it_is_dropped() -> None:
    folders = WatchedFolders()
    paths = {1: "", 2: "Artist", 3: "Artist/Album é", 7: "not UTF-8 \udcff"}
    for number, path in paths.items():
        folders[number] = path
    assert dict(folders.items()) == paths
    assert folders.get(2) == "Artist"
    assert folders.pop(2) == "Artist"
    assert folders.pop(2) is None
    assert [folders.get(number) for number in (-1, 0, 2, 5, 8)] == [None] * 5
    assert dict(folders.items()) == {number: path for number, path in paths.items() if number != 2}


def test_what_was_added_later_joins_and_a_number_may_come_again() -> None:
    folders, more = WatchedFolders(), WatchedFolders()
    folders[1], folders[2] = "a", "b"
    more[2], more[4] = "moved", "c"
    folders.update(more)
    assert dict(folders.items()) == {1: "a", 2: "moved", 4: "c"}


def test_saying_the_same_again_takes_no_room() -> None:
    folders = WatchedFolders()
    for _ in range(2):
        folders[1] = "Artist/Album"
        once = len(vars(folders)["_text"])
    assert once == len("Artist/Album")


def test_dropping_while_going_over_them_misses_none() -> None:
    folders = WatchedFolders()
    for number in range(100):
        folders[number] = f"folder {number}"
    for number, path in folders.items():
        if number % 3:
            assert folders.pop(number) == path
    assert [number for number, _ in folders.items()] == list(range(0, 100, 3))


def test_a_hundred_thousand_folders_take_a_few_megabytes() -> None:
    folders = WatchedFolders()
    for number in range(100_000):
        folders[number] = f"Artist {number // 10}/Album of some length {number}"
    size = sum(map(sys.getsizeof, vars(folders).values()))
    assert size < 8_000_000
