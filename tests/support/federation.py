"""A federation over fake origins, and every event it published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import TypeVar

from musicfs.config.models import HealthConfig, RetryConfig
from musicfs.events import Event, EventBus
from musicfs.federation import FailoverExecutor, Fetched, HealthMonitor, OriginRegistry, RateLimit, Router
from musicfs.model import Replica
from tests.support.fakes import FakeOrigin

E = TypeVar("E", bound=Event)


class Federation:
    """Priorities follow the order of the origins. Probing does not run unless `monitor.start()` is called."""

    def __init__(self, health: HealthConfig | None = None, retry: RetryConfig | None = None) -> None:
        self.events: list[Event] = []
        self.bus = EventBus()
        self.bus.listen(self.events.append)
        self.router = Router()
        self.monitor = HealthMonitor(health or HealthConfig(), self.bus, Random(1), self.router.record_latency)
        self.registry = OriginRegistry(self.router, self.monitor, self.bus)
        self.executor = FailoverExecutor(self.registry, retry or RetryConfig(), self.bus)
        self.origins: list[FakeOrigin] = []

    def add(
        self,
        origin: FakeOrigin,
        priority: int | None = None,
        *,
        metered: bool = False,
        hedge: bool = True,
        bandwidth: RateLimit | None = None,
    ) -> None:
        self.origins.append(origin)
        place = len(self.origins) if priority is None else priority
        self.registry.register(origin, place, metered=metered, hedge=hedge, bandwidth=bandwidth)

    @property
    def replicas(self) -> list[Replica]:
        return [origin.replica for origin in self.origins]

    async def probe_all(self) -> None:
        for origin in self.origins:
            await self.monitor.check_now(origin.id)

    async def fetch(self, offset: int = 0, size: int = 100) -> Fetched:
        return await self.executor.fetch(self.replicas, offset, size)

    def published(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def federation(
    *origins: FakeOrigin, health: HealthConfig | None = None, retry: RetryConfig | None = None
) -> AsyncIterator[Federation]:
    """Closes everything at the end; calls that ignore their cancellation are released then."""
    made = Federation(health, retry)
    for origin in origins:
        made.add(origin)
    try:
        yield made
    finally:
        for origin in made.origins:
            origin.release()
        await made.executor.aclose()
        await made.monitor.aclose()
        await made.registry.aclose()
        await settle()


async def settle() -> None:
    """Lets everything that is ready run, without letting time pass."""
    for _ in range(20):
        await asyncio.sleep(0)


def ids(replicas: Sequence[Replica]) -> list[str]:
    return [replica.origin for replica in replicas]
