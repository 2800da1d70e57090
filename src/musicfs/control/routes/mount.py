"""/status, /reload and /shutdown: the mount as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

from aiohttp import web
from pydantic import Field

from musicfs.app.components import DRAIN_SECS
from musicfs.app.live_config import LiveConfig
from musicfs.control.responses import Body, body_of
from musicfs.control.views import StatusView


class _Shutdown(Body):
    drain_secs: Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)] = DRAIN_SECS


class MountRoutes:
    """Status, reload and end of the mount.

    Args:
        stop: Ends the mount, after its reads under way or the given seconds. A second call ends it at once. It is
            called after the response is sent.
        listening: Returns the address over TCP; None: there is none.
    """

    def __init__(
        self,
        status: StatusView,
        live_config: LiveConfig,
        stop: Callable[[float], None],
        listening: Callable[[], str | None],
    ) -> None:
        self._view = status
        self._live_config = live_config
        self._stop = stop
        self._listening = listening

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/status", self._status),
            web.post("/reload", self._reload),
            web.post("/shutdown", self._shutdown),
        ]

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(await self._view.now(self._listening()))

    async def _reload(self, request: web.Request) -> web.Response:
        return web.json_response({"done": await self._live_config.reload()})

    async def _shutdown(self, request: web.Request) -> web.Response:
        body = await body_of(request, _Shutdown)
        asyncio.get_running_loop().call_soon(self._stop, body.drain_secs)
        return web.json_response({"stopping": True})
