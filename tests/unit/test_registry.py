"""The registry: who takes part, and in which order they are asked."""

from __future__ import annotations

import asyncio

import pytest

from musicfs.errors import OriginFailed, OriginFault
from musicfs.events import OriginRegistered, OriginUnregistered, ReplicaQuarantined
from musicfs.model import HealthStatus, OriginId, Replica
from tests.support.fakes import HANG, FakeLocal, FakeOrigin, FakeWatch, Outcome
from tests.support.federation import Federation, federation, ids
from tests.support.virtualtime import now_ms, virtual_time

A, B = OriginId("a"), OriginId("b")


def order(fed: Federation) -> list[str]:
    return [candidate.origin.id for candidate in fed.registry.route_all(fed.replicas)]


def fell(fed: Federation, id: OriginId, times: int = 3) -> None:
    for _ in range(times):
        fed.monitor.record_failure(id, OriginFailed(id, OriginFault.UNREACHABLE))


@virtual_time
async def test_register_and_get() -> None:
    """The seed's test_register_and_get, and that several take part at the same time."""
    first, second = FakeOrigin("a"), FakeOrigin("b")
    async with federation(first, second) as fed:
        assert fed.registry.get(A) is first
        assert fed.registry.get(OriginId("c")) is None
        assert fed.registry.list() == (first, second)
        assert fed.published(OriginRegistered) == [OriginRegistered(A, 1), OriginRegistered(B, 2)]


@virtual_time
async def test_an_id_can_be_registered_once() -> None:
    async with federation(FakeOrigin("a")) as fed:
        with pytest.raises(ValueError, match="'a' is registered already"):
            fed.registry.register(FakeOrigin("a"), 1)


@virtual_time
async def test_route_by_priority() -> None:
    """The seed's test_route_by_priority: of two origins that have the file, the preferred one is asked."""
    async with federation() as fed:
        fed.add(FakeOrigin("backup"), 2)
        fed.add(FakeOrigin("primary"), 1)
        await fed.probe_all()
        candidate = fed.registry.route(fed.replicas)
        assert candidate is not None
        assert candidate.origin.id == "primary"
        assert candidate.replica == fed.origins[1].replica


@virtual_time
async def test_the_ranking_has_the_unhealthy_last_and_leaves_none_out() -> None:
    async with federation(FakeOrigin("a"), FakeOrigin("b"), FakeOrigin("c")) as fed:
        await fed.probe_all()
        fell(fed, A)
        fell(fed, B, 1)
        assert order(fed) == ["c", "b", "a"]


@virtual_time
async def test_all_origins_unhealthy_routes_to_the_least_bad() -> None:
    """The seed's test_all_origins_unhealthy, as far as routing goes: fewest failures first."""
    async with federation(FakeOrigin("a"), FakeOrigin("b")) as fed:
        fell(fed, A, 5)
        fell(fed, B, 3)
        assert order(fed) == ["b", "a"]


@virtual_time
async def test_only_origins_that_have_the_file_are_candidates() -> None:
    first, second = FakeOrigin("a"), FakeOrigin("b")
    async with federation(first, second) as fed:
        assert [candidate.origin for candidate in fed.registry.route_all([second.replica])] == [second]
        assert fed.registry.route([]) is None


@virtual_time
async def test_candidates_carry_what_their_origins_were_registered_with() -> None:
    async with federation() as fed:
        fed.registry.register(FakeOrigin("a"), 1, timeout_ms=700, metered=True, hedge=False)
        candidate = fed.registry.route([FakeOrigin("a").replica])
        assert candidate is not None
        assert (candidate.timeout_ms, candidate.metered, candidate.hedge) == (700, True, False)
        assert candidate.status is HealthStatus.UNKNOWN
        await fed.registry.unregister(A)


@virtual_time
async def test_two_replicas_at_one_origin_keep_their_order() -> None:
    first, second = FakeOrigin("a"), FakeOrigin("b")
    copies = [Replica(A, path, 5, 1) for path in ("x", "y")]
    async with federation(first, second) as fed:
        ranked = fed.registry.route_all([copies[0], second.replica, copies[1]])
        assert [candidate.replica for candidate in ranked] == [*copies, second.replica]


@virtual_time
async def test_set_priority_changes_the_ranking_at_once() -> None:
    async with federation(FakeOrigin("a"), FakeOrigin("b")) as fed:
        assert order(fed) == ["a", "b"]
        fed.registry.set_priority(B, 0)
        assert order(fed) == ["b", "a"]
        with pytest.raises(KeyError):
            fed.registry.set_priority(OriginId("c"), 0)


@virtual_time
async def test_measured_latency_changes_the_ranking_of_equals_at_once() -> None:
    async with federation() as fed:
        fed.add(FakeOrigin("a"), 1)
        fed.add(FakeOrigin("b"), 1)
        await fed.probe_all()
        assert order(fed) == ["a", "b"]
        fed.monitor.record_success(A, 80)
        assert order(fed) == ["b", "a"]


