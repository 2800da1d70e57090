"""NFS when its server or the way to it fails."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest

from musicfs.errors import MusicFSError, OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import HealthStatus
from musicfs.origin import Origin
from musicfs.testing.fault_proxy import FaultProxy, How
from musicfs.testing.origin_contract import listing, replica
from musicfs.testing.remote_faults import (
    BOUND,
    DATA,
    NAME,
    OTHERS,
    SOON_MS,
    RemoteFaults,
    failing,
    held,
    holds_no_more_than,
    in_the_end,
    recovers,
    working,
)
from tests.contract.test_nfs import NfsEnv
from tests.support.servers.ganesha import Ganesha


class NfsRemote(NfsEnv):
    """Both of the server's ports are reached by proxies: `proxy` for files, `mounts` for mounting."""

    flips_pass = True

    def __init__(self, server: Ganesha, proxy: FaultProxy, mounts: FaultProxy) -> None:
        super().__init__(server.root, server)
        self.proxy = proxy
        self.mounts = mounts
        self.kill, self.start, self.stop, self.cont = server.kill, server.start, server.stop, server.cont
        self.write(NAME, DATA)
        for n in range(OTHERS):
            self.write(f"c/{n:04}.flac", b"x")

    async def open(self, timeout_ms: int = 5000, **common: object) -> Origin:  # type: ignore[override]
        ports = {"port": self.proxy.port, "mount_port": self.mounts.port}
        return await super().open(False, **{"timeout_ms": timeout_ms, **ports, **common})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ganesha]:
    server = Ganesha(tmp_path_factory.mktemp("export"), tmp_path_factory.mktemp("ganesha"), squash="No_Root_Squash")
    with server:
        yield server


@pytest.fixture
async def remote(server: Ganesha) -> AsyncIterator[NfsRemote]:
    with ExitStack() as proxies:
        proxy, mounts = (proxies.enter_context(FaultProxy(port)) for port in (server.port, server.mount_port))
        remote = NfsRemote(server, proxy, mounts)
        yield remote
        await remote.aclose()


class TestNfsFaults(RemoteFaults):
    """The suite, unchanged."""


async def test_a_mount_service_that_fails_or_hangs_is_told(remote: NfsRemote) -> None:
    """It has a port of its own, and is asked once for each connection."""
    origin = await remote.open(SOON_MS)
    remote.mounts.refuse()
    assert (await failing(origin.health)).fault is OriginFault.REFUSED
    remote.mounts.accept()
    remote.mounts.stall()
    assert (await failing(origin.health)).fault is OriginFault.TIMEOUT
    remote.mounts.resume()
    assert await in_the_end(origin.health) is HealthStatus.HEALTHY


async def test_calls_that_wait_for_a_thread_are_bounded_too(remote: NfsRemote) -> None:
    origin = await remote.open(SOON_MS, pool_size=2)
    file = await in_the_end(lambda: replica(origin, NAME))
    remote.proxy.stall()
    async with asyncio.timeout(BOUND):
        results = await asyncio.gather(*(origin.read(file, 0, 9) for _ in range(10)), return_exceptions=True)
    assert [getattr(result, "fault", None) for result in results] == [OriginFault.TIMEOUT] * 10


async def test_cancelled_calls_free_their_threads(remote: NfsRemote) -> None:
    """Long before their own time is up."""
    origin = await remote.open(1000 * int(BOUND) * 2, pool_size=2)
    file = await replica(origin, NAME)
    remote.proxy.stall()
    reads = [asyncio.create_task(origin.read(file, 0, len(DATA))) for _ in range(5)]
    assert not (await asyncio.wait(reads, timeout=0.1))[0]
    for read in reads:
        read.cancel()
    await asyncio.wait(reads)
    remote.proxy.resume()
    async with asyncio.timeout(BOUND):
        assert await origin.read(file, 0, len(DATA)) == DATA


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("at", [1, 4, 40, 100_000])
async def test_an_answer_that_ends_early_fails_the_read(remote: NfsRemote, how: How, at: int) -> None:
    """In its length, in its header, in its data."""
    origin, file = await working(remote)
    remote.proxy.cut_after(at, how)
    assert (await failing(lambda: origin.read(file, 0, len(DATA)))).fault is OriginFault.UNREACHABLE
    assert await origin.read(file, 0, len(DATA)) == DATA


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_connection_that_ended_while_idle_costs_no_read(remote: NfsRemote, how: How) -> None:
    """Servers end them after some minutes."""
    origin, file = await working(remote)
    before = held()
    remote.proxy.cut(how)
    await holds_no_more_than((before[0], before[1] - 2, before[2]))  # the proxy has seen to it
    assert await origin.read(file, 0, len(DATA)) == DATA


async def test_a_listing_may_take_longer_than_one_call(remote: NfsRemote) -> None:
    """As long as answers come, it is not given up."""
    origin = await remote.open(SOON_MS)
    remote.proxy.latency = 0.04

    async def timed() -> tuple[int, float]:
        started = time.monotonic()
        return len(await listing(origin)), time.monotonic() - started

    listed, took = await in_the_end(timed)
    assert listed == OTHERS + 1
    assert took > SOON_MS / 1000


async def test_a_file_replaced_while_the_server_was_away_is_refused(remote: NfsRemote) -> None:
    """Its handle is stale, or leads to another file now."""
    origin, file = await working(remote)
    await asyncio.to_thread(remote.kill)
    remote.remove(NAME)
    remote.write(NAME, DATA[::-1])
    await asyncio.to_thread(remote.start)
    with pytest.raises(ReplicaFailed) as failed:
        await origin.read(file, 0, len(DATA))
    assert failed.value.fault is ReplicaFault.CHANGED


async def test_nothing_is_left_of_a_server_that_was_killed_in_the_middle_of_reads(remote: NfsRemote) -> None:
    origin, file = await working(remote)
    await asyncio.gather(*(origin.read(file, 0, len(DATA)) for _ in range(20)))  # all threads, all connections
    before = held()
    for _ in range(10):
        reads = [asyncio.create_task(origin.read(file, 0, len(DATA))) for _ in range(4)]
        await asyncio.to_thread(remote.kill)
        await asyncio.gather(*reads, return_exceptions=True)
        assert isinstance(await failing(origin.health), OriginFailed)
        await asyncio.to_thread(remote.start)
        await recovers(origin, file)
    await holds_no_more_than(before)


async def test_every_read_is_right_or_fails_whatever_is_cut_and_cancelled(remote: NfsRemote) -> None:
    origin, file = await working(remote)
    await asyncio.gather(*(origin.read(file, 0, len(DATA)) for _ in range(20)))
    before = held()
    chance = random.Random(11)
    for _ in range(50):
        remote.proxy.cut_after(chance.randrange(1, 4 * len(DATA)))
        reads = [asyncio.create_task(origin.read(file, n, len(DATA) - n)) for n in range(4)]
        if chance.random() < 0.3:
            reads[0].cancel()
        async with asyncio.timeout(BOUND):
            results = await asyncio.gather(*reads, return_exceptions=True)
        for n, result in enumerate(results):
            assert isinstance(result, MusicFSError | asyncio.CancelledError) or result == DATA[n:]
    remote.proxy.heal()
    await recovers(origin, file)
    await holds_no_more_than(before)
