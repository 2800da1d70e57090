"""/redundancy: in how many places the music lives, which copies differ, and what the loss of a place would cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Hashable
from dataclasses import asdict

from aiohttp import web

from musicfs.app.app import App
from musicfs.catalog.redundancy import count
from musicfs.control.responses import known_origin, number_of
from musicfs.system.lru import Lru

_USUAL_ALBUMS = 200
_MAX_ALBUMS = 100_000
_KEPT = 4  # answers


class RedundancyRoutes:
    """Counts in a thread, once for however many ask the same, and anew when the library has changed."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._counted: Lru[Hashable, tuple[object, asyncio.Future[str]]] = Lru(_KEPT)

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/redundancy", self._redundancy)]

    async def _redundancy(self, request: web.Request) -> web.Response:
        most = number_of(request, "most", _USUAL_ALBUMS, _MAX_ALBUMS)
        origin = known_origin(self._app, request.query["origin"]) if "origin" in request.query else None
        text = await asyncio.shield(self._count(most, origin))
        return web.Response(text=text, content_type="application/json")

    def _count(self, most: int, origin: str | None) -> asyncio.Future[str]:
        app, asked = self._app, (most, origin)
        aside = tuple(app.registry.quarantined.held.values())
        known = app.tree.totals(), app.tree.origins(), aside
        if asked in self._counted:
            key, counting = self._counted[asked]
            if not counting.done() or (key == known and not counting.cancelled() and counting.exception() is None):
                return counting

        def counted() -> str:
            return json.dumps(asdict(count(app.catalog_path, aside, origin=origin, most=most)))

        counting = asyncio.get_running_loop().run_in_executor(None, counted)
        self._counted.put(asked, (known, counting))
        return counting
