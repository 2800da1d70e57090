"""The server of the control API: other processes query and control a running mount through it."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware

from musicfs.app.components import Components
from musicfs.config.models import ControlConfig, host_and_port
from musicfs.control.audit import audited
from musicfs.control.auth import TokenFile, Tokens, by_socket, enforce_rights, require_token
from musicfs.control.connections import Listener, limits_within, runner_of, within_limits
from musicfs.control.metrics import Metrics
from musicfs.control.observations import Observations
from musicfs.control.responses import KnownOrigins, errors_as_json
from musicfs.control.routes.cache import CacheRoutes
from musicfs.control.routes.events import EventRoutes
from musicfs.control.routes.library import ScanRoutes, WhyRoutes
from musicfs.control.routes.metrics import MetricsRoutes
from musicfs.control.routes.mount import MountRoutes
from musicfs.control.routes.open_files import OpenFileRoutes
from musicfs.control.routes.openapi import OpenApiRoutes
from musicfs.control.routes.origins import OriginChangeRoutes, OriginRoutes
from musicfs.control.routes.page import PageRoutes
from musicfs.control.routes.pins import PinRoutes
from musicfs.control.routes.problems import ProblemRoutes
from musicfs.control.routes.quarantine import QuarantineRoutes
from musicfs.control.routes.redundancy import RedundancyRoutes
from musicfs.control.routes.verify import VerifyRoutes
from musicfs.control.tls import tls_of
from musicfs.control.views import LibraryCounter, OriginViews, StatusView
from musicfs.control.why import WhyView
from musicfs.errors import UserError

log = logging.getLogger(__name__)

_BACKLOG = 1024
_CLOSING_SECS = 1.0
_MAX_BODY = 64 * 1024


class Routes(Protocol):
    """A group of paths."""

    def routes(self) -> list[web.RouteDef]: ...


def _music_groups(parts: Components) -> list[Routes]:
    return [
        WhyRoutes(WhyView(parts.config, parts.tree, parts.registry, parts.store)),
        CacheRoutes(parts.store, parts.cache_check, parts.pins),
        PinRoutes(parts.pins),
        OpenFileRoutes(parts.filesystem, parts.registry, parts.store),
        VerifyRoutes(parts.scrub),
        QuarantineRoutes(parts.registry.quarantined),
    ]


class ControlServer:
    """Serves the API on a Unix socket that only this user can open, and over TCP if the configuration says so. Belongs
    to the event loop's thread.

    Args:
        parts: The mount.
        path: The path of the Unix socket.
        stop: Ends the mount, after its reads under way or the given seconds; called after the response is sent.
        observations: Of the mount since its start.
        is_mounted: Whether the mount table still has the mount.
    """

    def __init__(
        self,
        parts: Components,
        path: Path,
        stop: Callable[[float], None],
        observations: Observations,
        is_mounted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._config = parts.config.value.control
        self._full_token = TokenFile(path.with_suffix(".token"))
        self._read_token = TokenFile(path.with_suffix(".read-token"))
        self._limits = limits_within(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._runners: list[web.AppRunner] = []
        self._listeners: list[Listener] = []
        self.address: str | None = None
        """The address over TCP, such as "127.0.0.1:8383"; None: there is none."""
        self._events = EventRoutes(parts.bus, parts.history)
        self._observations = observations
        self._counter = LibraryCounter(parts.catalog, parts.config, parts.registry, parts.tree, parts.store)
        groups = [*self._mount_groups(parts, stop, is_mounted), *_music_groups(parts), self._events, OpenApiRoutes()]
        self.routes = [route for group in groups for route in group.routes()]

    def _mount_groups(
        self, parts: Components, stop: Callable[[float], None], is_mounted: Callable[[], bool]
    ) -> list[Routes]:
        known = KnownOrigins(parts.config, parts.registry)
        views = OriginViews(parts.config, parts.registry, parts.membership, parts.places)
        status = StatusView(
            parts.config, parts.filesystem, views, self._counter, parts.started_at, parts.store, is_mounted
        )
        counts = self._observations.events
        metrics = Metrics(counts, parts.filesystem, parts.tree, parts.registry, parts.store, parts.catalog)
        return [
            MountRoutes(status, parts.live_config, stop, lambda: self.address),
            OriginRoutes(known, views, self._counter, self._observations.latencies, parts.registry.monitor),
            OriginChangeRoutes(parts.live_config),
            ScanRoutes(known, views, parts.membership, parts.tree, parts.library),
            ProblemRoutes(parts.catalog, parts.library, known),
            RedundancyRoutes(parts.catalog, parts.tree, parts.registry, parts.places, known),
            MetricsRoutes(metrics),
        ]

    async def start(self, listening: socket.socket) -> None:
        """Starts serving the API on the socket, which the server owns from now on."""
        runner = await self._runner(by_socket, audited, errors_as_json)
        self._listen(Listener(listening, runner, self._limits, trusted=True))
        if self._config.listen is not None:
            try:
                await self._start_tcp(self._config)
            except (OSError, UserError) as error:
                log.error(  # noqa: TRY400 (a sentence, not a traceback)
                    "The control API can't listen at %s, which [control] listen names: %s.",
                    self._config.listen, str(getattr(error, "strerror", None) or error).rstrip("."),
                )  # fmt: skip

    async def _start_tcp(self, config: ControlConfig) -> None:
        assert config.listen is not None
        host, port = host_and_port(config.listen)
        tls = await asyncio.to_thread(tls_of, config)
        listening = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
        )
        try:
            tokens = self._tokens(config)
            runner = await self._runner(
                require_token(tokens, any_name=tls is not None), audited, enforce_rights, errors_as_json
            )
        except BaseException:
            listening.close()
            raise
        port = listening.getsockname()[1]
        self._listen(Listener(listening, runner, self._limits, tls=tls))
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if tls is None and not ip_address(host).is_loopback:
            log.warning(
                "The control API at %s is not encrypted: anyone who sees the traffic can read its token. Set [control]"
                " tls_cert and tls_key, or listen on 127.0.0.1 behind a proxy with TLS.", self.address,
            )  # fmt: skip

    def _tokens(self, config: ControlConfig) -> Tokens:
        """Returns the configured tokens, else new ones in files beside the socket. Raises OSError."""
        full = config.token.get_secret_value() if config.token else self._full_token.make()
        read = config.read_token.get_secret_value() if config.read_token else self._read_token.make()
        return Tokens(full, read)

    def _listen(self, listener: Listener) -> None:
        self._listeners.append(listener)
        listener.start()

    async def _runner(self, *middlewares: Middleware) -> web.AppRunner:
        application = web.Application(middlewares=[within_limits, *middlewares], client_max_size=_MAX_BODY)
        application.add_routes([*self.routes, *PageRoutes().routes()])
        application.on_shutdown.append(self._events.close)
        runner = await runner_of(application, shutdown_timeout=_CLOSING_SECS)
        self._runners.append(runner)
        return runner

    async def aclose(self) -> None:
        """Stops serving, and removes the files of the tokens."""
        self._full_token.remove()
        self._read_token.remove()
        self._counter.close()
        self.address = None
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        runners, self._runners = self._runners, []
        for runner in runners:
            await runner.cleanup()
