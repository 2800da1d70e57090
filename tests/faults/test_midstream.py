"""Every kind fails in mid-stream, in every way, and every other kind takes over: before real servers, in process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio

from musicfs.config.models import RetryConfig
from musicfs.errors import NoReplicaAvailable, OriginFailed, OriginFault
from musicfs.events import AllOriginsUnhealthy, FailedOver, HedgeWon, ReplicaQuarantined
from musicfs.model import HealthStatus, OriginId
from musicfs.origins.sftp.connect import SftpPool
from musicfs.testing.fault_proxy import FaultProxy
from musicfs.testing.remote_faults import held, holds_no_more_than
from tests.support.everykind import ALL, BLOCK, BLOCKS, DATA, HALF, REMOTE, EveryKind, Listener
from tests.support.servers.swift import Swift

Record = Callable[[str, object], None]
BOUND = 30.0
PATIENT = RetryConfig(hedge_share=0, hedge_burst=0)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def servers(swift: Swift, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EveryKind]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        with EveryKind(tmp_path_factory.mktemp("kinds"), swift) as kinds:
            yield kinds


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kinds(servers: EveryKind) -> AsyncIterator[EveryKind]:
    await servers.open()
    yield servers
    await servers.aclose()


@pytest.mark.parametrize(("kind", "fault"), ALL)
async def test_every_other_kind_takes_over_from_one_that_fails_half_way(
    kinds: EveryKind, kind: str, fault: str, record_property: Record
) -> None:
    """Four listeners, each with another kind to go on from. They hedge only where that is what saves them: a busy
    machine is late too."""
    source = kinds[kind]
    retry = RetryConfig() if fault in ("stopped", "slow") else PATIENT
    listeners = [Listener(source, other, retry=retry) for other in kinds.others(kind)]
    begun = [await listener.play(0, HALF) for listener in listeners]
    for listener in listeners:
        listener.monitor.record_success(OriginId(kind), 1.0)  # in case it was late
    await asyncio.to_thread(source.begin, fault)
    try:
        async with asyncio.timeout(BOUND):
            rest = await asyncio.gather(*(listener.play(HALF, BLOCKS) for listener in listeners))
        for head, tail in zip(begun, rest, strict=True):
            assert head + tail == DATA
        moved = [event for listener in listeners for event in listener.events if _tells(event, fault)]
        assert moved, "nobody met the fault"
        record_property("longest gap in ms", round(1000 * max(max(listener.gaps) for listener in listeners)))
    finally:
        await asyncio.to_thread(source.end, fault)
        for listener in listeners:
            await listener.aclose()
    await source.works()


def _tells(event: object, fault: str) -> bool:
    return isinstance(event, ReplicaQuarantined if fault == "wrong" else FailedOver | HedgeWon)


async def becomes(listener: Listener, id: str, status: HealthStatus) -> None:
    async with asyncio.timeout(BOUND):
        while listener.monitor.state(OriginId(id)).status is not status:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", REMOTE)
async def test_one_that_is_down_is_asked_nothing_and_serves_again_once_it_is_back(
    kinds: EveryKind, kind: str, record_property: Record
) -> None:
    source = kinds[kind]
    listener = Listener(source, kinds["local"], retry=PATIENT)
    listener.monitor.start()
    try:
        await becomes(listener, kind, HealthStatus.HEALTHY)
        await asyncio.to_thread(source.begin, "killed")
        try:
            await listener.block(0)  # notices
            await becomes(listener, kind, HealthStatus.UNHEALTHY)
            before = source.origin.reads
            assert await listener.play(0, BLOCKS) == DATA
            assert source.origin.reads == before
        finally:
            await asyncio.to_thread(source.end, "killed")
        began = time.monotonic()
        await becomes(listener, kind, HealthStatus.HEALTHY)
        record_property("seconds until its return was noticed", round(time.monotonic() - began, 2))
        await listener.block(0)
        assert listener.served[-1] == kind
    finally:
        await listener.aclose()


async def test_with_all_of_them_down_reads_fail_and_the_first_that_returns_serves_by_itself(kinds: EveryKind) -> None:
    """Two are dead, two hang."""
    listener = Listener(*(kinds[kind] for kind in REMOTE))
    down = dict(zip(REMOTE, ("cut", "stopped", "cut", "stopped"), strict=True))
    listener.monitor.start()
    try:
        await listener.block(0)
        for kind, fault in down.items():
            await asyncio.to_thread(kinds[kind].begin, fault)
        for kind in REMOTE:  # their probes take their time to hang
            for _ in range(3):
                listener.monitor.record_failure(OriginId(kind), OriginFailed(OriginId(kind), OriginFault.TIMEOUT))
        for index in range(3):
            with pytest.raises(NoReplicaAvailable):
                await listener.block(index)
        assert len([event for event in listener.events if isinstance(event, AllOriginsUnhealthy)]) == 1
        back = REMOTE[2]
        await asyncio.to_thread(kinds[back].end, down.pop(back))
        await becomes(listener, back, HealthStatus.HEALTHY)
        assert await listener.play(0, BLOCKS) == DATA
        assert set(listener.served[1:]) == {back}
    finally:
        for kind, fault in down.items():
            await asyncio.to_thread(kinds[kind].end, fault)
        await listener.aclose()
    for kind in REMOTE:
        await kinds[kind].works()


async def test_one_that_comes_and_goes_costs_no_byte(kinds: EveryKind) -> None:
    source = kinds["sftp"]
    listener = Listener(source, kinds["nfs"])
    listener.monitor.start()

    async def flap() -> None:
        for _ in range(2):
            for status in (HealthStatus.UNHEALTHY, HealthStatus.HEALTHY):
                await becomes(listener, "sftp", status)
                await asyncio.to_thread(source.begin if status is HealthStatus.HEALTHY else source.end, "cut")

    try:
        await becomes(listener, "sftp", HealthStatus.HEALTHY)
        source.begin("cut")
        flapping = asyncio.create_task(flap())
        while not flapping.done():
            assert await listener.play(0, BLOCKS) == DATA
            await asyncio.sleep(0.01)
        await flapping
    finally:
        source.end("cut")
        await listener.aclose()
    await source.works()


@pytest.mark.parametrize("kind", REMOTE)
async def test_nothing_is_left_of_a_hundred_reads_that_were_outrun_and_cancelled(kinds: EveryKind, kind: str) -> None:
    """Twice: the first hundred leave as many connections and threads as their pools may have, the second no more."""
    proxy = kinds[kind].proxy
    assert proxy is not None
    await _outruns_a_hundred(kinds, kind, proxy)
    while any(SftpPool._connect.__qualname__ in repr(task) for task in asyncio.all_tasks()):
        await asyncio.sleep(0.01)  # so many at once have another connection made, for those to come
    before, connections = held(), proxy.connections
    await _outruns_a_hundred(kinds, kind, proxy)
    await holds_no_more_than(before)
    assert proxy.connections <= connections


async def _outruns_a_hundred(kinds: EveryKind, kind: str, proxy: FaultProxy) -> None:
    source = kinds[kind]
    impatient = RetryConfig(hedge_min_ms=1, hedge_max_ms=1, hedge_share=1)
    await asyncio.gather(*(source.origin.read(source.replica, 0, BLOCK) for _ in range(12)))
    asked = source.origin.reads
    proxy.stall()
    listeners = []
    for count in range(100):
        listeners.append(Listener(source, kinds["local"], retry=impatient))  # to which nobody is suspect yet
        assert await listeners[-1].block(count % BLOCKS) == DATA[count % BLOCKS * BLOCK :][:BLOCK]
        assert listeners[-1].served == ["local"]
    assert source.origin.reads == asked + 100
    for _ in range(100):
        await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == f"read of {kind}"]
    proxy.resume()
    for listener in listeners:
        await listener.aclose()
    await source.works()
