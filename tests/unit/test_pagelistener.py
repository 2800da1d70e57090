"""What lets a browser see the page asks for a token, takes no other name, and changes nothing."""

from __future__ import annotations

import asyncio
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from musicfs.control import page_keys
from musicfs.control.page_keys import PageKeys, pass_file
from musicfs.control.page_proxy import PageProxy
from musicfs.control.routes.page import PageRoutes, is_page
from tests.support.raw import exchange, get, status_of

FORM = "Content-Type: application/x-www-form-urlencoded"
JSON = "Content-Type: application/json"
# Each leads to /status where a path is resolved, decoded or taken from a whole URL by someone on the way.
SPELLINGS = [
    "/status", "//status", "/./status", "/page/../status", "/page/%2e%2e/status", "/page/%2E%2E/status",
    "/page/..%2fstatus", "/page/..%2Fstatus", "/page/%252e%252e/status", "/page/%252e%252e%252fstatus",
    "/page//../status", "/page/./../status", "/page/main.js/../../status", "/page/main.js/%2e%2e/%2e%2e/status",
    "/page/..\\status", "/page\\..\\status", "/page/%5c..%5cstatus", "/page/..;/status", "/page/main.js;/../../status",
    "/page/main.js#/../../status", "/page/main.js%00/../../status", "/page/once/../../status",
    "/page/../page/../status",
    "/?/../status/", "/page/page.css/..%2f..%2fstatus", "/%2e/status", "/x/../status", "/status?", "/status#",
    "http://127.0.0.1/status", "http://127.0.0.1/page/../status", "HTTP://localhost/status", "status", "page/../status",
    "http://127.0.0.1/page/main.js/../../status", "//127.0.0.1/status", "///status", "/page/\u2024\u2024/status", "*",
]  # fmt: skip


async def _status(request: web.Request) -> web.Response:
    return web.json_response({"secret": request.method})


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(clock: Clock) -> PageKeys:
    return PageKeys(clock)


@asynccontextmanager
async def _mount(folder: Path) -> AsyncIterator[Path]:
    """A socket that answers /status, and anything that leads there."""
    application = web.Application()
    application.add_routes([web.get("/status", _status), web.post("/status", _status), *PageRoutes().routes()])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.UnixSite(runner, f"{folder}/x.sock").start()
    yield folder / "x.sock"
    await runner.cleanup()


@pytest.fixture
async def listener(keys: PageKeys) -> AsyncIterator[PageProxy]:
    """One that runs before a socket that answers /status."""
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as folder:
        async with _mount(Path(folder)) as socket:
            listener = PageProxy(socket, keys)
            async with listener.running():
                yield listener


async def _send(listener: PageProxy, sent: bytes) -> bytes:
    port = urlsplit(listener.address).port
    assert port is not None
    return await exchange(("127.0.0.1", port), sent)


async def _post(listener: PageProxy, path: str, kind: str, body: str) -> bytes:
    return await _send(listener, get(path, kind, f"Content-Length: {len(body)}", method="POST") + body.encode())


def _bearer(keys: PageKeys) -> str:
    return f"Authorization: Bearer {keys.use_code(keys.code)}"


async def test_only_the_files_of_the_page_need_no_token(listener: PageProxy, keys: PageKeys) -> None:
    for path in ("/", "/page/page.css", "/page/main.js", "/page/enter.js"):
        assert status_of(await _send(listener, get(path))) == 200, path
    assert status_of(await _send(listener, get("/status"))) == 401
    assert status_of(await _send(listener, get("/status", "Authorization: Bearer wrong"))) == 401
    assert status_of(await _send(listener, get("/status", "Authorization: Bearer "))) == 401
    answer = await _send(listener, get("/status", _bearer(keys)))
    assert (status_of(answer), b'{"secret": "GET"}' in answer) == (200, True)


@pytest.mark.parametrize("target", SPELLINGS)
async def test_no_spelling_of_a_path_leads_past_the_token(listener: PageProxy, target: str) -> None:
    answer = await _send(listener, get(target))
    assert b"secret" not in answer
    assert status_of(answer) in (400, 401) or (target[1:2] == "?" and status_of(answer) == 200), answer


def test_a_path_is_of_the_page_only_to_the_letter() -> None:
    assert [each for each in SPELLINGS if is_page(each)] == ["/?/../status/"]  # a query, of "/"
    assert all(map(is_page, ("/", "/page/main.js", "/page/icon.svg", "/page/main.js?v=2")))
    assert not any(map(is_page, ("", "/page/", "/page/main.js/", "/page/main.js\n", "/page/..", "/page/a/b.js")))


async def test_a_request_by_another_name_is_refused(listener: PageProxy, keys: PageKeys) -> None:
    bearer = _bearer(keys)
    for host in ("evil.example", "evil@127.0.0.1", "127.0.0.1.evil.example", "127.0.0.1@evil", "127.0.0.1:80:80", ""):
        for path in ("/", "/status"):
            assert status_of(await _send(listener, get(path, bearer, host=host))) in (400, 403), host
    for path in ("/", "/status"):
        twice = get(path, bearer, "Host: evil.example")
        assert status_of(await _send(listener, twice)) in (400, 403)


async def test_nothing_can_be_changed(listener: PageProxy, keys: PageKeys) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert status_of(await _send(listener, get("/status", _bearer(keys), method=method))) == 405


