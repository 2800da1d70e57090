"""Ranking: health first, then priority, then latency."""

from __future__ import annotations

from itertools import pairwise
from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st

from musicfs.federation import HealthSnapshot, LatencyStats, OriginHealthState, Router
from musicfs.model import HealthStatus, OriginId

A, B, C, D = (OriginId(name) for name in "abcd")
HEALTHY, DEGRADED = HealthStatus.HEALTHY, HealthStatus.DEGRADED
UNKNOWN, UNHEALTHY = HealthStatus.UNKNOWN, HealthStatus.UNHEALTHY


def snapshot(**states: HealthStatus | tuple[HealthStatus, int]) -> HealthSnapshot:
    """The given statuses; with a number of failures where one is given."""
    made = {
        OriginId(id): OriginHealthState(
            *((state, None, 0) if isinstance(state, HealthStatus) else (state[0], 0.0, state[1]))
        )
        for id, state in states.items()
    }
    return HealthSnapshot(MappingProxyType(made))


def router_of(**priorities: int) -> Router:
    router = Router()
    for id, priority in priorities.items():
        router.set_priority(OriginId(id), priority)
    return router


def measured(*samples: float) -> LatencyStats:
    stats = LatencyStats()
    for sample in samples:
        stats.record(sample)
    return stats


def test_select_skips_unhealthy() -> None:
    """The seed's test_select_skips_unhealthy: a preferred origin that is down comes after a healthy one."""
    router = router_of(a=1, b=2)
    assert router.select([A, B], snapshot(a=(UNHEALTHY, 3), b=HEALTHY)) == B


def test_the_preferred_of_two_healthy_origins_is_selected() -> None:
    assert router_of(a=2, b=1).select([A, B], snapshot(a=HEALTHY, b=HEALTHY)) == B


def test_latency_affects_tiebreak() -> None:
    """The seed's test_latency_affects_tiebreak: at the same priority the faster one goes first."""
    router = router_of(a=1, b=1)
    router.record_latency(A, 100)
    router.record_latency(B, 10)
    assert router.select([A, B], snapshot(a=HEALTHY, b=HEALTHY)) == B


def test_priority_dominates_latency() -> None:
    router = router_of(a=1, b=2)
    router.record_latency(A, 1000)
    router.record_latency(B, 10)
    assert router.rank([B, A], snapshot(a=HEALTHY, b=HEALTHY)) == [A, B]


def test_rank_puts_healthy_before_degraded_and_unknown_before_unhealthy() -> None:
    router = router_of(a=1, b=3, c=2, d=4)
    states = snapshot(a=(UNHEALTHY, 3), b=DEGRADED, c=UNKNOWN, d=HEALTHY)
    assert router.rank([A, B, C, D], states) == [D, C, B, A]


def test_an_origin_that_the_snapshot_does_not_have_ranks_as_degraded() -> None:
    assert router_of(a=1, b=1, c=1).rank([A, B, C], snapshot(a=(UNHEALTHY, 1), c=HEALTHY)) == [C, B, A]


def test_unhealthy_origins_rank_by_failures_then_priority() -> None:
    router = router_of(a=1, b=2, c=3)
    states = snapshot(a=(UNHEALTHY, 5), b=(UNHEALTHY, 4), c=(UNHEALTHY, 4))
    assert router.rank([A, B, C], states) == [B, C, A]


def test_an_unmeasured_origin_goes_before_measured_equals() -> None:
    router = router_of(a=1, b=1)
    router.record_latency(A, 1)
    assert router.rank([A, B], snapshot(a=HEALTHY, b=HEALTHY)) == [B, A]


def test_equal_origins_keep_the_order_in_which_they_joined() -> None:
    router = router_of(b=1, a=1)
    assert router.rank([A, B], snapshot(a=HEALTHY, b=HEALTHY)) == [B, A]


def test_select_of_nothing_is_none() -> None:
    assert Router().select([], snapshot()) is None


def test_about_equal_speeds_do_not_swap_places() -> None:
    router = router_of(a=1, b=1)
    router.record_latency(A, 100)
    router.record_latency(B, 110)
    generation = router.generation
    for _ in range(10):
        router.record_latency(A, 120)
    assert router.rank([A, B], snapshot()) == [A, B]
    assert router.generation == generation


