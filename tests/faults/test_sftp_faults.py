"""SFTP when its server or the way to it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from musicfs.origin import Origin
from musicfs.testing.fault_proxy import FaultProxy, How
from musicfs.testing.remote_faults import BOUND, DATA, NAME, OTHERS, RemoteFaults, working
from tests.contract.test_sftp import SftpEnv, home, server
from tests.support.servers.sshd import Sshd, open_folder

__all__ = ["home", "server"]


class SftpRemote(SftpEnv):
    flips_pass = False

    def __init__(self, server: Sshd, root: Path, proxy: FaultProxy) -> None:
        super().__init__(server, root)
        self.proxy = proxy
        self.kill, self.start, self.stop, self.cont = server.kill, server.start, server.stop, server.cont

    async def open(self, timeout_ms: int = 5000) -> Origin:  # type: ignore[override]
        port = self.proxy.port
        return await super().open(port=port, known_hosts=self.server.known_as(port), timeout_ms=timeout_ms)


@pytest.fixture
async def remote(server: Sshd) -> AsyncIterator[SftpRemote]:
    with open_folder() as folder, FaultProxy(server.port) as proxy:
        remote = SftpRemote(server, folder, proxy)
        remote.write(NAME, DATA)
        for n in range(OTHERS):
            remote.write(f"c/{n:04}.flac", b"x")
        yield remote
        await remote.aclose()


class TestSftpFaults(RemoteFaults):
    """The suite, unchanged."""


def connections(port: int) -> set[Path]:
    """The sockets by which this process is connected to the port, by their names in the kernel."""
    found = psutil.Process().net_connections("tcp")
    return {socket_of(each.fd) for each in found if each.raddr and each.raddr.port == port}


def socket_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def descriptors() -> set[Path]:
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(link.readlink())
    return found


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_connection_that_died_while_idle_costs_no_read(remote: SftpRemote, how: How) -> None:
    origin, file = await working(remote)
    sockets = connections(remote.proxy.port)
    assert sockets
    remote.proxy.cut(how)
    async with asyncio.timeout(BOUND):
        while sockets & descriptors():
            await asyncio.sleep(0.01)
    assert await origin.read(file, 0, len(DATA)) == DATA
