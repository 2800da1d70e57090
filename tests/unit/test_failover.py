"""Failover: the next origin at once, the same one after the specified delays, and never past the deadline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicfs.config.models import HealthConfig, RetryConfig
from musicfs.errors import NoReplicaAvailable, OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.events import AllOriginsUnhealthy, Event, FailedOver, HealthChanged, ReplicaQuarantined, ReplicaSuspect
from musicfs.federation import Candidate, Fetched
from musicfs.model import HealthStatus, OriginId, OriginType, Replica
from tests.support.fakes import (
    DATA,
    GOOD,
    HANG,
    PATH,
    SHORT,
    STUBBORN,
    UNREACHABLE,
    WRONG,
    FakeLocal,
    FakeOrigin,
    Outcome,
    fails,
    slow,
)
from tests.support.federation import Federation, federation, settle
from tests.support.virtualtime import now_ms, run, virtual_time

A, B = OriginId("a"), OriginId("b")
HEALTHY, DEGRADED, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.DEGRADED, HealthStatus.UNHEALTHY
UNHEDGED = RetryConfig(hedge_share=0, hedge_burst=0)


def is_sound(replica: Replica, data: bytes) -> bool:
    return DATA.startswith(data)


async def refused(fed: Federation, **options: float) -> NoReplicaAvailable:
    """The failure of a fetch that must fail."""
    with pytest.raises(NoReplicaAvailable) as caught:
        await fed.executor.fetch(fed.replicas, 0, 100, **options)  # type: ignore[arg-type]
    return caught.value


def fell(fed: Federation, *ids: OriginId) -> None:
    for id in ids:
        for _ in range(3):
            fed.monitor.record_failure(id, OriginFailed(id, OriginFault.UNREACHABLE))


# Going on elsewhere


@virtual_time
async def test_failover_to_backup() -> None:
    """The seed's test_failover_to_backup: the backup is asked at once, and says so in an event."""
    primary, backup = FakeOrigin("a", read_outcome=fails(OriginFault.UNREACHABLE, after=0.03)), FakeOrigin("b")
    async with federation(primary, backup) as fed:
        fetched = await fed.fetch(10, 100)
        assert fetched.data == DATA[10:110]
        assert fetched.replica == backup.replica
        assert (primary.called_ms, backup.called_ms) == ([0], [30])
        assert fed.published(FailedOver) == [FailedOver(PATH, A, B, "unreachable", 30.0)]


@virtual_time
async def test_the_best_origin_alone_is_asked_when_it_answers() -> None:
    primary, backup = FakeOrigin("a"), FakeOrigin("b")
    async with federation(primary, backup) as fed:
        assert (await fed.fetch()).replica == primary.replica
        assert len(primary.calls) == 1
        assert backup.calls == []
        assert fed.published(FailedOver) == []


@virtual_time
async def test_all_candidates_of_a_round_are_asked_before_any_delay() -> None:
    origins = [FakeOrigin("a", reads=[UNREACHABLE]), FakeOrigin("b", reads=[UNREACHABLE]), FakeOrigin("c")]
    async with federation(*origins) as fed:
        assert (await fed.fetch()).replica == origins[2].replica
        assert now_ms() == 0


@virtual_time
async def test_rounds_over_two_origins_are_separated_by_the_delays() -> None:
    first, second = FakeOrigin("a", read_outcome=UNREACHABLE), FakeOrigin("b", read_outcome=UNREACHABLE)
    async with federation(first, second) as fed:
        failure = await refused(fed)
        assert first.called_ms == second.called_ms == [0, 100, 600, 2600]
        assert [str(cause) for cause in failure.causes] == ["origin 'a' unreachable", "origin 'b' unreachable"]
        assert not failure.timed_out


@virtual_time
async def test_each_round_is_ranked_anew() -> None:
    """The origin that has become unhealthy goes last from then on."""
    first = FakeOrigin("a", OriginType.LOCAL, read_outcome=UNREACHABLE)
    second = FakeOrigin("b", reads=[UNREACHABLE])
    async with federation(first, second) as fed:
        assert (await fed.fetch()).replica == second.replica
        assert (first.called_ms, second.called_ms) == ([0], [0, 100])


