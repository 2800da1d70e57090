"""An SFTP server that answers honestly, but for one procedure: its answers are the test's own bytes.

It speaks the protocol (draft-ietf-secsh-filexfer-02) by itself, over asyncssh's connection, since no real server and no
library's can be made to lie. Runs in a process of its own, with its client (tests/support/confined.py).
"""

from __future__ import annotations

import asyncio
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncssh

from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed, ReplicaFailed
from musicfs.model import HealthStatus, OriginId, Replica
from musicfs.origins.sftp.driver import SftpOrigin
from musicfs.problems import Reason
from musicfs.testing.observed_contract import RecordingObserver, observed
from tests.support.servers.process import HOST

INIT, OPEN, CLOSE, READ, LSTAT, FSTAT, OPENDIR, READDIR, REALPATH, STAT, READLINK = 1, 3, 4, 5, 7, 8, 11, 12, 16, 17, 19
VERSION, STATUS, HANDLE, DATA, NAME, ATTRS = 2, 101, 102, 103, 104, 105
OK, EOF, NO_SUCH_FILE, FAILURE, UNSUPPORTED = 0, 1, 2, 4, 8
FOLDER, REGULAR, LINK = 0o040755, 0o100644, 0o120777
TIME = 1_700_000_000
CONTENT = b"0123456789"
FILE = Replica(OriginId("far"), "a.mp3", len(CONTENT), TIME * 10**9)

Answer = Callable[[bytes], bytes]
"""Takes a request without its type and number; gives the answer's type and, after its number, the rest."""


def text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def attributes(mode: int = REGULAR, size: int = len(CONTENT)) -> bytes:
    return struct.pack(">IQIII", 1 | 4 | 8, size, mode, TIME, TIME)


def status(code: int, message: bytes = b"") -> bytes:
    return bytes([STATUS]) + struct.pack(">I", code) + text(message) + text(b"")


def names(*entries: tuple[bytes, bytes]) -> bytes:
    return (
        bytes([NAME]) + struct.pack(">I", len(entries)) + b"".join(text(n) + text(b"") + about for n, about in entries)
    )


class Server:
    """answers: of the procedures that lie. version: what follows the greeting's number."""

    def __init__(self, answers: dict[int, Answer], version: bytes = b"") -> None:
        self.answers: dict[int, Answer] = {
            OPEN: lambda _: bytes([HANDLE]) + text(b"h"), CLOSE: lambda _: status(OK),
            READ: self._read, LSTAT: self._stat, STAT: self._stat, FSTAT: lambda _: bytes([ATTRS]) + attributes(),
            OPENDIR: self._open_folder, READDIR: self._list, REALPATH: self._real,
            READLINK: lambda _: status(NO_SUCH_FILE), **answers,
        }  # fmt: skip
        self.requests = 0
        self._version = version
        self._listed = False

    def answer(self, packet: bytes) -> bytes:
        self.requests += 1
        if packet[0] == INIT:
            return text(bytes([VERSION]) + struct.pack(">I", 3) + self._version)
        known = self.answers.get(packet[0])
        told = known(packet[5:]) if known else status(UNSUPPORTED)
        return text(told[:1] + packet[1:5] + told[1:])

    def _read(self, request: bytes) -> bytes:
        offset, size = struct.unpack(">QI", request[-12:])
        data = CONTENT[offset : offset + size]
        return bytes([DATA]) + text(data) if data else status(EOF)

    def _stat(self, request: bytes) -> bytes:
        return bytes([ATTRS]) + attributes(REGULAR if request.endswith(b".mp3") else FOLDER)

    def _open_folder(self, _: bytes) -> bytes:
        self._listed = False
        return bytes([HANDLE]) + text(b"d")

    def _list(self, _: bytes) -> bytes:
        if self._listed:
            return status(EOF)
        self._listed = True
        return names((b".", attributes(FOLDER)), (b"a.mp3", attributes()))

    def _real(self, request: bytes) -> bytes:
        return names((request[4:], attributes(FOLDER)))


