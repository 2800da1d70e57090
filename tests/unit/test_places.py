"""Origins that are one place under two names are found, and those that are not are left apart."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed
from musicfs.federation.places import Places, configured_overlaps, first_of_each
from musicfs.model import OriginId, OriginType
from musicfs.origin import FolderIdentity
from musicfs.origins import folder_identity
from musicfs.origins.folder_identity import folder_here
from musicfs.origins.local.driver import LocalOrigin
from musicfs.system.mounts import Mounted
from tests.support.fakes import FakeOrigin


def local(id: str, path: Path) -> OriginConfig:
    return OriginConfig.model_validate({"id": id, "origin_type": OriginType.LOCAL, "path": path})


def remote(id: str, kind: OriginType, **settings: Any) -> OriginConfig:
    return OriginConfig.model_validate({"id": id, "origin_type": kind, **settings})


@pytest.fixture
def music(tmp_path: Path) -> Path:
    (tmp_path / "music/Ada").mkdir(parents=True)
    (tmp_path / "music/Ada/a.flac").write_bytes(b"a")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/a.flac").write_bytes(b"a")
    (tmp_path / "link").symlink_to("music")
    return tmp_path / "music"


async def test_links_and_folders_within_are_the_same_place_and_copies_are_not(music: Path) -> None:
    places = Places(".marker")
    origins = [
        LocalOrigin(local(id, music.parent / path))
        for id, path in (("a", "music"), ("b", "link"), ("c", "music/Ada"), ("d", "copy"))
    ]
    for origin in origins:
        await places.health(origin)
        await origin.aclose()
    assert places.overlapping([origin.id for origin in origins]) == {"b": "a", "c": "a"}
    assert places.overlapping([OriginId("c"), OriginId("d")]) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_folder_that_is_mounted_a_second_time_is_the_same_place(music: Path) -> None:
    there = music.parent / "there"
    there.mkdir()
    subprocess.run(["mount", "--bind", music, there], check=True)
    try:
        assert folder_here(str(there / "Ada")).overlaps(folder_here(str(music)))
    finally:
        subprocess.run(["umount", there], check=True)


def test_two_that_overlap_a_third_are_one_place_with_it() -> None:
    known = {
        OriginId("ada"): FolderIdentity(frozenset("A"), frozenset("M")),
        OriginId("other"): FolderIdentity(frozenset("O")),
        OriginId("bob"): FolderIdentity(frozenset("B"), frozenset("M")),
        OriginId("music"): FolderIdentity(frozenset("M")),
        OriginId("unknown"): FolderIdentity(),
    }
    assert first_of_each(known, known) == {"bob": "ada", "music": "ada"}


async def test_an_origin_that_shows_the_mount_itself_is_refused(music: Path) -> None:
    (music / ".marker").touch()
    origin = LocalOrigin(local("a", music))
    with pytest.raises(OriginFailed, match="it shows this mount itself"):
        await Places(".marker").health(origin)
    await origin.aclose()


async def test_a_server_that_describes_whatever_it_is_asked_for_is_no_mount() -> None:
    await Places(".marker").health(FakeOrigin("anything"))


async def test_what_is_away_counts_as_it_did_and_is_looked_at_again_when_it_is_back(music: Path) -> None:
    places = Places(".marker")
    origins = [LocalOrigin(local(id, music.parent / path)) for id, path in (("a", "music"), ("b", "link"))]
    ids = [origin.id for origin in origins]
    for origin in origins:
        await places.health(origin)
    (music.parent / "link").unlink()
    with pytest.raises(OriginFailed):
        await places.health(origins[1])
    assert places.overlapping(ids) == {"b": "a"}
    (music.parent / "link").symlink_to("copy")
    await places.health(origins[1])
    assert places.overlapping(ids) == {}
    for origin in origins:
        await origin.aclose()


def test_a_mounted_share_and_an_origin_at_the_same_server_are_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    table = [
        Mounted("1", Path("/"), "ext4", "8:1", source="/dev/sda1"),
        Mounted("2", Path("/mnt/nfs"), "nfs4", "0:50", source="127.0.0.1:/srv/music"),
        Mounted("3", Path("/mnt/smb"), "cifs", "0:51", source="//localhost/Music"),
        Mounted("4", Path("/mnt/ssh"), "fuse.sshfs", "0:52", source="me@[::1]:/srv"),
    ]
    monkeypatch.setattr(folder_identity, "mounts", lambda: table)
    for here, kind, there in (
        ("/mnt/nfs/Ada", "nfs", "/srv/music"),
        ("/mnt/smb", "smb", "music/Ada".lower()),
        ("/mnt/ssh/music", "sftp", "/srv/music/Ada"),
    ):
        mounted = folder_identity._shared(Path(here))
        assert mounted.overlaps(folder_identity.folder_at_host(kind, "localhost", there)), here
        assert not mounted.overlaps(folder_identity.folder_at_host(kind, "localhost", "/other")), here
    assert folder_identity._shared(Path("/home")) == FolderIdentity()


def test_the_configuration_alone_shows_what_is_the_same(music: Path) -> None:
    nfs = {"host": "localhost", "export": "/srv/music"}
    s3 = {"bucket": "music", "endpoint": "https://s3.test"}
    found = configured_overlaps([
        local("a", music), local("b", music / "Ada"), local("gone", music / "none"),
        remote("n", OriginType.NFS, **nfs), remote("n2", OriginType.NFS, **nfs | {"host": "127.0.0.1"}),
        remote("n3", OriginType.NFS, **nfs | {"export": "/srv/other"}),
        remote("s", OriginType.S3, **s3), remote("s2", OriginType.S3, **s3, prefix="Ada"),
        remote("s3", OriginType.S3, **s3 | {"endpoint": "https://other.test"}),
    ])  # fmt: skip
    assert found == {"b": "a", "n2": "n", "s2": "s"}
