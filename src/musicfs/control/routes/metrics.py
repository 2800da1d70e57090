"""/metrics: the metrics for Prometheus."""

from __future__ import annotations

from aiohttp import web

from musicfs.control.metrics import Metrics


class MetricsRoutes:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/metrics", self._text)]

    async def _text(self, request: web.Request) -> web.Response:
        text, content_type = await self._metrics.text()
        return web.Response(body=text, headers={"Content-Type": content_type})
