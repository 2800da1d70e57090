"""The kernel's side of a FUSE session: a socket in the place of /dev/fuse, and a real album that is served."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from musicfs.config.kinds import open_origin
from musicfs.config.models import OriginConfig
from musicfs.content.reader import Reader
from musicfs.mount.filesystem import Filesystem
from musicfs.mount.operations import Operations
from musicfs.mount.session import protocol as fuse
from musicfs.mount.session.event_loop import FuseEventLoop
from musicfs.mount.session.session import FuseSession, Operation
from tests.support.audio import make_album
from tests.support.federation import federation
from tests.support.library import scanned_library

_ANSWER_SECS = 10.0


class Answered(NamedTuple):
    """An answer. errno: 0 if it is none."""

    errno: int
    unique: int
    payload: bytes


def framed(opcode: int, body: bytes = b"", unique: int = 2, nodeid: int = 1, pid: int | None = None) -> bytes:
    """A request. pid: the thread that waits for the answer; None: this process."""
    pid = os.getpid() if pid is None else pid
    return fuse.IN_HEADER.pack(fuse.BODY + len(body), opcode, unique, nodeid, 0, 0, pid, 0, 0) + body


class SocketKernel:
    """Sends requests to a session and takes its answers. It belongs to the thread of the event loop."""

    def __init__(self, operations: Mapping[int, Operation]) -> None:
        self._socket, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        its.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self._socket.setblocking(False)
        self.session = FuseSession(its.detach(), operations)

    def answers(self) -> list[Answered]:
        """Those that have arrived."""
        arrived: list[Answered] = []
        while True:
            try:
                data = self._socket.recv(4 << 20)
            except BlockingIOError:
                return arrived
            size, error, unique = fuse.OUT_HEADER.unpack_from(data)
            assert size == len(data)
            arrived.append(Answered(-error, unique, data[fuse.OUT_HEADER.size :]))

    async def next_answer(self) -> Answered:
        """Waits for one."""
        async with asyncio.timeout(_ANSWER_SECS):
            while not (arrived := self.answers()):
                await asyncio.sleep(0.005)
        (answered,) = arrived
        return answered

    def send(self, request: bytes) -> None:
        """Lets a session that serves find a request."""
        self._socket.send(request)

    async def ask(self, request: bytes) -> list[Answered]:
        """All answers to a request, once nothing is under way any more."""
        self.session.take(request)
        async with asyncio.timeout(_ANSWER_SECS):
            while self.session.waits:
                await asyncio.sleep(0)
        return self.answers()

    def close(self) -> None:
        self.session.close()
        self._socket.close()


class ServedAlbum(NamedTuple):
    """An album that a session shows. run: the loop that everything belongs to."""

    kernel: SocketKernel
    filesystem: Filesystem
    runner: asyncio.Runner

    def ask(self, request: bytes) -> list[Answered]:
        return self.runner.run(self.kernel.ask(request))

    def answer(self, request: bytes) -> Answered:
        (answered,) = self.ask(request)
        return answered


@contextmanager
def served_album(folder: Path, tracks: int = 2) -> Iterator[ServedAlbum]:
    """Serves an album, made in the folder, below `/Artist/Album (1999) [FLAC]`."""
    make_album(folder / "music", "Artist", "Album", tracks)
    with asyncio.Runner(loop_factory=FuseEventLoop) as runner, scanned_library(folder / "cache") as library:
        stack = AsyncExitStack()

        async def begin() -> Filesystem:
            made = await stack.enter_async_context(federation())
            config = OriginConfig.model_validate({"id": "a", "origin_type": "local", "path": str(folder / "music")})
            made.registry.register(open_origin(config, populated=True), 1)
            library.configure({"a": folder / "music"})
            await library.scan()
            return Filesystem(library.view_now(), Reader(made.executor), lambda _: [])

        filesystem = runner.run(begin())
        kernel = SocketKernel(Operations(filesystem).by_opcode())
        try:
            yield ServedAlbum(kernel, filesystem, runner)
        finally:
            kernel.close()
            runner.run(stack.aclose())
