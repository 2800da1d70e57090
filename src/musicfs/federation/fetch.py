"""What a fetch asks for, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from musicfs.model import Replica

Check = Callable[[Replica, bytes], bool]
"""Takes a replica and the bytes that it returned; returns whether they are the recorded ones."""


class Demand:
    """Whether a reader waits for a fetch, now: `urgent` may become true while the fetch is under way.

    A fetch that is not urgent is never hedged, and a failure of it starts a probe but does not count: a reader that
    needs the bytes asks again. Such reads of neighbouring bytes become one request.
    """

    __slots__ = ("urgent",)

    def __init__(self, *, urgent: bool) -> None:
        self.urgent = urgent


URGENT = Demand(urgent=True)
"""For fetches that a reader waits for from the start."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes, and the replica they came from."""

    data: bytes
    replica: Replica


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """The bytes that a fetch asks for: `size` bytes at `offset`; `block` is the number of the first block in them.

    background: no reader will ever wait for it.
    """

    replicas: Sequence[Replica]
    offset: int
    size: int
    block: int
    check: Check | None
    background: bool
    demand: Demand
