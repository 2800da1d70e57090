"""Events reach whoever listens, tell a slow one what it lost, and can be told to other processes."""

from __future__ import annotations

import json
import pickle
from typing import Any, get_type_hints

import pytest

from musicfs.events import (
    AllOriginsUnhealthy,
    Event,
    EventBus,
    EventsDropped,
    FailedOver,
    HealthChanged,
    History,
    OriginRegistered,
    OriginUnregistered,
    ReplicaSuspect,
    to_json,
)
from musicfs.model import HealthStatus, OriginId
from tests.support.virtualtime import virtual_time

NAS, LAPTOP = OriginId("nas"), OriginId("laptop")
EXAMPLES: dict[Any, Any] = {
    OriginId: NAS,
    HealthStatus: HealthStatus.DEGRADED,
    tuple[OriginId, ...]: (NAS, LAPTOP),
    str: 'Björk/a\udcff"\n.flac',
    int: 7,
    float: 1.5,
    str | None: None,
    OriginId | None: LAPTOP,
}


def example(kind: type[Event]) -> Event:
    return kind(**{name: EXAMPLES[hint] for name, hint in get_type_hints(kind).items()})


@pytest.mark.parametrize("kind", Event.__subclasses__(), ids=lambda kind: kind.__name__)
def test_every_event_becomes_json_and_loses_nothing(kind: type[Event]) -> None:
    event = example(kind)
    told = json.loads(json.dumps(to_json(event), allow_nan=False).encode("ascii"))
    assert told.pop("event") == kind.__name__
    assert set(told) == set(kind.__dataclass_fields__)
    assert told["at"] == 1.5
    assert told.get("path", EXAMPLES[str]) == EXAMPLES[str]


def test_states_and_lists_are_plain_in_json() -> None:
    changed = HealthChanged(NAS, HealthStatus.HEALTHY, HealthStatus.UNHEALTHY, "timed out", at=5.0)
    assert to_json(changed) == {
        "event": "HealthChanged", "at": 5.0, "origin": "nas", "before": "healthy", "after": "unhealthy",
        "reason": "timed out",
    }  # fmt: skip
    assert to_json(AllOriginsUnhealthy((NAS, LAPTOP)))["origins"] == ["nas", "laptop"]


def test_the_time_is_that_of_the_event_also_in_another_process() -> None:
    event = ReplicaSuspect(NAS, "a.flac", "missing", at=5.0)
    assert pickle.loads(pickle.dumps(event)).at == 5.0
    assert event == ReplicaSuspect(NAS, "a.flac", "missing", at=6.0)


@virtual_time
async def test_a_slow_subscriber_loses_the_oldest_and_is_told_how_many() -> None:
    bus = EventBus()
    stream = bus.subscribe(capacity=3)
    for priority in range(5):
        bus.publish(OriginRegistered(NAS, priority))
    events = aiter(stream)
    assert [await anext(events) for _ in range(2)] == [EventsDropped(2), OriginRegistered(NAS, 2)]
    for priority in range(5, 8):
        bus.publish(OriginRegistered(NAS, priority))
    assert [await anext(events) for _ in range(4)] == [
        EventsDropped(2), *(OriginRegistered(NAS, priority) for priority in (5, 6, 7)),
    ]  # fmt: skip
    bus.publish(OriginUnregistered(NAS))
    assert await anext(events) == OriginUnregistered(NAS)


@virtual_time
async def test_a_slow_subscriber_costs_the_others_nothing() -> None:
    bus = EventBus()
    slow, quick = bus.subscribe(capacity=1), bus.subscribe(capacity=10)
    for priority in range(3):
        bus.publish(OriginRegistered(NAS, priority))
    slow.close()
    events = aiter(quick)
    assert [await anext(events) for _ in range(3)] == [OriginRegistered(NAS, priority) for priority in range(3)]


def test_the_history_is_bounded_and_a_flood_pushes_out_nothing_else() -> None:
    history = History((HealthChanged, FailedOver), capacity=3)
    changed = HealthChanged(NAS, HealthStatus.HEALTHY, HealthStatus.UNHEALTHY, "timed out", at=1.0)
    flood = [FailedOver(f"{number}.flac", NAS, LAPTOP, "timed out", 5.0, at=10.0 + number) for number in range(100)]
    for event in (changed, *flood, OriginUnregistered(NAS)):
        history.record(event)
    assert history.latest() == [*reversed(flood[-3:]), changed]
    assert history.latest(2) == [flood[-1], flood[-2]]


def test_who_no_longer_listens_hears_nothing_and_the_others_do() -> None:
    bus = EventBus()
    heard: list[Event] = []
    left: list[Event] = []
    bus.listen(heard.append)
    listening = bus.listen(left.append)
    bus.publish(OriginRegistered(NAS, 1))
    listening.close()
    listening.close()
    bus.publish(OriginRegistered(LAPTOP, 1))
    assert left == heard[:1]
    assert heard == [OriginRegistered(NAS, 1), OriginRegistered(LAPTOP, 1)]
    assert len(bus._callbacks) == 1


def test_a_listener_may_leave_while_it_is_called() -> None:
    bus = EventBus()
    heard: list[Event] = []
    others: list[Event] = []

    def once(event: Event) -> None:
        heard.append(event)
        listening.close()

    listening = bus.listen(once)
    bus.listen(others.append)
    for _ in range(2):
        bus.publish(OriginRegistered(NAS, 1))
    assert (len(heard), len(others)) == (1, 2)


def test_one_callback_may_listen_twice_and_leave_once() -> None:
    bus = EventBus()
    heard: list[Event] = []
    bus.listen(heard.append)
    bus.listen(heard.append).close()
    bus.publish(OriginRegistered(NAS, 1))
    assert len(heard) == 1
