"""`musicfs problems` and `musicfs status` say what is left out of the tree, and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import Commands, commands, make_album

COUNT = "music: 1 file could not be parsed: shown without tags."


@pytest.fixture
def user() -> Iterator[Commands]:
    with commands() as user:
        make_album(user.home / "music/Album")
        (user.home / "music/Bad").mkdir()
        (user.home / "music/Bad/noise.flac").write_bytes(b"no music")
        assert user("mount", user.home / "m", "--origin", f"music={user.home}/music").returncode == 0
        assert user("scan").returncode == 0
        yield user


def shown(home: Path) -> Path:
    return next((home / "m").rglob("noise.flac"))


def test_what_lacks_its_tags_is_said_until_it_is_dismissed(user: Commands) -> None:
    status = user("status").stdout
    assert status.startswith("Your music plays, but something deserves a look.\nNext: `musicfs problems` lists what is")
    assert f"\n{COUNT}\n" in status
    listed = user("problems").stdout.splitlines()
    assert listed[0].split() == ["ORIGIN", "PATH", "REASON", "WHAT", "WAS", "SAID"]
    assert listed[1].startswith("music   Bad/noise.flac  damaged  the content is no kind of audio that MusicFS knows")
    assert len(listed) == 2

    assert user("problems", "--dismiss").stdout == "1 problem dismissed.\n"
    assert user("status").stdout.startswith("Your music is fine.")
    assert user("problems").stdout == "There are no problems.\n"
    assert "damaged" in user("problems", "--all").stdout
    assert user("problems", "--undismiss").stdout == "1 problem no longer dismissed.\n"
    assert COUNT in user("status").stdout


def test_a_problem_is_found_by_origin_by_path_and_by_the_file_in_the_mount(user: Commands) -> None:
    found = user.json("problems")["problems"]
    assert [each["path"] for each in found] == ["Bad/noise.flac"]
    whole = "music", user.home / "m", user.home / "music"
    for where in (*whole, "music:Bad", "music:Bad/noise.flac", user.home / "music/Bad", shown(user.home)):
        assert user.json("problems", where)["problems"] == found, where
    for where in ("music:Album", user.home / "music/Album", next((user.home / "m").rglob("01*.flac"))):
        assert user.json("problems", where)["problems"] == [], where
    assert user.json("problems", "--reason", "denied")["problems"] == []
    done = user("problems", "nas:Bad")
    assert done.returncode == 1
    assert "nas:Bad is no origin, and lies in none; write ORIGIN or ORIGIN:PATH. Origins: music." in done.stderr


def test_what_has_no_place_in_the_tree_is_counted(user: Commands) -> None:
    music = user.home / "music"
    (music / "Holiday").mkdir()
    for path in (
        "Holiday/beach.JPG",
        "Holiday/sea.jpg",
        "Album/cover.jpg",
        "Album/AlbumArtSmall.jpg",
        "Holiday/log.txt",
    ):
        (music / path).write_bytes(path.encode())
    assert user("scan").returncode == 0
    assert user("problems").stdout.splitlines()[2:] == [
        "music: 3 left out, beside no music or beside a better picture: .jpg",
        "music: 1 left out, beside no music or beside a better picture: .txt",
    ]
    says = "files left out: beside no music, or beside a better picture"
    counts = {count["subject"]: count for count in user.json("problems")["counts"]}
    assert (counts[".jpg"]["says"], counts[".jpg"]["note"]) == (f"3 {says}", True)
    assert "4 files left out" in user("status").stdout
