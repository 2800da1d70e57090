"""The contract of every remote kind when its server or the network fails. A kind's tests inherit `RemoteFaults` and
give it an environment.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from musicfs.errors import OriginFailed, OriginFault
from musicfs.model import HealthStatus, Replica
from musicfs.origin import Origin
from musicfs.testing.fault_proxy import FaultProxy, How
from musicfs.testing.origin_contract import listing, replica

T = TypeVar("T")

NAME = "a/b.flac"
DATA = random.Random(4).randbytes(1_500_000)
OTHERS = 300
"""More files than NAME that the environment has, in the folder "c", so that a listing takes several answers."""
BOUND = 40.0
"""Seconds within which every step must end."""
SOON_MS = 400
"""A timeout for the tests that wait for it to pass."""
CYCLES = 100


class RemoteEnv(Protocol):
    """A server that has DATA at NAME, and OTHERS more files; and a proxy in front of it.

    The four methods block; they act on the server's processes.
    """

    proxy: FaultProxy
    flips_pass: bool
    """Whether the protocol accepts bytes that the network has changed."""

    async def open(self, timeout_ms: int = 5000) -> Origin:
        """Opens a new origin that reaches the server through the proxy; the environment closes it."""
        ...

    def kill(self) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def cont(self) -> None: ...


OUTAGES = ["killed", "stopped", "silent", *["torn", "refused", "closed", "flipped"] * 5, "torn", "closed"]
"""One after the other; the quick ones more often."""


def outages(remote: RemoteEnv) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """Returns what starts and what ends each outage; the functions block."""
    proxy = remote.proxy
    return {
        "killed": (remote.kill, remote.start),
        "stopped": (remote.stop, remote.cont),
        "silent": (proxy.stall, proxy.resume),
        "refused": (proxy.refuse, proxy.accept),
        "torn": (lambda: proxy.cut_after(100_000), proxy.heal),
        "closed": (lambda: proxy.cut_after(100_000, "close"), proxy.heal),
        "flipped": (lambda: proxy.flip_after(100_000), proxy.heal),
    }


async def working(remote: RemoteEnv, timeout_ms: int = 5000) -> tuple[Origin, Replica]:
    """Returns an origin that has been in use, and its file."""
    origin = await remote.open(timeout_ms)
    file = await in_the_end(lambda: replica(origin, NAME))
    await recovers(origin, file)
    # So that it has all its threads and connections.
    await asyncio.gather(*(origin.read(file, 0, 1) for _ in range(10)), return_exceptions=True)
    return origin, file


async def works(origin: Origin, file: Replica) -> None:
    async with asyncio.timeout(BOUND):
        assert await origin.read(file, 0, len(DATA)) == DATA
        assert await origin.health() is HealthStatus.HEALTHY
        assert len(await listing(origin)) == OTHERS + 1


async def recovers(origin: Origin, file: Replica) -> None:
    """Waits until it works: the first calls may still fail after a failure, or on a busy machine."""
    await in_the_end(lambda: works(origin, file))


async def in_the_end(call: Callable[[], Awaitable[T]]) -> T:
    async with asyncio.timeout(BOUND):
        while True:
            try:
                return await call()
            except OriginFailed:
                await asyncio.sleep(0.01)


async def failing(call: Callable[[], Awaitable[object]]) -> OriginFailed:
    async with asyncio.timeout(BOUND):
        with pytest.raises(OriginFailed) as failed:
            await call()
    return failed.value


async def faults_of_all(origin: Origin, file: Replica) -> set[OriginFault]:
    """Returns the faults of every kind of call, one after the other: each fails, and blames the origin."""
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: origin.read(file, 0, len(DATA)),
        lambda: origin.stat(NAME),
        lambda: listing(origin),
        origin.health,
    ]
    return {(await failing(call)).fault for call in calls}


def held() -> tuple[int, int, int]:
    """Counts threads, descriptors and tasks. The loop's own threads start at any time, up to a limit, and so do those
    of an origin's pool: these count as one."""
    names = [thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio_")]
    pools = {name.rpartition("-")[0] for name in names if name.startswith("origin-")}
    others = [name for name in names if not name.startswith("origin-")]
    return len(pools) + len(others), len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks())


async def holds_no_more_than(before: tuple[int, int, int]) -> None:
    """Waits until no more is held than before: closing connections takes a moment."""
    try:
        async with asyncio.timeout(BOUND):
            while any(now > then for now, then in zip(held(), before, strict=True)):
                await asyncio.sleep(0.01)
    except TimeoutError:
        names = sorted(thread.name for thread in threading.enumerate())
        pytest.fail(f"(threads, descriptors, tasks): {before} before, {held()} after, with the threads {names}")


