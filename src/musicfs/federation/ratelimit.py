"""Limits how fast one origin is read, so that a scan leaves room on a slow line."""

from __future__ import annotations

import asyncio
from math import inf

from musicfs.config.models import OriginConfig

_BURST_SECS = 1.0


class RateLimit:
    """A token bucket that holds the bytes of one second. Belongs to one event loop.

    rate: bytes per second. everything: it delays reads that a reader waits for too, and not only background work.
    """

    def __init__(self, rate: int, *, everything: bool = False) -> None:
        self.everything = everything
        self._rate = rate
        self._paid_until = -inf  # on the loop's clock: when all that was granted has passed at this rate

    @classmethod
    def of(cls, config: OriginConfig) -> RateLimit | None:
        limit = config.bandwidth_limit
        return None if limit is None else cls(limit, everything=config.bandwidth_limit_all)

    async def take(self, size: int) -> None:
        """Waits until `size` more bytes may be read. A read larger than the bucket passes; later ones wait longer."""
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
        """Counts bytes that are read without waiting. Background work gets what they leave, and soon all again."""
        now = asyncio.get_running_loop().time()
        behind = max(self._paid_until - now, -_BURST_SECS)
        self._paid_until = now + max(behind, min(behind + size / self._rate, _BURST_SECS))
