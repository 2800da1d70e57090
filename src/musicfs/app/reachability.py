"""Which origins can be reached: what the tree and the pins need of the origins' health."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any

from musicfs.errors import MusicFSError
from musicfs.events import Event, HealthChanged
from musicfs.federation.registry import OriginRegistry
from musicfs.library.client import Library
from musicfs.model import HealthStatus, OriginId, Replica

_REPORT_SECS = 5.0


class Reachability:
    """Reports unhealthy origins to the library, which shows variants of tracks that other origins have.

    Args:
        spawn: Starts a background task with a name.
    """

    def __init__(
        self,
        registry: OriginRegistry,
        library: Library,
        spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
    ) -> None:
        self._registry = registry
        self._library = library
        self._spawn = spawn

    def rank(self, replicas: Sequence[Replica]) -> list[OriginId]:
        """The origins of the replicas, the first one to ask first."""
        return [candidate.replica.origin for candidate in self._registry.route_all(replicas)]

    def is_available(self, replicas: Sequence[Replica]) -> bool:
        """Whether any of them is at an origin that is not unhealthy."""
        health = self._registry.health()
        return any(not health.is_unhealthy(origin) for origin in self.rank(replicas))

    def notice(self, event: Event) -> None:
        """For `EventBus.listen`: reports an origin that becomes unhealthy, or stops being so."""
        match event:
            case HealthChanged(origin, before, after, _) if HealthStatus.UNHEALTHY in (before, after):
                self._spawn(self._report(origin), "the report of an unhealthy origin")

    async def report(self, origins: Collection[OriginId]) -> None:
        """Reports which of these are unhealthy; returns when the tree shows it, or after 5 s."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REPORT_SECS):
                await asyncio.gather(*map(self._report, origins))

    async def _report(self, origin: OriginId) -> None:
        """Reads the health when it runs, so that the last of two reports on one origin is right."""
        with contextlib.suppress(MusicFSError):
            await self._library.set_reachable(origin, not self._registry.health().is_unhealthy(origin))
