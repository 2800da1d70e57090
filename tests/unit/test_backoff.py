"""Origins that say that they have too much to do: they are asked again, later, and are not taken for lost."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from musicfs.config.models import RetryConfig
from musicfs.errors import NoReplicaAvailable, OriginFailed, OriginFault
from musicfs.events import FailedOver, HealthChanged
from musicfs.model import HealthStatus, OriginId
from tests.support.fakes import DATA, UNREACHABLE, FakeOrigin, Outcome
from tests.support.federation import federation
from tests.support.virtualtime import now_ms, virtual_time

UNHEDGED = RetryConfig(hedge_share=0, hedge_burst=0)


def busy(secs: float = 0.0) -> Outcome:
    return Outcome(error=OriginFailed(OriginId("a"), OriginFault.IO, "HTTP 503 SlowDown", busy_secs=secs))


@virtual_time
async def test_a_read_that_a_busy_server_refuses_is_asked_for_again_in_place() -> None:
    origin, other = FakeOrigin("a", reads=[busy(), busy(), busy()]), FakeOrigin("b")
    async with federation(origin, other, retry=UNHEDGED) as made:
        await made.probe_all()
        assert (await made.fetch()).data == DATA[:100]
        waits = [later - earlier for earlier, later in pairwise(origin.called_ms)]
        assert waits == pytest.approx([100, 200, 400])
        assert other.calls == []
        assert made.published(FailedOver) == []
        assert made.monitor.state(origin.id).status is HealthStatus.HEALTHY


@virtual_time
async def test_other_reads_of_a_busy_server_wait_too() -> None:
    origin = FakeOrigin("a", reads=[busy(0.9)])
    async with federation(origin) as made:
        first = asyncio.create_task(made.fetch())
        await asyncio.sleep(0.1)
        began = now_ms()
        await asyncio.gather(first, *(made.fetch(offset) for offset in (0, 100, 200)))
        assert now_ms() - began == pytest.approx(800)
        assert min(origin.called_ms[1:]) == pytest.approx(900)


@virtual_time
async def test_a_server_that_stays_busy_fails_the_read_and_is_not_counted_as_away() -> None:
    origin = FakeOrigin("a", read_outcome=busy())
    async with federation(origin, retry=UNHEDGED) as made:
        await made.probe_all()
        for _ in range(4):
            with pytest.raises(NoReplicaAvailable):
                await made.fetch()
        assert made.monitor.state(origin.id).consecutive_failures == 0
        assert [change.after for change in made.published(HealthChanged)][1:] == [HealthStatus.DEGRADED]
        origin.read_outcome = UNREACHABLE
        for _ in range(4):
            with pytest.raises(NoReplicaAvailable):
                await made.fetch()
        assert made.monitor.state(origin.id).status is HealthStatus.UNHEALTHY


@virtual_time
async def test_a_server_that_wants_a_long_rest_gets_it_while_another_is_read() -> None:
    origin, other = FakeOrigin("a", read_outcome=busy(5)), FakeOrigin("b")
    async with federation(origin, other, retry=UNHEDGED) as made:
        assert (await made.fetch()).replica == other.replica
        assert now_ms() == 0
        assert len(origin.calls) == 1
    origin = FakeOrigin("a", reads=[busy(5)])
    async with federation(origin) as made:
        began = now_ms()
        assert (await made.fetch()).data == DATA[:100]
        assert now_ms() - began == pytest.approx(5000)