class RemoteFaults:
    """The tests. `remote` is a fixture of the module of the subclass."""

    async def test_a_server_that_was_killed_fails_every_call_and_is_used_again_once_it_is_back(
        self, remote: RemoteEnv
    ) -> None:
        origin, file = await working(remote)
        await asyncio.to_thread(remote.kill)
        try:
            assert await faults_of_all(origin, file) <= {OriginFault.UNREACHABLE, OriginFault.REFUSED}
        finally:
            await asyncio.to_thread(remote.start)
        await recovers(origin, file)

    async def test_a_server_that_hangs_is_left_in_time_and_used_again_when_it_goes_on(self, remote: RemoteEnv) -> None:
        origin, file = await working(remote, SOON_MS)
        await asyncio.to_thread(remote.stop)
        try:
            assert OriginFault.TIMEOUT in await faults_of_all(origin, file)
        finally:
            remote.cont()
        await recovers(origin, file)

    async def test_a_network_that_is_silent_is_left_in_time_and_used_again_when_it_is_mended(
        self, remote: RemoteEnv
    ) -> None:
        origin, file = await working(remote, SOON_MS)
        remote.proxy.stall()
        assert OriginFault.TIMEOUT in await faults_of_all(origin, file)
        remote.proxy.resume()
        await recovers(origin, file)

    async def test_what_refuses_connections_is_refused(self, remote: RemoteEnv) -> None:
        origin, file = await working(remote)
        remote.proxy.refuse()
        assert OriginFault.REFUSED in await faults_of_all(origin, file)
        remote.proxy.accept()
        await recovers(origin, file)

    @pytest.mark.parametrize("how", ["reset", "close"])
    async def test_a_connection_cut_in_the_middle_of_a_read_fails_that_read_at_once(
        self, remote: RemoteEnv, how: How
    ) -> None:
        origin, file = await working(remote, timeout_ms=60_000)
        remote.proxy.cut_after(len(DATA) // 2, how)
        failed = await failing(lambda: origin.read(file, 0, len(DATA)))
        assert failed.fault is OriginFault.UNREACHABLE
        await recovers(origin, file)

    async def test_a_listing_whose_connection_is_cut_is_whole_or_fails(self, remote: RemoteEnv) -> None:
        """An incomplete listing must never look complete. A driver may list the folder again on another connection."""
        origin, file = await working(remote)
        before = remote.proxy.delivered
        found = await listing(origin)
        whole = remote.proxy.delivered - before
        for share in (0.3, 0.6, 0.9):
            remote.proxy.cut_after(int(whole * share))
            (result,) = await asyncio.gather(listing(origin), return_exceptions=True)
            assert result == found or getattr(result, "fault", None) is OriginFault.UNREACHABLE
            await recovers(origin, file)

    async def test_a_flipped_bit_is_noticed_or_is_left_to_the_checksums_above(self, remote: RemoteEnv) -> None:
        origin, file = await working(remote)
        remote.proxy.flip_after(len(DATA) // 2)
        if remote.flips_pass:
            data = await origin.read(file, 0, len(DATA))
            assert sum(one != other for one, other in zip(data, DATA, strict=True)) == 1
        else:
            assert (await failing(lambda: origin.read(file, 0, len(DATA)))).fault is not OriginFault.DENIED
        await recovers(origin, file)

    async def test_a_slow_and_distant_server_is_waited_for(self, remote: RemoteEnv) -> None:
        remote.proxy.latency, remote.proxy.rate = 0.03, 6e6
        origin, file = await working(remote)
        parts = [origin.read(file, start, 300_000) for start in range(0, len(DATA), 300_000)]
        assert b"".join(await asyncio.gather(*parts)) == DATA

    async def test_calls_that_hang_can_be_cancelled_at_once_and_leave_the_origin_working(
        self, remote: RemoteEnv
    ) -> None:
        origin, file = await working(remote, timeout_ms=1000 * int(BOUND) * 2)
        remote.proxy.stall()
        calls = [asyncio.ensure_future(call) for call in (origin.read(file, 0, 9), origin.stat(NAME), origin.health())]
        calls.append(asyncio.create_task(listing(origin)))
        assert not (await asyncio.wait(calls, timeout=0.1))[0]
        for call in calls:
            call.cancel()
        async with asyncio.timeout(BOUND):
            results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError] * len(calls)
        remote.proxy.resume()
        await works(origin, file)

    async def test_closing_does_not_wait_for_a_server_that_hangs(self, remote: RemoteEnv) -> None:
        origin, file = await working(remote, timeout_ms=1000 * int(BOUND) * 2)
        remote.proxy.stall()
        fresh = await remote.open(timeout_ms=1000 * int(BOUND) * 2)
        calls = [asyncio.ensure_future(call) for call in (origin.read(file, 0, 9), origin.stat(NAME), fresh.health())]
        assert not (await asyncio.wait(calls, timeout=0.1))[0]
        async with asyncio.timeout(BOUND):
            await origin.aclose()
            await fresh.aclose()
            results = await asyncio.gather(*calls, return_exceptions=True)
        for result in results:
            assert isinstance(result, OriginFailed)
            assert result.fault is OriginFault.UNREACHABLE

    async def test_nothing_is_left_of_a_hundred_failures_of_every_sort(self, remote: RemoteEnv) -> None:
        origin, file = await working(remote, SOON_MS)
        before = held()
        for cycle in range(CYCLES):
            begin, end = outages(remote)[OUTAGES[cycle % len(OUTAGES)]]
            await asyncio.to_thread(begin)
            try:
                async with asyncio.timeout(BOUND):
                    (result,) = await asyncio.gather(origin.read(file, 0, len(DATA)), return_exceptions=True)
            finally:
                await asyncio.to_thread(end)
            flipped = OUTAGES[cycle % len(OUTAGES)] == "flipped" and remote.flips_pass
            assert isinstance(result, bytes if flipped else OriginFailed)
            assert await in_the_end(lambda: origin.read(file, 0, 100)) == DATA[:100]
        await recovers(origin, file)
        await holds_no_more_than(before)

    async def test_nothing_is_left_of_many_calls_that_timed_out_together(self, remote: RemoteEnv) -> None:
        origin, file = await working(remote, SOON_MS)
        before = held()
        remote.proxy.stall()
        for _ in range(2):
            await asyncio.gather(*(failing(lambda: origin.read(file, 0, len(DATA))) for _ in range(10)))
        remote.proxy.resume()
        await recovers(origin, file)
        await holds_no_more_than(before)

    async def test_nothing_is_left_of_many_origins_opened_and_closed(self, remote: RemoteEnv) -> None:
        before: tuple[int, int, int] | None = None
        for _ in range(10):
            origin, _ = await working(remote)
            await origin.aclose()
            before = before or held()
        assert before is not None
        await holds_no_more_than(before)