@virtual_time
async def test_watch_cleanup_on_unregister() -> None:
    """The seed's test_watch_cleanup_on_unregister: its own watches end, others' go on."""
    async with federation(FakeOrigin("a"), FakeOrigin("b")) as fed:
        mine, also_mine, others = FakeWatch(), FakeWatch(), FakeWatch()
        fed.registry.register_watch(A, mine)
        fed.registry.register_watch(A, also_mine)
        fed.registry.register_watch(B, others)
        await fed.registry.unregister(A)
        assert (mine.closed, also_mine.closed, others.closed) == (1, 1, 0)


@virtual_time
async def test_a_watch_for_an_origin_that_is_gone_is_closed_at_once() -> None:
    async with federation(FakeOrigin("a")) as fed:
        await fed.registry.unregister(A)
        late = FakeWatch()
        fed.registry.register_watch(A, late)
        assert late.closed == 1


@virtual_time
async def test_watches_are_dropped_before_the_origin_is_closed() -> None:
    origin = FakeOrigin("a")
    seen: list[bool] = []

    class Watch(FakeWatch):
        def close(self) -> None:
            seen.append(origin.closed)

    async with federation(origin) as fed:
        fed.registry.register_watch(A, Watch())
        await fed.registry.unregister(A)
        assert seen == [False]
        assert origin.closed


@virtual_time
async def test_an_unregistered_origin_is_asked_no_more() -> None:
    first, second = FakeOrigin("a"), FakeOrigin("b")
    async with federation(first, second) as fed:
        fed.monitor.start()
        assert order(fed) == ["a", "b"]
        await fed.registry.unregister(A)
        assert order(fed) == ["b"]
        assert first.closed
        await asyncio.sleep(100)
        assert len(first.probed_ms) <= 1
        assert A not in fed.registry.health().states
        assert fed.published(OriginUnregistered) == [OriginUnregistered(A)]


@virtual_time
async def test_unregistering_what_is_not_registered_does_nothing() -> None:
    async with federation() as fed:
        await fed.registry.unregister(A)
        assert fed.events == []


@virtual_time
async def test_a_successor_of_the_same_id_starts_afresh() -> None:
    async with federation(FakeOrigin("a")) as fed:
        fed.monitor.record_success(A, 900)
        fell(fed, A)
        await fed.registry.unregister(A)
        fed.add(FakeOrigin("a"), 7)
        assert fed.monitor.state(A).status is HealthStatus.UNKNOWN
        assert fed.router.latency(A).count == 0
        assert fed.router.get_priority(A) == 7


@virtual_time
async def test_a_successor_of_the_same_id_has_its_files_judged_afresh() -> None:
    async with federation(FakeOrigin("a"), FakeOrigin("b")) as fed:
        for replica in fed.replicas:
            fed.registry.quarantine(replica, 0)
        await fed.registry.unregister(A)
        assert [fed.registry.is_quarantined(replica) for replica in fed.replicas] == [False, True]


@virtual_time
async def test_unregister_gives_up_on_an_origin_that_does_not_close() -> None:
    async with federation(FakeOrigin("a", close_outcome=HANG)) as fed:
        await fed.registry.unregister(A)
        assert now_ms() == 5000


@virtual_time
async def test_an_origin_that_fails_to_close_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with federation(FakeOrigin("a", close_outcome=Outcome(error=OSError("broken")))) as fed:
        await fed.registry.unregister(A)
    assert "origin 'a' failed to close" in caplog.text


@virtual_time
async def test_closing_the_registry_closes_everything_but_unregisters_nobody() -> None:
    """A shutdown must not look like the removal of an origin, which takes its music out of the tree."""
    first, second, watch = FakeOrigin("a"), FakeOrigin("b"), FakeWatch()
    async with federation(first, second) as fed:
        fed.registry.register_watch(A, watch)
        await fed.registry.aclose()
        assert (first.closed, second.closed, watch.closed) == (True, True, 1)
        assert fed.published(OriginUnregistered) == []


@virtual_time
async def test_a_quarantined_replica_is_left_out_until_its_version_changes() -> None:
    first, second = FakeOrigin("a"), FakeOrigin("b")
    async with federation(first, second) as fed:
        fed.registry.quarantine(first.replica, 7)
        fed.registry.quarantine(first.replica, 8)
        assert fed.published(ReplicaQuarantined) == [ReplicaQuarantined(A, first.replica.path, 7)]
        assert fed.registry.is_quarantined(first.replica)
        assert order(fed) == ["b"]
        mended = Replica(A, first.replica.path, first.replica.size, mtime_ns=2)
        other = Replica(A, "other.flac", first.replica.size, mtime_ns=1)
        ranked = fed.registry.route_all([mended, other, second.replica])
        assert ids([candidate.replica for candidate in ranked]) == ["a", "a", "b"]


@virtual_time
async def test_only_a_healthy_best_origin_reads_now() -> None:
    local, remote = FakeLocal("a"), FakeOrigin("b")
    async with federation(local, remote) as fed:
        assert fed.registry.route_now(fed.replicas) is None
        await fed.probe_all()
        assert fed.registry.route_now(fed.replicas) == (local.read_now, local.replica)
        fed.registry.quarantine(local.replica, 0)
        assert fed.registry.route_now(fed.replicas) is None


@virtual_time
async def test_a_worse_origin_is_not_read_now_while_a_better_one_would_wait() -> None:
    async with federation(FakeOrigin("a"), FakeLocal("b")) as fed:
        await fed.probe_all()
        assert fed.registry.route_now(fed.replicas) is None
