"""Pins: what is pinned is fetched without being played, and plays when its place is gone, after a restart too."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import mutagen
import pytest

from tests.support.audio import make_audio
from tests.support.mounting import Account, Mount, Place, account, eventually
from tests.support.sites import site

QUICK = {"unhealthy_threshold": 1, "check_interval_secs": 1}
ALBUM = "Artist/Album [FLAC]"


@pytest.fixture(scope="module")
def who() -> Account:
    return account("ordinary")


def song(music: Path, number: int) -> str:
    """Makes a song; the digest of its bytes."""
    tags = {"title": f"Song {number}", "artist": "Artist", "album": "Album", "track": number}
    make_audio(music / f"{number}.flac", seconds=8, seed=number, tags=tags)
    music.chmod(0o755)
    return hashlib.sha256((music / f"{number}.flac").read_bytes()).hexdigest()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cached(album: Path) -> list[str]:
    shares = []
    for path in album.iterdir():
        with suppress(FileNotFoundError):  # it has just gone
            shares.append(os.getxattr(path, "user.musicfs.cached").decode())
    return shares


def ask(here: Place, *words: str | Path) -> list[dict[str, Any]]:
    done = here.run(here.who.python, "-m", "musicfs", *words, "--json")
    pins: list[dict[str, Any]] = json.loads(done.stdout)["pins"]
    return pins


def answers(here: Place) -> bool:
    return here.run(here.who.python, "-m", "musicfs", "pins", check=False).returncode == 0


def whole(pins: list[dict[str, Any]], tracks: int) -> bool:
    return [(each["path"], each["tracks"], each["complete"]) for each in pins] == [(ALBUM, tracks, tracks)]


def test_what_is_pinned_plays_when_its_disk_is_gone_and_stays_pinned(here: Place) -> None:
    music = here.origins / "usb"
    digests = [song(music, number) for number in (1, 2)]
    with Mount(here, {"usb": music}, health=QUICK) as mount:
        mount.scanned()
        assert whole(ask(here, "pin", mount.path / ALBUM, "--wait"), 2)
        first = mount.path / ALBUM / "01 - Song 1.flac"
        assert here.call(os.getxattr, first, "user.musicfs.pinned") == b"yes"
        digests.append(song(music, 3))
        here.run(here.who.python, "-m", "musicfs", "scan")
        eventually(lambda: whole(ask(here, "pins"), 3), "what was added to the folder is pinned and here")
    music.rename(here.origins / "unplugged")
    with Mount(here, {"usb": music}, health=QUICK) as mount:
        eventually(lambda: answers(here), "the mount answers")
        assert whole(ask(here, "pins"), 3)
        names = sorted(here.call(os.listdir, mount.path / ALBUM))
        assert [here.call(digest, mount.path / ALBUM / name) for name in names] == digests
        assert ask(here, "unpin", mount.path / ALBUM) == []
        assert here.call(os.getxattr, mount.path / ALBUM / names[0], "user.musicfs.pinned") == b"no"


def test_a_pinned_album_follows_what_its_origin_makes_of_it(here: Place) -> None:
    """A track is replaced, one is only tagged anew under another name, and one goes."""
    music = here.origins / "usb"
    for number in (1, 2, 3, 4):
        song(music, number)
    with Mount(here, {"usb": music}, health=QUICK) as mount:
        mount.scanned()
        assert whole(ask(here, "pin", mount.path / ALBUM, "--wait"), 4)
        (music / "3.flac").unlink()
        retagged = mutagen.File(music / "4.flac")
        retagged["title"] = ["Another title"]
        retagged.save()
        second = mount.path / ALBUM / "02 - Song 2.flac"
        before = here.call(os.getxattr, second, "user.musicfs.content")
        tags = {"title": "Song 2", "artist": "Artist", "album": "Album", "track": 2}
        make_audio(music / "2.flac", seconds=8, seed=22, tags=tags)
        here.run(here.who.python, "-m", "musicfs", "scan")
        eventually(lambda: "04 - Another title.flac" in here.call(os.listdir, mount.path / ALBUM), "the new title")
        eventually(lambda: here.call(os.getxattr, second, "user.musicfs.content") != before, "the new track")
        eventually(lambda: here.call(cached, mount.path / ALBUM) == ["100%"] * 3, "what is there now is here")
        eventually(lambda: whole(ask(here, "pins"), 3), "it is pinned")
        now = sorted(digest(music / f"{number}.flac") for number in (1, 2, 4))
    music.rename(here.origins / "unplugged")
    with Mount(here, {"usb": music}, health=QUICK) as mount:
        names = here.call(os.listdir, mount.path / ALBUM)
        assert sorted(here.call(digest, mount.path / ALBUM / name) for name in names) == now
        assert "04 - Another title.flac" in names


def test_a_pin_that_can_not_be_fetched_yet_goes_on_after_a_restart(here: Place) -> None:
    with site("sftp", "nas", here) as nas:
        digests = [song(nas.root, number) for number in (1, 2)]
        settings: dict[str, Any] = {"nas": dict(nas.settings), "health": QUICK}
        with Mount(here, {"nas": nas.root}, **settings) as mount:
            mount.scanned()
            nas.begin("refusing")
            mount.wait_for("HealthChanged", origin="nas", after="HealthStatus.UNHEALTHY")
            (pin,) = ask(here, "pin", mount.path / ALBUM)
            assert (pin["tracks"], pin["complete"], pin["cached_bytes"]) == (2, 0, 0)
        with Mount(here, {"nas": nas.root}, **settings) as mount:
            mount.wait_for("HealthChanged", origin="nas", after="HealthStatus.UNHEALTHY")
            nas.heal()
            mount.wait_for("PinProgress", path=ALBUM)
            mount.wait_for("PinCompleted", path=ALBUM, tracks=2)
            nas.begin("refusing")
            names = sorted(here.call(os.listdir, mount.path / ALBUM))
            assert [here.call(digest, mount.path / ALBUM / name) for name in names] == digests


def test_more_than_the_cache_holds_is_refused(here: Place) -> None:
    music = here.origins / "usb"
    song(music, 1)
    with Mount(here, {"usb": music}, health=QUICK, cache={"content_cache_gb": 0.0001}) as mount:
        mount.scanned()
        done = here.run(here.who.python, "-m", "musicfs", "pin", mount.path / ALBUM, check=False)
        assert done.returncode == 1
        assert "more than the 0.1 MB of content_cache_gb" in done.stderr
        assert ask(here, "pins") == []
