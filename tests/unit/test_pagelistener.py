"""What lets a browser see the page asks for a token, takes nobody else's name, and changes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from musicfs.control.pagelistener import PageListener
from musicfs.control.routes.page import PageRoutes


async def _status(request: web.Request) -> web.Response:
    return web.json_response({"asked": request.method})


@pytest.fixture
async def listener() -> AsyncIterator[PageListener]:
    """One that runs before a socket that answers /status."""
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as folder:
        application = web.Application()
        application.add_routes([web.get("/status", _status), web.post("/status", _status), *PageRoutes().routes()])
        runner = web.AppRunner(application)
        await runner.setup()
        await web.UnixSite(runner, f"{folder}/x.sock").start()
        listener = PageListener(Path(folder) / "x.sock")
        async with listener.running():
            yield listener
        await runner.cleanup()


@pytest.fixture
def address(listener: PageListener) -> str:
    return listener.address


async def _ask(method: str, url: str, **headers: str) -> int:
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers) as answer:
        return answer.status


async def test_only_who_has_the_token_learns_anything(address: str) -> None:
    base, _, token = address.partition("#token=")
    assert await _ask("GET", base) == 200
    assert await _ask("GET", base + "page/page.css") == 200
    assert await _ask("GET", base + "status") == 401
    assert await _ask("GET", base + "status", Authorization="Bearer wrong") == 401
    assert await _ask("GET", base + "status", Authorization=f"Bearer {token}") == 200


async def test_an_address_for_once_leads_to_the_page_once(listener: PageListener) -> None:
    async with aiohttp.ClientSession() as session:
        once = listener.address_for_once()
        token = listener.address.partition("#")[2]
        assert token not in once
        async with session.get(once + "x", allow_redirects=False) as answer:
            assert answer.status == 403
        once = listener.address_for_once()
        async with session.get(once, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (302, f"/#{token}")
        async with session.get(once, allow_redirects=False) as answer:
            assert answer.status == 403


async def test_who_comes_by_another_name_is_refused(address: str) -> None:
    base, _, token = address.partition("#token=")
    for path in ("", "status"):
        assert await _ask("GET", base + path, Authorization=f"Bearer {token}", Host="evil.example") == 403


async def test_nothing_can_be_changed(address: str) -> None:
    base, _, token = address.partition("#token=")
    assert await _ask("POST", base + "status", Authorization=f"Bearer {token}") == 405


async def test_only_files_of_the_page_can_be_had(address: str) -> None:
    base = address.partition("#")[0]
    for path in ("page/..%2fserver.py", "page/%2e%2e%2fserver.py", "page/nothing.js", "page/__init__.py", "page/.css"):
        assert await _ask("GET", base + path) == 404, path


async def test_a_mount_that_has_ended_is_told_of(address: str, tmp_path: Path) -> None:
    async with PageListener(tmp_path / "nobody.sock").running() as other:
        assert await _ask("GET", other.partition("#")[0]) == 502
