"""A TCP proxy in front of a server on loopback that simulates a bad network.

    with FaultProxy(server.port) as proxy:
        proxy.latency = 0.02
        proxy.cut_after(300_000)
        ... connect to proxy.port ...

It has its own thread and event loop, so any thread may use it at any time: tests with an event loop, tests without
one, and tests in which a driver blocks.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from math import inf
from typing import Any, Literal, TypeVar
from weakref import WeakSet

from musicfs.testing.ports import HOST, free_port

T = TypeVar("T")

_CHUNK = 64 << 10
_IN_FLIGHT = 128  # chunks under way in one direction: enough for a fast link with much latency
_LONG = 4 << 10
_PATIENCE = 10.0

_Way = asyncio.Queue[tuple[float, bytes]]
"""Bytes on their way, each piece with the time, on the loop's clock, at which it is due; an empty one ends it."""

How = Literal["reset", "close"]
"""A connection can end by a reset (RST), as when a machine died, or by an orderly close (FIN)."""


class FaultProxy:
    """Forwards connections to the port `upstream`. As a context manager it is gone at the end.

    latency: seconds that every byte takes longer, each way; a round trip takes twice as much longer. rate: bytes per
    second of each connection towards the client, 0: no limit. Both may be changed at any time.
    """

    def __init__(self, upstream: int) -> None:
        self.latency = 0.0
        self.rate = 0.0
        self.port = free_port()
        self.accepted = 0
        """Connections so far."""
        self.delivered = 0
        """Bytes delivered to clients so far."""
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faultproxy", daemon=True)
        self._listener: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._links: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._ways: WeakSet[_Way] = WeakSet()
        self._abandoned: WeakSet[_Way] = WeakSet()
        self._cut_at = inf
        self._cut_how: How = "reset"
        self._flip_at = inf
        self._flip_in_body = False

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._call(self._settled())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._links)

    # Faults

    def stall(self) -> None:
        """Connections stay and new ones are accepted, but no byte moves: a hung machine, a pulled cable."""
        self._call(self._stall())

    def resume(self) -> None:
        """Ends `stall`; what was under way arrives."""
        self._call(self._resume())

    def abandon(self) -> None:
        """Present connections stay, but no byte moves on them ever again; new ones are fine. So it is after a machine
        has slept, when its server or a router has forgotten it."""
        self._call(self._abandon())

    def cut(self, how: How = "reset") -> None:
        """Ends all connections now. New ones are welcome."""
        self._call(self._cut(how))

    def cut_after(self, count: int, how: How = "reset") -> None:
        """Ends the connection that delivers the `count`-th byte from now to its client; once."""
        self._cut_how = how
        self._cut_at = float(self.delivered + count)

    def flip_after(self, count: int) -> None:
        """Flips a bit of the byte that follows the next `count` ones on their way to clients; once."""
        self._flip_at = float(self.delivered + count)

    def flip_in_body(self) -> None:
        """Flips a bit at the end of the next long piece on its way to a client, where no header of HTTP is; once."""
        self._flip_in_body = True

    def refuse(self) -> None:
        """Ends all connections and refuses new ones, as when nothing listens there."""
        self._call(self._refuse())

    def accept(self) -> None:
        """Ends `refuse`: listens again, at the same port."""
        self._call(self._accept())

    def heal(self) -> None:
        """Ends every fault."""
        self.latency = self.rate = 0.0
        self._cut_at = self._flip_at = inf
        self._flip_in_body = False
        self.accept()
        self.resume()

    # What follows runs on the proxy's own loop.

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)

    async def _settled(self) -> None:
        """Returns once what was accepted has its task, and what was ended is closed: both take turns of the loop."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def _stall(self) -> None:
        self._flowing.clear()

    async def _resume(self) -> None:
        self._flowing.set()

    async def _abandon(self) -> None:
        self._abandoned.update(self._ways)

    async def _cut(self, how: How) -> None:
        links = dict(self._links)
        for task, client in links.items():
            _end(client, how)
            task.cancel()
        if links:
            await asyncio.wait(links)

    async def _refuse(self) -> None:
        if self._listener is not None:
            # asyncio forgets a connection, open as it is, whose listener is closed before its task has run.
            for listening in self._listener.sockets:
                self._loop.remove_reader(listening.fileno())
            await self._settled()  # what was accepted already gets its task, to be cut with the others
            self._listener.close()
            self._listener = None
        await self._cut("reset")

    async def _accept(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._connected, HOST, self.port, limit=_CHUNK)

    async def _connected(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links[task] = client
        self.accepted += 1
        # A task of asyncio's streams that ends as cancelled would be logged as a failure.
        with suppress(asyncio.CancelledError):
            await self._carry(reader, client)
        del self._links[task]
        client.close()

    async def _carry(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """Until either end closes. A client's end counts at once, a server's when all it sent has been delivered."""
        upwards = self._new_way()
        tasks = [
            asyncio.create_task(self._take(reader, upwards)),
            asyncio.create_task(self._exchange(upwards, client)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _new_way(self) -> _Way:
        way: _Way = asyncio.Queue(_IN_FLIGHT)
        self._ways.add(way)
        return way

    async def _exchange(self, upwards: _Way, client: asyncio.StreamWriter) -> None:
        """Connects to the server, then delivers both ways until it closes."""
        try:
            reader, server = await self._connect()
        except OSError:
            _end(client, "reset")
            return
        downwards = self._new_way()
        beside = [asyncio.create_task(self._take(reader, downwards)), asyncio.create_task(self._up(upwards, server))]
        try:
            await self._down(downwards, client)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            server.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the server. When this is cancelled, a connection that is made all the same is closed."""
        connecting = asyncio.create_task(asyncio.open_connection(HOST, self._upstream, limit=_CHUNK))
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            with suppress(OSError):
                _, server = await connecting
                server.transport.abort()
            raise

    async def _take(self, reader: asyncio.StreamReader, way: _Way) -> None:
        data = b"more"
        while data:
            try:
                data = await reader.read(_CHUNK)
            except OSError:
                data = b""
            await way.put((self._loop.time() + self.latency, data))

    async def _next(self, way: _Way) -> bytes:
        due, data = await way.get()
        await asyncio.sleep(max(0.0, due - self._loop.time()))
        await self._flowing.wait()
        if way in self._abandoned:
            await asyncio.Event().wait()
        return data

    async def _up(self, way: _Way, server: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await self._next(way):
                server.write(data)
                await server.drain()

    async def _down(self, way: _Way, client: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await self._next(way):
                for piece in self._pieces(data):
                    if self.rate:
                        await asyncio.sleep(len(piece) / self.rate)
                        await self._flowing.wait()
                    if not await self._deliver(piece, client):
                        return

    def _pieces(self, data: bytes) -> list[bytes]:
        """Small enough to keep a slow link's pace even."""
        step = max(1, min(len(data), int(self.rate / 20))) if self.rate else len(data)
        return [data[start : start + step] for start in range(0, len(data), step)]

    async def _deliver(self, data: bytes, client: asyncio.StreamWriter) -> bool:
        """False when the connection was cut on the way."""
        start, end = self.delivered, self.delivered + len(data)
        if self._flip_at < end:
            at = max(0, int(self._flip_at) - start)
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            self._flip_at = inf
        if self._flip_in_body and len(data) > _LONG:
            data = data[:-1] + bytes([data[-1] ^ 1])
            self._flip_in_body = False
        cut = self._cut_at <= end
        if cut:
            data = data[: max(0, int(self._cut_at) - start)]
            self._cut_at = inf
        self.delivered += len(data)
        client.write(data)
        await client.drain()
        if cut:
            _end(client, self._cut_how)
        return not cut


def _end(client: asyncio.StreamWriter, how: How) -> None:
    if how == "reset":
        # Lingering for no time makes the kernel send a reset.
        with suppress(OSError):  # closed already
            client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.transport.abort()
    else:
        client.close()
