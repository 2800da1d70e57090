"""Reads begun together: one request for neighbours, and each gets its own bytes, failure or end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from musicfs.errors import OriginFailed, OriginFault
from musicfs.federation.driver_reads import MAX, DriverReads
from musicfs.model import Replica
from musicfs.origin import HandOut
from tests.support.fakes import DATA, HANG, SHORT, UNREACHABLE, FakeOrigin, slow
from tests.support.federation import settle
from tests.support.virtualtime import virtual_time

PIECE = 100


def asked(origin: FakeOrigin) -> list[tuple[int, int]]:
    return [(call.offset, call.size) for call in origin.calls]


def begin(made: DriverReads, origin: FakeOrigin, *numbers: int) -> list[asyncio.Task[bytes]]:
    return [made.start(origin, origin.replica, number * PIECE, PIECE, alone=False) for number in numbers]


@virtual_time
async def test_neighbours_that_are_begun_together_are_one_request() -> None:
    origin, made = FakeOrigin("a"), DriverReads()
    found = await asyncio.gather(*begin(made, origin, 3, 1, 2, 7))
    assert found == [DATA[number * PIECE : (number + 1) * PIECE] for number in (3, 1, 2, 7)]
    assert asked(origin) == [(100, 300), (700, 100)]


@virtual_time
async def test_what_is_begun_later_is_a_request_of_its_own() -> None:
    origin, made = FakeOrigin("a", read_outcome=slow(1)), DriverReads()
    first = begin(made, origin, 0)
    await asyncio.sleep(0.5)
    await asyncio.gather(*first, *begin(made, origin, 1))
    assert asked(origin) == [(0, 100), (100, 100)]


@virtual_time
async def test_a_request_has_a_largest_size() -> None:
    origin, made = FakeOrigin("a", data=bytes(2 * MAX)), DriverReads()
    size = MAX // 2
    await asyncio.gather(*(made.start(origin, origin.replica, number * size, size, alone=False) for number in range(4)))
    assert asked(origin) == [(0, MAX), (MAX, MAX)]


@virtual_time
async def test_a_failure_is_everybodys() -> None:
    origin, made = FakeOrigin("a", read_outcome=UNREACHABLE), DriverReads()
    for read in begin(made, origin, 0, 1):
        with pytest.raises(OriginFailed):
            await read


@virtual_time
async def test_a_short_answer_is_short_for_who_wanted_its_end() -> None:
    origin, made = FakeOrigin("a", read_outcome=SHORT), DriverReads()
    found = await asyncio.gather(*begin(made, origin, 0, 1))
    assert list(map(len, found)) == [PIECE, PIECE - 1]


@virtual_time
async def test_who_goes_away_takes_nothing_from_the_others_and_the_last_ends_the_request() -> None:
    origin, made = FakeOrigin("a", read_outcome=HANG), DriverReads()
    first, second, third = begin(made, origin, 0, 1, 2)
    await asyncio.sleep(1)
    first.cancel()
    second.cancel()
    await settle()
    assert origin.cancelled == 0
    third.cancel()
    await settle()
    assert origin.cancelled == 1


@virtual_time
async def test_who_goes_away_at_once_is_not_asked_for() -> None:
    origin, made = FakeOrigin("a"), DriverReads()
    first, second = begin(made, origin, 0, 1)
    await asyncio.sleep(0)
    first.cancel()
    assert await second == DATA[PIECE : 2 * PIECE]
    await settle()
    assert asked(origin) == [(100, 100)]


class Stream(FakeOrigin):
    """Hands out a part each second, and fails after `sound` of them."""

    sound = 100

    async def read_parts(self, replica: Replica, offset: int, sizes: Sequence[int], hand_out: HandOut) -> None:
        self.requests.append((offset, len(sizes)))
        try:
            for number, size in enumerate(sizes):
                await asyncio.sleep(1)
                if number == self.sound:
                    raise OriginFailed(self.id, OriginFault.IO, "it broke off")
                hand_out(number, DATA[offset : offset + size])
                offset += size
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def __init__(self) -> None:
        super().__init__("a")
        self.requests: list[tuple[int, int]] = []


@virtual_time
async def test_each_part_of_a_stream_is_there_as_soon_as_it_has_come() -> None:
    origin, made = Stream(), DriverReads()
    loop = asyncio.get_running_loop()
    reads = begin(made, origin, 0, 1, 2)
    for number, read in enumerate(reads):
        assert await read == DATA[number * PIECE : (number + 1) * PIECE]
        assert loop.time() == pytest.approx(number + 1)
    await settle()
    assert origin.requests == [(0, 3)]
    assert origin.cancelled == 0


@virtual_time
async def test_a_stream_that_breaks_off_fails_only_for_who_waits_for_its_rest() -> None:
    origin, made = Stream(), DriverReads()
    origin.sound = 1
    first, *rest = begin(made, origin, 0, 1, 2)
    assert await first == DATA[:PIECE]
    for read in rest:
        with pytest.raises(OriginFailed):
            await read


@virtual_time
async def test_a_stream_of_which_nobody_wants_the_rest_is_ended() -> None:
    origin, made = Stream(), DriverReads()
    first, second, third = begin(made, origin, 0, 1, 2)
    await asyncio.sleep(0.5)
    third.cancel()
    await asyncio.gather(first, second)
    await settle()
    assert origin.cancelled == 1
