"""A folder that a real nginx serves over WebDAV, for the suites of `musicfs.testing`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from tests.support.servers.nginx import PASSWORD, USER, Nginx

from musicfs.testing.folder_env import FolderEnv


class WebdavEnv(FolderEnv):
    tick_ns = 10**9

    def __init__(self, server: Nginx) -> None:
        super().__init__(server.root / "music & more")
        self.root.mkdir()
        self.server = server

    def table(self) -> Mapping[str, object]:
        where = {"id": "cloud", "origin_type": "webdav", "url": f"{self.server.url}/music%20&%20more"}
        return {**where, "user": USER, "password": PASSWORD}


@pytest.fixture(scope="module")
def server() -> Iterator[Nginx]:
    with Nginx() as server:
        yield server
