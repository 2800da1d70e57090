"""Hedging: a second origin is asked when the first is late, within a budget."""

from __future__ import annotations

import asyncio
import random

import pytest

from musicfs.config.models import RetryConfig
from musicfs.errors import OriginFailed, OriginFault
from musicfs.events import FailedOver, HealthChanged, HedgeWon
from musicfs.federation import LatencyStats
from musicfs.federation.race import HedgeBudget, hedge_delay
from musicfs.model import HealthStatus, OriginId, Replica
from tests.support.fakes import DATA, HANG, PATH, STUBBORN, UNREACHABLE, FakeOrigin, Outcome, fails, slow
from tests.support.federation import federation, settle
from tests.support.virtualtime import now_ms, virtual_time

A, B, C = OriginId("a"), OriginId("b"), OriginId("c")


def measured(*samples: float) -> LatencyStats:
    stats = LatencyStats()
    for sample in samples:
        stats.record(sample)
    return stats


@pytest.mark.parametrize(
    ("samples", "metered", "seconds"),
    [
        ([], False, 0.3),
        ([1.0], False, 0.05),
        ([120.0], False, 0.15),
        ([10.0] * 90 + [200.0] * 10, False, 0.25),
        ([4000.0], False, 0.3),
        ([], True, 1.0),
        ([1.0], True, 1.0),
    ],
)
def test_the_delay_is_the_usual_time_within_bounds(samples: list[float], metered: bool, seconds: float) -> None:
    assert hedge_delay(measured(*samples), metered, RetryConfig()) == pytest.approx(seconds)


def test_the_budget_begins_with_its_burst_and_earns_a_fifth_of_a_token_per_fetch() -> None:
    budget = HedgeBudget(0.2, 3)
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]
    for _ in range(4):
        budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend()


def test_ten_tenths_of_a_token_are_a_token() -> None:
    """In binary they add up to a little less than one."""
    budget = HedgeBudget(0.1, 1)
    assert budget.spend()
    for _ in range(10):
        budget.earn()
    assert budget.spend()


def test_the_budget_never_holds_more_than_its_burst() -> None:
    budget = HedgeBudget(0.2, 3)
    for _ in range(1000):
        budget.earn()
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]


def test_a_budget_without_burst_still_saves_up_for_one_hedge() -> None:
    budget = HedgeBudget(0.2, 0)
    assert not budget.spend()
    for _ in range(10):
        budget.earn()
    assert [budget.spend(), budget.spend()] == [True, False]


def test_a_budget_of_nothing_never_hedges() -> None:
    budget = HedgeBudget(0, 0)
    budget.earn()
    assert not budget.spend()


@virtual_time
async def test_a_late_origin_is_outrun_by_the_next() -> None:
    late, quick = FakeOrigin("a", read_outcome=slow(4)), FakeOrigin("b", read_outcome=slow(0.02))
    async with federation(late, quick) as fed:
        fetched = await fed.fetch()
        assert (fetched.data, fetched.replica) == (DATA[:100], quick.replica)
        assert (quick.called_ms, now_ms()) == ([300], 320)
        assert fed.published(HedgeWon) == [HedgeWon(PATH, A, B, 300.0)]
        assert fed.published(FailedOver) == []
        assert (fed.registry.stats[A].hedged, fed.registry.stats[B].hedged) == (0, 1)
        await settle()
        assert late.cancelled == 1


@virtual_time
async def test_a_late_origin_that_still_answers_first_wins_and_is_not_blamed() -> None:
    late, slower = FakeOrigin("a", read_outcome=slow(0.4)), FakeOrigin("b", read_outcome=slow(4))
    async with federation(late, slower) as fed:
        await fed.probe_all()
        assert (await fed.fetch()).replica == late.replica
        assert now_ms() == 400
        assert fed.published(HedgeWon) == []
        assert fed.monitor.state(A).status is HealthStatus.HEALTHY
        assert fed.monitor.state(B).status is HealthStatus.HEALTHY
        await settle()
        assert slower.cancelled == 1


@virtual_time
async def test_the_measured_latency_decides_when_an_origin_is_late() -> None:
    late, quick = FakeOrigin("a", read_outcome=HANG), FakeOrigin("b")
    async with federation(late, quick) as fed:
        await fed.probe_all()
        for _ in range(20):
            fed.monitor.record_success(A, 80)
        await fed.fetch()
        assert now_ms() == 100  # a quarter more than usual


@virtual_time
async def test_an_origin_that_was_outrun_is_suspect_and_its_probe_decides() -> None:
    late, quick = FakeOrigin("a", read_outcome=HANG, probes=[Outcome()], probe_outcome=slow(0.5)), FakeOrigin("b")
    async with federation(late, quick) as fed:
        fed.monitor.start()
        await settle()
        await fed.fetch()
        assert fed.monitor.state(A).status is HealthStatus.DEGRADED
        assert fed.monitor.state(A).consecutive_failures == 0
        assert (await fed.fetch()).replica == quick.replica
        assert len(late.calls) == 1
        await asyncio.sleep(0.6)
        assert fed.monitor.state(A).status is HealthStatus.HEALTHY


