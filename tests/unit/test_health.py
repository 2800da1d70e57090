"""Health: probes and reads, thresholds, backoff, and what is published."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise
from random import Random

import pytest

from musicfs.config.models import HealthConfig
from musicfs.errors import OriginFailed, OriginFault
from musicfs.events import AllOriginsUnhealthy, EventBus, HealthChanged
from musicfs.federation import HealthMonitor
from musicfs.model import HealthStatus, OriginId, OriginType
from tests.support.fakes import HANG, STUBBORN, UNREACHABLE, FakeOrigin, Outcome, fails, slow
from tests.support.federation import Federation, federation, settle
from tests.support.virtualtime import now_ms, virtual_time

HEALTHY, DEGRADED, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.DEGRADED, HealthStatus.UNHEALTHY
NAS = OriginId("nas")


def fail(fed: Federation, id: str = "nas", times: int = 1) -> None:
    for _ in range(times):
        fed.monitor.record_failure(OriginId(id), OriginFailed(OriginId(id), OriginFault.UNREACHABLE))


def transitions(fed: Federation) -> list[tuple[HealthStatus, HealthStatus]]:
    return [(event.before, event.after) for event in fed.published(HealthChanged)]


@virtual_time
async def test_health_check() -> None:
    """The seed's test_health_check: unknown, and so not healthy, before the first probe; healthy after it."""
    async with federation(FakeOrigin("nas")) as fed:
        assert not fed.registry.health().is_healthy(NAS)
        assert fed.registry.health().is_degraded(NAS)
        await fed.monitor.check_now(NAS)
        assert fed.registry.health().is_healthy(NAS)


@pytest.mark.parametrize(("kind", "threshold"), [(OriginType.LOCAL, 1), (OriginType.NFS, 3), (OriginType.S3, 3)])
def test_per_origin_health_threshold(kind: OriginType, threshold: int) -> None:
    """The seed's test_per_origin_health_threshold: one failure fells a local origin, three a remote one."""

    @virtual_time
    async def scenario() -> None:
        async with federation(FakeOrigin("nas", kind)) as fed:
            fail(fed, times=threshold - 1)
            assert not fed.registry.health().is_unhealthy(NAS)
            fail(fed)
            assert fed.registry.health().is_unhealthy(NAS)
            assert fed.registry.health().failure_count(NAS) == threshold

    scenario()


@virtual_time
async def test_a_configured_threshold_wins() -> None:
    config = HealthConfig(per_origin_thresholds={OriginType.SFTP: 5})
    async with federation(FakeOrigin("nas", OriginType.SFTP), health=config) as fed:
        fail(fed, times=4)
        assert fed.monitor.state(NAS).status is DEGRADED
        fail(fed)
        assert fed.monitor.state(NAS).status is UNHEALTHY


@virtual_time
async def test_probes_start_at_once_and_run_side_by_side() -> None:
    """Three origins that answer after 2 s each are all settled after 2 s, not after 6."""
    origins = [FakeOrigin(name, probe_outcome=slow(2)) for name in "abc"]
    async with federation(*origins) as fed:
        fed.monitor.start()
        await asyncio.sleep(2)
        await settle()
        assert [origin.probed_ms for origin in origins] == [[0], [0], [0]]
        assert all(fed.registry.health().is_healthy(origin.id) for origin in origins)


@virtual_time
async def test_probes_repeat_at_the_interval_give_or_take_a_tenth() -> None:
    origin = FakeOrigin("nas")
    async with federation(origin) as fed:
        fed.monitor.start()
        await asyncio.sleep(400)
        gaps = [later - earlier for earlier, later in pairwise(origin.probed_ms)]
        assert len(gaps) >= 12
        assert all(27_000 <= gap <= 33_000 for gap in gaps)
        assert len(set(gaps)) > 1


@virtual_time
async def test_a_hanging_probe_is_a_failure_after_its_timeout() -> None:
    origin = FakeOrigin("nas", probe_outcome=HANG)
    async with federation(origin, health=HealthConfig(timeout_ms=700)) as fed:
        state = await fed.monitor.check_now(NAS)
        assert now_ms() == 700
        assert (state.status, state.consecutive_failures, state.reason) == (DEGRADED, 1, "timed out")
        await settle()
        assert origin.cancelled == 1


