"""Playlists and cue sheets of a mount lead players to its files, and are read without asking an origin."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from tests.support.audio import make_album, make_audio
from tests.support.mounting import Mount, Place, eventually
from tests.support.mpd import mpd

FOLDER = "Artist/Album (1999) [FLAC]"
LIST = f"{FOLDER}/album.m3u"


@pytest.fixture
def music(here: Place) -> Path:
    root = here.origins / "one"
    make_album(root / "in", "Artist", "Album", 3)
    songs = sorted((root / "in").rglob("*.flac"))
    for number, song in enumerate(songs, 1):
        song.rename(song.with_name(f"{'xyz'[number - 1]}.flac"))
    folder = songs[0].parent
    (folder / "album.m3u").write_bytes(b"#EXTM3U\r\nx.flac\r\ny.flac\r\nz.flac\r\n")
    (folder / "sums.md5").write_text(f"{hashlib.md5((folder / 'x.flac').read_bytes()).hexdigest()} *x.flac\n")
    make_audio(
        root / "image/CDImage.flac", seconds=20, seed=7, tags={"title": "Image", "artist": "Ada", "album": "One"}
    )
    (root / "image/CDImage.cue").write_text(
        'PERFORMER "Ada"\nTITLE "One"\nFILE "CDImage.wav" WAVE\n'
        '  TRACK 01 AUDIO\n    TITLE "First"\n    INDEX 01 00:00:00\n'
        '  TRACK 02 AUDIO\n    TITLE "Second"\n    INDEX 01 00:10:00\n'
    )
    (root / "Playlists").mkdir()
    relative = folder.relative_to(root)
    (root / "Playlists/party.m3u8").write_text(f"/home/ada/Music/{relative}/y.flac\nhttp://radio.test/x\n")
    return root


def test_names_in_playlists_cue_sheets_and_checksums_lead_to_the_files_of_the_mount(here: Place, music: Path) -> None:
    with Mount(here, {"one": music}) as mount:
        mount.scanned()
        names = here.call((mount.path / LIST).read_text).split()[1:]
        assert names == ["01", "-", "Title", "1.flac", "02", "-", "Title", "2.flac", "03", "-", "Title", "3.flac"]
        party = here.call((mount.path / "Playlists/party.m3u8").read_text).splitlines()
        assert party == [f"../{FOLDER}/02 - Title 2.flac", "http://radio.test/x"]
        here.run("sh", "-c", f"cd '{mount.path / FOLDER}' && md5sum --check --strict sums.md5")
        assert here.call(os.getxattr, mount.path / LIST, "user.musicfs.generated") == b"yes"
        why = here.run(here.who.python, "-m", "musicfs", "why", mount.path / LIST).stdout
        assert "MusicFS made its bytes" in why
        assert "album.m3u" in why
        here.run("mkdir", here.user / "mpd")
        with mpd(here, mount.path, here.user / "mpd") as socket:
            mpc = ["mpc", f"--host={socket}"]
            here.run(*mpc, "update", "--wait")
            here.run(*mpc, "--quiet", "load", LIST)
            here.run(*mpc, "--quiet", "load", "Playlists/party.m3u8")
            listed = here.run(*mpc, "--format", "%file%", "playlist").stdout.splitlines()
            assert listed[:4] == [f"{FOLDER}/0{n} - Title {n}.flac" for n in (1, 2, 3, 2)]
            everything = here.run(*mpc, "--format", "%title%", "listall").stdout
            assert {"First", "Second"} <= set(everything.splitlines())


def test_an_open_playlist_keeps_its_bytes_while_another_takes_its_name(here: Place, music: Path) -> None:
    with Mount(here, {"one": music}) as mount:
        mount.scanned()
        before = here.call((mount.path / LIST).read_bytes)
        number = here.call(os.stat, mount.path / LIST).st_ino
        opened = here.call(os.open, mount.path / LIST, os.O_RDONLY)
        song = next(music.rglob("x.flac"))
        tags = {"title": "Another", "artist": "Artist", "album": "Album", "track": 1, "date": 1999}
        make_audio(song, seed=50, tags=tags)
        eventually(lambda: b"Another" in here.call((mount.path / LIST).read_bytes), "the new name")
        assert here.call(os.stat, mount.path / LIST).st_ino != number
        assert here.call(os.pread, opened, 1000, 0) == before
        assert here.call(os.fstat, opened).st_ino == number
        here.call(os.close, opened)


def test_playlists_are_read_while_their_origin_is_away_and_keep_their_numbers(here: Place, music: Path) -> None:
    with Mount(here, {"one": music}) as mount:
        mount.scanned()
        before = here.call((mount.path / LIST).read_bytes)
        number = here.call(os.stat, mount.path / LIST).st_ino
    music.rename(here.origins / "away")
    with Mount(here, {"one": music}) as mount:
        assert here.call((mount.path / LIST).read_bytes) == before
        about = here.call(os.stat, mount.path / LIST)
        assert (about.st_ino, about.st_size) == (number, len(before))
    shutil.move(here.origins / "away", music)
