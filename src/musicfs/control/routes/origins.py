"""/origins: the places that music comes from."""

from __future__ import annotations

from dataclasses import asdict

from aiohttp import web

from musicfs.app.app import App
from musicfs.control import views
from musicfs.control.auth import caller_of
from musicfs.control.latency_history import Latencies
from musicfs.control.responses import Body, body_of, json_body, known_origin


class _Priority(Body):
    priority: int


class OriginRoutes:
    def __init__(self, app: App, counter: views.Counter, latencies: Latencies) -> None:
        self._app = app
        self._counter = counter
        self._latencies = latencies

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/origins", self._list),
            web.post("/origins", self._add),
            web.delete("/origins/{id}", self._remove),
            web.post("/origins/{id}/enable", self._enable),
            web.post("/origins/{id}/disable", self._disable),
            web.post("/origins/{id}/priority", self._set_priority),
            web.get("/origins/{id}/history", self._history),
            web.post("/origins/{id}/check", self._check),
            web.post("/origins/{id}/accept-removals", self._accept_removals),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"origins": views.origins(self._app, await self._counter.now())})

    async def _add(self, request: web.Request) -> web.Response:
        """The body is the origin as the configuration file would have it."""
        table = await json_body(request)
        return _done(await self._app.reconfiguring.add(table, local=caller_of(request).local))

    async def _remove(self, request: web.Request) -> web.Response:
        return _done(await self._app.reconfiguring.remove(request.match_info["id"]))

    async def _enable(self, request: web.Request) -> web.Response:
        return _done(await self._app.reconfiguring.enable(request.match_info["id"], True))

    async def _disable(self, request: web.Request) -> web.Response:
        return _done(await self._app.reconfiguring.enable(request.match_info["id"], False))

    async def _set_priority(self, request: web.Request) -> web.Response:
        priority = (await body_of(request, _Priority)).priority
        return _done(await self._app.reconfiguring.set_priority(request.match_info["id"], priority))

    async def _history(self, request: web.Request) -> web.Response:
        id = known_origin(self._app, request.match_info["id"])
        return web.json_response({"samples": [asdict(sample) for sample in self._latencies.of(id)]})

    async def _check(self, request: web.Request) -> web.Response:
        id = known_origin(self._app, request.match_info["id"])
        return web.json_response(views.health(id, await self._app.monitor.check_now(id)))

    async def _accept_removals(self, request: web.Request) -> web.Response:
        id = known_origin(self._app, request.match_info["id"])
        row = next((row for row in self._app.tree.origins() if row.id == id), None)
        number = await self._app.accept_removals(id)
        return web.json_response({"origin": id, "removals_held": row.held if row else 0, "scan": number})


def _done(sentences: list[str]) -> web.Response:
    return web.json_response({"done": sentences})
