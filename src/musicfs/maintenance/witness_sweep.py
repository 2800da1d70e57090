"""Proves in the background that the copies of shared contents are the same, so that reads find it done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from musicfs.content.circles import Circles
from musicfs.content.reader import Reader
from musicfs.content.witnesses import PIECE, copy_key
from musicfs.events import Event, HealthChanged, ScanFinished
from musicfs.federation.ratelimit import RateLimit
from musicfs.model import Content, HealthStatus, Replica

RATE = 2_000_000
"""Bytes per second."""

_PAGE = 200  # contents
_QUIET_SECS = 0.05
_LEAST_PAUSE_SECS = 2.0
_SHARE = 50
"""A sweep is followed by a pause that is so many times as long."""


class WitnessSweep:
    """Goes through all contents that several origins have, after each scan that found something, and when an origin is
    back. Belongs to the event loop's thread.

    Args:
        shared: Returns so many of these contents with a number above the given one, in that order.
        replicas: Returns the replicas of a content, by its number.
    """

    def __init__(
        self,
        shared: Callable[[int, int], Awaitable[list[Content]]],
        replicas: Callable[[int], Sequence[Replica]],
        circles: Circles,
        reader: Reader,
    ) -> None:
        self._shared = shared
        self._replicas = replicas
        self._circles = circles
        self._reader = reader
        self._rate = RateLimit(RATE)
        self._wake = asyncio.Event()
        self._proven: set[int] = set()
        """Hashes of contents with their copies, all of which have shown their witness."""

    def notice(self, event: Event) -> None:
        """For `EventBus.listen`."""
        match event:
            case ScanFinished() if event.added or event.changed:
                self._wake.set()
            case HealthChanged(_, HealthStatus.UNHEALTHY, _, _):
                self._wake.set()

    async def work(self) -> None:
        """Sweeps whenever there is a reason to. Never ends."""
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            start = time.monotonic()
            await self._sweep()
            await asyncio.sleep(max(_LEAST_PAUSE_SECS, _SHARE * (time.monotonic() - start)))

    async def _sweep(self) -> None:
        last = 0
        proven: set[int] = set()
        while contents := await self._shared(last, _PAGE):
            for content in contents:
                proven.update(await self._prove(content))
            last = contents[-1].id
        self._proven = proven

    async def _prove(self, content: Content) -> Sequence[int]:
        """Proves the copies of one content; returns its hash if all of them are."""
        replicas = self._replicas(content.id)
        key = hash((content.fingerprint, *map(copy_key, replicas)))
        if key in self._proven:
            await asyncio.sleep(0)
            return (key,)
        if not await self._circles.is_proven(content, replicas):
            while self._reader.busy:  # noqa: ASYNC110 (reads are too many to set an event for each)
                await asyncio.sleep(_QUIET_SECS)
            await self._rate.take(PIECE * len(replicas))
            await self._circles.prove(content, replicas)
        return (key,) if await self._circles.is_proven(content, replicas) else ()
