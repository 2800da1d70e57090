"""A mount whose process is stopped in mid-song, while its server forgets its connections."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator

import pytest

from musicfs.testing.fault_proxy import FaultProxy
from tests.support.audio import make_audio
from tests.support.mounting import Mount, Place
from tests.support.playing import SHOWN, SONG, digest_of, play
from tests.support.servers.process import HOST
from tests.support.servers.sshd import Sshd, sshd

STOPPED_SECS = 6.0
AWAKE_SECS = 2.0


@pytest.fixture
def server() -> Iterator[Sshd]:
    with sshd() as server:
        yield server


def test_a_song_plays_on_within_two_seconds_after_the_process_was_stopped(here: Place, server: Sshd) -> None:
    song = make_audio(here.origins / "nas/song.wav", seconds=130, seed=1, tags=SONG)
    shutil.copytree(here.origins / "nas", here.origins / "disk")
    (here.origins / "nas").chmod(0o755)
    with FaultProxy(server.port) as proxy:
        key, known = here.user / "key", here.base / "known_hosts"
        here.call(key.write_bytes, server.key.read_bytes())
        here.call(key.chmod, 0o600)
        shutil.copy(server.known_as(proxy.port), known)
        known.chmod(0o644)
        nas = {
            "origin_type": "sftp", "host": HOST, "port": proxy.port, "path": str(song.parent), "user": server.user,
            "key_file": str(key), "known_hosts": str(known),
        }  # fmt: skip
        with Mount(here, {"nas": song.parent, "disk": here.origins / "disk"}, nas=nas) as mount:
            path = mount.scanned().path / SHOWN
            since = len(mount.events)

            def sleep() -> None:
                mount.signal(signal.SIGSTOP)
                proxy.abandon()
                time.sleep(STOPPED_SECS)
                mount.signal(signal.SIGCONT)

            played = play(here, path, sleep)
            assert played.digest == digest_of(song)
            assert played.longest < AWAKE_SECS
            assert mount.seen("FailedOver", since) is None
            assert mount.seen("HealthChanged", since, after="HealthStatus.UNHEALTHY") is None
            assert "awake after" in mount.log
