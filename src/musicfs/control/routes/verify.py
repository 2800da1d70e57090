"""/verify: the scrub, which reads all copies in the background and compares them."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice

from aiohttp import web
from pydantic import Field

from musicfs.control.responses import Body, RequestRefused, body_of
from musicfs.control.views import Json
from musicfs.errors import UserError
from musicfs.maintenance.scrub import Scrub
from musicfs.maintenance.scrub_store import ScrubRun

_MAX_FINDS = 1000
_SLOWEST, _FASTEST = 10_000, 10**12  # bytes per second
_NEVER = ScrubRun(0, "", 0, False, "never", b"", 0, 0, 0, 0, 0.0, None)


class _ScrubBody(Body):
    path: str = ""
    rate: int | None = Field(None, ge=_SLOWEST, le=_FASTEST)
    metered: bool = False
    anew: bool = False


class VerifyRoutes:
    def __init__(self, scrub: Scrub) -> None:
        self._scrub = scrub

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/verify", self._progress),
            web.post("/verify", self._start),
            web.post("/verify/stop", self._stop),
        ]

    async def _progress(self, request: web.Request) -> web.Response:
        return web.json_response(self._view())

    async def _start(self, request: web.Request) -> web.Response:
        """Starts a scrub, or continues a stopped one. It has ended when `state` of GET /verify is not "running"."""
        wanted = await body_of(request, _ScrubBody)
        path = "/".join(filter(None, wanted.path.split("/")))
        try:
            await self._scrub.ask(path, wanted.rate, metered=wanted.metered, anew=wanted.anew)
        except UserError as error:
            raise RequestRefused(409, str(error)) from None
        return web.json_response(self._view())

    async def _stop(self, request: web.Request) -> web.Response:
        await self._scrub.stop()
        return web.json_response(self._view())

    def _view(self) -> Json:
        view = asdict(self._scrub.run or _NEVER)
        del view["position"]
        return view | {
            "begun_at": view["begun_at"] or None,
            "found": len(self._scrub.finds),
            "finds": [asdict(find) for find in islice(self._scrub.finds.values(), _MAX_FINDS)],
            "unchecked": [asdict(each) for each in self._scrub.unchecked.values()],
        }
