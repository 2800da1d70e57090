"""How often the kernel has asked for what: plain integers, for counting costs the hot path some 30 ns each."""

from __future__ import annotations

from collections import Counter

from musicfs.federation.traffic import Histogram


class RequestCounts:
    """Since the mount. waited: reads that were not answered at once. errors: by (operation, errno)."""

    __slots__ = (
        "errors", "getattr", "getxattr", "listxattr", "lookup", "open", "opendir", "read", "read_bytes", "readdir",
        "release", "statfs", "waited",
    )  # fmt: skip

    def __init__(self) -> None:
        self.lookup = self.getattr = self.statfs = self.opendir = self.readdir = 0
        self.open = self.read = self.release = self.getxattr = self.listxattr = 0
        self.read_bytes = 0
        self.waited = Histogram()
        self.errors: Counter[tuple[str, int]] = Counter()

    def requests(self) -> dict[str, int]:
        """By operation."""
        return {name: getattr(self, name) for name in self.__slots__ if name not in ("errors", "read_bytes", "waited")}