@virtual_time
async def test_a_probe_that_ignores_its_cancellation_neither_stops_the_monitor_nor_piles_up() -> None:
    stubborn, other = FakeOrigin("nas", probe_outcome=STUBBORN), FakeOrigin("other")
    async with federation(stubborn, other, health=HealthConfig(timeout_ms=1000, check_interval_secs=10)) as fed:
        fed.monitor.start()
        await asyncio.sleep(60)
        assert fed.monitor.state(NAS).status is UNHEALTHY
        assert len(other.probed_ms) >= 6
        assert stubborn.probed_ms == [0]
        stubborn.probe_outcome = Outcome()
        stubborn.release()
        await asyncio.sleep(11)
        assert fed.monitor.state(NAS).status is HEALTHY


@virtual_time
async def test_two_checks_at_the_same_time_are_two_probes_one_after_the_other() -> None:
    """One failed probe is one failure, however many asked for it."""
    origin = FakeOrigin("nas", probe_outcome=HANG)
    async with federation(origin) as fed:
        await asyncio.gather(fed.monitor.check_now(NAS), fed.monitor.check_now(NAS))
        assert origin.probed_ms == [0, 5000]
        assert fed.monitor.state(NAS).consecutive_failures == 2


@virtual_time
async def test_a_dead_origin_is_probed_every_second_however_long_it_is_away() -> None:
    origin = FakeOrigin("nas", probe_outcome=UNREACHABLE)
    async with federation(origin) as fed:
        fed.monitor.start()
        await asyncio.sleep(600.5)
        assert [ms / 1000 for ms in origin.probed_ms] == pytest.approx(list(range(601)))
        assert fed.monitor.state(NAS).status is UNHEALTHY


@virtual_time
async def test_an_origin_that_lets_nobody_in_is_asked_again_after_1_2_4_up_to_30_s() -> None:
    """Else servers would log, and might lock, an account that fails to log in every second."""
    origin = FakeOrigin("nas", probe_outcome=fails(OriginFault.DENIED))
    async with federation(origin) as fed:
        fed.monitor.start()
        await asyncio.sleep(130)
        seconds = [ms / 1000 for ms in origin.probed_ms]
        assert seconds == pytest.approx([0, 1, 3, 7, 15, 31, 61, 91, 121])
        origin.probe_outcome = UNREACHABLE
        await asyncio.sleep(25)
        assert [ms / 1000 for ms in origin.probed_ms[9:]] == pytest.approx([151, 152, 153, 154])


@pytest.mark.parametrize("fault", [OriginFault.UNREACHABLE, OriginFault.DENIED])
def test_a_short_interval_bounds_the_pauses_too(fault: OriginFault) -> None:
    @virtual_time
    async def scenario() -> None:
        origin = FakeOrigin("nas", OriginType.LOCAL, probe_outcome=fails(fault))
        async with federation(origin, health=HealthConfig(check_interval_secs=0.5)) as fed:
            fed.monitor.start()
            await asyncio.sleep(2.2)
            assert [ms / 1000 for ms in origin.probed_ms] == pytest.approx([0, 0.5, 1, 1.5, 2])

    scenario()


@pytest.mark.parametrize("away", [3.0, 200.0, 3600.0])
@pytest.mark.parametrize("outage", [UNREACHABLE, HANG])
def test_recovery_is_noticed_within_two_seconds_and_used_by_the_next_read(away: float, outage: Outcome) -> None:
    @virtual_time
    async def scenario() -> None:
        nas, other = FakeOrigin("nas"), FakeOrigin("other")
        async with federation(nas, other) as fed:
            fed.monitor.start()
            await asyncio.sleep(100)
            nas.read_outcome = nas.probe_outcome = outage
            for _ in range(3):
                await fed.fetch()
            await asyncio.sleep(away)
            assert (await fed.fetch()).replica.origin == "other"
            nas.read_outcome = nas.probe_outcome = Outcome()
            if outage is HANG:
                nas.release()  # what was under way fails or is answered, as when a stopped server goes on
            await asyncio.sleep(2)
            assert (await fed.fetch()).replica.origin == "nas"

    scenario()


