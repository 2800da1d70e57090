"""Counters of the kernel's requests: plain integers, because each count costs the hot path some 30 ns."""

from __future__ import annotations

from collections import Counter

from musicfs.federation.stats import Histogram

BOUNDS_SECS = (10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 1e-3, 5e-3, 25e-3, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0)
"""Most requests take microseconds; those that wait for an origin, up to its deadline."""


class Durations(dict[str, Histogram]):
    """The durations of each operation; it creates a missing histogram."""

    def __missing__(self, operation: str) -> Histogram:
        made = self[operation] = Histogram(BOUNDS_SECS)
        return made


class RequestStats:
    """The counters since the mount.

    Attributes:
        took: Durations from the receipt of a request to its answer.
        waited: Durations of reads that were not answered at once.
        errors: Numbers of errors by (operation, errno).
    """

    __slots__ = (
        "errors", "getattr", "getxattr", "listxattr", "lookup", "open", "opendir", "read", "read_bytes", "readdir",
        "release", "statfs", "took", "waited",
    )  # fmt: skip

    def __init__(self) -> None:
        self.lookup = self.getattr = self.statfs = self.opendir = self.readdir = 0
        self.open = self.read = self.release = self.getxattr = self.listxattr = 0
        self.read_bytes = 0
        self.took = Durations()
        self.waited = Histogram()
        self.errors: Counter[tuple[str, int]] = Counter()

    def requests(self) -> dict[str, int]:
        """Returns the numbers of requests by operation."""
        others = ("errors", "read_bytes", "took", "waited")
        return {name: getattr(self, name) for name in self.__slots__ if name not in others}

    def total(self) -> int:
        """Returns the number of all requests."""
        return sum(self.requests().values())
