"""`musicfs scan --explain` says what a scan makes of a file, and a bundle of it is explained alike."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mutagen.apev2 import APEv2
from mutagen.id3 import ID3, TALB, TIT2

from musicfs.tags.fields import parse
from tests.support.audio import make_audio
from tests.support.commands import Commands, commands


@pytest.fixture
def user() -> Iterator[Commands]:
    with commands() as user:
        yield user


def mp3(path: Path) -> Path:
    """A file with a title in ID3v2, and an artist in APEv2 alone."""
    make_audio(path, tags={})
    tags = parse(ID3)
    tags.add(parse(TIT2, encoding=3, text="One"))
    tags.add(parse(TALB, encoding=3, text="Album"))
    tags.save(path)
    ape = parse(APEv2)
    ape["Artist"] = "Ada"
    ape["Title"] = "Another"
    ape.save(path)
    return path


def test_each_field_has_the_tag_that_it_is_from(user: Commands) -> None:
    path = mp3(user.home / "odd.mp3")
    said = user.json("scan", "--explain", path)
    fields = {each["field"]: (each["value"], each["from"]) for each in said["fields"]}
    assert fields["title"] == ("One", "ID3v2")
    assert fields["artist"] == ("Ada", "APEv2")
    assert fields["format"] == ("mp3", "the stream")
    assert [block["name"] for block in said["blocks"]] == ["ID3v2", "APEv2"]
    assert (said["size"], said["problem"], said["place"]) == (path.stat().st_size, None, None)
    text = user("scan", "--explain", path).stdout
    assert "artist       Ada          APEv2" in text or "APEv2" in text.split("artist", 1)[1].splitlines()[0]
    assert "No running mount knows this file" in text


def test_a_bundle_has_the_tags_and_not_the_sound(user: Commands) -> None:
    path, bundle = mp3(user.home / "odd.mp3"), user.home / "odd.bundle"
    whole = user.json("scan", "--explain", path, "--bundle", bundle)
    assert bundle.stat().st_size < path.stat().st_size / 3
    assert user.json("scan", "--explain", bundle) == whole
    done = user("scan", "--explain", path, "--bundle", bundle)
    assert done.returncode == 1
    assert "File exists" in done.stderr
    bundle.write_bytes(bundle.read_bytes()[:60])
    assert user.json("scan", "--explain", bundle)["problem"] == "the bundle is damaged"


def test_a_file_that_is_no_music_and_one_that_is_not_there(user: Commands) -> None:
    (user.home / "noise.flac").write_bytes(b"no music")
    assert user.json("scan", "--explain", user.home / "noise.flac")["problem"].startswith("the content is no kind of")
    done = user("scan", "--explain", user.home / "gone.flac")
    assert (done.returncode, done.stderr) == (
        1,
        f"musicfs: {user.home}/gone.flac can't be read: No such file or directory.\n",
    )


def test_the_album_and_the_place_in_a_mount_have_their_reasons(user: Commands) -> None:
    folder = user.home / "music/CD"
    for number, artist in enumerate(("Ada", "Ada", "Ada feat. Bob"), 1):
        tags = {"title": f"T{number}", "artist": artist, "album": "Live", "track": number}
        make_audio(folder / f"{number}.flac", seed=number, tags=tags)
    (folder / "cover.jpg").write_bytes(b"\xff\xd8\xff cover")
    assert user("mount", user.home / "m", "--origin", user.home / "music").returncode == 0
    assert user("scan").returncode == 0
    shown = "Ada/Live [FLAC]/03 - T3.flac"
    for path in (folder / "3.flac", user.home / "m" / shown):
        place = user.json("scan", "--explain", path)["place"]
        assert (place["origin"], place["path"], place["tree"]) == ("music", "CD/3.flac", [shown])
        assert (place["album"], place["tracks"]) == ({"title": "Live", "artist": "Ada", "year": None}, 3)
        assert place["reasons"] == [
            "3 files of its folder have this album title, and no album artist that says otherwise",
            "2 of 3 tracks name this artist, the others with guests or another artist",
        ]
    text = user("scan", "--explain", folder / "cover.jpg").stdout
    assert "goes where the music beside it goes" in text
    assert "Shown as: Ada/Live [FLAC]/cover.jpg" in text


def test_the_parser_that_explains_is_confined(tmp_path: Path) -> None:
    """A hostile file has a small process to itself, which can't open another file."""
    code = (
        "import os, sys; from musicfs.tags import explain, tags\n"
        "def steal(file, name): open('/etc/passwd').read(); raise SystemExit('opened')\n"
        "explain.read_tags = steal\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY); explain.main(['', str(fd), 'x', '-1'])"
    )
    (tmp_path / "x").write_bytes(b"x")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x"], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["problem"] == "it can't be read: Permission denied"