@virtual_time
async def test_an_origin_that_comes_and_goes_is_held_back_longer_each_time_until_it_is_steady() -> None:
    origin = FakeOrigin("nas", OriginType.LOCAL)
    async with federation(origin) as fed:
        fed.monitor.start()
        await asyncio.sleep(100)
        held = []
        for _ in range(6):
            fail(fed)
            fed.monitor.record_success(NAS, 1)
            began = now_ms()
            while fed.monitor.state(NAS).status is not HEALTHY:
                await asyncio.sleep(0.1)
            held.append((now_ms() - began) // 1000)
        assert held == [0, 0, 8, 16, 30, 30]
        await asyncio.sleep(60)
        fail(fed)
        fed.monitor.record_success(NAS, 1)
        assert fed.monitor.state(NAS).status is HEALTHY


@virtual_time
async def test_an_origin_that_comes_and_goes_is_logged_once_and_again_when_it_is_steady(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "musicfs.federation")
    async with federation(FakeOrigin("nas", OriginType.LOCAL)) as fed:
        fed.monitor.start()
        await asyncio.sleep(100)
        for _ in range(50):
            fail(fed)
            await asyncio.sleep(1)
            fed.monitor.record_success(NAS, 1)
            await asyncio.sleep(1)
        lines = [record.getMessage() for record in caplog.records]
        assert len([line for line in lines if "comes and goes" in line]) == 1
        assert len(lines) <= 6
        await asyncio.sleep(200)
        assert [record.getMessage() for record in caplog.records][len(lines) :] == ["origin 'nas' is healthy"]


@virtual_time
async def test_a_failed_read_degrades_and_brings_the_probe_forward() -> None:
    origin = FakeOrigin("nas")
    async with federation(origin) as fed:
        fed.monitor.start()
        await asyncio.sleep(5)
        fail(fed)
        assert fed.monitor.state(NAS).status is DEGRADED
        await settle()
        assert origin.probed_ms == [0, 5000]
        assert fed.monitor.state(NAS).status is HEALTHY


@virtual_time
async def test_a_successful_read_restores_an_unhealthy_origin() -> None:
    async with federation(FakeOrigin("nas")) as fed:
        fail(fed, times=3)
        fed.monitor.record_success(NAS, 12.5)
        state = fed.monitor.state(NAS)
        assert (state.status, state.consecutive_failures, state.last_latency_ms) == (HEALTHY, 0, 12.5)


@virtual_time
async def test_only_reads_are_measured_for_ranking() -> None:
    async with federation(FakeOrigin("nas", probe_outcome=slow(0.2))) as fed:
        await fed.monitor.check_now(NAS)
        assert fed.router.latency(NAS).count == 0
        assert fed.monitor.state(NAS).last_latency_ms == pytest.approx(200)
        fed.monitor.record_success(NAS, 40)
        assert fed.router.latency(NAS).p50_ms == 40


@virtual_time
async def test_an_origin_that_reports_itself_degraded_stays_so_until_its_probe_says_otherwise() -> None:
    """Reads that work don't make it flap."""
    origin = FakeOrigin("nas", probes=[Outcome(status=DEGRADED), Outcome()])
    async with federation(origin) as fed:
        await fed.monitor.check_now(NAS)
        fed.monitor.record_success(NAS, 5)
        assert fed.monitor.state(NAS).status is DEGRADED
        assert fed.monitor.state(NAS).consecutive_failures == 0
        await fed.monitor.check_now(NAS)
        assert fed.monitor.state(NAS).status is HEALTHY


@pytest.mark.parametrize("status", [HealthStatus.UNHEALTHY, HealthStatus.UNKNOWN])
def test_a_probe_that_reports_neither_healthy_nor_degraded_is_a_failure(status: HealthStatus) -> None:
    @virtual_time
    async def scenario() -> None:
        async with federation(FakeOrigin("nas", OriginType.LOCAL, probe_outcome=Outcome(status=status))) as fed:
            state = await fed.monitor.check_now(NAS)
            assert (state.status, state.reason) == (UNHEALTHY, f"reports itself {status.value}")

    scenario()


@virtual_time
async def test_a_suspect_is_degraded_without_a_failure_and_probed_at_once() -> None:
    origin = FakeOrigin("nas", probes=[Outcome()], probe_outcome=slow(0.5))
    async with federation(origin) as fed:
        fed.monitor.start()
        await asyncio.sleep(5)
        fed.monitor.suspect(NAS, "late")
        assert fed.monitor.state(NAS).status is DEGRADED
        assert fed.monitor.state(NAS).consecutive_failures == 0
        await asyncio.sleep(0.6)
        assert origin.probed_ms == [0, 5000]
        assert fed.monitor.state(NAS).status is HEALTHY


@virtual_time
async def test_a_suspect_whose_probe_fails_becomes_unhealthy_in_seconds() -> None:
    origin = FakeOrigin("nas", probes=[Outcome()], probe_outcome=UNREACHABLE)
    async with federation(origin) as fed:
        fed.monitor.start()
        await asyncio.sleep(5)
        fed.monitor.suspect(NAS, "late")
        await asyncio.sleep(2.1)
        assert fed.monitor.state(NAS).status is UNHEALTHY


@virtual_time
async def test_suspicion_does_not_improve_an_unhealthy_origin() -> None:
    async with federation(FakeOrigin("nas")) as fed:
        fail(fed, times=3)
        fed.monitor.suspect(NAS, "late")
        assert fed.monitor.state(NAS).status is UNHEALTHY


@virtual_time
async def test_transitions_are_published_and_repetitions_are_not() -> None:
    async with federation(FakeOrigin("nas")) as fed:
        for _ in range(2):
            await fed.monitor.check_now(NAS)
        fail(fed, times=5)
        assert transitions(fed) == [(HealthStatus.UNKNOWN, HEALTHY), (HEALTHY, DEGRADED), (DEGRADED, UNHEALTHY)]
        assert [event.reason for event in fed.published(HealthChanged)] == ["", "unreachable", "unreachable"]


@virtual_time
async def test_a_failing_origin_is_logged_once_for_each_transition(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "musicfs.federation")
    async with federation(FakeOrigin("nas")) as fed:
        fail(fed, times=20)
        fed.monitor.record_success(NAS, 1)
    levels = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert levels == [
        ("WARNING", "origin 'nas' is degraded: unreachable"),
        ("WARNING", "origin 'nas' is unhealthy: unreachable"),
        ("INFO", "origin 'nas' is healthy"),
    ]


@virtual_time
async def test_all_origins_unhealthy_is_published_once_until_one_was_usable_again() -> None:
    async with federation(FakeOrigin("a"), FakeOrigin("b")) as fed:
        fail(fed, "a", 3)
        assert fed.published(AllOriginsUnhealthy) == []
        fail(fed, "b", 10)
        fail(fed, "a", 10)
        assert fed.published(AllOriginsUnhealthy) == [AllOriginsUnhealthy((OriginId("a"), OriginId("b")))]
        assert fed.registry.health().all_unhealthy()
        fed.monitor.record_success(OriginId("a"), 1)
        assert not fed.registry.health().all_unhealthy()
        fail(fed, "a", 3)
        assert len(fed.published(AllOriginsUnhealthy)) == 2


@virtual_time
async def test_losing_the_only_usable_origin_leaves_all_unhealthy() -> None:
    async with federation(FakeOrigin("a"), FakeOrigin("b")) as fed:
        fail(fed, "a", 3)
        await fed.registry.unregister(OriginId("b"))
        assert fed.published(AllOriginsUnhealthy) == [AllOriginsUnhealthy((OriginId("a"),))]


@virtual_time
async def test_removing_one_of_several_lost_origins_is_no_new_loss() -> None:
    async with federation(FakeOrigin("a"), FakeOrigin("b")) as fed:
        fail(fed, "a", 3)
        fail(fed, "b", 3)
        await fed.registry.unregister(OriginId("b"))
        assert len(fed.published(AllOriginsUnhealthy)) == 1


@virtual_time
async def test_no_origins_are_not_all_unhealthy() -> None:
    async with federation() as fed:
        assert not fed.registry.health().all_unhealthy()


@virtual_time
async def test_the_generation_follows_every_change_that_a_ranking_depends_on() -> None:
    async with federation(FakeOrigin("nas")) as fed:
        seen = [fed.monitor.generation]
        fail(fed, times=3)
        seen.append(fed.monitor.generation)
        fail(fed)
        seen.append(fed.monitor.generation)
        fed.monitor.record_success(NAS, 1)
        seen.append(fed.monitor.generation)
        assert seen == sorted(set(seen))
        fed.monitor.record_success(NAS, 1)
        assert fed.monitor.generation == seen[-1]


@virtual_time
async def test_a_listener_finds_the_new_ranking_when_it_hears_of_a_change() -> None:
    async with federation(FakeOrigin("a"), FakeOrigin("b")) as fed:
        assert fed.registry.route_all(fed.replicas)[0].origin.id == "a"
        first: list[str] = []
        fed.bus.listen(lambda event: first.append(fed.registry.route_all(fed.replicas)[0].origin.id))
        fed.monitor.record_success(OriginId("b"), 1)
        assert first == ["b"]


@virtual_time
async def test_a_snapshot_does_not_change_afterwards() -> None:
    async with federation(FakeOrigin("nas")) as fed:
        before = fed.registry.health()
        assert before is fed.registry.health()
        fail(fed, times=3)
        assert before.failure_count(NAS) == 0
        assert fed.registry.health().failure_count(NAS) == 3


@virtual_time
async def test_a_fault_of_a_driver_is_a_failed_probe_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    origin = FakeOrigin("nas", probe_outcome=Outcome(error=ZeroDivisionError("oops")))
    async with federation(origin) as fed:
        for _ in range(3):
            await fed.monitor.check_now(NAS)
        assert fed.monitor.state(NAS).status is UNHEALTHY
        assert "oops" in fed.monitor.state(NAS).reason
    assert len([record for record in caplog.records if record.exc_info]) == 1


@virtual_time
async def test_a_cancelled_probe_is_a_failed_one() -> None:
    async with federation(FakeOrigin("nas", OriginType.LOCAL, probes=[Outcome(error=asyncio.CancelledError())])) as fed:
        assert (await fed.monitor.check_now(NAS)).status is UNHEALTHY


class BreaksOnce(Random):
    """Randomness that fails the first time it is asked."""

    asked = 0

    def uniform(self, a: float, b: float) -> float:
        self.asked += 1
        if self.asked == 1:
            raise ArithmeticError("no randomness")
        return super().uniform(a, b)


@virtual_time
async def test_a_probing_task_that_dies_is_logged_and_restarted(caplog: pytest.LogCaptureFixture) -> None:
    origin = FakeOrigin("nas")
    monitor = HealthMonitor(HealthConfig(), EventBus(), BreaksOnce(1))
    monitor.add_origin(origin)
    monitor.start()
    await asyncio.sleep(60)
    await monitor.aclose()
    assert len(origin.probed_ms) >= 2
    assert ["restarting" in record.getMessage() for record in caplog.records] == [True]


@virtual_time
async def test_closing_the_monitor_stops_the_probes_and_cancels_the_one_under_way() -> None:
    origin = FakeOrigin("nas", probe_outcome=HANG)
    async with federation(origin) as fed:
        fed.monitor.start()
        await asyncio.sleep(1)
        await fed.monitor.aclose()
        assert now_ms() == 1000
        assert origin.cancelled == 1
        await asyncio.sleep(100)
        assert origin.probed_ms == [0]


@virtual_time
async def test_a_removed_origin_is_probed_no_more_and_an_added_one_is() -> None:
    first, second = FakeOrigin("first"), FakeOrigin("second")
    async with federation(first) as fed:
        fed.monitor.start()
        await asyncio.sleep(1)
        await fed.monitor.remove_origin(first.id)
        fed.add(second)
        await asyncio.sleep(100)
        assert first.probed_ms == [0]
        assert len(second.probed_ms) >= 3


@virtual_time
async def test_what_reads_say_of_an_origin_that_is_gone_is_ignored() -> None:
    async with federation() as fed:
        fail(fed)
        fed.monitor.record_success(NAS, 1)
        fed.monitor.suspect(NAS, "late")
        assert (await fed.monitor.check_now(NAS)).status is HealthStatus.UNKNOWN
        assert fed.events == []


@virtual_time
async def test_a_probe_that_ends_after_its_origin_was_removed_says_nothing() -> None:
    async with federation(FakeOrigin("nas", probe_outcome=fails(OriginFault.IO, after=2))) as fed:
        checking = asyncio.create_task(fed.monitor.check_now(NAS))
        await asyncio.sleep(1)
        await fed.monitor.remove_origin(NAS)
        await checking
        assert fed.published(HealthChanged) == []


@virtual_time
async def test_who_is_found_away_by_a_probe_out_of_turn_is_noticed_when_it_returns() -> None:
    origin = FakeOrigin("nas", OriginType.LOCAL)
    async with federation(origin) as fed:
        fed.monitor.start()
        await asyncio.sleep(1)
        origin.probe_outcome = UNREACHABLE
        assert (await fed.monitor.check_now(NAS)).status is UNHEALTHY
        origin.probe_outcome = Outcome()
        await asyncio.sleep(3)
        assert fed.registry.health().is_healthy(NAS)
