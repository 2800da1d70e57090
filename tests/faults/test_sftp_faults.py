"""SFTP when its server or the way to it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from musicfs.origins.base import Origin
from tests.contract.test_sftp import SftpEnv, home, server
from tests.faults.remote_faults import DATA, NAME, OTHERS, RemoteFaults, held, holds_no_more_than, working
from tests.support.servers.faultproxy import FaultProxy, How
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


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_connection_that_died_while_idle_costs_no_read(remote: SftpRemote, how: How) -> None:
    origin, file = await working(remote)
    threads, descriptors, tasks = held()
    sockets = 3 * remote.proxy.connections  # one here, two of the proxy's
    remote.proxy.cut(how)
    await holds_no_more_than((threads, descriptors - sockets, tasks))
    assert await origin.read(file, 0, len(DATA)) == DATA
