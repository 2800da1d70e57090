"""/scan and /why: looking for changes, and why a file plays from where it does."""

from __future__ import annotations

from aiohttp import web

from musicfs.app.app import App
from musicfs.control import views
from musicfs.control.responses import Body, RequestRefused, body_of, known_origin
from musicfs.control.why import why
from musicfs.errors import UserError


class _ScanBody(Body):
    origin: str | None = None


class LibraryRoutes:
    def __init__(self, app: App) -> None:
        self._app = app

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/scan", self._scans),
            web.post("/scan", self._scan),
            web.get("/why", self._why),
        ]

    async def _scans(self, request: web.Request) -> web.Response:
        return web.json_response({"scans": views.scans(self._app)})

    async def _scan(self, request: web.Request) -> web.Response:
        """Has one origin scanned, or all; answers with the number that `completed` of GET /scan reaches by it."""
        wanted = (await body_of(request, _ScanBody)).origin
        app = self._app
        ids = [origin.id for origin in app.registry.list()] if wanted is None else [known_origin(app, wanted)]
        return web.json_response({"scans": [{"origin": id, "completed": app.rescan(id)} for id in ids]})

    async def _why(self, request: web.Request) -> web.Response:
        if "path" not in request.query:
            raise RequestRefused(400, f"{request.path} needs the path of a file: /why?path=Artist/Album/Track.flac")
        try:
            return web.json_response(why(self._app, request.query["path"]))
        except UserError as error:
            raise RequestRefused(404, str(error)) from None
