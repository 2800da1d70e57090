"""A server and a disk with the same music: the server goes away in the middle of a track, and the track plays on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.audio import make_album, make_audio
from tests.support.commands import commands
from tests.support.mounting import Mount, Place, eventually
from tests.support.playing import SHOWN, SONG, becomes_served_by, digest_of, play
from tests.support.servers.process import HOST
from tests.support.servers.sshd import Sshd, open_folder, sshd


@pytest.fixture
def server() -> Iterator[Sshd]:
    with sshd() as server:
        yield server


@pytest.fixture
def access(here: Place, server: Sshd) -> dict[str, object]:
    """The way into the server, for the user who mounts, and a home without settings of ssh."""
    key = here.user / "key"
    here.call(key.write_bytes, server.key.read_bytes())
    here.call(key.chmod, 0o600)
    known = here.base / "known_hosts"
    shutil.copy(server.known_hosts, known)
    known.chmod(0o644)
    return {"port": server.port, "user": server.user, "key_file": str(key), "known_hosts": str(known)}


@pytest.fixture
def song(here: Place) -> Path:
    song = make_audio(here.origins / "nas/song.wav", seconds=130, seed=1, tags=SONG)
    shutil.copytree(here.origins / "nas", here.origins / "disk")
    (here.origins / "nas").chmod(0o755)
    return song


@pytest.mark.parametrize("how", ["killed", "hanging"])
def test_a_track_plays_to_its_end_though_the_server_goes_half_way(
    here: Place, server: Sshd, access: dict[str, object], song: Path, how: str
) -> None:
    nas = {"origin_type": "sftp", "host": HOST, "path": str(song.parent), "timeout_ms": 3000, **access}
    health = {"timeout_ms": 3000, "unhealthy_threshold": 2}
    roots = {"nas": song.parent, "disk": here.origins / "disk"}
    with Mount(here, roots, nas=nas, health=health) as mount:
        path = mount.scanned().path / SHOWN
        becomes_served_by(here, path, "nas")
        played = play(here, path, server.kill if how == "killed" else server.stop)
        print(f"{how}: the longest wait was {played.longest * 1000:.0f} ms")
        assert played.digest == digest_of(song)
        becomes_served_by(here, path, "disk")
        mount.wait_for("HealthChanged", origin="nas", after="HealthStatus.UNHEALTHY")
        since = len(mount.events)
        server.start() if how == "killed" else server.cont()
        mount.wait_for("HealthChanged", since, origin="nas", after="HealthStatus.HEALTHY")


def test_a_server_is_mounted_by_its_url(here: Place, server: Sshd, access: dict[str, object], song: Path) -> None:
    """As a user would, with the keys and the known hosts where ssh has them."""
    folder = here.user / ".ssh"
    here.call(folder.mkdir, 0o700)
    for name, setting in (("id_ed25519", "key_file"), ("known_hosts", "known_hosts")):
        here.run("cp", "-p", str(access[setting]), folder / name)
    url = f"sftp://{server.user}@{HOST}:{server.port}{song.parent}"
    python = [here.who.python, "-m", "musicfs"]
    here.run(*python, "mount", "--origin", url, "--cache-dir", here.cache_dir, here.mount_point)
    try:
        shown = here.mount_point / SHOWN
        eventually(lambda: here.call(shown.exists), "the song")
        assert here.call(shown.read_bytes) == song.read_bytes()
        here.run(*python, "unmount", here.mount_point)
    finally:
        here.run("fusermount3", "-u", "-z", "-q", here.mount_point, check=False)  # if that has failed


def test_a_server_that_shows_the_mount_itself_is_no_second_place(server: Sshd) -> None:
    with commands() as user, open_folder() as folder:
        make_album(folder / "disk", "Artist", "Album", 3)
        config = user.home / "music.toml"
        config.write_text(
            f'mount_point = "{folder}/m"\n\n[[origins]]\nid = "disk"\norigin_type = "local"\n'
            f'path = "{folder}/disk"\npriority = 1\n\n[[origins]]\nid = "loop"\norigin_type = "sftp"\n'
            f'path = "{folder}/m"\npriority = 2\nhost = "{HOST}"\nport = {server.port}\nuser = "{server.user}"\n'
            f'key_file = "{server.key}"\nknown_hosts = "{server.known_hosts}"\n'
        )
        shared = ["--allow-other"] if os.geteuid() == 0 else []  # then the server reads as another user
        assert user("mount", "--config", config, *shared).returncode == 0
        try:
            eventually(lambda: "it shows this mount itself" in user("status").stdout, "the word about the loop")
            user("scan")
            assert user.json("redundancy")["places"][0]["places"] == 1
        finally:
            assert user("unmount").returncode == 0
