"""The status page for a browser on this machine: an address on the loopback that passes questions on to the socket of a
mount, and changes nothing. It is there for as long as somebody runs it, and asks for a token of its own."""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from musicfs.control.answers import error_answer
from musicfs.control.gate import gate

_HOST = "127.0.0.1"
_PASSED_ON = ("Content-Type", "Content-Security-Policy", "Cache-Control", "Referrer-Policy", "X-Content-Type-Options")
_NO_LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=5)
_CLOSING_SECS = 0.2


class PageListener:
    """Listens on a free port, or on `port`."""

    def __init__(self, socket: Path, port: int = 0) -> None:
        self._socket = socket
        self._port = port
        self._token = secrets.token_urlsafe(32)
        self._ticket = ""
        self._base = ""
        self.address = ""
        """The page's, with its token in the fragment, which no browser sends anywhere; while it runs."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Gives `address`. Raises OSError."""
        unix = aiohttp.UnixConnector(os.fspath(self._socket))
        async with aiohttp.ClientSession(connector=unix, timeout=_NO_LIMIT, auto_decompress=False) as self._session:
            application = web.Application(middlewares=[gate(self._token)])
            application.router.add_get("/page/once/{ticket}", self._admit, allow_head=False)
            application.router.add_get("/{path:.*}", self._pass_on, allow_head=False)
            runner = web.AppRunner(
                application, access_log=None, handle_signals=False, handler_cancellation=True,
                shutdown_timeout=_CLOSING_SECS,
            )  # fmt: skip
            await runner.setup()
            try:
                await web.TCPSite(runner, _HOST, self._port).start()
                port = runner.addresses[0][1]
                self._base = f"http://{_HOST}:{port}/"
                self.address = self._base + self._fragment()
                yield self.address
            finally:
                await runner.cleanup()

    def address_for_once(self) -> str:
        """What leads to the page the first time that it is asked for: for the command line of a browser, which other
        users of this machine can see."""
        self._ticket = secrets.token_urlsafe(32)
        return f"{self._base}page/once/{self._ticket}"

    async def _admit(self, request: web.Request) -> web.StreamResponse:
        ticket, self._ticket = self._ticket, ""
        if not ticket or not hmac.compare_digest(
            request.match_info["ticket"].encode("utf-8", "replace"), ticket.encode()
        ):
            return error_answer(403, "This address has been used; `musicfs page` has printed one that lasts.")
        return web.Response(status=302, headers={"Location": f"/{self._fragment()}", "Cache-Control": "no-store"})

    def _fragment(self) -> str:
        return f"#token={self._token}"

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        try:
            async with self._session.get(f"http://localhost{request.path_qs}") as answer:
                headers = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
                response = web.StreamResponse(status=answer.status, headers=headers)
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    await response.write(piece)
                return response
        except (aiohttp.ClientError, ConnectionError):
            return error_answer(502, "The mount does not answer.")
