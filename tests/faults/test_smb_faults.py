"""SMB when its server or the way to it fails: the suite of all kinds, and what is peculiar to this one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from musicfs.errors import MusicFSError, OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import Stat
from musicfs.origin import Origin
from musicfs.testing.fault_proxy import FaultProxy, How
from musicfs.testing.origin_contract import listing
from musicfs.testing.remote_faults import (
    BOUND,
    CYCLES,
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
from tests.contract.test_smb import SmbEnv, samba
from tests.support.servers.samba import Samba

__all__ = ["samba"]


class SmbRemote(SmbEnv):
    flips_pass = False

    def __init__(self, samba: Samba, proxy: FaultProxy) -> None:
        super().__init__(samba, "far")
        self.proxy = proxy
        self.kill, self.start, self.stop, self.cont = samba.kill, samba.start, samba.stop, samba.cont

    async def open(self, timeout_ms: int = 5000) -> Origin:  # type: ignore[override]
        return await super().open(port=self.proxy.port, timeout_ms=timeout_ms, pool_size=4)


@pytest.fixture
async def remote(samba: Samba) -> AsyncIterator[SmbRemote]:
    with FaultProxy(samba.port) as proxy:
        remote = SmbRemote(samba, proxy)
        remote.write(NAME, DATA)
        for n in range(OTHERS):
            remote.write(f"c/{n:04}.flac", b"x")
        yield remote
        await remote.aclose()


class TestSmbFaults(RemoteFaults):
    """The suite, unchanged."""


async def test_many_callers_make_one_connection_and_share_its_failure(remote: SmbRemote) -> None:
    _, file = await working(remote)
    for stalled in (False, True):
        origin = await remote.open(SOON_MS if stalled else 5000)
        if stalled:
            remote.proxy.stall()
        accepted = remote.proxy.accepted
        reads = await asyncio.gather(*(origin.read(file, 0, 9) for _ in range(20)), return_exceptions=True)
        assert remote.proxy.accepted == accepted + 1
        assert [type(read) for read in reads] == [OriginFailed if stalled else bytes] * 20


@pytest.mark.parametrize("at", [1, 3, 70, 5_000])
async def test_a_connection_cut_within_a_packets_head_fails_the_read(remote: SmbRemote, at: int) -> None:
    origin, file = await working(remote)
    remote.proxy.cut_after(at)
    assert (await failing(lambda: origin.read(file, 0, len(DATA)))).fault is OriginFault.UNREACHABLE
    assert await origin.read(file, 0, len(DATA)) == DATA


@pytest.mark.parametrize("at", [0, 3, 8, 20, 32, 60, 80, 200])
async def test_a_flipped_bit_is_noticed_wherever_it_is(remote: SmbRemote, at: int) -> None:
    """In the length of a packet, in its header (its flags, its number, its signature), in the music."""
    origin, file = await working(remote, SOON_MS)
    remote.proxy.flip_after(at)
    await failing(lambda: origin.read(file, 0, len(DATA)))
    await recovers(origin, file)


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_connection_that_died_while_idle_costs_no_read(remote: SmbRemote, how: How) -> None:
    """Servers end them after some minutes."""
    origin, file = await working(remote)
    threads, descriptors, tasks = held()
    links = remote.proxy.connections
    remote.proxy.cut(how)
    await holds_no_more_than((threads - links, descriptors - 3 * links, tasks))
    assert await origin.read(file, 0, len(DATA)) == DATA


async def test_a_read_that_is_too_slow_leaves_the_others_their_connection(remote: SmbRemote) -> None:
    """As long as bytes come, it is the network that is slow, and a new connection would gain nothing."""
    origin, file = await working(remote, SOON_MS)
    accepted = remote.proxy.accepted
    remote.proxy.rate = 1_000_000
    assert (await failing(lambda: origin.read(file, 0, len(DATA)))).fault is OriginFault.TIMEOUT
    remote.proxy.rate = 0
    assert await in_the_end(lambda: origin.read(file, 0, len(DATA))) == DATA
    assert remote.proxy.accepted == accepted


async def test_a_listing_may_take_longer_than_one_answer(remote: SmbRemote) -> None:
    origin, _ = await working(remote)
    for n in range(30):
        remote.write(f"d/{n:02}/x.flac", b"x")
    quick = await remote.open(SOON_MS)
    await in_the_end(quick.health)
    remote.proxy.latency = 0.02
    loop = asyncio.get_running_loop()

    async def timed() -> tuple[dict[str, Stat], float]:
        started = loop.time()
        return await listing(quick), loop.time() - started

    listed, took = await in_the_end(timed)
    assert listed == await listing(origin)
    assert took > SOON_MS / 1000


async def test_a_file_that_was_replaced_while_the_server_was_away_is_refused(remote: SmbRemote) -> None:
    origin, file = await working(remote)
    remote.proxy.refuse()
    remote.write(NAME, DATA[::-1])
    remote.proxy.accept()
    await in_the_end(origin.health)  # the first call may still meet the end of the old connection
    with pytest.raises(ReplicaFailed) as failed:
        await origin.read(file, 0, 100)
    assert failed.value.fault is ReplicaFault.CHANGED


async def test_nothing_is_left_of_cuts_and_cancellations_at_any_moment(remote: SmbRemote) -> None:
    origin, file = await working(remote)
    before = held()
    chance = random.Random(11)
    for _ in range(CYCLES):
        remote.proxy.cut_after(chance.randrange(1, 2 * len(DATA)), chance.choice(["reset", "close"]))
        reads = [asyncio.create_task(origin.read(file, 0, len(DATA))) for _ in range(4)]
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        reads[0].cancel()
        async with asyncio.timeout(BOUND):
            results = await asyncio.gather(*reads, return_exceptions=True)
        for result in results:
            assert isinstance(result, MusicFSError | asyncio.CancelledError) or result == DATA
    remote.proxy.heal()
    await recovers(origin, file)
    await holds_no_more_than(before)


async def test_nothing_is_left_of_a_server_that_is_killed_again_and_again(remote: SmbRemote) -> None:
    origin, file = await working(remote)
    before = held()
    for _ in range(3):
        reads = [asyncio.create_task(origin.read(file, 0, len(DATA))) for _ in range(4)]
        await asyncio.to_thread(remote.kill)
        await asyncio.gather(*reads, return_exceptions=True)
        await failing(origin.health)
        await asyncio.to_thread(remote.start)
        await recovers(origin, file)
    await holds_no_more_than(before)
