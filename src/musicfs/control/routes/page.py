"""/ and /page/...: the status page. It is files alone, which hold no secrets: what it shows it asks the API for."""

from __future__ import annotations

from importlib import resources

from aiohttp import web

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
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


def is_page(path: str) -> bool:
    """Whether the path is of the page's files, which anybody may have who may ask at all."""
    return path == "/" or path.startswith("/page/")


def _answer(name: str) -> web.Response:
    file = {each.name: each for each in resources.files("musicfs.control").joinpath("page").iterdir()}.get(name)
    kind = _TYPES.get(name[name.rfind(".") :])
    if file is None or kind is None:
        raise web.HTTPNotFound
    return web.Response(body=file.read_bytes(), content_type=kind, charset="utf-8", headers=_HEADERS)
