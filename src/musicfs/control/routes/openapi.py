"""/openapi.json: the control API as OpenAPI describes it."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

from aiohttp import web

import musicfs


@functools.cache
def description() -> dict[str, Any]:
    """The file openapi.yaml, with the version of this program."""
    import yaml

    loaded: dict[str, Any] = yaml.safe_load(resources.files("musicfs.control").joinpath("openapi.yaml").read_bytes())
    loaded["info"]["version"] = musicfs.__version__
    return loaded


class DescriptionRoutes:
    def routes(self) -> list[web.RouteDef]:
        return [web.get("/openapi.json", self._openapi)]

    async def _openapi(self, request: web.Request) -> web.Response:
        return web.json_response(description())
