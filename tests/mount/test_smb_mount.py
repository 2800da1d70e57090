"""A share and a copy on a disk, in one mount."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.audio import make_audio
from tests.support.mounting import Mount, Place
from tests.support.playing import SHOWN, SONG, becomes_served_by, digest_of, play
from tests.support.servers.process import HOST
from tests.support.servers.samba import PASSWORD, SHARE, Samba


@pytest.fixture
def samba() -> Iterator[Samba]:
    with Samba() as server:
        yield server


def keep(secret: str, path: Path) -> None:
    path.touch(0o600)
    path.write_text(secret)


def test_a_track_plays_to_its_end_though_the_share_dies_half_way(here: Place, samba: Samba) -> None:
    song = make_audio(samba.root / "song.wav", seconds=130, seed=1, tags=SONG)
    disk = here.origins / "disk"
    disk.mkdir()
    shutil.copy2(song, disk / "copy.wav")
    password = here.user / "password"
    here.call(keep, PASSWORD, password)
    nas = {
        "path": None, "origin_type": "smb", "host": HOST, "port": samba.port, "share": SHARE, "user": samba.user,
        "password_file": str(password), "timeout_ms": 3000,
    }  # fmt: skip
    health = {"check_interval_secs": 10, "timeout_ms": 3000}  # seldom: the read is to meet the fault first
    with Mount(here, {"nas": samba.root, "disk": disk}, nas=nas, health=health) as mount:
        path = mount.scanned().path / SHOWN
        becomes_served_by(here, path, "nas")
        assert play(here, path, samba.kill).digest == digest_of(song)
        becomes_served_by(here, path, "disk")
        samba.start()
        becomes_served_by(here, path, "nas")
        assert PASSWORD not in mount.log + repr(mount.events) + repr(mount.processes())
