"""/open: the open files, and the origin that each is read from."""

from __future__ import annotations

from aiohttp import web

from musicfs.cache.store import BlockStore
from musicfs.content.open_content import OpenContent
from musicfs.control.views import Json
from musicfs.federation.registry import OriginRegistry
from musicfs.model import HealthStatus
from musicfs.mount.filesystem import Filesystem

_MAX = 50


class OpenFileRoutes:
    def __init__(self, filesystem: Filesystem, registry: OriginRegistry, store: BlockStore | None) -> None:
        self._filesystem = filesystem
        self._registry = registry
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/open", self._open)]

    async def _open(self, request: web.Request) -> web.Response:
        files = [self._file(path, opened) for path, opened in self._filesystem.opened(_MAX)]
        return web.json_response({"files": files})

    def _file(self, path: str, opened: OpenContent) -> Json:
        """Describes an open file. origin: the one to ask first; null when no origin that has the file answers."""
        ranked = [candidate.replica.origin for candidate in self._registry.route_all(opened.replicas)]
        answering = [id for id in ranked if self._registry.monitor.state(id).status is not HealthStatus.UNHEALTHY]
        return {
            "path": path,
            "size": opened.content.size,
            "origin": answering[0] if answering else None,
            "cached": round(self._store.share(opened.content), 3) if self._store is not None else 0.0,
        }
