"""NFS when its server or the way to it fails: calls end in time, the origin comes back by itself, and nothing leaks."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from musicfs.config import OriginConfig
from musicfs.errors import MusicFSError, OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import HealthStatus, OriginType, Replica
from musicfs.origins.base import Origin
from musicfs.origins.kinds import open_origin
from tests.contract.origin_contract import listing, replica
from tests.support.servers.faultproxy import FaultProxy
from tests.support.servers.ganesha import Ganesha
from tests.support.servers.process import HOST

SIZE = 3_000_000
TIMEOUT_MS = 400
PATIENCE = 20.0
CYCLES = 100
FILES = 1000


class Nas:
    """A server with a file, and an origin that reaches it through a network that can be spoilt."""

    def __init__(self, server: Ganesha, proxy: FaultProxy, mount_proxy: FaultProxy) -> None:
        self.server = server
        self.proxy = proxy
        self.mount_proxy = mount_proxy
        self.data = random.Random(5).randbytes(SIZE)
        (server.root / "a.flac").write_bytes(self.data)
        for n in range(FILES):
            (server.root / f"{n:04}.flac").write_bytes(b"x")
        self.origin = self.open()

    def open(self, **common: object) -> Origin:
        table = {
            "id": "nas", "origin_type": OriginType.NFS, "host": HOST, "export": str(self.server.root),
            "port": self.proxy.port, "mount_port": self.mount_proxy.port, "timeout_ms": TIMEOUT_MS, "pool_size": 4,
        }  # fmt: skip
        return open_origin(OriginConfig.model_validate(table | common), populated=False)

    async def file(self) -> Replica:
        return await replica(self.origin, "a.flac")

    async def read(self, file: Replica) -> bytes:
        return await self.origin.read(file, 0, SIZE)


@pytest.fixture
async def nas(tmp_path: Path) -> AsyncIterator[Nas]:
    for name in ("export", "ganesha"):
        (tmp_path / name).mkdir()
    server = Ganesha(tmp_path / "export", tmp_path / "ganesha", squash="No_Root_Squash")
    with server, FaultProxy(server.port) as proxy, FaultProxy(server.mount_port) as mount_proxy:
        nas = Nas(server, proxy, mount_proxy)
        yield nas
        await nas.origin.aclose()


async def failing(attempt: Awaitable[object]) -> OriginFailed:
    """The failure of an attempt, which must come in time."""
    with pytest.raises(OriginFailed) as failed:
        async with asyncio.timeout(PATIENCE):
            await attempt
    return failed.value


async def recovers(nas: Nas, file: Replica) -> None:
    """The origin works again, without more than time."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                assert await nas.origin.health() is HealthStatus.HEALTHY
                break
            except OriginFailed:
                await asyncio.sleep(0.01)
    assert await nas.read(file) == nas.data


def held() -> tuple[int, int, int]:
    """How many threads, descriptors and tasks there are; the event loop's own threads come and stay as it likes."""
    threads = [thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")]
    return len(threads), len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks())


async def nothing_beyond(before: tuple[int, int, int]) -> None:
    async with asyncio.timeout(PATIENCE):
        while any(now > then for now, then in zip(held(), before, strict=True)):
            await asyncio.sleep(0.01)


async def test_a_killed_server_fails_calls_at_once_and_is_found_again(nas: Nas) -> None:
    file = await nas.file()
    assert await nas.read(file) == nas.data
    await asyncio.to_thread(nas.server.kill)
    for attempt in (nas.read(file), nas.origin.stat("a.flac"), listing(nas.origin), nas.origin.health()):
        assert (await failing(attempt)).fault is not OriginFault.DENIED
    await asyncio.to_thread(nas.server.start)
    await recovers(nas, file)


async def test_what_listens_nowhere_is_refused(nas: Nas) -> None:
    nas.mount_proxy.refuse()
    assert (await failing(nas.origin.health())).fault is OriginFault.REFUSED
    nas.mount_proxy.accept()
    nas.proxy.refuse()
    assert (await failing(nas.origin.health())).fault is OriginFault.REFUSED
    nas.proxy.accept()
    assert await nas.origin.health() is HealthStatus.HEALTHY


async def test_a_stopped_server_fails_calls_in_time_and_works_when_it_goes_on(nas: Nas) -> None:
    """Also those that wait behind others for a thread: ten calls, four threads."""
    file = await nas.file()
    nas.server.stop()
    try:
        started = time.monotonic()
        results = await asyncio.gather(*(nas.read(file) for _ in range(10)), return_exceptions=True)
        took = time.monotonic() - started
        assert {result.fault for result in results if isinstance(result, OriginFailed)} == {OriginFault.TIMEOUT}
        assert len([result for result in results if isinstance(result, OriginFailed)]) == 10
        assert took < PATIENCE
        assert (await failing(nas.origin.health())).fault is OriginFault.TIMEOUT
        assert (await failing(listing(nas.origin))).fault is OriginFault.TIMEOUT
    finally:
        nas.server.cont()
    await recovers(nas, file)


@pytest.mark.parametrize("port", ["nfs", "mount"])
async def test_a_server_that_accepts_and_is_silent_is_not_waited_for(nas: Nas, port: str) -> None:
    silent = nas.proxy if port == "nfs" else nas.mount_proxy
    silent.stall()
    assert (await failing(nas.origin.health())).fault is OriginFault.TIMEOUT
    silent.resume()
    assert await nas.origin.health() is HealthStatus.HEALTHY


