"""Whether a file that is opened can be read, where another variant of its track could be read instead."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

from musicfs.catalog.view import TreeView
from musicfs.content.open_content import OpenContent
from musicfs.federation.registry import OriginRegistry
from musicfs.model import HealthStatus, OriginId, Replica

_FRESH_SECS = 0.1
"""For so long an origin that answered is taken to be there: who opens many files has it asked ten times a second."""
_PATIENCE_SECS = 2.5


class Variants:
    """Sees to it that a track with several contents is opened with one that can be had. Belongs to the event loop.

    is_cached: whether all of a content is in the cache on disk. tell: has the tree show variants by which of these
    origins are unhealthy, and returns once it does.
    """

    def __init__(
        self,
        tree: TreeView,
        registry: OriginRegistry,
        is_cached: Callable[[OpenContent], bool],
        tell: Callable[[Collection[OriginId]], Awaitable[None]],
    ) -> None:
        self._tree = tree
        self._registry = registry
        self._is_cached = is_cached
        self._tell = tell

    def is_certain(self, ino: int, opened: OpenContent) -> bool:
        """Whether there is nothing to find out: its best origin has just answered, or it has no variants."""
        if not self._tree.has_variants:
            return True
        best = self._registry.route(opened.replicas)
        if best is not None:
            state = self._registry.monitor.state(best.origin.id)
            now = asyncio.get_running_loop().time()
            recent = state.last_check is not None and now - state.last_check < _FRESH_SECS
            if recent and state.status is HealthStatus.HEALTHY:
                return True
        return len(self._tree.variants(ino)) < 2

    async def find_out(self, ino: int, opened: OpenContent) -> bool:
        """False: it can't be read, and the tree shows another variant, which may be. Takes seconds at most."""
        if await self._can_be_read(opened):
            return True
        await self._tell({replica.origin for replica in opened.replicas})
        shown = next(iter(self._tree.variants(ino)), opened.content.id)
        return shown == opened.content.id or self._best(self._tree.replicas(shown)) is None

    async def _can_be_read(self, opened: OpenContent) -> bool:
        """By asking all its origins until one answers. Where none does, and not all refuse, it has the benefit of the
        doubt: the reads will tell."""
        usable = [
            each for each in self._registry.route_all(opened.replicas) if each.status is not HealthStatus.UNHEALTHY
        ]
        asked = [asyncio.create_task(self._answers(id)) for id in {each.origin.id for each in usable}]
        try:
            for answer in asyncio.as_completed(asked, timeout=_PATIENCE_SECS):
                if await answer:
                    return True
        except TimeoutError:
            return True
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        return self._is_cached(opened)

    async def _answers(self, origin: OriginId) -> bool:
        """Asks as often as it takes to know."""
        while not self._registry.health().is_unhealthy(origin):
            state = await self._registry.monitor.check_now(origin)
            if not state.consecutive_failures:
                return True
        return False

    def _best(self, replicas: Sequence[Replica]) -> OriginId | None:
        """The origin that would be asked for them, if it is not known to be away."""
        best = self._registry.route(replicas)
        return None if best is None or best.status is HealthStatus.UNHEALTHY else best.origin.id
