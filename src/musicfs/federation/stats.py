"""Counts the reads of each origin since the start, in plain integers: a read of a local disk takes microseconds."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from musicfs.model import OriginId

BOUNDS_SECS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram:
    """A histogram of durations.

    counts: how many durations are at most each bound, but above the bound before it; the last count is of those above
    all bounds.
    """

    __slots__ = ("bounds_secs", "counts", "sum_secs")

    def __init__(self, bounds_secs: tuple[float, ...] = BOUNDS_SECS) -> None:
        self.bounds_secs = bounds_secs
        self.counts = [0] * (len(bounds_secs) + 1)
        self.sum_secs = 0.0

    def add(self, secs: float) -> None:
        self.counts[bisect_left(self.bounds_secs, secs)] += 1
        self.sum_secs += secs


class OriginStats:
    """The counters of one origin.

    immediate: reads that the page cache of its disk answered. fetched: reads that took waiting, by duration. bytes: of
    both. errors: failed reads, by the value of their fault. hedged: reads that it got because another origin was late.
    """

    __slots__ = ("bytes", "errors", "fetched", "hedged", "immediate")

    def __init__(self) -> None:
        self.immediate = self.hedged = 0
        self.fetched = Histogram()
        self.bytes = 0
        self.errors: Counter[str] = Counter()


class ReadStats(dict[OriginId, OriginStats]):
    """The counters by origin. A lookup creates those of an origin that was never read."""

    def __missing__(self, id: OriginId) -> OriginStats:
        made = self[id] = OriginStats()
        return made
