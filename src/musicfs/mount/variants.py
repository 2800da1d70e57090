"""Checks at the open of a file whether it can be read, if another variant of its track could replace it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

from musicfs.catalog.view import TreeView
from musicfs.content.open_content import OpenContent
from musicfs.federation.registry import OriginRegistry
from musicfs.model import HealthStatus, OriginId, Replica

_FRESH_SECS = 0.1
"""How long an origin that answered counts as available: a program that opens many files causes ten probes a second."""
_PATIENCE_SECS = 2.5


class Variants:
    """Makes sure that a track with several contents opens with one that can be read. It belongs to the event loop.

    Args:
        is_cached: Whether the cache on disk has all of a content.
        report_origins: Makes the tree choose variants by which of these origins are unhealthy, and returns once it has.
    """

    def __init__(
        self,
        tree: TreeView,
        registry: OriginRegistry,
        is_cached: Callable[[OpenContent], bool],
        report_origins: Callable[[Collection[OriginId]], Awaitable[None]],
    ) -> None:
        self._tree = tree
        self._registry = registry
        self._is_cached = is_cached
        self._report_origins = report_origins

    def is_certain(self, ino: int, opened: OpenContent) -> bool:
        """Whether no check is needed: its best origin has just answered, or it has no variants."""
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
        """Checks whether it can be read, in some seconds at most.

        Returns:
            False if it can't be read, and the tree now shows another variant, which may be readable.
        """
        # The kernel does not say by which of its names it was opened.
        places = self._tree.places(ino)
        if await self._can_be_read(opened):
            return True
        await self._report_origins({replica.origin for replica in opened.replicas})
        shown = {row[1] for place in places if (row := self._tree.lookup(*place)) is not None}
        others = shown - {None, opened.content.id}
        return all(content is None or self._best(self._tree.replicas(content)) is None for content in others)

    async def _can_be_read(self, opened: OpenContent) -> bool:
        """Asks all its origins until one answers. If none answers, and not all refuse, it counts as readable: the reads
        will show."""
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
        """Asks until the origin answers or counts as unhealthy."""
        while not self._registry.health().is_unhealthy(origin):
            state = await self._registry.monitor.check_now(origin)
            if not state.consecutive_failures:
                return True
        return False

    def _best(self, replicas: Sequence[Replica]) -> OriginId | None:
        """Returns the origin that would serve them, unless it is known to be away."""
        best = self._registry.route(replicas)
        return None if best is None or best.status is HealthStatus.UNHEALTHY else best.origin.id
