"""/redundancy: how many origins have each album, which copies differ, and what the loss of an origin would cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Hashable
from dataclasses import asdict
from pathlib import Path

from aiohttp import web

from musicfs.catalog.redundancy import count
from musicfs.catalog.view import TreeView
from musicfs.control.responses import KnownOrigins, number_of
from musicfs.federation.places import Places
from musicfs.federation.registry import OriginRegistry
from musicfs.system.lru import Lru

_USUAL_ALBUMS = 200
_MAX_ALBUMS = 100_000
_KEPT = 4  # answers


class RedundancyRoutes:
    """Counts in a thread, once for all equal requests, and again after the library has changed."""

    def __init__(
        self, catalog: Path, tree: TreeView, registry: OriginRegistry, places: Places, known: KnownOrigins
    ) -> None:
        self._catalog = catalog
        self._tree = tree
        self._registry = registry
        self._places = places
        self._known = known
        self._counted: Lru[Hashable, tuple[object, asyncio.Future[str]]] = Lru(_KEPT)

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/redundancy", self._redundancy)]

    async def _redundancy(self, request: web.Request) -> web.Response:
        most = number_of(request, "most", _USUAL_ALBUMS, _MAX_ALBUMS)
        origin = self._known.find(request.query["origin"]) if "origin" in request.query else None
        text = await asyncio.shield(self._count(most, origin))
        return web.Response(text=text, content_type="application/json")

    def _count(self, most: int, origin: str | None) -> asyncio.Future[str]:
        asked = (most, origin)
        aside = tuple(self._registry.quarantined.held.values())
        rows = self._tree.origins()
        same = self._places.overlapping(row.id for row in rows)
        known = self._tree.totals(), rows, aside, same
        if asked in self._counted:
            key, counting = self._counted[asked]
            if not counting.done() or (key == known and not counting.cancelled() and counting.exception() is None):
                return counting

        def counted() -> str:
            places = {str(id): str(other) for id, other in same.items()}
            return json.dumps(asdict(count(self._catalog, aside, same=places, origin=origin, most=most)))

        counting = asyncio.get_running_loop().run_in_executor(None, counted)
        self._counted.put(asked, (known, counting))
        return counting