@virtual_time
async def test_an_origin_that_failed_is_not_asked_for_its_other_copy_in_the_same_round() -> None:
    first, second = FakeOrigin("a", reads=[UNREACHABLE]), FakeOrigin("b")
    async with federation(first, second) as fed:
        copy = Replica(A, "copy", first.replica.size, 1)
        await fed.executor.fetch([first.replica, copy, second.replica], 0, 10)
        assert [call.replica for call in first.calls] == [first.replica]


@virtual_time
async def test_a_missing_file_is_read_from_the_other_copy_at_the_same_origin() -> None:
    origin = FakeOrigin("a", reads=[fails(ReplicaFault.MISSING)])
    async with federation(origin) as fed:
        copy = Replica(A, "copy", origin.replica.size, 1)
        assert (await fed.executor.fetch([origin.replica, copy], 0, 10)).replica == copy
        assert fed.published(FailedOver) == []


# Trying again


@virtual_time
async def test_retry_with_backoff() -> None:
    """The seed's test_retry_with_backoff: a read that works at the third try is served, and later tries fall away."""
    origin = FakeOrigin("a", reads=[UNREACHABLE, UNREACHABLE])
    async with federation(origin) as fed:
        assert (await fed.fetch()).data == DATA[:100]
        assert origin.called_ms == [0, 100, 600]


@virtual_time
async def test_retry_delays_match_spec() -> None:
    """The seed's test_retry_delays_match_spec: exactly 100, 500 and 2000 ms after the previous failure."""
    origin = FakeOrigin("a", read_outcome=fails(OriginFault.UNREACHABLE, after=0.007))
    async with federation(origin) as fed:
        await refused(fed)
        failed_ms = [at + 7 for at in origin.called_ms]
        delays = [call - failed for call, failed in zip(origin.called_ms[1:], failed_ms, strict=False)]
        assert delays == pytest.approx([100, 500, 2000])
        assert RetryConfig().delays_ms == (100, 500, 2000)


@virtual_time
async def test_configured_delays_are_honoured() -> None:
    origin = FakeOrigin("a", read_outcome=UNREACHABLE)
    async with federation(origin, retry=RetryConfig(delays_ms=(10, 20))) as fed:
        await refused(fed)
        assert origin.called_ms == [0, 10, 30]


@pytest.mark.parametrize("fault", [*ReplicaFault, OriginFault.DENIED])
def test_a_permanent_failure_is_not_tried_again(fault: OriginFault | ReplicaFault) -> None:
    @virtual_time
    async def scenario() -> None:
        origin = FakeOrigin("a", read_outcome=fails(fault))
        async with federation(origin) as fed:
            failure = await refused(fed)
            assert (origin.called_ms, now_ms()) == ([0], 0)
            assert len(failure.causes) == 1
            assert not failure.timed_out

    scenario()


@virtual_time
async def test_a_permanent_failure_takes_one_replica_out_of_the_later_rounds_only() -> None:
    missing, flaky = FakeOrigin("a", read_outcome=fails(ReplicaFault.MISSING)), FakeOrigin("b", reads=[UNREACHABLE] * 2)
    async with federation(missing, flaky) as fed:
        assert (await fed.fetch()).replica == flaky.replica
        assert (missing.called_ms, flaky.called_ms) == ([0], [0, 100, 600])


# Nothing left


@virtual_time
async def test_serve_cached_offline() -> None:
    """The seed's test_serve_cached_offline, where nothing is cached: a clear failure at once, no delays."""
    first, second = FakeOrigin("a", read_outcome=UNREACHABLE), FakeOrigin("b", read_outcome=UNREACHABLE)
    async with federation(first, second) as fed:
        fell(fed, A, B)
        failure = await refused(fed)
        assert now_ms() == 0
        expected = "no replica could be read: origin 'a' unreachable; origin 'b' unreachable"
        assert str(failure) == expected
        assert (len(first.calls), len(second.calls)) == (1, 1)


@virtual_time
async def test_all_origins_unhealthy() -> None:
    """The seed's test_all_origins_unhealthy: the least bad serves, and the event comes once, not once per read."""
    worse, least_bad = FakeOrigin("a"), FakeOrigin("b")
    async with federation(worse, least_bad) as fed:
        fell(fed, A, A, B)
        assert fed.registry.health().failure_count(A) > fed.registry.health().failure_count(B)
        assert fed.published(AllOriginsUnhealthy) == [AllOriginsUnhealthy((A, B))]
        assert (await fed.fetch()).replica == least_bad.replica
        assert worse.calls == []
        assert len(fed.published(AllOriginsUnhealthy)) == 1


