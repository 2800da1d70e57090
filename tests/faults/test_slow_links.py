"""Links whose round trip is long beside the origin's timeout: logins, listings and reads, before real servers."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from musicfs.config.kinds import open_origin
from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed
from musicfs.model import HealthStatus, Replica
from musicfs.origin import Origin
from musicfs.testing.fault_proxy import FaultProxy
from tests.support.servers.ganesha import Ganesha
from tests.support.servers.process import HOST
from tests.support.servers.samba import PASSWORD, SHARE, Samba
from tests.support.servers.sshd import Sshd, open_folder

TIMEOUT_SECS = 1.5
ROUND_TRIP_SECS = 0.3
"""As 1 s is beside the default timeout of 5 s: a login takes longer than any call may."""
DATA = bytes(range(256)) * 1000
NAME = "Artist/Album/song.flac"


def put_music(root: Path) -> None:
    file = root / NAME
    file.parent.mkdir(parents=True)
    file.write_bytes(DATA)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path


@pytest.fixture
def sftp(home: Path) -> Iterator[tuple[dict[str, object], FaultProxy]]:
    with open_folder() as root, open_folder() as keys, Sshd(keys) as server, FaultProxy(server.port) as proxy:
        put_music(root)
        settings = {
            "origin_type": "sftp", "host": HOST, "port": proxy.port, "user": server.user, "path": str(root),
            "key_file": server.key, "known_hosts": server.known_as(proxy.port),
        }  # fmt: skip
        yield settings, proxy


@pytest.fixture
def smb() -> Iterator[tuple[dict[str, object], FaultProxy]]:
    with Samba() as server, FaultProxy(server.port) as proxy:
        put_music(server.root)
        login = {"user": server.user, "password": PASSWORD}
        yield {"origin_type": "smb", "host": HOST, "port": proxy.port, "share": SHARE, **login}, proxy


@pytest.fixture
def nfs(tmp_path: Path) -> Iterator[tuple[dict[str, object], FaultProxy]]:
    with open_folder() as root:
        server = Ganesha(root, tmp_path, squash="No_Root_Squash")
        put_music(root)
        with server, FaultProxy(server.port) as proxy, FaultProxy(server.mount_port) as mount_proxy:
            mount_proxy.latency = ROUND_TRIP_SECS / 2
            ports = {"port": proxy.port, "mount_port": mount_proxy.port}
            yield {"origin_type": "nfs", "host": HOST, "export": str(root), **ports}, proxy


async def becomes_healthy(origin: Origin) -> None:
    """As probes find out, each of which waits no longer than a call may take."""
    async with asyncio.timeout(60):
        while True:
            try:
                async with asyncio.timeout(TIMEOUT_SECS):
                    assert await origin.health() is HealthStatus.HEALTHY
                    return
            except (TimeoutError, OriginFailed):
                await asyncio.sleep(0.2)


@pytest.mark.parametrize("kind", ["sftp", "smb", "nfs"])
async def test_a_link_with_a_long_round_trip_connects_lists_and_plays(
    kind: str, request: pytest.FixtureRequest
) -> None:
    settings, proxy = request.getfixturevalue(kind)
    proxy.latency = ROUND_TRIP_SECS / 2
    config = OriginConfig.model_validate({"id": "far", "timeout_ms": int(TIMEOUT_SECS * 1000), **settings})
    origin: Origin = open_origin(config, populated=False)
    try:
        await becomes_healthy(origin)
        files = [stat async for stat in origin.scan()]
        assert [stat.path for stat in files] == [NAME]
        assert await origin.read(Replica.of(origin.id, files[0]), 1000, 100_000) == DATA[1000:101_000]
    finally:
        await origin.aclose()


async def test_a_server_that_turns_new_connections_away_is_asked_again(home: Path) -> None:
    """One that lets in one login at a time (MaxStartups)."""
    with open_folder() as root, open_folder() as keys, Sshd(keys, settings="MaxStartups 1:100:1\n") as server:
        put_music(root)
        settings = {
            "origin_type": "sftp", "host": HOST, "port": server.port, "user": server.user, "path": str(root),
            "key_file": server.key, "known_hosts": server.known_hosts,
        }  # fmt: skip
        origin: Origin = open_origin(OriginConfig.model_validate({"id": "nas", **settings}), populated=False)
        another = let_in(server)
        leaving = threading.Timer(0.4, another.close)
        leaving.start()
        try:
            assert await origin.health() is HealthStatus.HEALTHY
        finally:
            leaving.join()
            await origin.aclose()


def let_in(server: Sshd) -> socket.socket:
    """Returns a connection that has been greeted and does not log in: the room that there is for logins."""
    while True:
        connection = socket.create_connection((HOST, server.port))
        if connection.recv(4).startswith(b"SSH"):
            return connection
        connection.close()  # there is none until the server has forgotten the one that found it ready


async def test_a_server_that_ends_every_connection_at_once_is_named_as_such(home: Path) -> None:
    async def turn_away(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(turn_away, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    config = {"id": "nas", "origin_type": "sftp", "host": HOST, "port": port, "path": "/music", "user": "me"}
    origin: Origin = open_origin(OriginConfig.model_validate(config), populated=False)
    with pytest.raises(OriginFailed, match=r"ends new connections at once: .*MaxStartups"):
        await origin.health()
    await origin.aclose()
    server.close()
    await server.wait_closed()
