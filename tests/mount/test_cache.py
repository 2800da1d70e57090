"""The cache on disk: what was played plays when its server is gone, also after a restart."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mutagen
import psutil
import pytest

from musicfs.cache.disk import FOLDER
from tests.support.audio import make_audio
from tests.support.mounting import Account, Mount, Place, account, eventually
from tests.support.servers.process import HOST
from tests.support.servers.sshd import Sshd, sshd

ALBUM = "Artist/Album [FLAC]"
LONG = "Artist/Album [WAV]/09 - Long.wav"
QUICK = {"unhealthy_threshold": 1, "check_interval_secs": 1}


@pytest.fixture(scope="module", params=["ordinary"])
def who(request: pytest.FixtureRequest) -> Account:
    return account(request.param)


@pytest.fixture
def server() -> Iterator[Sshd]:
    with sshd() as server:
        yield server


@pytest.fixture
def nas(here: Place, server: Sshd) -> dict[str, object]:
    """An origin of an album and a long track, and the way to it."""
    music = here.origins / "nas"
    for number in range(1, 5):
        tags = {"title": f"Song {number}", "artist": "Artist", "album": "Album", "track": number}
        make_audio(music / f"{number}.flac", seconds=8, seed=number, tags=tags)
    tags = {"title": "Long", "artist": "Artist", "album": "Album", "track": 9}
    make_audio(music / "long.wav", seconds=60, seed=9, tags=tags)
    music.chmod(0o755)
    key = here.user / "key"
    here.call(key.write_bytes, server.key.read_bytes())
    here.call(key.chmod, 0o600)
    known = here.base / "known_hosts"
    shutil.copy(server.known_hosts, known)
    known.chmod(0o644)
    return {
        "origin_type": "sftp", "host": HOST, "path": str(music), "timeout_ms": 10_000, "port": server.port,
        "user": server.user, "key_file": str(key), "known_hosts": str(known),
    }  # fmt: skip


def walk(root: Path) -> list[tuple[str, str]]:
    """Every file below `root`, with what a tag reader finds in it."""
    found = []
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            with path.open("rb") as file:
                found.append((str(path.relative_to(root)), str(mutagen.File(file, easy=True).tags)))
    return sorted(found)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_at(path: Path, offset: int) -> bytes | str:
    """Some bytes, or the error."""
    with path.open("rb", buffering=0) as file:
        try:
            return os.pread(file.fileno(), 10, offset)
        except OSError as error:
            return errno.errorcode[error.errno or 0]


def read_in_pieces(path: Path, size: int) -> None:
    """Reads the beginning of a file as `head` does."""
    with path.open("rb", buffering=0) as file:
        while size > 0:
            size -= len(file.read(min(8192, size)))


def cache_stats(here: Place) -> dict[str, Any]:
    done = here.run(here.who.python, "-m", "musicfs", "cache", "stats", here.mount_point, "--json")
    stats: dict[str, Any] = json.loads(done.stdout)
    return stats


def attribute(here: Place, path: Path) -> str:
    return here.call(os.getxattr, path, "user.musicfs.cached").decode()


def test_what_was_played_plays_when_its_server_is_gone(here: Place, server: Sshd, nas: dict[str, object]) -> None:
    music = here.origins / "nas"
    with Mount(here, {"nas": music}, nas=nas, health=QUICK) as mount:
        mount.scanned()
        tags = here.call(walk, mount.path)
        assert len(tags) == 5
        assert (
            here.call(digest, mount.path / ALBUM / "01 - Song 1.flac")
            == hashlib.sha256((music / "1.flac").read_bytes()).hexdigest()
        )
        eventually(lambda: attribute(here, mount.path / ALBUM / "01 - Song 1.flac") == "100%", "the song is cached")
        assert attribute(here, mount.path / LONG) not in ("0%", "100%")
        eventually(lambda: cache_stats(here)["blocks"] >= 6, "all that was read is cached")
        stats = cache_stats(here)
        assert stats["working"]
        assert (stats["skipped"], stats["corrupt"]) == (0, 0)
        out = subprocess.run(["du", "-s", "-B1", here.cache_dir / FOLDER], check=True, capture_output=True, text=True)
        taken = int(out.stdout.split()[0])
        assert taken == pytest.approx(stats["bytes"], abs=8192), "du says what we say; 8 KiB for the folder itself"
    server.kill()
    with Mount(here, {"nas": music}, nas=nas, health=QUICK) as mount:
        assert here.call(walk, mount.path) == tags, "a second scan for tags needs nothing of the server"
        assert (
            here.call(digest, mount.path / ALBUM / "01 - Song 1.flac")
            == hashlib.sha256((music / "1.flac").read_bytes()).hexdigest()
        )
        mount.wait_for("HealthChanged", origin="nas", after="HealthStatus.UNHEALTHY")
        assert here.call(read_at, mount.path / LONG, (music / "long.wav").stat().st_size // 2) == "EIO"
        assert cache_stats(here)["hits"] > 5


def test_what_the_disk_has_spoilt_is_found_and_what_is_cached_can_be_cleared(
    here: Place, nas: dict[str, object]
) -> None:
    music = here.origins / "nas"
    with Mount(here, {"nas": music}, nas=nas, health=QUICK) as mount:
        mount.scanned()
        musicfs = [here.who.python, "-m", "musicfs", "cache"]
        song = mount.path / ALBUM / "02 - Song 2.flac"
        right = hashlib.sha256((music / "2.flac").read_bytes()).hexdigest()
        assert here.call(digest, song) == right
        eventually(lambda: attribute(here, song) == "100%", "the song is cached")
        assert here.run(*musicfs, "verify").stdout.endswith("none is damaged.\n")
        for file in (here.cache_dir / FOLDER).iterdir():
            with file.open("r+b") as opened:
                opened.seek(1000)
                opened.write(b"not the bytes of this song")
        done = here.run(*musicfs, "verify", "--json", check=False)
        assert done.returncode == 1
        assert json.loads(done.stdout)["corrupt"] >= 1
        assert attribute(here, song) != "100%"
        answer = json.loads(here.run(*musicfs, "clear", "--json").stdout)
        assert (answer["bytes"], list((here.cache_dir / FOLDER).iterdir())) == (0, [])
        assert here.call(digest, song) == right


@pytest.fixture
def small_disk(here: Place) -> Iterator[Path]:
    """A disk of 24 MB, on which the cache is."""
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    here.run("mkdir", here.cache_dir)
    owner = here.cache_dir.stat()
    options = f"size=24m,mode=700,uid={owner.st_uid},gid={owner.st_gid}"
    subprocess.run([*as_root, "mount", "-t", "tmpfs", "-o", options, "tmpfs", here.cache_dir], check=True)
    yield here.cache_dir
    subprocess.run([*as_root, "umount", "--lazy", here.cache_dir], check=True)


def test_a_full_disk_ends_the_caching_but_neither_the_music_nor_the_mount(
    here: Place, nas: dict[str, object], small_disk: Path
) -> None:
    music = here.origins / "nas"
    right = [hashlib.sha256((music / name).read_bytes()).hexdigest() for name in ("1.flac", "2.flac", "long.wav")]
    with Mount(here, {"nas": music}, nas=nas, health=QUICK) as mount:
        mount.scanned()
        here.run("sh", "-c", f"head -c 30000000 /dev/zero > {small_disk}/other", check=False)
        names = [f"{ALBUM}/01 - Song 1.flac", f"{ALBUM}/02 - Song 2.flac", LONG]
        assert [here.call(digest, mount.path / name) for name in names] == right
        mount.wait_for("CacheStopped")
        assert not cache_stats(here)["working"]
        assert cache_stats(here)["problem"] == "No space left on device"
        status = here.run(here.who.python, "-m", "musicfs", "status", here.mount_point).stdout
        assert status.startswith("Your music plays, but something deserves a look.\nNext: see to the disk of ")
        assert f"The cache in {small_disk} does not work (No space left on device)" in status
        assert len(here.call(walk, mount.path)) == 5
        song = music / "5.flac"
        make_audio(song, seconds=8, seed=5, tags={"title": "Song 5", "artist": "Artist", "album": "Album", "track": 5})
        done = here.run(here.who.python, "-m", "musicfs", "scan", here.mount_point, check=False)
        assert "the catalogue can't be written (database or disk is full); check the disk" in done.stdout
        assert here.call(digest, mount.path / names[0]) == right[0]
        assert [each["event"] for each in mount.events if each["event"].startswith("Cache")] == ["CacheStopped"]
        assert "Traceback" not in mount.log


def test_a_disk_without_room_for_the_catalogue_is_the_reason_of_a_failed_scan(
    here: Place, nas: dict[str, object], small_disk: Path
) -> None:
    with Mount(here, {"nas": here.origins / "nas"}, nas=nas, health=QUICK) as mount:
        mount.scanned()
    other = small_disk / "other"  # leaves some pages, which the mount itself can start with
    here.run("sh", "-c", f"head -c 30000000 /dev/zero > {other}; truncate -s -120K {other}")
    make_audio(here.origins / "nas/6.flac", seed=6, tags={"title": "Song 6", "artist": "Artist", "album": "Album"})
    with Mount(here, {"nas": here.origins / "nas"}, nas=nas, health=QUICK) as mount:
        done = here.run(here.who.python, "-m", "musicfs", "scan", here.mount_point, check=False)
        full = "the catalogue can't be written (database or disk is full)", f"the disk of {small_disk} is full"
        assert any(sentence in done.stdout for sentence in full)
        assert len(here.call(walk, mount.path)) == 5


def fetched_of(server: Sshd) -> int:
    """Bytes that the server's processes have read, from files and connections."""
    total = 0
    for process in psutil.Process(server.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += process.io_counters().read_chars
    return total


def test_a_song_with_new_tags_costs_only_its_tags(here: Place, server: Sshd, nas: dict[str, object]) -> None:
    music = here.origins / "nas"
    song = make_audio(music / "a.flac", seconds=30, seed=5, tags={"title": "Old", "artist": "Artist", "album": "Album"})
    with Mount(here, {"nas": music}, nas=nas, health=QUICK) as mount:
        mount.scanned()
        old = mount.path / ALBUM / "Old.flac"
        here.call(digest, old)
        eventually(lambda: attribute(here, old) == "100%", "the song is cached")
        subprocess.run(
            ["metaflac", "--remove-tag=TITLE", "--set-tag=TITLE=New", "--add-padding=20000", song], check=True
        )
        song.chmod(0o644)
        seen = len(mount.events)
        here.run(here.who.python, "-m", "musicfs", "scan", here.mount_point)
        mount.scanned(seen)
        new = mount.path / ALBUM / "New.flac"
        before = fetched_of(server)
        assert here.call(digest, new) == hashlib.sha256(song.read_bytes()).hexdigest()
        assert fetched_of(server) - before < song.stat().st_size / 10
        eventually(lambda: attribute(here, new) == "100%", "it is cached under its new name")


@pytest.mark.parametrize("who", ["ordinary", "root"], indirect=True)
def test_the_beginning_of_a_track_costs_one_block(here: Place, nas: dict[str, object]) -> None:
    """`head -c 100000`, also where root has the kernel read further ahead in local files."""
    with Mount(here, {"nas": here.origins / "nas"}, nas=nas) as mount:
        mount.scanned()
        before = cache_stats(here)["blocks"]
        here.call(read_in_pieces, mount.path / LONG, 100_000)
        eventually(lambda: cache_stats(here)["blocks"] > before, "what was read is cached")
        assert cache_stats(here)["blocks"] == before + 1