@virtual_time
async def test_reads_while_all_are_unhealthy_repeat_no_event() -> None:
    first, second = FakeOrigin("a", read_outcome=UNREACHABLE), FakeOrigin("b", read_outcome=UNREACHABLE)
    async with federation(first, second) as fed:
        for _ in range(4):
            await refused(fed)
        assert len(fed.published(AllOriginsUnhealthy)) == 1


@virtual_time
async def test_no_replica_fails_at_once() -> None:
    async with federation(FakeOrigin("a")) as fed:
        with pytest.raises(NoReplicaAvailable):
            await fed.executor.fetch([], 0, 10)
        with pytest.raises(NoReplicaAvailable):
            await fed.executor.fetch([Replica(B, "x", 10, 1)], 0, 10)
        assert now_ms() == 0


@virtual_time
async def test_a_read_past_the_end_asks_nobody() -> None:
    origin = FakeOrigin("a")
    async with federation(origin) as fed:
        assert (await fed.fetch(len(DATA), 10)).data == b""
        assert (await fed.fetch(5, 0)).data == b""
        assert origin.calls == []


@virtual_time
async def test_a_read_across_the_end_is_cut_there() -> None:
    async with federation(FakeOrigin("a")) as fed:
        assert (await fed.fetch(len(DATA) - 3, 10)).data == DATA[-3:]


# The deadline


@virtual_time
async def test_a_hanging_attempt_is_given_up_after_its_timeout() -> None:
    hung, backup = FakeOrigin("a", read_outcome=HANG), FakeOrigin("b")
    async with federation(hung, backup, retry=UNHEDGED) as fed:
        assert (await fed.fetch()).replica == backup.replica
        assert now_ms() == 5000
        assert fed.monitor.state(A).consecutive_failures == 1
        assert fed.published(FailedOver)[0].reason.startswith("timed out")
        await settle()
        assert hung.cancelled == 1


@pytest.mark.parametrize("outcome", [HANG, STUBBORN])
def test_the_deadline_is_exact_whatever_the_driver_does(outcome: Outcome) -> None:
    @virtual_time
    async def scenario() -> None:
        async with federation(FakeOrigin("a", read_outcome=outcome), FakeOrigin("b", read_outcome=outcome)) as fed:
            await asyncio.sleep(1)
            failure = await refused(fed)
            assert now_ms() == 11_000
            assert failure.timed_out
            assert "within the deadline" in str(failure)

    scenario()


@virtual_time
async def test_a_callers_deadline_is_a_time_on_the_loops_clock() -> None:
    hung = FakeOrigin("a", read_outcome=HANG)
    async with federation(hung) as fed:
        await asyncio.sleep(2)
        failure = await refused(fed, deadline=2.25)
        assert now_ms() == 2250
        assert failure.timed_out
        assert [str(cause) for cause in failure.causes] == ["origin 'a' timed out: at the read's deadline"]


@virtual_time
async def test_an_attempt_cut_off_by_the_deadline_is_suspect_and_not_failed() -> None:
    async with federation(FakeOrigin("a", read_outcome=HANG)) as fed:
        await fed.probe_all()
        await refused(fed, deadline=0.25)
        state = fed.monitor.state(A)
        assert (state.status, state.consecutive_failures) == (DEGRADED, 0)


@virtual_time
async def test_after_the_deadline_nothing_is_asked() -> None:
    origin = FakeOrigin("a")
    async with federation(origin) as fed:
        await asyncio.sleep(1)
        assert (await refused(fed, deadline=1.0)).timed_out
        assert origin.calls == []


@virtual_time
async def test_a_delay_that_would_outlast_the_deadline_is_not_waited_for() -> None:
    origin = FakeOrigin("a", read_outcome=UNREACHABLE)
    async with federation(origin) as fed:
        failure = await refused(fed, deadline=0.55)
        assert (origin.called_ms, now_ms()) == ([0, 100], 100)
        assert failure.timed_out


