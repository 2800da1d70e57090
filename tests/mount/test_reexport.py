"""A mount that a file server shares again: clients list all of it and read every byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from musicfs.config.kinds import open_origin
from musicfs.config.models import OriginConfig
from musicfs.model import OriginType, Replica
from tests.support.audio import make_album
from tests.support.commands import Commands, commands
from tests.support.servers.ganesha import Ganesha
from tests.support.servers.process import HOST
from tests.support.servers.samba import PASSWORD, SHARE, Samba
from tests.support.servers.sshd import open_folder

# The servers act as other users, which is root's to allow.
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may share a mount without fuse.conf")


def mounted(user: Commands, music: Path, mount_point: Path) -> dict[str, bytes]:
    """Mounts an album in a folder that all may enter; returns what the mount has, by path."""
    make_album(music, "Mötley Crüe", "Álbum", 3)
    (next(music.rglob("*.flac")).parent / "cover.jpg").write_bytes(os.urandom(300_000))
    for path in music.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    music.chmod(0o755)
    assert user("mount", mount_point, "--origin", music, "--allow-other").returncode == 0
    assert user("scan").returncode == 0
    files = {str(path.relative_to(mount_point)): path.read_bytes() for path in mount_point.rglob("*") if path.is_file()}
    assert len(files) == 4
    return files


async def seen(**settings: object) -> dict[str, bytes]:
    """What a client sees."""
    config = OriginConfig.model_validate({"id": "client", **settings})
    origin = open_origin(config, populated=False)
    try:
        found = [stat async for stat in origin.scan()]
        return {stat.path: await origin.read(Replica.of(origin.id, stat), 0, stat.size) for stat in found}
    finally:
        await origin.aclose()


async def test_a_client_of_samba_reads_what_the_mount_has() -> None:
    with commands() as user, open_folder() as music, Samba() as samba:
        try:
            files = mounted(user, music, samba.root)
            access = {"host": HOST, "port": samba.port, "share": SHARE, "user": samba.user, "password": PASSWORD}
            assert await seen(origin_type=OriginType.SMB, **access) == files
        finally:
            user("shutdown", samba.root)


async def test_a_client_of_an_nfs_server_reads_what_the_mount_has(tmp_path: Path) -> None:
    with commands() as user, open_folder() as music:
        shared = user.home / "m"
        try:
            files = mounted(user, music, shared)
            server = Ganesha(shared, tmp_path)
            with server:
                where = {"host": HOST, "port": server.port, "mount_port": server.mount_port, "export": str(shared)}
                assert await seen(origin_type=OriginType.NFS, **where) == files
        finally:
            user("shutdown", shared)
