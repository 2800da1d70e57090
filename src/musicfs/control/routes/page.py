"""/ and /page/...: the files of the status page. They contain no secrets: the page gets its data from the API."""

from __future__ import annotations

import re
from importlib import resources

from aiohttp import web

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_PAGE = re.compile(r"/(?:page/[A-Za-z0-9_-]+\.[a-z]+)?(?:\?[^\s#]*)?")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PageRoutes:
    def routes(self) -> list[web.RouteDef]:
        return [web.get("/", self._index), web.get("/page/{name}", self._file)]

    async def _index(self, request: web.Request) -> web.Response:
        return _answer("index.html")

    async def _file(self, request: web.Request) -> web.Response:
        return _answer(request.match_info["name"])


def is_page(raw_path: str) -> bool:
    """Whether a path names one of the page's files, which need no token.

    raw_path: the path as the client sent it. In this form it contains nothing that we or the router resolve.
    """
    return _PAGE.fullmatch(raw_path) is not None


def _answer(name: str) -> web.Response:
    file = {each.name: each for each in resources.files("musicfs.control").joinpath("page").iterdir()}.get(name)
    kind = _TYPES.get(name[name.rfind(".") :])
    if file is None or kind is None:
        raise web.HTTPNotFound
    return web.Response(body=file.read_bytes(), content_type=kind, charset="utf-8", headers=HEADERS)
