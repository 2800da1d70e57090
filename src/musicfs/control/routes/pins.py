"""/pins: the music that stays on this machine's disk."""

from __future__ import annotations

from dataclasses import asdict

from aiohttp import web

from musicfs.control.responses import Body, RequestRefused, body_of
from musicfs.errors import UserError
from musicfs.maintenance.pins import Pins


class _Paths(Body):
    paths: list[str]


class PinRoutes:
    def __init__(self, pins: Pins | None) -> None:
        self._pins = pins

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/pins", self._list),
            web.post("/pins", self._add),
            web.post("/pins/remove", self._remove),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        return await self._answer()

    async def _add(self, request: web.Request) -> web.Response:
        paths = (await body_of(request, _Paths)).paths
        try:
            await self._existing().add([path.strip("/") for path in paths])
        except UserError as error:
            raise RequestRefused(409, str(error)) from None
        return await self._answer()

    async def _remove(self, request: web.Request) -> web.Response:
        paths = (await body_of(request, _Paths)).paths
        try:
            await self._existing().remove([path.strip("/") for path in paths])
        except UserError as error:
            raise RequestRefused(409, str(error)) from None
        return await self._answer()

    async def _answer(self) -> web.Response:
        try:
            views = await self._existing().views()
        except UserError as error:
            raise RequestRefused(409, str(error)) from None
        return web.json_response({"pins": [asdict(view) for view in views]})

    def _existing(self) -> Pins:
        if self._pins is None:
            raise RequestRefused(409, "Nothing can be pinned, since content_cache_gb is 0; set it to have a cache.")
        return self._pins
