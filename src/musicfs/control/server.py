"""The control API: what a running mount tells and does when another process of the same user asks."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Middleware

from musicfs.app import App
from musicfs.config_models import ControlConfig, host_and_port
from musicfs.control.answers import errors_as_json
from musicfs.control.gate import TokenFile, gate
from musicfs.control.latencies import Latencies
from musicfs.control.routes.cache import CacheRoutes
from musicfs.control.routes.description import DescriptionRoutes
from musicfs.control.routes.events import EventRoutes
from musicfs.control.routes.library import LibraryRoutes
from musicfs.control.routes.metrics import MetricsRoutes
from musicfs.control.routes.mount import MountRoutes
from musicfs.control.routes.origins import OriginRoutes
from musicfs.control.routes.page import PageRoutes
from musicfs.control.routes.pins import PinRoutes
from musicfs.control.routes.playing import PlayingRoutes
from musicfs.control.routes.redundancy import RedundancyRoutes
from musicfs.control.routes.verify import VerifyRoutes
from musicfs.control.views import Counter

log = logging.getLogger(__name__)

_http_log = logging.getLogger(f"{__name__}.http")
# Bytes that are no HTTP are answered with 400 and are no failure of ours: aiohttp logs a traceback of each.
_http_log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))

_CLOSING_SECS = 1.0
_LARGEST_BODY = 64 * 1024


class Routes(Protocol):
    """A group of paths."""

    def routes(self) -> list[web.RouteDef]: ...


class ControlServer:
    """Answers on a Unix socket that only this user can open, and over TCP if that is configured. Belongs to the event
    loop's thread.

    path: of the socket. stop: has the mount end, after the reads under way but at most so many seconds; called once an
    answer is on its way.
    """

    def __init__(self, app: App, path: Path, stop: Callable[[float], None]) -> None:
        self._app = app
        self._token = TokenFile(path.with_suffix(".token"))
        self._runners: list[web.AppRunner] = []
        self.address: str | None = None
        """Where it answers over TCP, such as "127.0.0.1:8383"."""
        counter = Counter(app)
        self._events = EventRoutes(app)
        self._latencies = Latencies(app)
        groups: list[Routes] = [
            MountRoutes(app, counter, stop, lambda: self.address),
            OriginRoutes(app, counter, self._latencies),
            LibraryRoutes(app),
            CacheRoutes(app),
            PinRoutes(app),
            PlayingRoutes(app),
            RedundancyRoutes(app),
            VerifyRoutes(app),
            self._events,
            MetricsRoutes(app),
            DescriptionRoutes(),
        ]
        self.routes = [route for group in groups for route in group.routes()]

    async def start(self, listening: socket.socket) -> None:
        """Answers on the socket from now on."""
        self._latencies.start()
        await web.SockSite(await self._runner(), listening).start()
        if self._app.config.control.listen is not None:
            await self._start_tcp(self._app.config.control)

    async def _start_tcp(self, config: ControlConfig) -> None:
        assert config.listen is not None
        host, port = host_and_port(config.listen)
        try:
            token = config.token.get_secret_value() if config.token else self._token.make()
            runner = await self._runner(gate(token))
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            log.error(  # noqa: TRY400 (a sentence, not a traceback)
                "The control API can't answer at %s, which [control] listen names: %s.",
                config.listen, error.strerror or error,
            )  # fmt: skip
            return
        port = runner.addresses[0][1]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def _runner(self, *middlewares: Middleware) -> web.AppRunner:
        passing: list[Middleware] = [errors_as_json, *middlewares]
        application = web.Application(middlewares=passing, client_max_size=_LARGEST_BODY)
        application.add_routes([*self.routes, *PageRoutes().routes()])
        application.on_shutdown.append(self._events.close)
        runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=_CLOSING_SECS, logger=_http_log
        )
        await runner.setup()
        self._runners.append(runner)
        return runner

    async def aclose(self) -> None:
        """Stops answering."""
        self._token.remove()
        self._latencies.stop()
        self.address = None
        runners, self._runners = self._runners, []
        for runner in runners:
            await runner.cleanup()
