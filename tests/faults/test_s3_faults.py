"""What befalls an S3 server and the way to it: calls fail in time, for a reason, and all is well again afterwards."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from musicfs.errors import OriginFailed, OriginFault
from musicfs.model import HealthStatus, Replica
from musicfs.origins.s3.driver import S3Origin
from tests.contract.origin_contract import listing, replica
from tests.contract.test_s3 import S3Env
from tests.support.servers.faultproxy import FaultProxy
from tests.support.servers.process import HOST
from tests.support.servers.swift import Swift

DATA = random.Random(3).randbytes(1 << 20)
BOUND = 20.0
"""Seconds within which every single step here has to end."""


@pytest.fixture
async def env(swift: Swift) -> AsyncIterator[S3Env]:
    env = S3Env(swift)
    env.write("a.flac", DATA)
    yield env
    await env.aclose()


@pytest.fixture
def proxy(swift: Swift) -> Iterator[FaultProxy]:
    with FaultProxy(swift.port) as proxy:
        yield proxy


async def through(env: S3Env, proxy: FaultProxy, timeout_ms: int = 5000) -> tuple[S3Origin, Replica]:
    """An origin behind the proxy, after a first read; and its file."""
    origin = await env.open(endpoint=f"http://{HOST}:{proxy.port}", timeout_ms=timeout_ms)
    file = await replica(origin, "a.flac")
    await works(origin, file)
    return origin, file


async def works(origin: S3Origin, file: Replica) -> None:
    async with asyncio.timeout(BOUND):
        assert await origin.read(file, 0, len(DATA)) == DATA
        assert await origin.health() is HealthStatus.HEALTHY
        assert set(await listing(origin)) == {"a.flac"}


async def fails(origin: S3Origin, file: Replica, *faults: OriginFault) -> None:
    """Every call does, within its time; none blames the file."""
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: origin.read(file, 0, len(DATA)),
        lambda: origin.stat("a.flac"),
        lambda: listing(origin),
        origin.health,
    ]
    for call in calls:
        async with asyncio.timeout(BOUND):
            with pytest.raises(OriginFailed) as failed:
                await call()
        assert failed.value.fault in faults


async def test_a_server_that_was_killed_is_used_again_once_it_is_back(env: S3Env) -> None:
    origin = await env.open()
    file = await replica(origin, "a.flac")
    await works(origin, file)
    try:
        await asyncio.to_thread(env.swift.front.kill)
        await fails(origin, file, OriginFault.REFUSED)
    finally:
        await asyncio.to_thread(env.swift.front.restart)
    await works(origin, file)


async def test_a_server_that_hangs_is_left_in_time_and_used_again_when_it_goes_on(env: S3Env) -> None:
    origin = await env.open(timeout_ms=200)
    file = await replica(origin, "a.flac")
    try:
        env.swift.front.stop()
        await fails(origin, file, OriginFault.TIMEOUT)
    finally:
        env.swift.front.cont()
    patient = await env.open()
    await works(patient, file)


async def test_a_store_behind_the_server_that_is_gone_blames_the_origin(env: S3Env) -> None:
    """The bucket still lists, and no file may be taken for missing."""
    origin = await env.open()
    file = await replica(origin, "a.flac")
    store = env.swift.objects
    try:
        await asyncio.to_thread(store.kill)
        for call in (origin.read(file, 0, 5), origin.stat("a.flac")):
            with pytest.raises(OriginFailed) as failed:
                await call
            assert failed.value.fault is OriginFault.IO
    finally:
        await asyncio.to_thread(store.restart)


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_connection_cut_in_the_middle_of_a_read_fails_that_read_only(
    env: S3Env, proxy: FaultProxy, how: str
) -> None:
    origin, file = await through(env, proxy)
    proxy.cut_after(300_000, "reset" if how == "reset" else "close")
    async with asyncio.timeout(BOUND):
        with pytest.raises(OriginFailed) as failed:
            await origin.read(file, 0, len(DATA))
    assert failed.value.fault is OriginFault.UNREACHABLE
    await works(origin, file)


async def test_a_listing_that_is_cut_off_fails(env: S3Env, proxy: FaultProxy) -> None:
    """Half of a listing must not look as if the rest had been deleted."""
    for n in range(20):
        env.write(f"{n}.flac", b"x")
    origin = await env.open(endpoint=f"http://{HOST}:{proxy.port}")
    whole = await listing(origin)
    assert len(whole) == 21
    proxy.cut_after(1500, "close")
    with pytest.raises(OriginFailed):
        await listing(origin)
    assert await listing(origin) == whole


async def test_a_refused_connection_says_so_and_is_tried_anew_by_the_next_call(env: S3Env, proxy: FaultProxy) -> None:
    origin, file = await through(env, proxy)
    proxy.refuse()
    await fails(origin, file, OriginFault.REFUSED)
    proxy.accept()
    await works(origin, file)


async def test_a_network_that_stalls_is_left_in_time(env: S3Env, proxy: FaultProxy) -> None:
    origin, file = await through(env, proxy, timeout_ms=1000)
    proxy.stall()
    await fails(origin, file, OriginFault.TIMEOUT)
    proxy.resume()
    await works(origin, file)


async def test_a_slow_network_delivers_right_bytes_or_fails_in_time(env: S3Env, proxy: FaultProxy) -> None:
    origin, file = await through(env, proxy, timeout_ms=1500)
    proxy.latency = 0.02
    assert await origin.read(file, 1000, 1000) == DATA[1000:2000]
    proxy.rate = 100_000
    with pytest.raises(OriginFailed) as failed:
        await origin.read(file, 0, len(DATA))
    assert failed.value.fault is OriginFault.TIMEOUT
    proxy.heal()
    await works(origin, file)


async def test_a_bit_flipped_on_the_way_leaves_the_origin_working(env: S3Env, proxy: FaultProxy) -> None:
    """Without TLS nothing in the protocol notices: the blocks' checksums are what does."""
    origin, file = await through(env, proxy)
    proxy.flip_after(500_000)
    async with asyncio.timeout(BOUND):
        data = await origin.read(file, 0, len(DATA))
    assert len(data) == len(DATA)
    assert sum(one != other for one, other in zip(data, DATA, strict=True)) == 1
    await works(origin, file)