@virtual_time
async def test_being_outrun_is_measured_too() -> None:
    """Else the slow origin of two equals would go on looking fast."""
    async with federation(FakeOrigin("a", read_outcome=HANG), FakeOrigin("b")) as fed:
        await fed.fetch()
        assert fed.router.latency(A).p50_ms == pytest.approx(300)


@virtual_time
async def test_a_metered_origin_is_hedged_to_after_a_second_only() -> None:
    late, bucket = FakeOrigin("a", read_outcome=HANG), FakeOrigin("b")
    async with federation(late) as fed:
        fed.add(bucket, metered=True)
        await fed.fetch()
        assert bucket.called_ms == [1000]


@virtual_time
async def test_a_metered_origin_is_failed_over_to_at_once() -> None:
    dead, bucket = FakeOrigin("a", read_outcome=UNREACHABLE), FakeOrigin("b")
    async with federation(dead) as fed:
        fed.add(bucket, metered=True)
        await fed.fetch()
        assert bucket.called_ms == [0]


@virtual_time
async def test_an_origin_excluded_from_hedging_is_passed_over() -> None:
    late, shy, willing = FakeOrigin("a", read_outcome=HANG), FakeOrigin("b"), FakeOrigin("c")
    async with federation(late) as fed:
        fed.add(shy, hedge=False)
        fed.add(willing)
        assert (await fed.fetch()).replica == willing.replica
        assert (shy.calls, willing.called_ms) == ([], [300])


@virtual_time
async def test_an_origin_excluded_from_hedging_still_serves_when_another_fails() -> None:
    late, shy = FakeOrigin("a", read_outcome=HANG), FakeOrigin("b")
    async with federation(late) as fed:
        fed.add(shy, hedge=False)
        assert (await fed.fetch()).replica == shy.replica
        assert shy.called_ms == [5000]


@virtual_time
async def test_a_late_origin_is_not_hedged_to_one_known_to_be_down() -> None:
    late, down = FakeOrigin("a", read_outcome=slow(1)), FakeOrigin("b")
    async with federation(late, down) as fed:
        for _ in range(3):
            fed.monitor.record_failure(B, OriginFailed(B, OriginFault.UNREACHABLE))
        assert (await fed.fetch()).replica == late.replica
        assert down.calls == []


@virtual_time
async def test_at_half_of_its_time_a_read_asks_whoever_is_left_whatever_is_known_of_them() -> None:
    """Two that hang for as long as they may would take all of it."""
    hanging, too, back = FakeOrigin("a", read_outcome=HANG), FakeOrigin("b", read_outcome=HANG), FakeOrigin("c")
    retry = RetryConfig(deadline_ms=8000, hedge_share=0.0, hedge_burst=0)
    async with federation(hanging, too, back, retry=retry) as fed:
        for _ in range(3):
            fed.monitor.record_failure(C, OriginFailed(C, OriginFault.UNREACHABLE))
        assert (await fed.fetch()).replica == back.replica
        assert (hanging.called_ms, too.called_ms, back.called_ms) == ([0], [4000], [4000])


@virtual_time
async def test_unhealthy_origins_are_hedged_among_each_other() -> None:
    origins = [FakeOrigin("a", read_outcome=HANG), FakeOrigin("b")]
    async with federation(*origins) as fed:
        for origin in origins:
            for _ in range(3):
                fed.monitor.record_failure(origin.id, OriginFailed(origin.id, OriginFault.TIMEOUT))
        assert (await fed.fetch()).replica == origins[1].replica
        assert now_ms() == 300


@virtual_time
async def test_a_late_hedge_is_hedged_in_turn() -> None:
    first, second, third = FakeOrigin("a", read_outcome=HANG), FakeOrigin("b", read_outcome=HANG), FakeOrigin("c")
    async with federation(first, second, third) as fed:
        assert (await fed.fetch()).replica == third.replica
        assert (second.called_ms, third.called_ms) == ([300], [600])
        await settle()
        assert (first.cancelled, second.cancelled) == (1, 1)


@virtual_time
async def test_the_budget_limits_hedges_and_late_origins_are_then_waited_for() -> None:
    late, quick = FakeOrigin("a", read_outcome=slow(2)), FakeOrigin("b")
    retry = RetryConfig(hedge_share=0.2, hedge_burst=2)
    async with federation(late, quick, retry=retry) as fed:
        served = []
        for _ in range(10):
            await asyncio.sleep(60)  # so that its falls are forgotten each time
            await fed.probe_all()  # It was outrun, and so suspected: restored, it goes first again.
            served.append((await fed.fetch()).replica.origin)
        # The first fetch finds a full bucket; each one earns a fifth.
        assert served == [B, B, A, A, A, B, A, A, A, A]