@virtual_time
async def test_an_answer_just_before_the_deadline_counts() -> None:
    async with federation(FakeOrigin("a", read_outcome=slow(4.999))) as fed:
        assert (await fed.executor.fetch(fed.replicas, 0, 10, deadline=5.0)).data == DATA[:10]


# Whom to blame


@virtual_time
async def test_a_success_is_recorded_with_its_latency() -> None:
    async with federation(FakeOrigin("a", read_outcome=slow(0.04))) as fed:
        await fed.fetch()
        assert fed.monitor.state(A).status is HEALTHY
        assert fed.router.latency(A).p50_ms == pytest.approx(40)


@virtual_time
async def test_a_failed_read_is_a_failed_check() -> None:
    async with federation(FakeOrigin("a", reads=[UNREACHABLE]), FakeOrigin("b")) as fed:
        await fed.probe_all()
        await fed.fetch()
        assert fed.monitor.state(A).status is DEGRADED
        assert fed.monitor.state(B).status is HEALTHY


@pytest.mark.parametrize("fault", list(ReplicaFault))
def test_a_bad_file_leaves_its_origins_health_alone(fault: ReplicaFault) -> None:
    @virtual_time
    async def scenario() -> None:
        async with federation(FakeOrigin("a", read_outcome=fails(fault)), FakeOrigin("b")) as fed:
            await fed.probe_all()
            fed.events.clear()
            assert (await fed.fetch()).replica.origin == B
            assert fed.monitor.state(A).status is HEALTHY
            assert fed.published(HealthChanged) == []
            assert fed.published(ReplicaSuspect) == [ReplicaSuspect(A, PATH, fault.value)]
            assert fed.published(FailedOver)[0].reason == fault.value

    scenario()


@virtual_time
async def test_a_short_answer_is_never_served() -> None:
    async with federation(FakeOrigin("a", read_outcome=SHORT), FakeOrigin("b")) as fed:
        fetched = await fed.fetch()
        assert (fetched.data, fetched.replica.origin) == (DATA[:100], B)
        assert fed.published(ReplicaSuspect) == [ReplicaSuspect(A, PATH, "changed since it was scanned")]


@virtual_time
async def test_wrong_bytes_are_never_served_and_quarantine_the_replica() -> None:
    rotten, good = FakeOrigin("a", read_outcome=WRONG), FakeOrigin("b")
    async with federation(rotten, good) as fed:
        for _ in range(2):
            fetched = await fed.executor.fetch(fed.replicas, 0, 100, check=is_sound, block=3)
            assert (fetched.data, fetched.replica) == (DATA[:100], good.replica)
        assert len(rotten.calls) == 1
        assert fed.published(ReplicaQuarantined) == [ReplicaQuarantined(A, PATH, 3)]
        assert fed.published(ReplicaSuspect) == [ReplicaSuspect(A, PATH, "corrupt")]
        assert fed.monitor.state(A).consecutive_failures == 0


@virtual_time
async def test_wrong_bytes_everywhere_are_a_failure_and_not_data() -> None:
    async with federation(FakeOrigin("a", read_outcome=WRONG)) as fed:
        with pytest.raises(NoReplicaAvailable) as caught:
            await fed.executor.fetch(fed.replicas, 0, 100, check=is_sound)
        (cause,) = caught.value.causes
        assert isinstance(cause, ReplicaFailed)
        assert cause.fault is ReplicaFault.CORRUPT


@virtual_time
async def test_a_fault_of_a_driver_counts_as_the_origins_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    buggy, backup = FakeOrigin("a", read_outcome=Outcome(error=IndexError("oops"))), FakeOrigin("b")
    async with federation(buggy, backup) as fed:
        for _ in range(3):
            assert (await fed.executor.fetch([buggy.replica, backup.replica], 0, 10)).replica == backup.replica
            fed.registry.set_priority(A, 0)
        assert fed.monitor.state(A).consecutive_failures >= 1
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        "a read of origin 'a' failed by a fault of its driver"
    ]


@virtual_time
async def test_a_driver_that_cancels_itself_is_a_failed_origin() -> None:
    async with federation(FakeOrigin("a", reads=[Outcome(error=asyncio.CancelledError())]), FakeOrigin("b")) as fed:
        assert (await fed.fetch()).replica.origin == B
        assert fed.monitor.state(A).consecutive_failures == 1


