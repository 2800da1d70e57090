"""The S3 kind keeps the contract, against a real server; and what is peculiar to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager

import pytest

from musicfs.config import OriginConfig
from musicfs.errors import OriginFailed, OriginFault
from musicfs.origins.s3 import KIND
from musicfs.origins.s3.driver import S3Origin
from tests.contract.origin_contract import OriginContract, listing
from tests.support.servers.swift import ACCESS_KEY_ID, SECRET_ACCESS_KEY, Swift


class S3Env:
    """A bucket of its own. What is written before an origin is opened is kept until then, and put all at once."""

    any_bytes = False

    def __init__(self, swift: Swift) -> None:
        self.swift = swift
        self.bucket = swift.make_bucket()
        self._unwritten: dict[str, bytes] = {}
        self._opened: list[S3Origin] = []

    def config(self, **settings: object) -> OriginConfig:
        table = {
            "id": "cloud", "origin_type": KIND.name, "bucket": self.bucket, "endpoint": self.swift.url,
            "access_key_id": ACCESS_KEY_ID, "secret_access_key": SECRET_ACCESS_KEY,
        }  # fmt: skip
        return OriginConfig.model_validate(table | settings)

    async def open(self, populated: bool = False, **settings: object) -> S3Origin:
        self.swift.put_all(self.bucket, self._unwritten)
        self._unwritten.clear()
        origin = S3Origin(self.config(**settings), populated=populated)
        self._opened.append(origin)
        return origin

    def write(self, path: str, data: bytes) -> None:
        if self._opened:
            self.swift.put(self.bucket, path, data)
        else:
            self._unwritten[path] = data

    def write_sparse(self, path: str, size: int, at: int, data: bytes) -> None:
        self.swift.put_sparse(self.bucket, path, size, at, data)

    def remove(self, path: str) -> None:
        self.swift.remove(self.bucket, path)

    def denied(self, path: str) -> AbstractContextManager[None]:
        return self.swift.denied(f"{self.bucket}/{path}")

    def empty_root(self) -> None:
        for key in self.swift.keys(self.bucket):
            self.swift.remove(self.bucket, key)

    def remove_root(self) -> None:
        self.empty_root()
        self.swift.remove_bucket(self.bucket)

    async def aclose(self) -> None:
        for origin in self._opened:
            await origin.aclose()


@pytest.fixture
async def env(swift: Swift) -> AsyncIterator[S3Env]:
    env = S3Env(swift)
    yield env
    await env.aclose()


class TestS3(OriginContract):
    """The contract; but a bucket is listed as a whole, by one permission, and folders in it have none of their own."""

    async def test_a_denied_folder_fails_the_scan_by_name(self, env: S3Env) -> None:  # type: ignore[override]
        env.write("open/a.flac", b"12345")
        env.write("closed/b.flac", b"12345")
        with env.denied("closed"), pytest.raises(OriginFailed, match="closed") as failed:
            await listing(await env.open(), "closed")
        assert failed.value.fault is OriginFault.DENIED
