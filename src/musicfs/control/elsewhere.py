"""How much of an origin that is away can be read elsewhere. Counting that reads all that is known of the origin, so
it is done in a thread, kept, and never waited for longer than a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from musicfs.library.treeview import OriginRow, TreeView
from musicfs.model import OriginId

_MOMENT_SECS = 0.1

Key = tuple[Sequence[OriginId], Sequence[OriginId], Sequence[OriginRow]]


def count(catalog: Path, away: Sequence[OriginId], answering: Sequence[OriginId]) -> Mapping[OriginId, int]:
    """Of each origin that is away, how many of its files are also at one that answers. Blocks."""
    with closing(TreeView(catalog, 1)) as view:
        return {id: view.also_at(id, answering) for id in away}


class Elsewhere:
    """Counts anew when other origins are away, or something else is known of them. Belongs to the event loop."""

    def __init__(
        self, catalog: Path, count: Callable[[Path, Sequence[OriginId], Sequence[OriginId]], Mapping[OriginId, int]]
    ) -> None:
        self._catalog = catalog
        self._count = count
        self._known: tuple[Key, Mapping[OriginId, int]] | None = None
        self._counting: tuple[Key, asyncio.Future[Mapping[OriginId, int]]] | None = None

    async def of(
        self, away: Sequence[OriginId], answering: Sequence[OriginId], rows: Sequence[OriginRow]
    ) -> Mapping[OriginId, int]:
        """What is known by now; an origin that is missing from it is being counted still.

        rows: what the catalogue says of the origins: when that changes, a count is out of date.
        """
        key = (away, answering, rows)
        if not away:
            return {}
        if self._known is not None and self._known[0] == key:
            return self._known[1]
        if self._counting is None or self._counting[1].done():
            loop = asyncio.get_running_loop()
            self._counting = key, loop.run_in_executor(None, self._count, self._catalog, away, answering)
        of, counting = self._counting
        await asyncio.wait({counting}, timeout=_MOMENT_SECS)
        if counting.done() and not counting.cancelled() and counting.exception() is None:
            self._known = of, counting.result()
        if self._known is None or self._known[0][:2] != key[:2]:
            return {}
        return self._known[1]