async def test_cancelled_reads_end_at_once_and_free_their_threads(nas: Nas) -> None:
    origin = nas.open(timeout_ms=60_000, pool_size=2)
    file = await replica(origin, "a.flac")
    nas.proxy.stall()
    reads = [asyncio.create_task(origin.read(file, 0, SIZE)) for _ in range(5)]
    await asyncio.sleep(0.05)
    for read in reads:
        read.cancel()
    assert all(
        isinstance(each, asyncio.CancelledError) for each in await asyncio.gather(*reads, return_exceptions=True)
    )
    nas.proxy.resume()
    async with asyncio.timeout(PATIENCE):  # less than the calls' own patience
        assert await origin.read(file, 0, SIZE) == nas.data
    await origin.aclose()


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("at", [1, 3, 5_000, 1_500_000])
async def test_a_connection_cut_in_mid_read_fails_the_read_and_the_next_one_works(nas: Nas, how: str, at: int) -> None:
    file = await nas.file()
    nas.proxy.cut_after(at, how)  # type: ignore[arg-type]
    assert (await failing(nas.read(file))).fault is OriginFault.UNREACHABLE
    assert await nas.read(file) == nas.data


async def test_a_listing_that_is_cut_off_is_no_listing(nas: Nas) -> None:
    for at in (100, 10_000, 25_000):
        nas.proxy.cut_after(at)
        assert (await failing(listing(nas.origin))).fault is OriginFault.UNREACHABLE
    assert len(await listing(nas.origin)) == FILES + 1


async def test_a_connection_that_ended_while_it_was_idle_costs_nothing(nas: Nas) -> None:
    """Servers end them after some minutes."""
    file = await nas.file()
    for how in ("reset", "close"):
        nas.proxy.cut(how)
        assert await nas.read(file) == nas.data


async def test_a_slow_network_gives_the_same_bytes(nas: Nas) -> None:
    origin = nas.open(timeout_ms=10_000)
    file = await replica(origin, "a.flac")
    nas.proxy.latency, nas.proxy.rate = 0.005, 10_000_000
    assert await origin.read(file, 0, SIZE) == nas.data
    await origin.aclose()


async def test_a_slow_listing_takes_longer_than_one_call_may(nas: Nas) -> None:
    """As long as answers come, it is not given up."""
    nas.proxy.latency = 0.03
    started = time.monotonic()
    found = await listing(nas.origin)
    assert len(found) == FILES + 1
    assert time.monotonic() - started > TIMEOUT_MS / 1000


async def test_a_flipped_bit_comes_through_for_the_block_checksums_to_find(nas: Nas) -> None:
    """NFS has no checksum of its own beyond TCP's."""
    file = await nas.file()
    nas.proxy.flip_after(1_000_000)
    got = await nas.read(file)
    wrong = [at for at in range(SIZE) if got[at] != nas.data[at]]
    assert len(wrong) == 1
    assert bin(got[wrong[0]] ^ nas.data[wrong[0]]).count("1") == 1


async def test_a_file_that_is_replaced_while_the_server_is_away_is_refused(nas: Nas) -> None:
    """Its old handle may be stale, or lead to another file now."""
    file = await nas.file()
    assert await nas.read(file) == nas.data
    await asyncio.to_thread(nas.server.kill)
    (nas.server.root / "a.flac").unlink()
    (nas.server.root / "a.flac").write_bytes(nas.data[::-1])
    await asyncio.to_thread(nas.server.start)
    with pytest.raises(ReplicaFailed) as failed:
        await nas.read(file)
    assert failed.value.fault is ReplicaFault.CHANGED


async def test_many_faults_leave_nothing_behind(nas: Nas) -> None:
    file = await nas.file()
    await asyncio.gather(*(nas.read(file) for _ in range(8)))  # all threads, all connections
    before = held()
    chance = random.Random(11)
    for _ in range(CYCLES):
        nas.proxy.cut_after(chance.randrange(1, 2 * SIZE))
        reads = [asyncio.create_task(nas.read(file)) for _ in range(4)]
        if chance.random() < 0.3:
            reads[0].cancel()
        for result in await asyncio.gather(*reads, return_exceptions=True):
            assert isinstance(result, MusicFSError | asyncio.CancelledError) or result == nas.data
    nas.proxy.heal()
    await recovers(nas, file)
    await nothing_beyond(before)


async def test_a_server_killed_again_and_again_leaves_nothing_behind(nas: Nas) -> None:
    file = await nas.file()
    await asyncio.gather(*(nas.read(file) for _ in range(8)))
    before = held()
    for _ in range(10):
        reads = [asyncio.create_task(nas.read(file)) for _ in range(4)]
        await asyncio.to_thread(nas.server.kill)
        await asyncio.gather(*reads, return_exceptions=True)
        await failing(nas.origin.health())
        await asyncio.to_thread(nas.server.start)
        await recovers(nas, file)
    await nothing_beyond(before)


async def test_closing_while_the_server_hangs_lets_go_of_everything(nas: Nas) -> None:
    before = held()
    origin = nas.open(timeout_ms=60_000)
    file = await replica(origin, "a.flac")
    nas.proxy.stall()
    reads = [asyncio.create_task(origin.read(file, 0, SIZE)) for _ in range(10)]
    await asyncio.sleep(0)
    await origin.aclose()
    for result in await asyncio.gather(*reads, return_exceptions=True):
        assert isinstance(result, OriginFailed)
    nas.proxy.heal()
    await nothing_beyond(before)
