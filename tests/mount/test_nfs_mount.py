"""A NAS reached over NFS, and a copy on a disk, in one mount."""

from __future__ import annotations

import shutil

from tests.support.audio import make_audio
from tests.support.mounting import Mount, Place
from tests.support.playing import SHOWN, SONG, becomes_served_by, digest_of, play
from tests.support.servers.ganesha import Ganesha
from tests.support.servers.process import HOST


def test_a_track_plays_to_its_end_though_the_nas_dies_half_way(here: Place) -> None:
    roots = {id: here.base / id for id in ("nas", "disk")}
    song = make_audio(roots["nas"] / "song.wav", seconds=130, seed=1, tags=SONG)
    roots["disk"].mkdir()
    shutil.copy2(song, roots["disk"] / "copy.wav")
    roots["nas"].chmod(0o755)
    (here.base / "ganesha").mkdir()
    server = Ganesha(roots["nas"], here.base / "ganesha")
    with server:
        nas: dict[str, object] = {
            "path": None,
            "origin_type": "nfs",
            "host": HOST,
            "export": str(roots["nas"]),
            "timeout_ms": 3000,
        }
        nas |= {"port": server.port, "mount_port": server.mount_port}
        health = {"check_interval_secs": 10, "timeout_ms": 3000}  # seldom: the read is to meet the fault first
        with Mount(here, roots, nas=nas, health=health) as mount:
            path = mount.scanned().path / SHOWN
            becomes_served_by(here, path, "nas")
            assert play(here, path, server.kill).digest == digest_of(song)
            becomes_served_by(here, path, "disk")
            server.start()
            becomes_served_by(here, path, "nas")
