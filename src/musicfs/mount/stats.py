"""How often the kernel has asked for what: plain integers, for counting costs the hot path some 30 ns each."""

from __future__ import annotations

from collections import Counter

from musicfs.federation.stats import Histogram

BOUNDS_SECS = (10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 1e-3, 5e-3, 25e-3, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0)
"""Most requests take microseconds; those that wait for an origin, up to its deadline."""


class Durations(dict[str, Histogram]):
    """By operation; one that was never asked for is made when it is."""

    def __missing__(self, operation: str) -> Histogram:
        made = self[operation] = Histogram(BOUNDS_SECS)
        return made


class RequestStats:
    """Since the mount. took: from when a request was taken up to its answer. waited: reads that were not answered at
    once. errors: by (operation, errno)."""

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
        """By operation."""
        others = ("errors", "read_bytes", "took", "waited")
        return {name: getattr(self, name) for name in self.__slots__ if name not in others}
