"""How many reads of one origin are under way at once: as many as its link takes.

A read that waits behind others takes longer, and brings no byte sooner. So the limit grows while reads take about as
long as the quickest ones, and is halved when they take several times as long. If that does not make them quicker, it is
the link that became slow and not the queue that became long: the limit is restored, and that time is the new measure.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median

_START = 8.0
_MIN = 2.0
MAX = 64.0
_SAMPLES = 12
"""The limit changes after so many reads, or as many as it allows if these are more."""
_ROOMY = 2.0
_CROWDED = 4.0
"""Times the quickest reads' time below which the limit grows, and above which it is halved."""
_LONG_SECS = 1.5
"""The limit does not grow while reads take longer: they are near the time after which they are given up."""
_GROWTH = 1.5
_RELIEVED = 0.75
"""Halving has helped if reads take no longer than this part of what they took."""
_HELD = 12
"""After so many times between the two, the limit is halved once, to see whether the queue or the link is long."""


class FlightLimit:
    """A limit that adapts itself. All methods belong to one event loop's thread."""

    def __init__(self) -> None:
        self._limit = _START
        self._under_way = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._secs: list[float] = []
        self.was_full = False
        """Whether a read had to wait since the limit last changed: what is not used up is no reason for more."""
        self._quickest = 0.0
        self._held = 0
        self._halved: tuple[float, float] | None = None
        """What reads took before the limit was halved, in seconds, and the limit then."""

    @property
    def limit(self) -> int:
        """How many reads may be under way now."""
        return int(self._limit)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[None]:
        """Surrounds one read; waits before it while too many are under way."""
        await self._enter()
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            yield
            self.record(loop.time() - began)
        finally:
            self._under_way -= 1
            self._wake()

    def record(self, secs: float) -> None:
        """Takes how long a read took that succeeded."""
        self._secs.append(secs)
        if len(self._secs) >= max(_SAMPLES, self._limit):
            usual, self._secs = median(self._secs), []
            self._adapt(usual)
            self.was_full = bool(self._waiting)

    def slow_down(self) -> None:
        """Halves the limit: the server says that it has too much to do."""
        self._limit = max(1.0, self._limit / 2)
        self._secs.clear()
        self._halved = None
        self.was_full = False

    def _adapt(self, usual: float) -> None:
        if self._halved is not None:
            (before, limit), self._halved = self._halved, None
            if usual > before * _RELIEVED:
                self._quickest, self._limit = usual, limit
                return
        self._quickest = min(self._quickest or usual, usual)
        if usual <= self._quickest * _ROOMY:
            self._held = 0
            if self.was_full and usual <= _LONG_SECS:
                self._limit = min(MAX, self._limit * _GROWTH)
                self._wake()
            return
        self._held += 1
        if (usual > self._quickest * _CROWDED or self._held >= _HELD) and self._limit > _MIN:
            self._held = 0
            self._halved = usual, self._limit
            self._limit = max(_MIN, self._limit / 2)

    async def _enter(self) -> None:
        if self._under_way < self.limit and not self._waiting:
            self._under_way += 1
            return
        self.was_full = True
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn  # `_wake` has counted it
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._under_way -= 1
                self._wake()
            else:
                self._waiting.remove(turn)
            raise

    def _wake(self) -> None:
        while self._waiting and self._under_way < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._under_way += 1
                turn.set_result(None)
