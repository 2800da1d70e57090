"""The NFS kind keeps the contract, against a real server; and what only it can do."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from musicfs.config import OriginConfig
from musicfs.model import OriginType
from musicfs.origins.base import Origin
from musicfs.origins.kinds import open_origin
from tests.contract.origin_contract import OriginContract
from tests.contract.test_local import LocalEnv
from tests.support.servers.ganesha import Ganesha
from tests.support.servers.process import HOST


class NfsEnv(LocalEnv):
    """A folder of its own below the exported one; the server acts as nobody, so that file modes count."""

    def __init__(self, root: Path, server: Ganesha) -> None:
        super().__init__(root)
        self.server = server
        self._origins: list[Origin] = []

    def config(self, **common: object) -> OriginConfig:
        table = {
            "id": "nas", "origin_type": OriginType.NFS, "host": HOST, "export": str(self.root),
            "port": self.server.port, "mount_port": self.server.mount_port,
        }  # fmt: skip
        return OriginConfig.model_validate(table | common)

    async def open(self, populated: bool = False, **settings: object) -> Origin:  # type: ignore[override]
        origin = open_origin(self.config(**settings), populated=populated)
        self._origins.append(origin)
        return origin

    @contextmanager
    def denied(self, path: str) -> Iterator[None]:
        before = (self.root / path).stat().st_mode
        (self.root / path).chmod(0)
        try:
            yield
        finally:
            (self.root / path).chmod(before)

    async def aclose(self) -> None:
        for origin in self._origins:
            await origin.aclose()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ganesha]:
    exported = tmp_path_factory.mktemp("export")
    before = os.umask(0o022)
    exported.chmod(0o755)
    server = Ganesha(exported, tmp_path_factory.mktemp("ganesha"))
    with server:
        yield server
    os.umask(before)


@pytest.fixture
async def env(server: Ganesha, tmp_path: Path) -> AsyncIterator[NfsEnv]:
    root = server.root / tmp_path.name
    root.mkdir()
    env = NfsEnv(root, server)
    yield env
    await env.aclose()


class TestNfs(OriginContract):
    """The contract, unchanged."""
