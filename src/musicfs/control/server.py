"""The control API: what a running mount tells and does when another process of the same user asks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from musicfs.app import App
from musicfs.control import views
from musicfs.control.why import why
from musicfs.errors import MusicFSError
from musicfs.model import OriginId

log = logging.getLogger(__name__)

_CLOSING_SECS = 1.0
_LARGEST_BODY = 64 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ControlServer:
    """Answers on a Unix socket that only this user can open. Belongs to the event loop's thread.

    stop: has the mount end; called once an answer is on its way.
    """

    def __init__(self, app: App, socket: Path, stop: Callable[[], None]) -> None:
        self._app = app
        self._path = socket
        self._stop = stop
        self._runner: web.AppRunner | None = None
        self._inode = 0

    async def start(self) -> None:
        """Listens. A socket that can't be made is logged, not raised: the mount plays music without it."""
        try:
            listening = self._listen()
        except OSError as error:
            log.error(  # noqa: TRY400 (a sentence, not a traceback)
                "The control socket %s can't be made (%s), so `musicfs status` won't find this mount.",
                self._path, error.strerror or error,
            )  # fmt: skip
            return
        application = web.Application(middlewares=[_errors_as_json], client_max_size=_LARGEST_BODY)
        application.add_routes(self._routes())
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=_CLOSING_SECS)
        await self._runner.setup()
        await web.SockSite(self._runner, listening).start()

    def _listen(self) -> socket.socket:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.parent.chmod(0o700)
        # What lies there is left over: whoever gets here has just mounted on this socket's mount point.
        self._path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(os.fspath(self._path))
            self._path.chmod(0o600)
            self._inode = self._path.stat().st_ino
        except OSError:
            listening.close()
            raise
        return listening

    async def aclose(self) -> None:
        """Stops answering and removes the socket, unless another mount has put its own there."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            with contextlib.suppress(OSError):
                if self._path.stat().st_ino == self._inode:
                    self._path.unlink()
            await runner.cleanup()

    def _routes(self) -> list[web.RouteDef]:
        return [
            web.get("/status", self._status),
            web.get("/origins", self._origins),
            web.post("/origins/{id}/check", self._check),
            web.post("/origins/{id}/accept-removals", self._accept_removals),
            web.get("/scan", self._scans),
            web.post("/scan", self._scan),
            web.get("/why", self._why),
            web.post("/shutdown", self._shutdown),
        ]

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(views.status(self._app, await views.counts(self._app)))

    async def _origins(self, request: web.Request) -> web.Response:
        return web.json_response({"origins": views.origins(self._app, await views.counts(self._app))})

    async def _check(self, request: web.Request) -> web.Response:
        id = self._known(request.match_info["id"])
        return web.json_response(views.health(id, await self._app.monitor.check_now(id)))

    async def _accept_removals(self, request: web.Request) -> web.Response:
        id = self._known(request.match_info["id"])
        counted = await views.counts(self._app)
        row = counted.origins.get(id)
        number = await self._app.accept_removals(id)
        return web.json_response({"origin": id, "removals_held": row.held if row else 0, "scan": number})

    async def _scans(self, request: web.Request) -> web.Response:
        return web.json_response({"scans": views.scans(self._app)})

    async def _scan(self, request: web.Request) -> web.Response:
        """Has one origin scanned, or all; answers with the number that `completed` of GET /scan reaches by it."""
        wanted = (await _body(request)).get("origin")
        ids = [origin.id for origin in self._app.registry.list()] if wanted is None else [self._known(str(wanted))]
        return web.json_response({"scans": [{"origin": id, "completed": self._app.rescan(id)} for id in ids]})

    async def _why(self, request: web.Request) -> web.Response:
        return web.json_response(why(self._app, request.query.get("path", "")))

    async def _shutdown(self, request: web.Request) -> web.Response:
        asyncio.get_running_loop().call_soon(self._stop)
        return web.json_response({"stopping": True})

    def _known(self, id: str) -> OriginId:
        if self._app.registry.get(OriginId(id)) is not None:
            return OriginId(id)
        config = next((config for config in self._app.config.origins if config.id == id), None)
        if config is not None:
            why = "could not be opened; the log says why" if config.enabled else "is disabled in the configuration"
            raise _Refused(404, f"The origin {id!r} {why}.")
        names = ", ".join(origin.id for origin in self._app.registry.list())
        raise _Refused(404, f"There is no origin {id!r}; there are: {names or 'none'}.")


class _Refused(MusicFSError):
    """The request can't be carried out as it is."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


async def _body(request: web.Request) -> dict[str, object]:
    if not request.can_read_body:
        return {}
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _Refused(400, f"The body of {request.method} {request.path} is not a JSON object.")
    return body


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _error(error.status, f"{request.method} {request.path}: {error.reason}.")
    except _Refused as error:
        return _error(error.status, str(error))
    except MusicFSError as error:
        return _error(409, str(error))
    except Exception as error:
        log.exception("%s %s failed", request.method, request.path)
        return _error(500, f"The mount hit an internal error ({type(error).__name__}); its log has the details.")


def _error(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status)
