"""A bucket and a disk with the same music: S3 goes away in the middle of a track, and the track plays on."""

from __future__ import annotations

from pathlib import Path

from tests.support.audio import make_audio
from tests.support.mounting import Mount, Place
from tests.support.playing import SHOWN, SONG, becomes_served_by, digest_of, play
from tests.support.servers.swift import ACCESS_KEY_ID, SECRET_ACCESS_KEY, Swift


def test_a_track_from_s3_plays_to_its_end_though_the_server_is_killed_half_way(here: Place, swift: Swift) -> None:
    root = here.origins / "disk"
    song = make_audio(root / "song.wav", seconds=130, seed=1, tags=SONG)
    bucket = swift.make_bucket()
    swift.put(bucket, "music/song.wav", song.read_bytes())
    here.environ["MUSICFS_CLOUD_ACCESS_KEY_ID"] = ACCESS_KEY_ID
    here.environ["MUSICFS_CLOUD_SECRET_ACCESS_KEY"] = SECRET_ACCESS_KEY
    cloud = {"origin_type": "s3", "bucket": bucket, "prefix": "music", "endpoint": swift.url}
    with Mount(here, {"cloud": Path(), "disk": root}, cloud=cloud) as mount:
        path = mount.scanned().path / SHOWN
        becomes_served_by(here, path, "cloud")
        try:
            assert play(here, path, swift.front.kill).digest == digest_of(song)
            becomes_served_by(here, path, "disk")
            mount.wait_for("HealthChanged", origin="cloud", after="HealthStatus.UNHEALTHY")
        finally:
            since = len(mount.events)
            swift.front.restart()
        mount.wait_for("HealthChanged", since, origin="cloud", after="HealthStatus.HEALTHY")
        assert not any(SECRET_ACCESS_KEY in line for line in mount.processes().values())
        assert SECRET_ACCESS_KEY not in mount.log + repr(mount.events)
