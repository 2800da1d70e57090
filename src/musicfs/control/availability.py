"""What is left to play while origins are away. Counting that reads all that is known of the library, so it is done in a
thread, kept, and never waited for longer than a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from musicfs.catalog import queries
from musicfs.catalog.queries import Unreached
from musicfs.catalog.view import TreeView
from musicfs.model import Fingerprint, OriginId

_MOMENT_SECS = 0.1

Key = tuple[Sequence[OriginId], Sequence[OriginId], Hashable]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """also_at: of each origin that is away, how many of its files are also at one that answers."""

    also_at: Mapping[OriginId, int]
    unreached: Unreached


NOTHING_AWAY = Elsewhere({}, Unreached(0, 0))

Count = Callable[[Path, Sequence[OriginId], Sequence[OriginId], Collection[Fingerprint]], Elsewhere]


def count(
    catalog: Path, away: Sequence[OriginId], answering: Sequence[OriginId], whole: Collection[Fingerprint]
) -> Elsewhere:
    """whole: the contents that are cached whole. Blocks."""
    with closing(TreeView.open(catalog, 1)) as view:
        also_at = {id: view.also_at(id, answering) for id in away}
    return Elsewhere(also_at, queries.count(catalog, answering, whole))


class ElsewhereCounter:
    """Counts anew when other origins are away, or something else is known. Belongs to the event loop.

    whole: the contents that are cached whole.
    """

    def __init__(
        self, catalog: Path, whole: Callable[[], Awaitable[Collection[Fingerprint]]], count: Count = count
    ) -> None:
        self._catalog = catalog
        self._whole = whole
        self._count = count
        self._known: tuple[Key, Elsewhere] | None = None
        self._counting: tuple[Key, asyncio.Task[Elsewhere]] | None = None

    async def of(self, away: Sequence[OriginId], answering: Sequence[OriginId], version: Hashable) -> Elsewhere | None:
        """What is known by now; None: it is being counted still.

        version: of the catalogue and the cache: when that changes, a count is out of date.
        """
        if not away:
            return NOTHING_AWAY
        key = (away, answering, version)
        if self._known is not None and self._known[0] == key:
            return self._known[1]
        if self._counting is None or self._counting[1].done():
            self._counting = key, asyncio.create_task(self._count_now(away, answering))
        of, counting = self._counting
        await asyncio.wait({counting}, timeout=_MOMENT_SECS)
        if counting.done() and not counting.cancelled() and counting.exception() is None:
            self._known = of, counting.result()
        if self._known is None or self._known[0][:2] != key[:2]:
            return None
        return self._known[1]

    async def _count_now(self, away: Sequence[OriginId], answering: Sequence[OriginId]) -> Elsewhere:
        whole = await self._whole()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self._count, self._catalog, away, answering, whole)