# Lifetimes


@virtual_time
async def test_cancelling_a_fetch_cancels_its_attempts() -> None:
    hung, hedged = FakeOrigin("a", read_outcome=HANG), FakeOrigin("b", read_outcome=HANG)
    async with federation(hung, hedged) as fed:
        fetching = asyncio.create_task(fed.fetch())
        await asyncio.sleep(1)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        await settle()
        assert (hung.cancelled, hedged.cancelled) == (1, 1)
        assert fed.monitor.state(A).consecutive_failures == 0


@virtual_time
async def test_a_driver_that_ignores_cancellation_does_not_delay_a_cancelled_fetch() -> None:
    async with federation(FakeOrigin("a", read_outcome=STUBBORN)) as fed:
        fetching = asyncio.create_task(fed.fetch())
        await asyncio.sleep(1)
        fetching.cancel()
        await asyncio.wait({fetching})
        assert now_ms() == 1000


@virtual_time
async def test_closing_waits_a_moment_at_most_for_reads_that_ignore_it() -> None:
    origin = FakeOrigin("a", read_outcome=STUBBORN)
    async with federation(origin) as fed:
        await refused(fed, deadline=0.5)
        await fed.executor.aclose()
        assert now_ms() == 1500
        assert origin.cancelled >= 1


@virtual_time
async def test_unregistering_during_a_read_moves_it_elsewhere() -> None:
    leaving, staying = FakeOrigin("a", read_outcome=HANG), FakeOrigin("b")
    async with federation(leaving, staying, retry=UNHEDGED) as fed:
        fetching = asyncio.create_task(fed.fetch())
        await asyncio.sleep(0.5)
        await fed.registry.unregister(A)
        assert (await fetching).replica == staying.replica
        assert now_ms() == 500


@virtual_time
async def test_a_read_that_its_origin_can_finish_survives_the_unregistering() -> None:
    origin = FakeOrigin("a", read_outcome=slow(0.1), close_outcome=HANG)
    async with federation(origin) as fed:
        origin.release = lambda: None  # type: ignore[method-assign]
        fetching = asyncio.create_task(fed.fetch())
        await asyncio.sleep(0.05)
        leaving = asyncio.create_task(fed.registry.unregister(A))
        assert (await fetching).data == DATA[:100]
        await leaving


@virtual_time
async def test_a_read_goes_on_at_the_successor_of_its_origin_and_does_not_blame_it() -> None:
    """As when an origin's settings are read anew while it is in use."""
    before, after = FakeOrigin("a", read_outcome=HANG), FakeOrigin("a")
    async with federation(before) as fed:
        fetching = asyncio.create_task(fed.fetch())
        await asyncio.sleep(0.5)
        leaving = asyncio.create_task(fed.registry.unregister(A))
        await asyncio.sleep(0)  # Unregistered, and not closed yet: the read fails when its successor is there.
        fed.add(after)
        assert (await fetching).data == DATA[:100]
        assert after.called_ms == [600]
        assert fed.published(HealthChanged)[-1].after is HEALTHY
        assert all(event.after is not DEGRADED for event in fed.published(HealthChanged))
        await leaving


@virtual_time
async def test_a_read_of_an_origin_that_is_gone_for_good_fails_after_one_delay() -> None:
    async with federation(FakeOrigin("a", read_outcome=HANG)) as fed:
        fetching = asyncio.create_task(fed.fetch())
        await asyncio.sleep(0.5)
        await fed.registry.unregister(A)
        with pytest.raises(NoReplicaAvailable):
            await fetching
        assert now_ms() == 600


@virtual_time
async def test_fetches_do_not_wait_for_each_other() -> None:
    origin = FakeOrigin("a", reads=[slow(3)])
    async with federation(origin) as fed:
        slow_one = asyncio.create_task(fed.fetch())
        await settle()
        assert (await fed.fetch()).data == DATA[:100]
        assert now_ms() == 0
        await slow_one


# Reading without waiting


