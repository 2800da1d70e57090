"""The status page for a browser on this machine: a listener on the loopback that forwards GET requests to the control
socket of a mount. It runs while `musicfs page` runs, and has tokens of its own.

A browser gets its token from a file that only this user can read (`pass_file`), or for the code that `musicfs page`
prints. A token is never in an address, a command line or a browser's history, where other users or programs see it.
"""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler
from yarl import URL

from musicfs.control.auth import is_ours
from musicfs.control.connections import Listener, connection_of, limits_within, runner_of, within_limits
from musicfs.control.page_keys import PageKeys, entrance_page
from musicfs.control.responses import RequestRefused, error_answer, errors_as_json, json_body
from musicfs.control.routes.page import HEADERS, is_page

_HOST = "127.0.0.1"
_BACKLOG = 1024
_FORWARDED_HEADERS = (
    "Content-Type",
    "Content-Security-Policy",
    "Cache-Control",
    "Referrer-Policy",
    "X-Content-Type-Options",
)
_NO_LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=5)
_CLOSING_SECS = 0.2
_CONNECTIONS = 48  # to the mount, which grants 64
_IDLE_SECS = 5.0  # the mount closes what is idle for longer
_MAX_BODY = 4096
_NO_STORE = {"Cache-Control": "no-store"}


class PageProxy:
    """Listens on the loopback and forwards requests to a mount's control socket.

    Args:
        socket: The path of the control socket.
        keys: The tickets, code and tokens that open the page.
        port: Where it listens; 0: on a free port.
    """

    def __init__(self, socket: Path, keys: PageKeys, port: int = 0) -> None:
        self._socket = socket
        self._keys = keys
        self._port = port
        self.address = ""
        """The address of the page while it runs. It contains no token."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Listens, and yields `address`. Raises OSError."""
        unix = aiohttp.UnixConnector(os.fspath(self._socket), limit=_CONNECTIONS, keepalive_timeout=_IDLE_SECS)
        async with aiohttp.ClientSession(connector=unix, timeout=_NO_LIMIT, auto_decompress=False) as self._session:
            runner = await runner_of(self._application(), handler_cancellation=True, shutdown_timeout=_CLOSING_SECS)
            try:
                listening = socket.create_server((_HOST, self._port), backlog=_BACKLOG)
                self.address = f"http://{_HOST}:{listening.getsockname()[1]}/"
                limits = limits_within(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
                listener = Listener(listening, runner, limits)
                listener.start()
                try:
                    yield self.address
                finally:
                    listener.close()
            finally:
                await runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(
            middlewares=[within_limits, self._check, errors_as_json], client_max_size=_MAX_BODY
        )
        application.router.add_post("/", self._enter)
        application.router.add_post("/page/code", self._take_code)
        application.router.add_get("/{path:.*}", self._forward, allow_head=False)
        return application

    @web.middleware
    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Requires a token, except for the exact paths named here. For all others the path does not matter."""
        path = request.raw_path
        if not path.startswith("/"):
            return error_answer(400, "The request must name a path, such as GET /.")
        if not is_ours(request.headers.getall("Host", [])):
            return error_answer(403, f"The Host header must be an address, such as {self.address}, or localhost.")
        free = is_page(path) if request.method == "GET" else request.method == "POST" and path in ("/", "/page/code")
        if not free:
            if not self._keys.opened_by(request.headers.get("Authorization", "")):
                return error_answer(
                    401, "This needs the token: `Authorization: Bearer TOKEN`.", {"WWW-Authenticate": "Bearer"}
                )
            connection_of(request).become_known()
        return await handler(request)

    async def _enter(self, request: web.Request) -> web.Response:
        """Exchanges a ticket for a token. The ticket comes from the form in the file that the browser opened."""
        if request.content_type != "application/x-www-form-urlencoded":
            raise RequestRefused(415, "The ticket must come as a form.")
        token = self._keys.use_ticket(str((await request.post()).get("ticket", "")))
        if token is None:
            raise RequestRefused(
                403, "This ticket is not valid or was used before; enter the code that `musicfs page` prints."
            )
        return web.Response(text=entrance_page(token), content_type="text/html", headers={**HEADERS, **_NO_STORE})

    async def _take_code(self, request: web.Request) -> web.Response:
        """Exchanges the code that the user typed for a token."""
        if request.content_type != "application/json":  # which a page of another site can't send here
            raise RequestRefused(415, "The code must come as JSON.")
        token = self._keys.use_code((await json_body(request)).get("code"))
        if token is None:
            raise RequestRefused(403, self._keys.why_not())
        return web.json_response({"token": token}, headers=_NO_STORE)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        """Forwards the request with its path as it was sent: nothing resolves it here or after `_check`."""
        try:
            url = URL(f"http://localhost{request.raw_path}", encoded=True)
        except ValueError:
            return error_answer(400, "This is not a valid path.")
        try:
            async with self._session.get(url, allow_redirects=False) as answer:
                headers = {name: answer.headers[name] for name in _FORWARDED_HEADERS if name in answer.headers}
                response = web.StreamResponse(status=answer.status, headers=headers)
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    await response.write(piece)
                return response
        except (aiohttp.ClientError, ConnectionError):
            return error_answer(502, "The mount does not answer.")
