"""S3 fails in time and for a reason, comes back by itself, and leaks nothing; and what can fail only there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed, OriginFault
from musicfs.model import HealthStatus
from musicfs.origins.s3.driver import S3Origin
from musicfs.testing.fault_proxy import FaultProxy
from musicfs.testing.origin_contract import listing, replica
from musicfs.testing.remote_faults import CYCLES, DATA, NAME, OTHERS, RemoteFaults, held, holds_no_more_than, working
from tests.support.servers.process import HOST
from tests.support.servers.swift import ACCESS_KEY_ID, SECRET_ACCESS_KEY, Swift


class S3Remote:
    """The shared server, with a bucket that nothing here changes."""

    flips_pass = True

    def __init__(self, swift: Swift, bucket: str, proxy: FaultProxy) -> None:
        self.swift = swift
        self.proxy = proxy
        self._bucket = bucket
        self._opened: list[S3Origin] = []

    async def open(self, timeout_ms: int = 5000) -> S3Origin:
        table = {
            "id": "cloud", "origin_type": "s3", "bucket": self._bucket, "endpoint": f"http://{HOST}:{self.proxy.port}",
            "access_key_id": ACCESS_KEY_ID, "secret_access_key": SECRET_ACCESS_KEY, "timeout_ms": timeout_ms,
        }  # fmt: skip
        origin = S3Origin(OriginConfig.model_validate(table))
        self._opened.append(origin)
        return origin

    def kill(self) -> None:
        self.swift.front.kill()

    def start(self) -> None:
        self.swift.front.start()

    def stop(self) -> None:
        self.swift.front.stop()

    def cont(self) -> None:
        self.swift.front.cont()

    async def aclose(self) -> None:
        for origin in self._opened:
            await origin.aclose()


@pytest.fixture(scope="module")
def bucket(swift: Swift) -> str:
    name = swift.make_bucket()
    swift.put_all(name, {NAME: DATA} | {f"c/{n}.flac": b"x" for n in range(OTHERS)})
    return name


@pytest.fixture
async def remote(swift: Swift, bucket: str) -> AsyncIterator[S3Remote]:
    with FaultProxy(swift.port) as proxy:
        remote = S3Remote(swift, bucket, proxy)
        yield remote
        await remote.aclose()


class TestS3Faults(RemoteFaults):
    """The suite, unchanged."""


async def test_a_store_behind_the_server_that_is_gone_blames_the_origin(remote: S3Remote) -> None:
    """The bucket still lists, and no file may be taken for missing."""
    origin, file = await working(remote)
    store = remote.swift.objects
    await asyncio.to_thread(store.kill)
    try:
        for call in (origin.read(file, 0, 5), origin.stat(NAME)):
            with pytest.raises(OriginFailed) as failed:
                await call
            assert failed.value.fault is OriginFault.IO
        assert await origin.health() is HealthStatus.HEALTHY
        assert len(await listing(origin)) == OTHERS + 1
    finally:
        await asyncio.to_thread(store.start)


async def test_reads_beyond_the_pool_fail_too_when_the_origin_is_closed(remote: S3Remote) -> None:
    """They wait for a connection, and must not look as if somebody had cancelled them."""
    origin, file = await working(remote)
    remote.proxy.stall()
    reads = [asyncio.create_task(origin.read(file, 0, 9)) for _ in range(20)]
    assert not (await asyncio.wait(reads, timeout=0.1))[0]
    await origin.aclose()
    for result in await asyncio.gather(*reads, return_exceptions=True):
        assert isinstance(result, OriginFailed)
        assert result.fault is OriginFault.UNREACHABLE


async def test_nothing_is_left_of_many_reads_that_were_refused_or_cancelled(remote: S3Remote) -> None:
    origin, file = await working(remote)
    before = held()
    remote.proxy.refuse()
    for _ in range(CYCLES):
        with pytest.raises(OriginFailed):
            await origin.read(file, 0, 9)
    remote.proxy.accept()
    remote.proxy.stall()
    for turns in range(CYCLES):
        read = asyncio.create_task(origin.read(file, 0, 9))
        for _ in range(turns % 10):
            await asyncio.sleep(0)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
    remote.proxy.heal()
    assert await origin.read(await replica(origin, NAME), 5, 9) == DATA[5:14]
    await holds_no_more_than(before)
