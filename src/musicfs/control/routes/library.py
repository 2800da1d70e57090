"""/scan, /origins/{id}/accept-removals and /why: scans, and the reason why a file plays from where it does."""

from __future__ import annotations

from aiohttp import web

from musicfs.app.membership import Membership
from musicfs.catalog.view import TreeView
from musicfs.control.responses import Body, KnownOrigins, RequestRefused, body_of
from musicfs.control.views import OriginViews
from musicfs.control.why import WhyView
from musicfs.errors import UserError
from musicfs.library.client import Library


class _ScanBody(Body):
    origin: str | None = None


class ScanRoutes:
    """Scans: their progress, and requests for them."""

    def __init__(
        self, known: KnownOrigins, views: OriginViews, membership: Membership, tree: TreeView, library: Library
    ) -> None:
        self._known = known
        self._views = views
        self._membership = membership
        self._tree = tree
        self._library = library

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/scan", self._scans),
            web.post("/scan", self._scan),
            web.post("/origins/{id}/reparse", self._reparse),
            web.post("/origins/{id}/accept-removals", self._accept_removals),
        ]

    async def _scans(self, request: web.Request) -> web.Response:
        return web.json_response({"scans": self._views.scans()})

    async def _scan(self, request: web.Request) -> web.Response:
        """Requests a scan of one origin, or of all; returns the numbers that `completed` of GET /scan reaches."""
        wanted = (await body_of(request, _ScanBody)).origin
        ids = self._known.all() if wanted is None else [self._known.find(wanted)]
        return web.json_response({"scans": [{"origin": id, "completed": self._membership.rescan(id)} for id in ids]})

    async def _reparse(self, request: web.Request) -> web.Response:
        """Reads some files again whose tags an earlier version read; a client repeats it until `done`."""
        done = await self._library.reparse(self._known.find(request.match_info["id"]))
        return web.json_response({"read": done.read, "done": done.is_done})

    async def _accept_removals(self, request: web.Request) -> web.Response:
        id = self._known.find(request.match_info["id"])
        row = next((row for row in self._tree.origins() if row.id == id), None)
        number = await self._membership.accept_removals(id)
        return web.json_response({"origin": id, "removals_held": row.held if row else 0, "scan": number})


class WhyRoutes:
    def __init__(self, view: WhyView) -> None:
        self._view = view

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/why", self._why)]

    async def _why(self, request: web.Request) -> web.Response:
        if "path" not in request.query:
            raise RequestRefused(400, f"{request.path} needs the path of a file: /why?path=Artist/Album/Track.flac")
        try:
            return web.json_response(self._view.of(request.query["path"]))
        except UserError as error:
            raise RequestRefused(404, str(error)) from None
