"""The connections of the control API's listeners: how many there may be, and how long each may take.

A client that has not shown who it is gets little: one of a few places, and a few seconds. So strangers hold neither the
descriptors that the mount needs for its files, nor memory, nor a place for long.
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
# Bytes that are no HTTP are answered with 400 and are no failure of ours: aiohttp logs a traceback of each.
http_log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))

_NAME = "MusicFS"
_MAX = 64
_ACCEPTED_AT_ONCE = 16  # then the mount has a turn
_MAX_HEAD = 1 << 20  # bytes that are read before a request is recognised; each of its lines may have 8 KiB
_LINGERING_SECS = 2.0
_PAUSE_SECS = 1.0
_MOMENT_SECS = 0.1
_QUIET_SECS = 60.0  # without a failure, until one is logged again
_DESCRIPTORS_PER_CONNECTION = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """What a listener grants.

    Args:
        most: Connections at once.
        most_unknown: Those of them whose clients have shown no token yet.
        secs: How long a client has to show its token; and, once it has, to send the head of each next request and to
            take the answer to the last one.
    """

    most: int = _MAX
    most_unknown: int = _MAX // 4
    secs: float = 10.0


def limits_within(descriptors: int) -> Limits:
    """The limits of a listener in a process that may have so many descriptors: nearly all are for music."""
    most = max(2, min(_MAX, descriptors // _DESCRIPTORS_PER_CONNECTION))
    return Limits(most, max(1, most // 4))


class ClientConnection(web.RequestHandler):
    """One client's connection. It is closed when the client takes too long; see `Limits`.

    known: whether the client has shown who it is. caller: who that is, for the request that is being answered.
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
        """The answer to what is no HTTP, without aiohttp's name and version."""
        response = super().handle_error(request, status, exc, message)
        response.headers["Server"] = _NAME
        return response

    def begin(self) -> None:
        """A request's head has arrived."""
        self._answering = True
        if self.known:
            self._stop_waiting()

    def become_known(self) -> None:
        """The request that is being answered has the token: it may take its time."""
        self.known = True
        self._stop_waiting()

    def finish(self) -> None:
        """The request is answered. A client that is known has the time for its next one; others have what is left."""
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
        """A long answer over a slow line may take long, for a client that is known, while it makes progress."""
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
    """The outermost middleware of each application that a `Listener` serves."""
    connection = connection_of(request)
    connection.begin()
    try:
        return await handler(request)
    finally:
        connection.finish()


def connection_of(request: web.Request) -> ClientConnection:
    """The connection that the request came by."""
    assert isinstance(request.protocol, ClientConnection)
    return request.protocol


async def runner_of(application: web.Application, **options: Any) -> web.AppRunner:
    """A runner for a `Listener`, set up; its `cleanup` ends the connections. options: aiohttp's."""
    application.on_response_prepare.append(_name_no_versions)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, **options)
    await runner.setup()
    return runner


async def _name_no_versions(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = _NAME


class Listener:
    """Accepts connections from a listening socket, which it owns, and hands them to the application of a runner.

    Args:
        listening: The socket.
        runner: Set up by `runner_of`.
        limits: What clients may have.
        trusted: Whether everyone who can connect is known, as at a socket that only this user can open.
        tls: The certificate; None: nothing is encrypted.
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
        """Accepts nothing further. The connections that there are end with the runner."""
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
                # Clients that come all at once may be about to show their tokens: the queue can hold them.
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
                self._tell(error)
                self._pause(_PAUSE_SECS)
                return
            if full:
                _turn_away(client, tell=self._trusted)
            else:
                self._take(client)

    def _is_full(self) -> bool:
        if len(self._connections) >= self._limits.most:
            return True
        unknown = sum(not connection.known for connection in self._connections)
        return unknown >= self._limits.most_unknown

    def _pause(self, secs: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        self._pausing = loop.call_later(secs, self._listen)

    def _tell(self, error: OSError) -> None:
        """No descriptors, no memory: another moment may have some."""
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            log.warning("The control API accepts no connection for a moment: %s.", error.strerror or error)
        self._quiet_until = now + _QUIET_SECS

    def _take(self, client: socket.socket) -> None:
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
        except OSError:  # a client that went, or that speaks no TLS
            self._connections.discard(connection)
            client.close()
        except BaseException:
            self._connections.discard(connection)
            client.close()
            raise


def _turn_away(client: socket.socket, tell: bool) -> None:
    """Closes the connection at once. tell: whether to say why, as far as that needs no waiting."""
    body = json.dumps({"error": "There are too many connections to this mount; try again later."})
    head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with client, suppress(OSError):
        if tell:
            client.setblocking(False)
            client.send(f"{head}\r\nConnection: close\r\n\r\n{body}".encode())
            client.shutdown(socket.SHUT_WR)