async def test_closing_does_not_wait_for_a_server_that_hangs(env: S3Env, proxy: FaultProxy) -> None:
    origin, file = await through(env, proxy)
    proxy.stall()
    reads = [asyncio.create_task(origin.read(file, 0, 1000)) for _ in range(20)]
    await asyncio.sleep(0)
    async with asyncio.timeout(BOUND):
        await origin.aclose()
        for result in await asyncio.gather(*reads, return_exceptions=True):
            assert isinstance(result, OriginFailed)
            assert result.fault is OriginFault.UNREACHABLE


def used() -> tuple[int, int, int]:
    """Descriptors, threads and tasks of this process."""
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), len(asyncio.all_tasks())


async def settled(before: tuple[int, int, int]) -> None:
    """Waits until no more is in use than before: sockets and threads take a moment to go."""
    async with asyncio.timeout(BOUND):
        while any(now > then for now, then in zip(used(), before, strict=True)):
            await asyncio.sleep(0.01)


async def test_a_hundred_failures_of_each_sort_leave_nothing_behind(env: S3Env, proxy: FaultProxy) -> None:
    unopened = used()
    origin, file = await through(env, proxy)
    before = used()
    for _ in range(100):
        proxy.cut_after(20_000)
        with pytest.raises(OriginFailed):
            await origin.read(file, 0, 100_000)
    proxy.refuse()
    for _ in range(100):
        with pytest.raises(OriginFailed):
            await origin.read(file, 0, 100_000)
    proxy.accept()
    proxy.stall()
    for _ in range(100):
        read = asyncio.create_task(origin.read(file, 0, 100_000))
        for _ in range(5):
            await asyncio.sleep(0)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
    proxy.heal()
    await works(origin, file)
    await settled(before)
    await origin.aclose()
    proxy.cut()
    await settled(unopened)


async def test_origins_opened_and_closed_a_hundred_times_leave_nothing_behind(env: S3Env) -> None:
    first = await env.open()
    file = await replica(first, "a.flac")
    await first.aclose()
    before = used()
    for _ in range(100):
        origin = await env.open()
        assert await origin.read(file, 0, 10) == DATA[:10]
        await origin.aclose()
    await settled(before)
