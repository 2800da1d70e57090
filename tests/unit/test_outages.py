"""Origins that go away, come back and go again, while somebody listens: in virtual time, with probes running."""

from __future__ import annotations

import asyncio
import logging

import pytest

from musicfs.errors import NoReplicaAvailable
from musicfs.events import AllOriginsUnhealthy, HealthChanged
from musicfs.model import HealthStatus
from tests.support.fakes import HANG, UNREACHABLE, FakeOrigin, Outcome, slow
from tests.support.federation import Federation, federation
from tests.support.virtualtime import now_ms, virtual_time

USUAL = slow(0.01)
A_READ_MS = 10.0


def switch(origin: FakeOrigin, outage: Outcome | None) -> None:
    origin.read_outcome, origin.probe_outcome = outage or USUAL, outage or USUAL
    if outage is None:
        origin.release()


async def listen(fed: Federation, secs: float) -> list[float]:
    """Three reads a second; how long each took, in ms."""
    waits = []
    until = now_ms() + secs * 1000
    while now_ms() < until:
        started = now_ms()
        await fed.fetch()
        waits.append(now_ms() - started)
        await asyncio.sleep(1 / 3)
    return waits


@pytest.mark.parametrize(("outage", "most_ms"), [(UNREACHABLE, A_READ_MS), (HANG, 70.0)])
def test_an_origin_that_comes_and_goes_for_a_minute_costs_a_listener_nothing(
    outage: Outcome, most_ms: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "musicfs")

    @virtual_time
    async def scenario() -> None:
        flapping, steady = FakeOrigin("nas", read_outcome=USUAL), FakeOrigin("laptop", read_outcome=USUAL)
        async with federation(flapping, steady) as fed:
            fed.monitor.start()
            waits = await listen(fed, 30)
            listener = asyncio.create_task(listen(fed, 60))
            for _ in range(10):
                switch(flapping, outage)
                await asyncio.sleep(3)
                switch(flapping, None)
                await asyncio.sleep(3)
            waits += await listener
            assert max(waits) <= most_ms + 0.001
            assert sum(wait > A_READ_MS + 0.001 for wait in waits) <= 10

    scenario()
    assert len(caplog.records) <= 12, caplog.text


@pytest.mark.parametrize("outage", [UNREACHABLE, HANG])
def test_with_every_origin_away_reads_fail_within_a_second_and_the_first_that_returns_serves(outage: Outcome) -> None:
    @virtual_time
    async def scenario() -> None:
        origins = [FakeOrigin(name, read_outcome=USUAL) for name in ("nas", "laptop", "cloud")]
        async with federation(*origins) as fed:
            fed.monitor.start()
            await listen(fed, 10)
            for origin in origins:
                switch(origin, outage)
            await asyncio.sleep(60)
            for _ in range(5):
                started = now_ms()
                with pytest.raises(NoReplicaAvailable):
                    await fed.fetch()
                assert now_ms() - started < 1000
            assert len(fed.published(AllOriginsUnhealthy)) == 1
            switch(origins[1], None)
            await asyncio.sleep(2)
            assert fed.monitor.state(origins[1].id).status is HealthStatus.HEALTHY
            assert await listen(fed, 3) == pytest.approx([A_READ_MS] * 9)
            assert len(fed.published(AllOriginsUnhealthy)) == 1

    scenario()


@pytest.mark.parametrize("outage", [UNREACHABLE, HANG])
def test_no_read_reaches_an_origin_while_it_is_unhealthy_and_another_serves(outage: Outcome) -> None:
    @virtual_time
    async def scenario() -> None:
        away, other = FakeOrigin("nas", read_outcome=USUAL), FakeOrigin("laptop", read_outcome=USUAL)
        async with federation(away, other) as fed:
            fed.monitor.start()
            await listen(fed, 10)
            switch(away, outage)
            await listen(fed, 30)
            assert fed.published(HealthChanged)[-1].after is HealthStatus.UNHEALTHY
            before = len(away.calls)
            assert max(await listen(fed, 60)) == pytest.approx(A_READ_MS)
            assert len(away.calls) == before

    scenario()
