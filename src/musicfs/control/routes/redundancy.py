"""/redundancy: in how many places the music lives."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from aiohttp import web

from musicfs.app import App
from musicfs.library.redundancy import Redundancy, count


class RedundancyRoutes:
    """Counts in a thread, once for however many ask, and anew when the library has changed."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._counted: tuple[object, asyncio.Future[Redundancy]] | None = None

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/redundancy", self._redundancy)]

    async def _redundancy(self, request: web.Request) -> web.Response:
        return web.json_response(asdict(await asyncio.shield(self._count())))

    def _count(self) -> asyncio.Future[Redundancy]:
        known = self._app.tree.totals(), self._app.tree.origins()
        if self._counted is not None:
            key, counting = self._counted
            if not counting.done() or (key == known and not counting.cancelled() and counting.exception() is None):
                return counting
        loop = asyncio.get_running_loop()
        self._counted = known, loop.run_in_executor(None, count, self._app.catalog_path)
        return self._counted[1]
