"""The SFTP kind keeps the contract, before a real OpenSSH server; and what only it can do."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from musicfs.config import OriginConfig
from musicfs.model import OriginType
from musicfs.origins.sftp.driver import SftpOrigin
from tests.contract.origin_contract import OriginContract
from tests.support.servers.process import HOST
from tests.support.servers.sshd import Sshd, open_folder, sshd


class SftpEnv:
    any_bytes = True

    def __init__(self, server: Sshd, root: Path) -> None:
        self.server = server
        self.root = root
        self._opened: list[SftpOrigin] = []
        self._clock = 10**9

    def config(self, **other: object) -> OriginConfig:
        server = {"host": HOST, "port": self.server.port, "user": self.server.user, "path": str(self.root)}
        access = {"key_file": self.server.key, "known_hosts": self.server.known_hosts}
        kind = {"id": "nas", "origin_type": OriginType.SFTP}
        table = {key: value for key, value in (kind | server | access | other).items() if value is not None}
        return OriginConfig.model_validate(table)

    async def open(self, populated: bool = False, **other: object) -> SftpOrigin:
        origin = SftpOrigin(self.config(**other), populated=populated)
        self._opened.append(origin)
        return origin

    def write(self, path: str, data: bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        self._clock += 1  # a second, as the protocol knows nothing shorter
        os.utime(file, (self._clock, self._clock))

    def write_sparse(self, path: str, size: int, at: int, data: bytes) -> None:
        with (self.root / path).open("wb") as file:
            file.truncate(size)
            file.seek(at)
            file.write(data)

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    @contextmanager
    def denied(self, path: str) -> Iterator[None]:
        before = (self.root / path).stat().st_mode
        (self.root / path).chmod(0)
        try:
            yield
        finally:
            (self.root / path).chmod(before)

    def empty_root(self) -> None:
        self.remove_root()
        self.root.mkdir()

    def remove_root(self) -> None:
        shutil.rmtree(self.root)

    async def aclose(self) -> None:
        for origin in self._opened:
            await origin.aclose()


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    with sshd() as server:
        yield server


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, so that no key, agent or setting of whoever runs the tests plays a part."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path


@pytest.fixture
async def env(server: Sshd) -> AsyncIterator[SftpEnv]:
    with open_folder() as folder:
        (folder / "music").mkdir()
        env = SftpEnv(server, folder / "music")
        yield env
        await env.aclose()


class TestSftp(OriginContract):
    """The contract, unchanged."""
