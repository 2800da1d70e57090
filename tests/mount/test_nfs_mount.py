"""A NAS reached over NFS, and a copy on a disk, in one mount."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.audio import make_audio
from tests.support.mounting import PATIENCE, POLL, Mount, Place, eventually
from tests.support.servers.ganesha import Ganesha
from tests.support.servers.process import HOST

TAGS = {"title": "Song", "artist": "Artist", "album": "Album", "track": 1}
SHOWN = "Artist/Album [WAV]/01 - Song.wav"
CHUNK = 64 * 1024


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


def test_a_track_plays_to_its_end_though_the_nas_dies_half_way(here: Place) -> None:
    roots = {id: here.base / id for id in ("nas", "disk")}
    song = make_audio(roots["nas"] / "song.wav", seconds=120, seed=1, tags=TAGS)
    roots["disk"].mkdir()
    shutil.copy2(song, roots["disk"] / "copy.wav")
    roots["nas"].chmod(0o755)
    (here.base / "ganesha").mkdir()
    half, go_on = here.user / "half", here.base / "go_on"
    server = Ganesha(roots["nas"], here.base / "ganesha")
    with server:
        nas: dict[str, object] = {
            "path": None,
            "origin_type": "nfs",
            "host": HOST,
            "export": str(roots["nas"]),
            "timeout_ms": 1000,
        }
        nas |= {"port": server.port, "mount_port": server.mount_port}
        health = {"check_interval_secs": 10, "timeout_ms": 1000}  # seldom: the read is to meet the fault first
        with Mount(here, roots, nas=nas, health=health) as mount:
            path = mount.scanned().path / SHOWN
            assert here.call(os.getxattr, path, "user.musicfs.origin") == b"nas"
            with ThreadPoolExecutor(1) as beside:
                playing = beside.submit(here.call, play, path, half, go_on)
                eventually(lambda: half.exists() or playing.done(), "half of the track")
                server.kill()
                go_on.touch()
                digest, done = playing.result(PATIENCE)
            assert (digest, done) == (hashlib.sha256(song.read_bytes()).hexdigest(), song.stat().st_size)
            assert mount.seen("FailedOver") or mount.seen("HedgeWon"), "the fault was never met"
            server.start()
            eventually(lambda: here.call(os.getxattr, path, "user.musicfs.origin") == b"nas", "the return of the NAS")
