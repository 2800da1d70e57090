"""Clients that hold connections get few of them, and little time; and none of it is anyone else's loss."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from musicfs.control.auth import Tokens, enforce_rights, require_token
from musicfs.control.connections import Limits, Listener, limits_within, runner_of, within_limits
from musicfs.control.responses import errors_as_json
from tests.support.raw import Place, connect, exchange, get, status_of, until_closed

TOKENS = Tokens("the full token of this test", "the reading token of this test")
FULL = f"Authorization: Bearer {TOKENS.full}"
READ = f"Authorization: Bearer {TOKENS.read}"
QUICK = Limits(most=6, most_unknown=3, secs=0.3)


class Served:
    """place: where it answers. held: set when a request for /slow is being answered; go: lets it go on."""

    def __init__(self) -> None:
        self.place: Place = Path()
        self.held, self.go = asyncio.Event(), asyncio.Event()

    async def slow(self, request: web.Request) -> web.Response:
        self.held.set()
        await self.go.wait()
        return web.json_response({})


async def _quick(request: web.Request) -> web.Response:
    return web.json_response({"length": len(await request.read())})


async def _large(request: web.Request) -> web.Response:
    return web.Response(body=bytes(32 << 20))


@asynccontextmanager
async def _serving(limits: Limits, trusted: bool = False) -> AsyncIterator[Served]:
    served = Served()
    middlewares = (
        [within_limits, errors_as_json]
        if trusted
        else [within_limits, require_token(TOKENS), enforce_rights, errors_as_json]
    )
    application = web.Application(middlewares=middlewares)
    application.add_routes(
        [
            web.get("/quick", _quick),
            web.post("/quick", _quick),
            web.get("/slow", served.slow),
            web.get("/large", _large),
        ]
    )
    runner = await runner_of(application, shutdown_timeout=0.1)
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as folder:
        if trusted:
            listening = socket.socket(socket.AF_UNIX)
            served.place = Path(folder) / "x.sock"
            listening.bind(os.fspath(served.place))
            listening.listen()
        else:
            listening = socket.create_server(("127.0.0.1", 0))
            served.place = listening.getsockname()
        listener = Listener(listening, runner, limits, trusted=trusted)
        listener.start()
        try:
            yield served
        finally:
            listener.close()
            await runner.cleanup()


@pytest.fixture(params=[False, True], ids=["tcp", "unix"])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with _serving(QUICK, trusted=request.param) as served:
        yield served


@pytest.fixture
async def tcp() -> AsyncIterator[Served]:
    async with _serving(QUICK) as served:
        yield served


@pytest.mark.parametrize("sent", [b"", b"GET /qui", b"GET /quick HTTP/1.1\r\nHost: 127.0.0.1\r\nX: y"])
async def test_a_client_that_sends_no_whole_request_is_closed(either: Served, sent: bytes) -> None:
    assert await exchange(either.place, sent) == b""


async def test_a_head_that_dribbles_does_not_get_more_time(either: Served) -> None:
    reading, writing = await connect(either.place)
    ended = asyncio.ensure_future(until_closed(reading))
    sent = 0
    writing.write(b"GET /quick HTTP/1.1\r\nHost: 127.0.0.1\r\n")
    while not ended.done():
        writing.write(b"X: y\r\n")
        sent += 1
        await asyncio.wait({ended}, timeout=0.05)
        assert sent < 200
    writing.close()


async def test_a_later_head_on_a_connection_that_is_kept_has_no_more_time_than_the_first(either: Served) -> None:
    whole = get("/quick", FULL).replace(b"Connection: close\r\n", b"")
    answer = await exchange(either.place, whole + b"GET /quick HTTP/1.1\r\nHost: 12")
    assert status_of(answer) == 200
    assert answer.count(b"HTTP/1.1") == 1


async def test_requests_without_the_token_do_not_keep_a_connection(tcp: Served) -> None:
    reading, writing = await connect(tcp.place)
    ended = asyncio.ensure_future(until_closed(reading))
    asked = get("/quick").replace(b"Connection: close\r\n", b"")
    tried = 0
    while not ended.done():
        writing.write(asked)
        tried += 1
        await asyncio.wait({ended}, timeout=0.05)
        assert tried < 200
    assert status_of(await ended) == 401
    writing.close()


async def test_an_answer_that_takes_its_time_is_waited_for(either: Served) -> None:
    asking = asyncio.create_task(exchange(either.place, get("/slow", FULL)))
    await either.held.wait()
    late = asyncio.create_task(exchange(either.place, b""))  # closed when its time is over
    await late
    assert not asking.done()
    either.go.set()
    assert status_of(await asking) == 200


async def test_an_answer_that_is_taken_slowly_may_be_and_one_that_is_not_taken_is_given_up(tcp: Served) -> None:
    reading, writing = await connect(tcp.place)
    writing.write(get("/large", FULL))
    taken = 0
    async with asyncio.timeout(60):
        while piece := await reading.read(1 << 20):
            taken += len(piece)
            await asyncio.sleep(0.02)  # as a slow line does: all of it takes longer than a head may
    assert taken > 32 << 20
    writing.close()
    reading, writing = await connect(tcp.place)
    writing.write(get("/large", FULL))
    assert await reading.read(16)
    reading._transport.pause_reading()  # type: ignore[attr-defined]
    for _ in range(3):
        await exchange(tcp.place, b"")  # takes as long as the other may
    reading._transport.resume_reading()  # type: ignore[attr-defined]
    assert len(await until_closed(reading)) < 32 << 20
    writing.close()


async def test_the_strangers_share_is_full_before_the_others_is(tcp: Served) -> None:
    strangers = [await connect(tcp.place) for _ in range(QUICK.most_unknown)]
    answer = await exchange(tcp.place, get("/quick", FULL))
    assert status_of(answer) in (0, 503)
    await asyncio.gather(*(until_closed(reading) for reading, _ in strangers))
    assert status_of(await exchange(tcp.place, get("/quick", FULL))) == 200
    for _, writing in strangers:
        writing.close()


async def test_clients_with_the_token_that_come_all_at_once_are_all_answered() -> None:
    async with _serving(Limits(most=64, most_unknown=4)) as served:
        answers = await asyncio.gather(*(exchange(served.place, get("/quick", FULL)) for _ in range(40)))
    assert {status_of(answer) for answer in answers} == {200}


async def test_no_more_connections_than_agreed_are_there_at_once(either: Served) -> None:
    held = []
    for _ in range(QUICK.most):
        either.held.clear()
        held.append(asyncio.create_task(exchange(either.place, get("/slow", FULL))))
        await either.held.wait()
    answer = await exchange(either.place, get("/quick", FULL))
    assert status_of(answer) in (0, 503)
    either.go.set()
    assert {status_of(answer) for answer in await asyncio.gather(*held)} == {200}
    assert status_of(await exchange(either.place, get("/quick", FULL))) == 200


async def test_a_head_without_end_is_not_collected(tcp: Served) -> None:
    reading, writing = await connect(tcp.place)
    lines = b"".join(b"X-%d: %s\r\n" % (n, b"y" * 100) for n in range(200_000))
    writing.write(b"GET /quick HTTP/1.1\r\nHost: 127.0.0.1\r\n" + lines)
    assert status_of(await until_closed(reading)) in (0, 400, 431)
    writing.close()


async def test_who_may_only_read_changes_nothing(tcp: Served) -> None:
    assert status_of(await exchange(tcp.place, get("/quick", READ))) == 200
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert status_of(await exchange(tcp.place, get("/quick", READ, method=method))) == 403
    assert status_of(await exchange(tcp.place, get("/quick", FULL, "Content-Length: 0", method="POST"))) == 200


async def test_without_descriptors_it_pauses_and_says_so_once(tcp: Served, caplog: pytest.LogCaptureFixture) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    client = socket.socket()
    client.setblocking(False)
    fds = []
    highest = max(int(each.name) for each in Path("/proc/self/fd").iterdir()) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    try:
        try:
            while True:
                fds.append(os.dup(0))
        except OSError:
            pass
        assert isinstance(tcp.place, tuple)
        await asyncio.get_running_loop().sock_connect(client, tcp.place)
        async with asyncio.timeout(30):
            while not caplog.records:
                await asyncio.sleep(0.01)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in fds:
            os.close(fd)
    client.close()
    assert "Traceback" not in caplog.text
    assert status_of(await exchange(tcp.place, get("/quick", FULL))) == 200
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    caplog.clear()


def test_the_limits_leave_nearly_all_descriptors_to_the_music() -> None:
    assert limits_within(65536) == limits_within(1024) == Limits(64, 16)
    for descriptors in (64, 128, 256, 512):
        assert limits_within(descriptors).most <= descriptors // 16
        assert limits_within(descriptors).most_unknown >= 1
