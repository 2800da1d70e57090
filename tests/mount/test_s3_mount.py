"""A bucket and a disk with the same music: S3 goes away in the middle of a track, and the track plays on."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.audio import make_audio
from tests.support.mounting import PATIENCE, Mount, Place, eventually
from tests.support.servers.swift import ACCESS_KEY_ID, SECRET_ACCESS_KEY, Swift

TAGS = {"title": "Song", "artist": "Artist", "album": "Album", "track": 1}
SHOWN = "Artist/Album [WAV]/01 - Song.wav"


def play(path: Path, half: Path, go_on: Path) -> str:
    """Reads the file; makes the file `half` half way, and waits for `go_on` there. The digest."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        size = path.stat().st_size
        while data := file.read(64 << 10):
            digest.update(data)
            done += len(data)
            if done >= size // 2 and not half.exists():
                half.touch()
                until = time.monotonic() + PATIENCE
                while not go_on.exists() and time.monotonic() < until:
                    time.sleep(0.01)
    return digest.hexdigest()


def test_a_track_from_s3_plays_to_its_end_though_the_server_is_killed_half_way(here: Place, swift: Swift) -> None:
    root = here.origins / "disk"
    song = make_audio(root / "song.wav", seconds=120, seed=1, tags=TAGS)
    bucket = swift.make_bucket()
    swift.put(bucket, "music/song.wav", song.read_bytes())
    here.environ["MUSICFS_CLOUD_ACCESS_KEY_ID"] = ACCESS_KEY_ID
    here.environ["MUSICFS_CLOUD_SECRET_ACCESS_KEY"] = SECRET_ACCESS_KEY
    cloud = {"origin_type": "s3", "bucket": bucket, "prefix": "music", "endpoint": swift.url}
    half, go_on = here.user / "half", here.base / "go-on"
    with Mount(here, {"cloud": Path(), "disk": root}, cloud=cloud) as mount:
        path = mount.scanned().path / SHOWN
        try:
            with ThreadPoolExecutor(1) as pool:
                played = pool.submit(here.call, play, path, half, go_on)
                eventually(half.exists, "half of the track")
                swift.front.kill()
                go_on.touch()
                digest = played.result(PATIENCE)
            mount.wait_for("HealthChanged", origin="cloud", after="HealthStatus.UNHEALTHY")
        finally:
            since = len(mount.events)
            swift.front.restart()
        assert digest == hashlib.sha256(song.read_bytes()).hexdigest()
        mount.wait_for("FailedOver", source="cloud", target="disk")
        mount.wait_for("HealthChanged", since, origin="cloud", after="HealthStatus.HEALTHY")
        assert not any(SECRET_ACCESS_KEY in line for line in mount.processes().values())
        assert SECRET_ACCESS_KEY not in mount.log + repr(mount.events)
