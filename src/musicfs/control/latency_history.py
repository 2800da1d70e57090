"""How long the reads of each origin took over the last hour."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass

from musicfs.app.app import App
from musicfs.model import HealthStatus, OriginId

_EVERY_SECS = 10.0
_KEPT = 360


@dataclass(frozen=True, slots=True)
class Sample:
    """Of the origin's last 100 reads at one time, in seconds since the epoch; None while it is away, or unread."""

    at: float
    p50_ms: float | None
    p99_ms: float | None


class Latencies:
    """Takes a sample of every origin each 10 s, and keeps them for an hour."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._samples: dict[OriginId, deque[Sample]] = {}
        self._sampling: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._sampling = asyncio.create_task(self._sample())

    def stop(self) -> None:
        if self._sampling is not None:
            self._sampling.cancel()

    def of(self, id: OriginId) -> list[Sample]:
        """The oldest first."""
        return list(self._samples.get(id, ()))

    async def _sample(self) -> None:
        while True:
            self.take()
            await asyncio.sleep(_EVERY_SECS)

    def take(self) -> None:
        app = self._app
        ids = [origin.id for origin in app.registry.list()]
        self._samples = {id: self._samples.get(id) or deque(maxlen=_KEPT) for id in ids}
        for id in ids:
            reads = app.router.latency(id)
            if reads.count and app.monitor.state(id).status is not HealthStatus.UNHEALTHY:
                sample = Sample(time.time(), round(reads.p50_ms, 3), round(reads.p99_ms, 3))
            else:
                sample = Sample(time.time(), None, None)
            self._samples[id].append(sample)