@virtual_time
async def test_fetch_now_reads_from_a_healthy_local_origin() -> None:
    local, backup = FakeLocal("a", OriginType.LOCAL), FakeOrigin("b")
    async with federation(local, backup) as fed:
        await fed.probe_all()
        assert fed.executor.fetch_now(fed.replicas, 10, 20) == DATA[10:30]
        assert fed.executor.fetch_now(fed.replicas, len(DATA) - 3, 20) == DATA[-3:]
        assert local.calls == []


@virtual_time
async def test_fetch_now_past_the_end_asks_nobody() -> None:
    local = FakeLocal("a")
    async with federation(local) as fed:
        await fed.probe_all()
        assert fed.executor.fetch_now(fed.replicas, len(DATA), 20) == b""
        assert local.now_calls == 0


@virtual_time
async def test_fetch_now_is_none_when_the_bytes_would_have_to_be_waited_for() -> None:
    local = FakeLocal("a")
    local.now_misses = True
    async with federation(local) as fed:
        await fed.probe_all()
        assert fed.executor.fetch_now(fed.replicas, 0, 20) is None
        assert fed.executor.fetch_now([], 0, 20) is None


@virtual_time
async def test_fetch_now_is_none_for_short_data() -> None:
    local = FakeLocal("a")
    async with federation(local) as fed:
        await fed.probe_all()
        local.data = DATA[:15]
        assert fed.executor.fetch_now(fed.replicas, 0, 20) is None


@virtual_time
async def test_each_round_of_a_fetch_takes_one_snapshot_of_the_routing(monkeypatch: pytest.MonkeyPatch) -> None:
    origin, taken = FakeOrigin("a"), []
    async with federation(origin, retry=UNHEDGED) as fed:
        route_all = fed.registry.route_all

        def counted(replicas: Sequence[Replica]) -> Sequence[Candidate]:
            taken.append(replicas)
            return route_all(replicas)

        monkeypatch.setattr(fed.registry, "route_all", counted)
        await fed.fetch()
        assert len(taken) == 1
        origin.reads.extend([UNREACHABLE, GOOD])
        await fed.fetch()
        assert len(taken) == 1 + 2


@virtual_time
async def test_fetch_now_leaves_failures_to_fetch(caplog: pytest.LogCaptureFixture) -> None:
    """Foreseen ones in silence; a fault of the driver is logged, once."""
    local = FakeLocal("a")
    async with federation(local) as fed:
        await fed.probe_all()
        local.now_error = ReplicaFailed(A, PATH, ReplicaFault.CHANGED)
        assert fed.executor.fetch_now(fed.replicas, 0, 20) is None
        assert caplog.records == []
        local.now_error = ZeroDivisionError()
        for _ in range(3):
            assert fed.executor.fetch_now(fed.replicas, 0, 20) is None
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert fed.monitor.state(A).status is HEALTHY


@virtual_time
async def test_fetch_now_follows_a_change_of_health() -> None:
    local = FakeLocal("a", OriginType.LOCAL)
    async with federation(local) as fed:
        await fed.probe_all()
        assert fed.executor.fetch_now(fed.replicas, 0, 20) is not None
        fell(fed, A)
        assert fed.executor.fetch_now(fed.replicas, 0, 20) is None


# Everything at once

outcomes = st.sampled_from(
    [GOOD, HANG, SHORT, UNREACHABLE, STUBBORN, slow(0.2), slow(4), *map(fails, ReplicaFault), fails(OriginFault.DENIED)]
)


@given(st.lists(st.lists(outcomes, max_size=5), min_size=1, max_size=4))
def test_whatever_the_origins_do_a_fetch_ends_in_time_with_the_right_bytes_or_a_clear_failure(
    scripts: list[list[Outcome]],
) -> None:
    """The scripts' calls are followed by good ones; no task is left behind (see `run`)."""

    async def scenario() -> list[Event]:
        origins = [FakeOrigin(str(number), reads=script) for number, script in enumerate(scripts)]
        async with federation(*origins, health=HealthConfig()) as fed:
            (answer,) = await asyncio.gather(fed.fetch(7, 50), return_exceptions=True)
            if isinstance(answer, Fetched):
                assert answer.data == DATA[7:57]
            else:
                assert isinstance(answer, NoReplicaAvailable)
                assert answer.causes
            assert now_ms() <= 10_000
            await settle()
            for origin in origins:
                origin.release()
        return fed.events

    assert run(scenario()) == run(scenario())