def test_a_clear_change_of_speed_changes_the_ranking_and_the_generation() -> None:
    router = router_of(a=1, b=1)
    router.record_latency(A, 100)
    router.record_latency(B, 110)
    generation = router.generation
    for _ in range(10):
        router.record_latency(A, 150)
    assert router.rank([A, B], snapshot()) == [B, A]
    assert router.generation > generation


def test_an_origin_that_becomes_slow_loses_the_tie_break_within_20_reads_however_long_it_was_fast() -> None:
    router = router_of(a=1, b=1)
    for _ in range(1000):
        router.record_latency(A, 5)
    router.record_latency(B, 10)
    assert router.rank([A, B], snapshot()) == [A, B]
    for _ in range(20):
        router.record_latency(A, 40)
    assert router.rank([A, B], snapshot()) == [B, A]


def test_a_removed_origin_leaves_no_priority_and_no_latency() -> None:
    router = router_of(a=1)
    router.record_latency(A, 5)
    router.remove(A)
    assert router.get_priority(A) == 100
    assert router.latency(A).count == 0


def test_percentiles_are_those_of_the_samples() -> None:
    stats = measured(*range(1, 101))
    assert (stats.p50_ms, stats.p95_ms, stats.p99_ms, stats.count) == (50, 95, 99, 100)


def test_percentiles_follow_a_sample_recorded_after_they_were_read() -> None:
    stats = measured(10)
    assert stats.p50_ms == 10
    stats.record(2)
    assert (stats.p50_ms, stats.p99_ms) == (2, 10)


def test_only_the_last_hundred_samples_count() -> None:
    stats = measured(*[1000.0] * 50, *[1.0] * 100)
    assert (stats.count, stats.p99_ms) == (100, 1)


def test_without_samples_percentiles_are_zero() -> None:
    assert (LatencyStats().p50_ms, LatencyStats().p99_ms, LatencyStats().count) == (0, 0, 0)


states_of_health = st.tuples(st.sampled_from(HealthStatus), st.integers(0, 5))
origins = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.floats(0.1, 5000), max_size=3), states_of_health), min_size=1, max_size=7
)


def federation_of(drawn: list[tuple[int, list[float], tuple[HealthStatus, int]]]) -> tuple[Router, HealthSnapshot]:
    router = Router()
    for number, (priority, samples, _) in enumerate(drawn):
        router.set_priority(OriginId(str(number)), priority)
        for sample in samples:
            router.record_latency(OriginId(str(number)), sample)
    return router, snapshot(**{str(number): state for number, (_, _, state) in enumerate(drawn)})


@given(origins, st.randoms(use_true_random=False))
def test_ranking_is_the_same_for_every_order_of_the_candidates(drawn, random) -> None:  # type: ignore[no-untyped-def]
    router, health = federation_of(drawn)
    ids = [OriginId(str(number)) for number in range(len(drawn))]
    shuffled = random.sample(ids, len(ids))
    ranked = router.rank(ids, health)
    assert sorted(ranked) == sorted(ids)
    assert router.rank(shuffled, health) == ranked
    assert router.select(shuffled, health) == ranked[0]


@given(origins)
def test_two_origins_rank_alone_as_they_do_among_others(drawn) -> None:  # type: ignore[no-untyped-def]
    """The order is total: leaving candidates out never turns two others round."""
    router, health = federation_of(drawn)
    ranked = router.rank([OriginId(str(number)) for number in range(len(drawn))], health)
    for earlier, later in pairwise(ranked):
        assert router.rank([later, earlier], health) == [earlier, later]


@given(origins)
def test_within_one_state_of_health_priority_always_dominates(drawn) -> None:  # type: ignore[no-untyped-def]
    router, health = federation_of(drawn)
    usable = [OriginId(str(n)) for n, (_, _, (status, _)) in enumerate(drawn) if status is HEALTHY]
    priorities = [router.get_priority(id) for id in router.rank(usable, health)]
    assert priorities == sorted(priorities)


@given(origins)
def test_no_unhealthy_origin_ranks_before_a_usable_one(drawn) -> None:  # type: ignore[no-untyped-def]
    router, health = federation_of(drawn)
    ranked = router.rank([OriginId(str(number)) for number in range(len(drawn))], health)
    down = [health.is_unhealthy(id) for id in ranked]
    assert down == sorted(down)
