"""/openapi.json: the description of the control API, in OpenAPI's form."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

from aiohttp import web

import musicfs


@functools.cache
def description() -> dict[str, Any]:
    """The file openapi.json, with the version of this program. `make openapi` makes it from openapi.yaml."""
    loaded: dict[str, Any] = json.loads(resources.files("musicfs.control").joinpath("openapi.json").read_bytes())
    loaded["info"]["version"] = musicfs.__version__
    return loaded


class OpenApiRoutes:
    def routes(self) -> list[web.RouteDef]:
        return [web.get("/openapi.json", self._openapi)]

    async def _openapi(self, request: web.Request) -> web.Response:
        return web.json_response(description())