class Speaker(asyncssh.SSHServerSession[bytes]):
    """The SFTP subsystem of one connection, without asyncssh's own."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._received = bytearray()

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan
        chan.set_encoding(None)

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    def data_received(self, data: bytes, datatype: object) -> None:
        self._received += data
        while len(self._received) >= 4:
            size = int.from_bytes(self._received[:4], "big")
            if len(self._received) < 4 + size:
                return
            packet = bytes(self._received[4 : 4 + size])
            del self._received[: 4 + size]
            self._channel.write(self._server.answer(packet))


class Listener(asyncssh.SSHServer):
    def __init__(self, server: Server) -> None:
        self._server = server

    def session_requested(self) -> Speaker:
        return Speaker(self._server)


@asynccontextmanager
async def serving(server: Server, timeout_ms: int = 2000) -> AsyncIterator[SftpOrigin]:
    with tempfile.TemporaryDirectory(prefix="answers-") as folder:
        host, user = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        user.write_private_key(f"{folder}/user")
        user.write_public_key(f"{folder}/user.pub")
        listener = await asyncssh.listen(
            HOST, 0, server_host_keys=[host], authorized_client_keys=f"{folder}/user.pub",
            server_factory=lambda: Listener(server),
        )  # fmt: skip
        port = listener.get_port()
        known = Path(folder, "known")
        known.write_text(f"[{HOST}]:{port} {host.export_public_key().decode()}")
        where = {"host": HOST, "port": port, "path": "/m", "user": "me", "timeout_ms": timeout_ms}
        table = {"id": "far", "origin_type": "sftp", "key_file": f"{folder}/user", "known_hosts": str(known), **where}
        origin = SftpOrigin(OriginConfig.model_validate(table))
        try:
            yield origin
        finally:
            await origin.aclose()
            listener.close()


async def listing(origin: SftpOrigin) -> list[str]:
    return [stat.path async for stat in origin.scan()]


async def fails(name: str, call: Awaitable[object]) -> None:
    try:
        result = await asyncio.wait_for(call, 60)
    except (OriginFailed, ReplicaFailed):
        return
    raise AssertionError(f"{name}: taken as {result!r:.200}")


# Attacks


async def an_honest_server_is_served() -> None:
    async with serving(Server({})) as origin:
        assert await origin.health() is HealthStatus.HEALTHY
        assert await listing(origin) == ["a.mp3"]
        assert await origin.read(FILE, 2, 5) == b"23456"


def _page(name: bytes, count: int = 1000) -> Answer:
    page = names(*[(name, attributes())] * count)
    return lambda _: page


async def no_listing_without_end_is_taken() -> None:
    for name in (b"x" * 200 + b".mp3", b"."):
        async with serving(Server({READDIR: _page(name)})) as origin:
            await fails(f"the same name {name!r}", listing(origin))
            with suppress(OriginFailed):
                await origin.health()


async def a_listing_that_no_one_waits_for_ends() -> None:
    async with serving(Server({READDIR: _page(b"a.mp3", 1)})) as origin:
        with suppress(OriginFailed, TimeoutError):
            await asyncio.wait_for(listing(origin), 0.5)
        (session,) = origin._sessions.living
        await asyncio.wait_for(asyncio.gather(*session._tasks, return_exceptions=True), 10)


async def an_odd_name_costs_that_name_alone() -> None:
    odd = [b"../../etc/x.mp3", b"a/b.mp3", b"..", b".", b"", b"\0.mp3", b"y" * 3000 + b".mp3", b"/", b"/etc"]
    page = names(
        *[(name, attributes(mode)) for name in odd for mode in (REGULAR, FOLDER, LINK)], (b"a.mp3", attributes())
    )
    server = Server({})
    server.answers[READDIR] = _once(server, page)
    async with serving(server) as origin:
        assert await listing(origin) == ["a.mp3"]


def _once(server: Server, page: bytes) -> Answer:
    def answer(request: bytes) -> bytes:
        if server._listed:
            return status(EOF)
        server._listed = True
        return page

    return answer


async def folders_that_hold_themselves_are_listed_to_a_depth() -> None:
    server = Server({})
    server.answers[READDIR] = _once(server, names((b"d", attributes(FOLDER)), (b"a.mp3", attributes())))
    async with serving(server) as origin:
        observer = RecordingObserver()
        found = await asyncio.wait_for(observed(origin, observer), 60)
        assert 1 < len(found) <= 101, len(found)
        assert [problem.reason for problem in observer.problems] == [Reason.BAD_NAME, Reason.DEEP_FOLDER]


async def packets_that_no_one_needs_end_the_connection() -> None:
    many = struct.pack(">I", 4000) + (text(b"n") + text(b"") + attributes()) * 4000
    attacks: dict[str, dict[int, Answer]] = {
        "handle": {OPEN: lambda _: bytes([HANDLE]) + text(b"h" * 100_000)},
        "status": {OPEN: lambda _: status(FAILURE, b"x" * 1_000_000)},
        "attributes": {STAT: lambda _: bytes([ATTRS]) + b"\x80\0\0\0" + struct.pack(">I", 10**6) + b"\0" * 10**6},
        "extensions": {STAT: lambda _: bytes([ATTRS]) + b"\x80\0\0\0" + struct.pack(">I", 2**32 - 1) + b"\0" * 8000},
        "names": {READDIR: lambda _: bytes([NAME]) + struct.pack(">I", 2**32 - 1) + many[4:]},
        "many names": {READDIR: lambda _: names(*[(b"a", b"\0\0\0\0")] * 20_000)},
        "data": {READ: lambda _: bytes([DATA]) + text(b"x" * 3_000_000)},
        "real path": {REALPATH: lambda _: names((b"/" * 100_000, b"\0\0\0\0"))},
        "nothing": {STAT: lambda _: bytes([ATTRS]), READ: lambda _: bytes([DATA]), READDIR: lambda _: bytes([NAME])},
    }  # fmt: skip
    for name, answers in attacks.items():
        async with serving(Server(answers)) as origin:
            for _ in range(2):
                try:
                    await asyncio.wait_for(origin.health(), 20)
                    found = await asyncio.wait_for(listing(origin), 20)
                    data = await asyncio.wait_for(origin.read(FILE, 0, 10), 20)
                except (OriginFailed, ReplicaFailed):
                    continue
                raise AssertionError(f"{name}: {found!r:.200} {data!r:.200}")


async def what_is_read_is_what_was_asked_for() -> None:
    def longer(_: bytes) -> bytes:
        return bytes([DATA]) + text(b"x" * 20_000)

    async with serving(Server({READ: longer})) as origin:
        await fails("longer", origin.read(FILE, 0, 10))
    async with serving(Server({READ: lambda _: bytes([DATA]) + text(b"")})) as origin:
        await fails("nothing", origin.read(FILE, 0, 10))
    async with serving(Server({READ: lambda _: status(EOF)})) as origin:
        await fails("the end", origin.read(FILE, 0, 10))
    async with serving(Server({FSTAT: lambda _: bytes([ATTRS]) + b"\0\0\0\0"})) as origin:
        await fails("no attributes", origin.read(FILE, 0, 10))


async def a_limit_of_one_byte_is_not_believed() -> None:
    """By which a block would be a quarter of a million requests."""
    limits = text(b"limits@openssh.com") + text(b"1")
    server = Server({200: lambda _: bytes([201]) + struct.pack(">QQQQ", 1, 1, 1, 1)}, version=limits)
    async with serving(server) as origin:
        assert await origin.read(FILE, 0, 10) == CONTENT
        assert server.requests < 20, server.requests


async def links_lead_nowhere_bad() -> None:
    async def looked_at(target: Answer, real: Answer, links: int = 50) -> None:
        server = Server({READLINK: target, REALPATH: real})
        page = names(*[(b"l%d" % n, attributes(LINK)) for n in range(links)], (b"a.mp3", attributes()))
        server.answers[READDIR] = _once(server, page)
        async with serving(server) as origin:
            try:
                found = await asyncio.wait_for(listing(origin), 60)
            except OriginFailed:
                return
            assert len(found) <= 60 * 101

    counter = iter(range(10**9))
    await looked_at(lambda _: names((b"x" * 200_000, b"")), lambda r: names((r[4:], b"\0\0\0\0")))
    await looked_at(lambda _: names((b"/m", b"\0\0\0\0")), lambda r: names((r[4:], b"\0\0\0\0")))
    await looked_at(
        lambda _: names((b"/elsewhere", b"\0\0\0\0")),
        lambda r: names((b"/m" if r[4:] == b"/m" else b"/new%d" % next(counter), b"\0\0\0\0")),
        links=1,
    )


async def a_flood_before_the_login_takes_no_longer_than_the_timeout() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(b"hello, please wait" * 10 + (b"\r\n" if flood_lines else b""))
                await writer.drain()

    for lines in (True, False):
        flood_lines = lines
        server = await asyncio.start_server(flood, HOST, 0)
        table = {"id": "far", "origin_type": "sftp", "host": HOST, "port": server.sockets[0].getsockname()[1]}
        origin = SftpOrigin(OriginConfig.model_validate({**table, "path": "/m", "user": "me", "timeout_ms": 1000}))
        await asyncio.wait_for(fails("flood", origin.health()), 20)
        await origin.aclose()
        server.close()
