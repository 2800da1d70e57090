"""What a mount does without its servers: it starts, plays what is cached, and shows tags that were read before."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import mutagen
import pytest

from musicfs.cache.disk import FOLDER
from musicfs.system.runtime import control_socket
from tests.support.audio import FORMATS, make_album
from tests.support.mounting import Account, Mount, Place, account, eventually
from tests.support.mpd import mpd
from tests.support.servers.swift import ACCESS_KEY_ID, SECRET_ACCESS_KEY, Swift
from tests.support.sites import site

QUICK = {"unhealthy_threshold": 1, "check_interval_secs": 1}


@pytest.fixture(scope="module")
def who() -> Account:
    return account("ordinary")


def musicfs(here: Place, *words: str | Path) -> Any:
    return json.loads(here.run(here.who.python, "-m", "musicfs", *words, "--json").stdout)


def files_below(top: Path) -> list[Path]:
    return sorted(path for path in top.rglob("*") if path.is_file())


def tags_below(top: Path) -> dict[str, str]:
    """What mutagen finds in every file, or why it can't be parsed."""
    return {str(path.relative_to(top)): tags_of(path) for path in files_below(top)}


def tags_of(path: Path) -> str:
    try:
        return str(mutagen.File(path).tags)
    except mutagen.MutagenError as error:
        return repr(error)


def digest(path: Path) -> str:
    """SHA-256 of the file, or the error."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return os.strerror(error.errno or 0)


def cached(path: Path) -> str:
    return os.getxattr(path, "user.musicfs.cached").decode()


def reads_of_origins(mount_point: Path) -> float:
    """How often the mount has read of origins, successfully or not, and how many bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(control_socket(mount_point)))
        connection.sendall(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        text = b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()
    assert "musicfs_tree_files" in text
    found = re.findall(r"^musicfs_origin_read(?:s|_bytes|_errors)_total{.*} (.*)$", text, re.MULTILINE)
    return sum(map(float, found))


def songs_of_mpd(here: Place, music: Path, folder: Path) -> list[str]:
    """What a new MPD finds in all of the mount."""
    here.run("mkdir", folder)
    with mpd(here, music, folder) as control:
        mpc = ("mpc", f"--host={control}")
        here.run(*mpc, "update", "--wait")
        return sorted(here.run(*mpc, "--format=%file% %artist% %title% %time%", "listall").stdout.splitlines())


def test_tag_readers_ask_no_origin_the_second_time_also_after_a_restart(here: Place) -> None:
    """Of a format each, and one with a cover that takes several blocks."""
    with site("sftp", "nas", here) as nas:
        for number, ext in enumerate(FORMATS):
            make_album(nas.root, f"Artist {ext}", "Album", 1, ext=ext, seed=number, seconds=2)
        covered: Any = mutagen.File(make_album(nas.root, "Covered", "Album", 1, ext="mp3", seconds=2)[0])
        covered.tags.add(mutagen.id3.APIC(encoding=3, mime="image/jpeg", type=3, data=os.urandom(700_000)))  # type: ignore[no-untyped-call]
        covered.save()
        found, read = [], []
        for number in range(2):
            with Mount(here, {"nas": nas.root}, nas=dict(nas.settings)) as mount:
                mount.scanned()
                tags = here.call(tags_below, mount.path)
                found.append((tags, songs_of_mpd(here, mount.path, here.user / f"mpd-{number}")))
                read.append(here.call(reads_of_origins, mount.path))
                stats = musicfs(here, "cache", "stats")
                assert stats["skipped"] == 0
        assert len(found[0][0]) == len(FORMATS) + 1
        assert sum("Title 1" in tags for tags in found[0][0].values()) > len(FORMATS) - 3
        assert len(found[0][1]) > len(FORMATS) / 2
        assert found[1] == found[0]
        assert read[0] > 1_000_000
        assert read[1] == 0


def test_a_mount_without_any_server_from_its_start_plays_what_is_cached_and_says_what_is_not(
    here: Place, swift: Swift
) -> None:
    """One hangs and one refuses; both come back at last."""
    here.environ["MUSICFS_CLOUD_ACCESS_KEY_ID"] = ACCESS_KEY_ID
    here.environ["MUSICFS_CLOUD_SECRET_ACCESS_KEY"] = SECRET_ACCESS_KEY
    bucket = swift.make_bucket()
    cloud = {"origin_type": "s3", "bucket": bucket, "endpoint": swift.url}
    with site("sftp", "nas", here) as nas:
        songs = make_album(nas.root, "Far", "Album", 4, seconds=4)
        for song in make_album(here.base / "bucket", "Clouds", "Album", 2, seconds=4, seed=7):
            swift.put(bucket, f"Album/{song.name}", song.read_bytes())
        origins = {"nas": nas.root, "cloud": Path()}
        settings: dict[str, Any] = {
            "cloud": cloud, "nas": dict(nas.settings) | {"timeout_ms": 60_000}, "retry": {"deadline_ms": 2000},
            "health": QUICK | {"timeout_ms": 60_000},
        }  # fmt: skip
        with Mount(here, origins, **settings) as mount:
            mount.scanned()
            shown = here.call(files_below, mount.path)
            clouds, far = shown[:2], shown[2:]
            musicfs(here, "pin", clouds[0].parent, far[2], "--wait")
            right = [here.call(digest, path) for path in (far[1], far[2], far[3], *clouds)]
            eventually(lambda: {here.call(cached, path) for path in (far[1], far[3])} == {"100%"}, "two are cached")
            (inside,) = here.call(blocks_of, here.cache_dir, far[3])
        assert right[:2] == [digest(song) for song in songs[1:3]]
        with inside.open("r+b") as block:
            block.seek(1000)
            block.write(b"not the bytes of this song")
        nas.begin("unplugged")
        swift.front.kill()
        try:
            with Mount(here, origins, **settings) as mount:
                assert here.call(files_below, mount.path) == shown
                playing = (far[1], far[2], *clouds)
                assert [here.call(digest, path) for path in playing] == [*right[:2], *right[3:]]
                assert mount.seen("HealthChanged", origin="nas") is None, "nothing waits until it is known to be away"
                assert here.call(digest, far[0]) == "Input/output error", "it was never read"
                assert here.call(digest, far[3]) == "Input/output error", "never wrong bytes"
                nas.heal()
                nas.begin("refusing")
                mount.wait_for("HealthChanged", origin="nas", after="HealthStatus.UNHEALTHY")
                mount.wait_for("HealthChanged", origin="cloud", after="HealthStatus.UNHEALTHY")
                eventually(
                    lambda: musicfs(here, "status")["unreached"] == {"files": 6, "cached": 4}, "the status has counted"
                )
                said = here.run(here.who.python, "-m", "musicfs", "status").stdout
                assert "2 files can't be played now: not cached whole, and at no origin that answers." in said
                assert "4 files can be played from the cache alone." in said
                assert [pin["complete"] == pin["tracks"] for pin in musicfs(here, "pins")["pins"]] == [True, True]
                since = len(mount.events)
                nas.heal()
                swift.front.restart()
                for origin in origins:
                    mount.wait_for("HealthChanged", since, origin=origin, after="HealthStatus.HEALTHY")
                assert [here.call(digest, path) for path in far] == [digest(song) for song in songs]
                assert musicfs(here, "status")["unreached"] == {"files": 0, "cached": 0}
        finally:
            swift.front.restart()


def blocks_of(cache: Path, path: Path) -> list[Path]:
    """The files of the cache that hold its content."""
    return [cache / FOLDER / os.getxattr(path, "user.musicfs.content").decode()]
