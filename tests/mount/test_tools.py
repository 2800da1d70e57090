"""Programs that people use on a music folder work on the mount as they do on a disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.audio import FORMATS, make_album
from tests.support.mounting import PATIENCE, Account, Mount, eventually, place
from tests.support.mpd import mpd

DECODABLE = [ext for ext in FORMATS if ext not in ("ape", "mpc")]  # those two hold no real stream
PLAYABLE = ["flac", "mp3", "ogg", "opus", "m4a", "wav"]
TRACKS = 2


@pytest.fixture(scope="module")
def mount(who: Account) -> Iterator[Mount]:
    with place(who) as here:
        root = here.origins / "one"
        for number, ext in enumerate(FORMATS):
            make_album(root, f"Artist {ext}", "Album", TRACKS, ext=ext, seed=number % 4)
        (root / "Artist flac/Album/cover.jpg").write_bytes(b"\xff\xd8\xff picture")
        (root / "Artist flac/Album/notes.txt").write_text("Recorded in one take.\n")
        with Mount(here, {"one": root}) as mount:
            yield mount.scanned()


def digests(top: Path) -> dict[str, str]:
    """SHA-256 of every file below `top`, by path."""
    return {
        str(path.relative_to(top)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in top.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def scratch(mount: Mount) -> Iterator[Path]:
    """A folder of the mounting user's, for what the programs write."""
    folder = mount.here.user / "scratch"
    mount.here.run("mkdir", folder)
    yield folder
    mount.here.run("chmod", "-R", "u+w", folder)
    mount.here.run("rm", "-r", folder)


def test_every_file_has_the_bytes_of_the_origins(mount: Mount) -> None:
    shown = mount.here.call(digests, mount.path)
    assert sorted(shown.values()) == sorted(digests(mount.origins["one"]).values())


def test_cp_copies_everything_with_its_times(mount: Mount, scratch: Path) -> None:
    mount.here.run("cp", "-a", mount.path, scratch / "copy")
    assert mount.here.call(digests, scratch / "copy") == mount.here.call(digests, mount.path)
    times = [
        mount.here.run("find", top, "-type", "f", "-printf", r"%P %T@ %s\n").stdout
        for top in (mount.path, scratch / "copy")
    ]
    assert sorted(times[0].split("\n")) == sorted(times[1].split("\n"))


def test_a_second_rsync_has_nothing_to_do(mount: Mount, scratch: Path) -> None:
    rsync = ("rsync", "-a", "--checksum", "--itemize-changes", f"{mount.path}/", f"{scratch}/copy/")
    assert mount.here.run(*rsync).stdout.count("\n") > len(FORMATS)
    assert mount.here.run(*rsync).stdout == ""


def test_grep_finds_text(mount: Mount) -> None:
    found = mount.here.run("grep", "-r", "--include=*.txt", "one take", mount.path).stdout
    assert found.strip().endswith("notes.txt:Recorded in one take.")
    everywhere = mount.here.run("grep", "-rlaF", "Artist flac", mount.path).stdout.splitlines()
    assert len([path for path in everywhere if path.endswith(".flac")]) == TRACKS


def test_find_and_sha256sum_read_every_file(mount: Mount) -> None:
    listing = mount.here.run("find", mount.path, "-type", "f", "-exec", "sha256sum", "{}", "+").stdout
    assert {line.split("  ", 1)[1]: line[:64] for line in listing.splitlines()} == {
        str(mount.path / path): digest for path, digest in mount.here.call(digests, mount.path).items()
    }


def test_tar_archives_and_restores_everything(mount: Mount, scratch: Path) -> None:
    mount.here.run("tar", "-cf", scratch / "a.tar", "-C", mount.path, ".")
    mount.here.run("mkdir", scratch / "out")
    mount.here.run("tar", "-xf", scratch / "a.tar", "-C", scratch / "out")
    assert mount.here.call(digests, scratch / "out") == mount.here.call(digests, mount.path)


@pytest.mark.parametrize("ext", DECODABLE)
def test_ffmpeg_decodes_every_format(mount: Mount, ext: str) -> None:
    tracks = mount.here.run("find", mount.path / f"Artist {ext}", "-name", f"*.{ext}").stdout.splitlines()
    assert len(tracks) == TRACKS
    for track in tracks:
        done = mount.here.run("ffmpeg", "-v", "error", "-nostdin", "-i", track, "-f", "null", "-")
        assert ext == "tta" or done.stderr == ""  # its tag confuses ffmpeg, on a disk too


@pytest.mark.parametrize("ext", PLAYABLE)
def test_mpv_plays(mount: Mount, ext: str) -> None:
    track = mount.here.run("find", mount.path / f"Artist {ext}", "-name", f"*Title 1.{ext}").stdout.strip()
    mpv = ("mpv", "--no-config", "--ao=null", "--no-video", "--length=1", "--msg-level=all=warn")
    assert "error" not in mount.here.run(*mpv, track).stdout.lower()


def test_mpd_finds_and_plays_every_song(mount: Mount, scratch: Path) -> None:
    with mpd(mount.here, mount.path, scratch) as socket:
        mpc = ("mpc", f"--host={socket}")
        mount.here.run(*mpc, "update", "--wait")
        songs = mount.here.run(*mpc, "listall").stdout.splitlines()
        for ext in PLAYABLE:
            assert len([song for song in songs if song.endswith(f".{ext}")]) == TRACKS, ext
        assert mount.here.run(*mpc, "list", "title").stdout.splitlines() == ["Title 1", "Title 2"]
        mount.here.run(*mpc, "findadd", "artist", "Artist flac")
        mount.here.run(*mpc, "play")
        eventually(lambda: "[playing]" in mount.here.run(*mpc, "status").stdout, "music")


def test_beets_imports_the_library_without_copying(mount: Mount, scratch: Path) -> None:
    text = f"directory: {scratch}\nlibrary: {scratch}/library.db\nimport: {{copy: no, write: no}}\n"
    mount.here.call((scratch / "config.yaml").write_text, text)
    beet = ("env", f"BEETSDIR={scratch}", "beet")
    mount.here.run(*beet, "import", "-A", "-C", "-q", mount.path, timeout=2 * PATIENCE)
    listed = mount.here.run(*beet, "ls", "-f", "$albumartist|$album|$track|$title|$path", "format:FLAC").stdout
    album = mount.path / "Artist flac/Album (1999) [FLAC]"
    assert sorted(listed.splitlines()) == [
        f"Artist flac|Album|0{n}|Title {n}|{album}/0{n} - Title {n}.flac" for n in (1, 2)
    ]
    assert len(mount.here.run(*beet, "ls").stdout.splitlines()) >= TRACKS * len(PLAYABLE)
