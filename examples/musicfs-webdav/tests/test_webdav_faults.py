"""WebDAV, the example of a kind that is a package of its own, when its server or the way to it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.support.servers.nginx import Nginx
from tests.support.servers.process import HOST

from musicfs.origin import Origin
from musicfs.testing.fault_proxy import FaultProxy
from musicfs.testing.remote_faults import DATA, NAME, OTHERS, RemoteFaults
from webdav_env import WebdavEnv, server

__all__ = ["server"]


class WebdavRemote(WebdavEnv):
    flips_pass = True

    def __init__(self, server: Nginx, proxy: FaultProxy) -> None:
        super().__init__(server)
        self.proxy = proxy
        self.kill, self.start, self.stop, self.cont = server.kill, server.start, server.stop, server.cont

    async def open(self, timeout_ms: int = 5000) -> Origin:  # type: ignore[override]
        url = f"http://{HOST}:{self.proxy.port}/music%20&%20more"
        return await super().open(url=url, timeout_ms=timeout_ms)


@pytest.fixture
async def remote(server: Nginx) -> AsyncIterator[WebdavRemote]:
    with FaultProxy(server.port) as proxy:
        remote = WebdavRemote(server, proxy)
        remote.write(NAME, DATA)
        for n in range(OTHERS):
            remote.write(f"c/{n:04}.flac", b"x")
        yield remote
        await remote.aclose()
        remote.remove_root()


class TestWebdavFaults(RemoteFaults):
    """The suite, unchanged."""
