"""How many reads of a scan are under way at once."""

from __future__ import annotations

import asyncio

import pytest

from musicfs.library.flight_limit import MAX, FlightLimit


class Link:
    """A link that carries so many reads per second, each of which takes `secs` at least."""

    def __init__(self, secs: float, per_second: float) -> None:
        self.secs = secs
        self.per_second = per_second

    def taken(self, under_way: int) -> float:
        return max(self.secs, under_way / self.per_second)


def read_over(limit: FlightLimit, link: Link, reads: int) -> None:
    """Reads as a scan does that always has more to read."""
    for _ in range(reads):
        limit.was_full = True
        limit.record(link.taken(limit.limit))


def test_reads_of_a_far_server_are_many_at_once() -> None:
    limit = FlightLimit()
    read_over(limit, Link(secs=0.2, per_second=1000), 2000)
    assert limit.limit == MAX


def test_a_link_that_carries_little_is_not_given_more_than_makes_a_short_queue() -> None:
    limit = FlightLimit()
    read_over(limit, Link(secs=0.1, per_second=100), 2000)
    assert 8 <= limit.limit <= 40, "10 fill it"


def test_reads_that_take_near_to_their_time_limit_do_not_become_more() -> None:
    limit = FlightLimit()
    read_over(limit, Link(secs=2.0, per_second=1000), 500)
    assert limit.limit == FlightLimit().limit


@pytest.mark.parametrize("later", [0.4, 0.04])
def test_a_link_that_becomes_slower_in_the_midst_is_soon_used_as_before(later: float) -> None:
    limit, link = FlightLimit(), Link(secs=0.001, per_second=1_000_000)
    read_over(limit, link, 500)
    assert limit.limit == MAX
    link.secs = later
    read_over(limit, link, 200)
    assert limit.limit == MAX


def test_a_link_that_carries_less_in_the_midst_is_given_less() -> None:
    limit, link = FlightLimit(), Link(secs=0.01, per_second=10_000)
    read_over(limit, link, 500)
    assert limit.limit == MAX
    link.per_second = 200
    read_over(limit, link, 500)
    assert limit.limit < MAX / 2


async def test_a_busy_server_halves_what_is_under_way_until_one_is_left() -> None:
    limit = FlightLimit()
    for _ in range(10):
        limit.slow_down()
    assert limit.limit == 1


async def test_no_more_reads_are_under_way_than_allowed_and_cancelled_ones_leave_their_place() -> None:
    limit, started, go_on = FlightLimit(), 0, asyncio.Event()
    at_most = limit.limit

    async def read() -> None:
        nonlocal started
        async with limit.read():
            started += 1
            await go_on.wait()

    reads = [asyncio.create_task(read()) for _ in range(3 * at_most)]
    await asyncio.sleep(0)
    assert started == at_most
    for task in reads[:at_most] + reads[-2:]:
        task.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert started == 2 * at_most
    go_on.set()
    await asyncio.gather(*reads, return_exceptions=True)
    assert started == 3 * at_most - 2
