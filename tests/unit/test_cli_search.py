"""`musicfs search`, with a mount and without one."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.commands import Commands, commands, make_album


@pytest.fixture
def user() -> Iterator[Commands]:
    with commands() as user:
        make_album(user.home / "music/a", artist="Nina Simone", album="Pastel Blues")
        make_album(user.home / "music/b", artist="Björk", album="=Debut", seed=9)
        yield user


def searched(user: Commands, *arguments: str) -> Any:
    """What a search finds once the index has everything."""
    deadline = time.monotonic() + 60
    while (found := user.json("search", *arguments))["pending"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found["pending"] == 0
    return found


def test_a_mount_is_searched(user: Commands) -> None:
    assert user("mount", user.home / "m", "--origin", f"music={user.home}/music").returncode == 0
    assert user("scan").returncode == 0
    found = searched(user, "bjork")
    paths = [track["path"] for track in found["tracks"]]
    assert len(paths) == 3
    assert all((user.home / "m" / path).is_file() for path in paths)
    assert found["tracks"][0]["tags"]["artist"] == "Björk"
    assert user("search", "bjork").stdout.splitlines() == paths
    assert [album["tracks"] for album in searched(user, "--albums", "year:2001")["albums"]] == [3, 3]

    playlist = user("search", "bjork", "title:=Song 2", "--m3u8").stdout.splitlines()
    assert playlist == ["#EXTM3U", "#EXTINF:1,Björk - Song 2", f"{user.home}/m/{paths[1]}"]
    rows = list(csv.DictReader(io.StringIO(user("search", "bjork", "--csv").stdout)))
    assert [row["path"] for row in rows] == paths
    assert rows[0]["album"] == "'=Debut"
    assert user("search", "--albums", "simone").stdout.splitlines()[0].split() == ["ALBUM", "TRACKS", "YEAR"]

    near = user("search", "simoni")
    assert len(near.stdout.splitlines()) == 3
    assert near.stderr == "musicfs: nothing has 'simoni'; this is what has 'simone'.\n"
    assert user("search", "coltrane").stdout == "Nothing was found.\n"
    assert user("search", "--limit", "2", "song").stdout.splitlines()[2:] == ["There is more; --limit N shows it."]


def test_a_catalogue_without_a_mount_is_searched_after_a_scan(user: Commands) -> None:
    cache = user.home / "cache-of-it"
    arguments = "--origin", f"music={user.home}/music", "--cache-dir", str(cache)
    none = user("search", "simone", "--cache-dir", cache)
    assert none.returncode == 1
    assert "There is no catalogue in" in none.stderr
    assert user("scan", *arguments).returncode == 0
    found = user.json("search", "simone", "--cache-dir", cache)
    assert (len(found["tracks"]), found["pending"]) == (3, 0)


def test_what_cant_be_searched_is_one_sentence(user: Commands) -> None:
    for arguments, code, words in (
        (("artits:x",), 1, "musicfs: The query can't be read at character 1: there is no field 'artits'"),
        (("x",), 1, "musicfs: Nothing is mounted"),
        (("x", "--json", "--csv"), 2, "musicfs: Use only one of --json, --csv and --m3u8."),
        (("x", "--albums", "--m3u8"), 2, "musicfs: A playlist has tracks: leave out --albums."),
    ):
        done = user("search", *arguments)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith(words), done.stderr
        assert len(done.stderr.splitlines()) == 1
