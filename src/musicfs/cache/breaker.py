"""The circuit breaker of the cache's disk: reports a failure once, then leaves the disk alone for longer each time."""

from __future__ import annotations

import asyncio
import logging

from musicfs.events import CacheResumed, CacheStopped, EventBus

log = logging.getLogger(__name__)

_TRY_AGAIN_SECS = (10.0, 300.0)  # first, and at most


class CircuitBreaker:
    """Knows whether the cache's disk works. Belongs to the event loop's thread."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self.working = True
        self.reason: str | None = None
        """Why the disk does not work; None: it works."""
        self._try_again_at = self._silent_until = 0.0
        self._try_again_secs = _TRY_AGAIN_SECS[0]

    def may_read(self) -> bool:
        """Whether a read may ask a disk that fails: it has not just been found to hang."""
        return asyncio.get_running_loop().time() >= self._silent_until

    def may_write(self) -> bool:
        """Whether a write may ask a disk that fails: it is time to try again."""
        return asyncio.get_running_loop().time() >= self._try_again_at

    def record_failure(self, reason: str, *, hangs: bool = False) -> None:
        """Records a failure. hangs: reads leave the disk alone for a while too, and not only writes."""
        now = asyncio.get_running_loop().time()
        if now >= self._try_again_at:
            self._try_again_at = now + self._try_again_secs
            self._try_again_secs = min(2 * self._try_again_secs, _TRY_AGAIN_SECS[1])
        if hangs:
            self._silent_until = self._try_again_at
        self.reason = reason
        if self.working:
            self.working = False
            log.warning("The cache stops for now, and music plays on uncached: %s.", reason)
            self._bus.publish(CacheStopped(reason))

    def record_success(self) -> bool:
        """Records that the disk has stored something; returns whether it could not before."""
        self._try_again_secs, self._try_again_at, self._silent_until = _TRY_AGAIN_SECS[0], 0.0, 0.0
        self.reason = None
        if self.working:
            return False
        self.working = True
        log.warning("The cache works again.")
        self._bus.publish(CacheResumed())
        return True