@virtual_time
async def test_a_preferred_origin_that_is_slow_while_its_probes_are_quick_delays_few_reads() -> None:
    """Ten minutes of listening, three reads a second."""
    late, quick = FakeOrigin("a", read_outcome=slow(0.01)), FakeOrigin("b", read_outcome=slow(0.01))
    async with federation(late, quick) as fed:
        fed.monitor.start()
        for _ in range(50):
            await fed.fetch()
        late.read_outcome = slow(26)
        waits = []
        for _ in range(1800):
            started = now_ms()
            await fed.fetch()
            waits.append(now_ms() - started)
            await asyncio.sleep(0.33)
        assert max(waits) <= 310
        assert sum(wait > 10 for wait in waits) <= 5 + 600 / 30
        assert [wait > 10 for wait in waits[:5]] == [True, True, True, False, False]


@pytest.mark.parametrize(("usual", "spread"), [(0.01, 0.6), (0.05, 0.1), (0.05, 0.6), (0.12, 0.4)])
def test_in_normal_conditions_hedging_adds_less_than_a_twentieth_and_the_preferred_origin_serves(
    usual: float, spread: float
) -> None:
    """Times as networks have them: log-normal, narrow or wide."""
    chance = random.Random(5)

    class Living(FakeOrigin):
        async def read(self, replica: Replica, offset: int, size: int) -> bytes:
            self.read_outcome = slow(usual * chance.lognormvariate(0, spread))
            return await super().read(replica, offset, size)

    @virtual_time
    async def scenario() -> None:
        origins = [Living("a"), Living("b")]
        async with federation(*origins) as fed:
            fed.monitor.start()
            served = []
            for _ in range(3000):
                served.append((await fed.fetch()).replica.origin)
                await asyncio.sleep(0.1)
            asked = [len(origin.calls) for origin in origins]
            assert sum(asked) < 3000 * 1.05
            assert served.count(A) > 3000 * 0.9

    scenario()


@virtual_time
async def test_a_single_origin_is_waited_for() -> None:
    origin = FakeOrigin("a", read_outcome=slow(3))
    async with federation(origin) as fed:
        assert (await fed.fetch()).data == DATA[:100]
        assert (len(origin.calls), now_ms()) == (1, 3000)


@virtual_time
async def test_a_second_copy_at_the_same_origin_is_no_hedge() -> None:
    origin = FakeOrigin("a", read_outcome=slow(2))
    async with federation(origin) as fed:
        await fed.executor.fetch([origin.replica, Replica(A, "copy", len(DATA), 1)], 0, 10)
        assert len(origin.calls) == 1


@virtual_time
async def test_a_failed_hedge_leaves_the_first_running() -> None:
    late, broken = FakeOrigin("a", read_outcome=slow(1)), FakeOrigin("b", read_outcome=UNREACHABLE)
    async with federation(late, broken) as fed:
        assert (await fed.fetch()).replica == late.replica
        assert now_ms() == 1000
        assert len(broken.calls) == 1
        assert fed.published(FailedOver) == []


@virtual_time
async def test_a_hedge_that_answers_after_the_first_has_failed_is_a_failover() -> None:
    failing, second = FakeOrigin("a", read_outcome=fails(OriginFault.IO, after=0.4)), FakeOrigin("b", reads=[slow(1)])
    async with federation(failing, second) as fed:
        await fed.fetch()
        assert fed.published(FailedOver) == [FailedOver(PATH, A, B, "input/output error", 300.0)]
        assert fed.published(HedgeWon) == []


@virtual_time
async def test_a_loser_that_ignores_its_cancellation_does_not_delay_the_winner() -> None:
    stubborn, quick = FakeOrigin("a", read_outcome=STUBBORN), FakeOrigin("b")
    async with federation(stubborn, quick) as fed:
        await fed.fetch()
        assert now_ms() == 300
        await settle()
        assert stubborn.cancelled == 1


@virtual_time
async def test_a_hedge_publishes_no_loss_of_health_for_the_winner() -> None:
    async with federation(FakeOrigin("a", read_outcome=HANG), FakeOrigin("b")) as fed:
        await fed.probe_all()
        fed.events.clear()
        await fed.fetch()
        assert [(event.origin, event.after) for event in fed.published(HealthChanged)] == [(A, HealthStatus.DEGRADED)]


@virtual_time
async def test_reads_side_by_side_leave_an_origin_that_hangs_together_though_few_hedges_can_be_afforded() -> None:
    """What the first hedges find out about the origin serves the reads beside them, which no hedge is left for."""
    async with federation(FakeOrigin("a", read_outcome=HANG), FakeOrigin("b")) as fed:
        await fed.probe_all()
        fetched = await asyncio.gather(*(fed.executor.fetch(fed.replicas, n, 10) for n in range(12)))
        assert {found.replica.origin for found in fetched} == {B}
        assert now_ms() <= 400
