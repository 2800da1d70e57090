"""/cache: what of the music is kept on this machine's disk."""

from __future__ import annotations

from dataclasses import asdict

from aiohttp import web

from musicfs.app.app import App
from musicfs.cache.store import BlockStore
from musicfs.control.responses import Body, RequestRefused, body_of
from musicfs.maintenance.cache_check import CacheCheck


class _Clear(Body):
    all: bool = False


class CacheRoutes:
    def __init__(self, app: App) -> None:
        self._app = app

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/cache", self._stats),
            web.post("/cache/clear", self._clear),
            web.get("/cache/verify", self._progress),
            web.post("/cache/verify", self._verify),
        ]

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response(asdict(await self._store().stats()))

    async def _clear(self, request: web.Request) -> web.Response:
        """Removes what is cached; with {"all": true} of pinned music too, which stays pinned."""
        store = self._store()
        before = await store.stats()
        await store.clear(pinned=(await body_of(request, _Clear)).all)
        if self._app.pins is not None:
            self._app.pins.wake()  # what is pinned is fetched again
        after = await store.stats()
        return web.json_response({"removed_bytes": before.bytes - after.bytes, "bytes": after.bytes})

    async def _progress(self, request: web.Request) -> web.Response:
        return web.json_response(asdict(self._verification().progress))

    async def _verify(self, request: web.Request) -> web.Response:
        """Begins to read all of it; answers with the number that `completed` of GET /cache/verify reaches by it."""
        return web.json_response({"completed": self._verification().ask()})

    def _store(self) -> BlockStore:
        if self._app.store is None:
            raise RequestRefused(409, "Nothing is cached on disk, since content_cache_gb is 0; set it to have a cache.")
        return self._app.store

    def _verification(self) -> CacheCheck:
        self._store()
        assert self._app.verification is not None
        return self._app.verification