async def test_only_files_of_the_page_can_be_had(listener: PageProxy, keys: PageKeys) -> None:
    bearer = _bearer(keys)
    for path in ("page/..%2fserver.py", "page/%2e%2e%2fserver.py", "page/nothing.js", "page/x.py", "page/.css"):
        assert status_of(await _send(listener, get(f"/{path}", bearer))) == 404, path


async def test_answers_name_no_versions(listener: PageProxy) -> None:
    for sent in (get("/"), get("/status"), b"\x00\xff\r\n\r\n", get("/page/none.js")):
        answer = (await _send(listener, sent)).lower()
        assert status_of(answer.upper()) >= 200
        assert b"aiohttp" not in answer
        assert b"python/" not in answer


async def test_a_ticket_opens_the_page_once_and_its_token_is_in_no_address(listener: PageProxy, keys: PageKeys) -> None:
    ticket = keys.new_ticket()
    assert status_of(await _post(listener, "/", FORM, "ticket=wrong")) == 403
    answer = await _post(listener, "/", FORM, f"ticket={ticket}")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status_of(answer) == 200
    assert b"cache-control: no-store" in head.lower()
    assert b"location:" not in head.lower()
    assert b"set-cookie" not in head.lower()
    assert ticket.encode() not in answer
    token = body.partition(b'name="musicfs-token" content="')[2].partition(b'"')[0].decode()
    assert token.encode() not in head
    bearer = f"Authorization: Bearer {token}"
    assert status_of(await _send(listener, get("/status", bearer))) == 200
    assert status_of(await _post(listener, "/", FORM, f"ticket={ticket}")) == 403
    assert status_of(await _send(listener, get("/status", bearer))) == 401  # one of the two was a thief


async def test_a_ticket_that_was_used_twice_ends_no_other_session(listener: PageProxy, keys: PageKeys) -> None:
    bearer, ticket = _bearer(keys), keys.new_ticket()
    for _ in range(2):
        await _post(listener, "/", FORM, f"ticket={ticket}")
    assert status_of(await _send(listener, get("/status", bearer))) == 200


def test_a_ticket_that_is_too_old_is_worth_nothing(keys: PageKeys, clock: Clock) -> None:
    ticket = keys.new_ticket()
    assert keys.is_waiting(ticket)
    clock.now = page_keys.TICKET_SECS
    assert not keys.is_waiting(ticket)
    assert keys.use_ticket(ticket) is None


async def test_the_code_opens_the_page_and_wrong_ones_are_counted(listener: PageProxy, keys: PageKeys) -> None:
    typed = keys.code.lower().replace("-", " ")
    answer = await _post(listener, "/page/code", JSON, f'{{"code": "{typed}"}}')
    assert status_of(answer) == 200
    token = answer.partition(b'"token": "')[2].partition(b'"')[0].decode()
    assert status_of(await _send(listener, get("/status", f"Authorization: Bearer {token}"))) == 200
    for _ in range(page_keys.MAX_WRONG_CODES):
        assert status_of(await _post(listener, "/page/code", JSON, '{"code": "WRONG"}')) == 403
    refused = await _post(listener, "/page/code", JSON, f'{{"code": "{keys.code}"}}')
    assert status_of(refused) == 403
    assert b"start it again" in refused
    assert status_of(await _send(listener, get("/status", f"Authorization: Bearer {token}"))) == 200


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"code": null}', '{"code": ["A"]}', '{"code": "\\ud800"}', "\xff"])
async def test_what_is_no_code_is_refused(listener: PageProxy, body: str) -> None:
    assert status_of(await _post(listener, "/page/code", JSON, body)) in (400, 403)


async def test_a_page_of_another_site_can_not_use_up_the_codes(listener: PageProxy, keys: PageKeys) -> None:
    """A browser sends text and forms for any page, and JSON only if the answer to its question, OPTIONS, allows it."""
    for kind in ("Content-Type: text/plain", FORM):
        for _ in range(page_keys.MAX_WRONG_CODES + 1):
            assert status_of(await _post(listener, "/page/code", kind, '{"code": "WRONG"}')) == 415
    preflight = get("/page/code", "Origin: http://evil.example", method="OPTIONS")
    assert status_of(await _send(listener, preflight)) == 401
    assert keys.use_code(keys.code) is not None


def test_a_code_can_not_be_guessed() -> None:
    codes = {PageKeys().code for _ in range(50)}
    assert len(codes) == 50
    assert {len(code.replace("-", "")) for code in codes} == {12}


def test_the_file_for_the_browser_is_for_this_user_alone_and_goes_in_the_end(tmp_path: Path) -> None:
    with pass_file(tmp_path, "http://127.0.0.1:1/", "the-ticket") as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "the-ticket" in path.read_text()
        assert "the-ticket" not in path.name
    assert list(tmp_path.iterdir()) == []


async def test_a_mount_that_has_ended_is_told_of(tmp_path: Path) -> None:
    listener = PageProxy(tmp_path / "nobody.sock", PageKeys())
    async with listener.running():
        assert status_of(await _send(listener, get("/"))) == 502


async def test_clients_that_show_no_token_get_few_places_and_little_time(listener: PageProxy, keys: PageKeys) -> None:
    address = urlsplit(listener.address)
    assert address.port is not None
    held = [await asyncio.open_connection("127.0.0.1", address.port) for _ in range(40)]
    ends = [asyncio.ensure_future(reading.read(12)) for reading, _ in held]
    async with asyncio.timeout(60):
        while sum(end.done() for end in ends) < 24:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED, timeout=0.01)
    assert sum(end.done() for end in ends) == 24
    for _, writing in held:
        writing.close()
    await asyncio.gather(*ends, return_exceptions=True)
