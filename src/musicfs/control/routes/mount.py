"""/status, /reload and /shutdown: the mount as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

from aiohttp import web
from pydantic import Field

from musicfs.app.app import DRAIN_SECS, App
from musicfs.control import views
from musicfs.control.responses import Body, body_of


class _Shutdown(Body):
    drain_secs: Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)] = DRAIN_SECS


class MountRoutes:
    """stop: has the mount end, once the reads under way are over or so many seconds have passed; called when an answer
    is on its way. A second call means: at once. listening: the address over TCP."""

    def __init__(
        self, app: App, counter: views.Counter, stop: Callable[[float], None], listening: Callable[[], str | None]
    ) -> None:
        self._app = app
        self._counter = counter
        self._stop = stop
        self._listening = listening

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/status", self._status),
            web.post("/reload", self._reload),
            web.post("/shutdown", self._shutdown),
        ]

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(views.status(self._app, await self._counter.now(), self._listening()))

    async def _reload(self, request: web.Request) -> web.Response:
        return web.json_response({"done": await self._app.reconfiguring.reload()})

    async def _shutdown(self, request: web.Request) -> web.Response:
        body = await body_of(request, _Shutdown)
        asyncio.get_running_loop().call_soon(self._stop, body.drain_secs)
        return web.json_response({"stopping": True})
