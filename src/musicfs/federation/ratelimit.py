"""A limit on what is read from one origin, so that a scan does not take the whole of a thin line."""

from __future__ import annotations

import asyncio
from math import inf

from musicfs.config.models import OriginConfig

_BURST_SECS = 1.0


class RateLimit:
    """A token bucket that holds a second's worth of bytes. Belongs to one event loop.

    rate: bytes per second. everything: reads that somebody waits for are held back too, and not only background work.
    """

    def __init__(self, rate: int, *, everything: bool = False) -> None:
        self.everything = everything
        self._rate = rate
        self._paid_until = -inf  # on the loop's clock: by when all that was granted would be through at this rate

    @classmethod
    def of(cls, config: OriginConfig) -> RateLimit | None:
        limit = config.bandwidth_limit
        return None if limit is None else cls(limit, everything=config.bandwidth_limit_all)

    async def take(self, size: int) -> None:
        """Waits until `size` more bytes may be read. Reads larger than the bucket are let through, and paid for by
        those that follow."""
        now = asyncio.get_running_loop().time()
        wait = max(self._paid_until - now, -_BURST_SECS)
        self._paid_until = now + wait + size / self._rate
        if wait > 0:
            try:
                await asyncio.sleep(wait)
            except asyncio.CancelledError:
                self._paid_until -= size / self._rate
                raise

    def count(self, size: int) -> None:
        """Bytes that are read without waiting: background work gets what they leave, and soon again all of it."""
        now = asyncio.get_running_loop().time()
        behind = max(self._paid_until - now, -_BURST_SECS)
        self._paid_until = now + max(behind, min(behind + size / self._rate, _BURST_SECS))
