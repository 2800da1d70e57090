"""The connections of the control API's listeners: their number and their deadlines are bounded.

A client without a token gets little: one of a few connections, for a few seconds. So strangers can't use up the
descriptors that the mount needs for its files, nor memory, nor the connections.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from musicfs.system.tasks import Tasks

log = logging.getLogger(__name__)

http_log = logging.getLogger(f"{__name__}.http")
# The answer to bytes that are not HTTP is 400. They are no failure of ours, but aiohttp logs a traceback of each.
http_log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))

_NAME = "MusicFS"
_MAX = 64
_ACCEPTED_AT_ONCE = 16  # then the loop serves the mount
_MAX_HEAD = 1 << 20  # bytes that may arrive before a request is parsed; each of its lines may have 8 KiB
_LINGERING_SECS = 2.0
_PAUSE_SECS = 1.0
_MOMENT_SECS = 0.1
_QUIET_SECS = 60.0  # without a failure, before the next one is logged
_DESCRIPTORS_PER_CONNECTION = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a listener.

    Args:
        most: Connections at once.
        most_unknown: Connections at once whose clients have sent no token yet.
        secs: How long a client has to send its token; then, to send the head of each next request, and to receive the
            answer to the last one.
    """

    most: int = _MAX
    most_unknown: int = _MAX // 4
    secs: float = 10.0


def limits_within(descriptors: int) -> Limits:
    """Returns the limits of a listener in a process with so many descriptors: nearly all are for music."""
    most = max(2, min(_MAX, descriptors // _DESCRIPTORS_PER_CONNECTION))
    return Limits(most, max(1, most // 4))


class ClientConnection(web.RequestHandler):
    """The connection of one client. It is closed when the client takes too long; see `Limits`.

    known: whether the client has sent a token. caller: the caller of the request that is being answered.
    """

    def __init__(
        self, server: web.Server, secs: float, known: bool, on_end: Callable[[ClientConnection], None]
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            logger=http_log,
            lingering_time=_LINGERING_SECS,
        )
        self.known = known
        self.caller: object = None
        self._secs = secs
        self._on_end = on_end
        self._deadline: asyncio.TimerHandle | None = None
        self._answering = False
        self._waiting_bytes = 0
        self._unsent: float = math.inf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        if not self._answering:
            self._waiting_bytes += len(data)
            if self._waiting_bytes > _MAX_HEAD:
                self._abort()
                return
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_waiting()
        self._on_end(self)
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answers bytes that are not HTTP, without the name and version of aiohttp."""
        response = super().handle_error(request, status, exc, message)
        response.headers["Server"] = _NAME
        return response

    def begin(self) -> None:
        """Notices that the head of a request has arrived."""
        self._answering = True
        if self.known:
            self._stop_waiting()

    def become_known(self) -> None:
        """Ends the deadline: the request that is being answered has a token."""
        self.known = True
        self._stop_waiting()

    def finish(self) -> None:
        """Notices that the request is answered. A known client gets a new deadline; others keep the old one."""
        self._answering = False
        self._waiting_bytes = 0
        if self.known:
            self._expect()

    def _expect(self) -> None:
        self._stop_waiting()
        self._unsent = math.inf
        self._deadline = asyncio.get_running_loop().call_later(self._secs, self._late)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        """Closes the connection, unless a known client still receives a long answer over a slow line."""
        unsent = self.transport.get_write_buffer_size() if self.transport is not None else 0
        if self.known and 0 < unsent < self._unsent:
            self._expect()
            self._unsent = unsent
        else:
            self._abort()

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


@web.middleware
async def within_limits(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Enforces the deadlines; the outermost middleware of each application that a `Listener` serves."""
    connection = connection_of(request)
    connection.begin()
    try:
        return await handler(request)
    finally:
        connection.finish()


def connection_of(request: web.Request) -> ClientConnection:
    """Returns the connection of a request."""
    assert isinstance(request.protocol, ClientConnection)
    return request.protocol


async def runner_of(application: web.Application, **options: Any) -> web.AppRunner:
    """Sets up a runner for a `Listener`; its `cleanup` ends the connections. options: those of aiohttp."""
    application.on_response_prepare.append(_name_no_versions)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, **options)
    await runner.setup()
    return runner


async def _name_no_versions(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = _NAME


class Listener:
    """Accepts connections from a listening socket, which it owns, and passes them to the application of a runner.

    Args:
        listening: The socket.
        runner: Set up by `runner_of`.
        limits: The limits of its clients.
        trusted: Whether every client is known, as on a socket that only this user can open.
        tls: The context with the certificate; None: without encryption.
    """

    def __init__(
        self,
        listening: socket.socket,
        runner: web.AppRunner,
        limits: Limits,
        *,
        trusted: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        assert runner.server is not None
        self._socket = listening
        self._server = runner.server
        self._limits = limits
        self._trusted = trusted
        self._tls = tls
        self._connections: set[ClientConnection] = set()
        self._connecting = Tasks(log)
        self._pausing: asyncio.TimerHandle | None = None
        self._quiet_until = 0.0
        self._turning_away = False

    def start(self) -> None:
        self._socket.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Stops accepting. The open connections end with the runner."""
        if self._pausing is not None:
            self._pausing.cancel()
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._connecting.cancel()

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept_some)

    def _accept_some(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            full = self._is_full()
            if full and not self._turning_away:
                # Clients that come all at once may be about to send their tokens: the queue can hold them.
                self._turning_away = True
                self._pause(_MOMENT_SECS)
                return
            self._turning_away = full
            try:
                client, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                self._turning_away = False
                return
            except OSError as error:
                self._log_failure(error)
                self._pause(_PAUSE_SECS)
                return
            if full:
                _turn_away(client, answer=self._trusted)
            else:
                self._serve(client)

    def _is_full(self) -> bool:
        if len(self._connections) >= self._limits.most:
            return True
        unknown = sum(not connection.known for connection in self._connections)
        return unknown >= self._limits.most_unknown

    def _pause(self, secs: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        self._pausing = loop.call_later(secs, self._listen)

    def _log_failure(self, error: OSError) -> None:
        """Logs a failure to accept. Descriptors or memory may be free again in a moment."""
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            log.warning("The control API can't accept connections at the moment: %s.", error.strerror or error)
        self._quiet_until = now + _QUIET_SECS

    def _serve(self, client: socket.socket) -> None:
        connection = ClientConnection(self._server, self._limits.secs, self._trusted, self._connections.discard)
        self._connections.add(connection)
        self._connecting.spawn(self._connect(connection, client), "a connection to the control API")

    async def _connect(self, connection: ClientConnection, client: socket.socket) -> None:
        try:
            client.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                client,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else self._limits.secs,
            )
        except OSError:  # the client left, or does not speak TLS
            self._connections.discard(connection)
            client.close()
        except BaseException:
            self._connections.discard(connection)
            client.close()
            raise


def _turn_away(client: socket.socket, answer: bool) -> None:
    """Closes the connection at once. answer: whether to send the reason, if that needs no waiting."""
    body = json.dumps({"error": "There are too many connections to this mount; try again later."})
    head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with client, suppress(OSError):
        if answer:
            client.setblocking(False)
            client.send(f"{head}\r\nConnection: close\r\n\r\n{body}".encode())
            client.shutdown(socket.SHUT_WR)
