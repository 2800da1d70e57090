"""A share and a copy on a disk, in one mount."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.audio import make_audio
from tests.support.mounting import PATIENCE, POLL, Mount, Place, eventually
from tests.support.servers.process import HOST
from tests.support.servers.samba import PASSWORD, SHARE, Samba

TAGS = {"title": "Song", "artist": "Artist", "album": "Album", "track": 1}
SHOWN = "Artist/Album [WAV]/01 - Song.wav"
CHUNK = 64 * 1024


@pytest.fixture
def samba() -> Iterator[Samba]:
    with Samba() as server:
        yield server


def keep(secret: str, path: Path) -> None:
    path.touch(0o600)
    path.write_text(secret)


def play(path: Path, half: Path, go_on: Path) -> tuple[str, int]:
    """Reads the file: (digest, bytes). Says by making the file `half` that it is there, and waits for `go_on`."""
    digest, done = hashlib.sha256(), 0
    until = time.monotonic() + PATIENCE
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        while data := file.read(CHUNK):
            digest.update(data)
            done += len(data)
            if done >= size / 2 and not half.exists():
                half.touch()
                while not go_on.exists() and time.monotonic() < until:
                    time.sleep(POLL)
    return digest.hexdigest(), done


def test_a_track_plays_to_its_end_though_the_share_dies_half_way(here: Place, samba: Samba) -> None:
    song = make_audio(samba.root / "song.wav", seconds=120, seed=1, tags=TAGS)
    disk = here.origins / "disk"
    disk.mkdir()
    shutil.copy2(song, disk / "copy.wav")
    half, go_on, password = here.user / "half", here.base / "go_on", here.user / "password"
    here.call(keep, PASSWORD, password)
    nas = {
        "path": None, "origin_type": "smb", "host": HOST, "port": samba.port, "share": SHARE, "user": samba.user,
        "password_file": str(password), "timeout_ms": 1000,
    }  # fmt: skip
    health = {"check_interval_secs": 10, "timeout_ms": 1000}  # seldom: the read is to meet the fault first
    with Mount(here, {"nas": samba.root, "disk": disk}, nas=nas, health=health) as mount:
        path = mount.scanned().path / SHOWN
        assert here.call(os.getxattr, path, "user.musicfs.origin") == b"nas"
        with ThreadPoolExecutor(1) as beside:
            playing = beside.submit(here.call, play, path, half, go_on)
            eventually(lambda: half.exists() or playing.done(), "half of the track")
            samba.kill()
            go_on.touch()
            digest, done = playing.result(PATIENCE)
        assert (digest, done) == (hashlib.sha256(song.read_bytes()).hexdigest(), song.stat().st_size)
        assert mount.seen("FailedOver") or mount.seen("HedgeWon"), f"the fault was never met: {mount.events}"
        samba.start()
        eventually(lambda: here.call(os.getxattr, path, "user.musicfs.origin") == b"nas", "the return of the share")
        assert PASSWORD not in mount.log + repr(mount.events) + repr(mount.processes())
