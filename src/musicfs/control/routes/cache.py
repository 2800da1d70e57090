"""/cache: the block cache on this machine's disk."""

from __future__ import annotations

from dataclasses import asdict

from aiohttp import web

from musicfs.cache.store import BlockStore
from musicfs.control.responses import Body, RequestRefused, body_of
from musicfs.maintenance.cache_check import CacheCheck
from musicfs.maintenance.pins import Pins


class _Clear(Body):
    all: bool = False


class CacheRoutes:
    def __init__(self, store: BlockStore | None, check: CacheCheck | None, pins: Pins | None) -> None:
        self._store = store
        self._check = check
        self._pins = pins

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/cache", self._stats),
            web.post("/cache/clear", self._clear),
            web.get("/cache/verify", self._progress),
            web.post("/cache/verify", self._verify),
        ]

    async def _stats(self, request: web.Request) -> web.Response:
        store = self._existing_store()
        return web.json_response(asdict(await store.stats()) | {"problem": store.problem})

    async def _clear(self, request: web.Request) -> web.Response:
        """Removes what is cached; with {"all": true} also pinned music, which stays pinned."""
        store = self._existing_store()
        before = await store.stats()
        await store.clear(pinned=(await body_of(request, _Clear)).all)
        if self._pins is not None:
            self._pins.wake()  # it fetches pinned music again
        after = await store.stats()
        return web.json_response({"removed_bytes": before.bytes - after.bytes, "bytes": after.bytes})

    async def _progress(self, request: web.Request) -> web.Response:
        return web.json_response(asdict(self._existing_check().progress))

    async def _verify(self, request: web.Request) -> web.Response:
        """Starts a cache check; returns the number that `completed` of GET /cache/verify reaches when it ends."""
        return web.json_response({"completed": self._existing_check().ask()})

    def _existing_store(self) -> BlockStore:
        if self._store is None:
            raise RequestRefused(409, "Nothing is cached on disk, since content_cache_gb is 0; set it to have a cache.")
        return self._store

    def _existing_check(self) -> CacheCheck:
        self._existing_store()
        assert self._check is not None
        return self._check
