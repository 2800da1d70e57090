"""What can still be played while origins are away.

A count reads the whole catalogue, so it runs in a thread, its result is kept, and a caller waits for it only 0.1 s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from musicfs.catalog import queries
from musicfs.catalog.queries import Unreached
from musicfs.catalog.view import TreeView
from musicfs.model import Fingerprint, OriginId
from musicfs.system.tasks import Tasks

log = logging.getLogger(__name__)

_MOMENT_SECS = 0.1

Key = tuple[Sequence[OriginId], Sequence[OriginId], Hashable]


@dataclass(frozen=True, slots=True)
class Availability:
    """Where else the music of unhealthy origins is.

    Args:
        also_at: For each origin that is away, how many of its files an origin that answers also has.
        unreached: The tracks that no origin that answers has.
    """

    also_at: Mapping[OriginId, int]
    unreached: Unreached


ALL_AVAILABLE = Availability({}, Unreached(0, 0))

Count = Callable[[Path, Sequence[OriginId], Sequence[OriginId], Collection[Fingerprint]], Availability]


def count(
    catalog: Path, away: Sequence[OriginId], answering: Sequence[OriginId], whole: Collection[Fingerprint]
) -> Availability:
    """Counts in the catalogue. Blocks.

    Args:
        catalog: The path of its database.
        away: The origins that do not answer.
        answering: The origins that answer.
        whole: The contents that the cache has as a whole.
    """
    with closing(TreeView.open(catalog, 1)) as view:
        also_at = {id: view.also_at(id, answering) for id in away}
    return Availability(also_at, queries.count(catalog, answering, whole))


class AvailabilityCounter:
    """Counts again when other origins are away or the library has changed. Belongs to the event loop's thread.

    Args:
        catalog: The path of the catalogue's database.
        whole: Returns the contents that the cache has as a whole.
        count: The function that counts.
    """

    def __init__(
        self, catalog: Path, whole: Callable[[], Awaitable[Collection[Fingerprint]]], count: Count = count
    ) -> None:
        self._catalog = catalog
        self._whole = whole
        self._count = count
        self._known: tuple[Key, Availability] | None = None
        self._counting: tuple[Key, asyncio.Task[Availability]] | None = None
        self._tasks = Tasks(log)

    def close(self) -> None:
        """Abandons a count under way."""
        self._tasks.cancel()

    async def of(
        self, away: Sequence[OriginId], answering: Sequence[OriginId], version: Hashable
    ) -> Availability | None:
        """The latest count; None while the first one for these origins runs.

        Args:
            away: The origins that do not answer.
            answering: The origins that answer.
            version: Changes with the catalogue and the cache; then a count is out of date.
        """
        if not away:
            return ALL_AVAILABLE
        key = (away, answering, version)
        if self._known is not None and self._known[0] == key:
            return self._known[1]
        if self._counting is None or self._counting[1].done():
            self._counting = key, self._tasks.spawn(self._count_now(away, answering), "the count of reachable music")
        of, counting = self._counting
        await asyncio.wait({counting}, timeout=_MOMENT_SECS)
        if counting.done() and not counting.cancelled() and counting.exception() is None:
            self._known = of, counting.result()
        if self._known is None or self._known[0][:2] != key[:2]:
            return None
        return self._known[1]

    async def _count_now(self, away: Sequence[OriginId], answering: Sequence[OriginId]) -> Availability:
        whole = await self._whole()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self._count, self._catalog, away, answering, whole)
