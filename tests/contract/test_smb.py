"""The SMB kind keeps the contract, over a real Samba; and what only it can do."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from musicfs.config import OriginConfig
from musicfs.model import OriginId, OriginType, Replica
from musicfs.origins.base import Origin
from musicfs.origins.kinds import open_origin
from tests.contract.origin_contract import AWKWARD, OriginContract, OriginEnv, listing
from tests.support.servers.process import HOST
from tests.support.servers.samba import PASSWORD, SHARE, Samba

NAMES = [name for name in AWKWARD if not set(name) & set('\\*?"\n\t')]
"""What a share can hold; Samba lists none of the others."""


class SmbEnv:
    any_bytes = False

    def __init__(self, samba: Samba, folder: str) -> None:
        self.samba = samba
        self.folder = folder
        self.root = samba.root / folder
        self.root.mkdir()
        self._opened: list[Origin] = []
        self._clock = 10**18

    def config(self, **settings: object) -> OriginConfig:
        table = {
            "id": "nas", "origin_type": OriginType.SMB, "host": HOST, "port": self.samba.port, "share": SHARE,
            "prefix": self.folder, "user": self.samba.user, "password": PASSWORD,
        }  # fmt: skip
        chosen = {name: value for name, value in (table | settings).items() if value is not None}
        return OriginConfig.model_validate(chosen)

    async def open(self, populated: bool = False, **settings: object) -> Origin:
        origin = open_origin(self.config(**settings), populated=populated)
        self._opened.append(origin)
        return origin

    def write(self, path: str, data: bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        self._clock += 100  # the protocol's own grain
        os.utime(file, ns=(self._clock, self._clock))

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
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture(scope="module")
def samba() -> Iterator[Samba]:
    with Samba() as server:
        yield server


@pytest.fixture
async def env(samba: Samba) -> AsyncIterator[SmbEnv]:
    env = SmbEnv(samba, "music")
    yield env
    await env.aclose()


class TestSmb(OriginContract):
    async def test_awkward_names_are_listed_and_read_exactly(self, env: OriginEnv) -> None:
        for name in AWKWARD:
            env.write(name, name.encode())
        origin = await env.open()
        found = await listing(origin)
        assert sorted(found) == sorted(NAMES)
        for name, stat in found.items():
            assert await origin.read(Replica.of(OriginId(origin.id), stat), 0, 1000) == name.encode()
