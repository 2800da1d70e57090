"""/origins: the places that music comes from, and changes of them."""

from __future__ import annotations

from dataclasses import asdict

from aiohttp import web

from musicfs.app.live_config import LiveConfig
from musicfs.control.auth import caller_of
from musicfs.control.latency_history import LatencyHistory
from musicfs.control.responses import Body, KnownOrigins, body_of, json_body
from musicfs.control.views import LibraryCounter, OriginViews, health
from musicfs.federation.health import HealthMonitor


class _Priority(Body):
    priority: int


class OriginRoutes:
    """The state of each origin."""

    def __init__(
        self,
        known: KnownOrigins,
        views: OriginViews,
        counter: LibraryCounter,
        latencies: LatencyHistory,
        monitor: HealthMonitor,
    ) -> None:
        self._known = known
        self._views = views
        self._counter = counter
        self._latencies = latencies
        self._monitor = monitor

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/origins", self._list),
            web.get("/origins/{id}/history", self._history),
            web.post("/origins/{id}/check", self._check),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"origins": self._views.all(await self._counter.now())})

    async def _history(self, request: web.Request) -> web.Response:
        id = self._known.find(request.match_info["id"])
        return web.json_response({"samples": [asdict(sample) for sample in self._latencies.of(id)]})

    async def _check(self, request: web.Request) -> web.Response:
        id = self._known.find(request.match_info["id"])
        return web.json_response(health(id, await self._monitor.check_now(id)))


class OriginChangeRoutes:
    """Changes of the configured origins."""

    def __init__(self, live_config: LiveConfig) -> None:
        self._live_config = live_config

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/origins", self._add),
            web.delete("/origins/{id}", self._remove),
            web.post("/origins/{id}/enable", self._enable),
            web.post("/origins/{id}/disable", self._disable),
            web.post("/origins/{id}/priority", self._set_priority),
        ]

    async def _add(self, request: web.Request) -> web.Response:
        """The body has the keys of an origin in the configuration file."""
        table = await json_body(request)
        return _done(await self._live_config.add(table, local=caller_of(request).local))

    async def _remove(self, request: web.Request) -> web.Response:
        return _done(await self._live_config.remove(request.match_info["id"]))

    async def _enable(self, request: web.Request) -> web.Response:
        return _done(await self._live_config.enable(request.match_info["id"], True))

    async def _disable(self, request: web.Request) -> web.Response:
        return _done(await self._live_config.enable(request.match_info["id"], False))

    async def _set_priority(self, request: web.Request) -> web.Response:
        priority = (await body_of(request, _Priority)).priority
        return _done(await self._live_config.set_priority(request.match_info["id"], priority))


def _done(sentences: list[str]) -> web.Response:
    return web.json_response({"done": sentences})
