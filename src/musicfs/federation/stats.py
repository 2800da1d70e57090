"""What has been read of each origin since the start: plain numbers, for a read of a local disk takes microseconds."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from musicfs.model import OriginId

BOUNDS_SECS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram:
    """How often something took how long. counts: up to each of the bounds but not up to the one before it, and at
    last longer than all of them."""

    __slots__ = ("bounds_secs", "counts", "sum_secs")

    def __init__(self, bounds_secs: tuple[float, ...] = BOUNDS_SECS) -> None:
        self.bounds_secs = bounds_secs
        self.counts = [0] * (len(bounds_secs) + 1)
        self.sum_secs = 0.0

    def add(self, secs: float) -> None:
        self.counts[bisect_left(self.bounds_secs, secs)] += 1
        self.sum_secs += secs


class OriginStats:
    """immediate: reads that its disk's page cache answered. fetched: those that were waited for, with what they took.
    bytes: of both. errors: by the value of their fault. hedged: reads that it was asked for since another was late."""

    __slots__ = ("bytes", "errors", "fetched", "hedged", "immediate")

    def __init__(self) -> None:
        self.immediate = self.hedged = 0
        self.fetched = Histogram()
        self.bytes = 0
        self.errors: Counter[str] = Counter()


class ReadStats(dict[OriginId, OriginStats]):
    """By origin; one that was never read is made when it is asked for."""

    def __missing__(self, id: OriginId) -> OriginStats:
        made = self[id] = OriginStats()
        return made
