"""The example of a kind that is a package of its own keeps the contract, against a real nginx."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from tests.support.servers.nginx import PASSWORD, Nginx
from tests.support.servers.process import HOST, free_port

from musicfs.config.kinds import kind_entry_points
from musicfs.config.load import origin_from_argument
from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault, UsageError
from musicfs.model import HealthStatus, OriginId, Replica
from musicfs.problems import Reason
from musicfs.testing.observed_contract import ObservedContract, RecordingObserver, observed
from musicfs.testing.origin_contract import OriginContract, OriginEnv, listing, replica
from musicfs_webdav.driver import WebdavOrigin
from musicfs_webdav.settings import WebdavSettings, from_url
from webdav_env import WebdavEnv, server

__all__ = ["server"]


@pytest.fixture
async def env(server: Nginx) -> AsyncIterator[WebdavEnv]:
    env = WebdavEnv(server)
    yield env
    await env.aclose()
    if env.root.exists():
        env.remove_root()


class TestWebdavObserved(ObservedContract):
    """The contract; but nginx says only that something went wrong."""

    closed_reason = Reason.BROKEN_FOLDER


class TestWebdav(OriginContract):
    async def test_a_denied_folder_fails_the_scan_by_name(self, env: OriginEnv) -> None:
        """As the contract has it; but nginx says only that something went wrong."""
        env.write("open/a.flac", b"12345")
        env.write("closed/b.flac", b"12345")
        with env.denied("closed"), pytest.raises(OriginFailed, match=r"closed' can't be listed: .*HTTP 500") as failed:
            await listing(await env.open())
        assert failed.value.fault is OriginFault.IO


def test_it_is_found_as_an_installed_kind_by_its_url() -> None:
    assert kind_entry_points()["webdav"].value == "musicfs_webdav:KIND"
    told = origin_from_argument("webdav://me@nas:8080/Music", [])
    assert told == {
        "id": "Music", "priority": 1, "origin_type": "webdav", "url": "http://nas:8080/Music", "user": "me"
    }  # fmt: skip


async def test_a_file_modified_in_place_is_refused_by_its_time(env: WebdavEnv) -> None:
    env.write("a", b"12345")
    origin = await env.open()
    file = await replica(origin, "a")
    env.write("a", b"54321")
    with pytest.raises(ReplicaFailed) as failed:
        await origin.read(file, 0, 5)
    assert failed.value.fault is ReplicaFault.CHANGED


# Who may


async def test_what_is_open_to_all_needs_no_user(env: WebdavEnv) -> None:
    env.write("a", b"12345")
    origin = await env.open(url=f"{env.server.url}/open/music%20&%20more", user=None, password=None)
    assert set(await listing(origin)) == {"a"}


@pytest.mark.parametrize(
    ("access", "told"),
    [
        ({"password": "another"}, "the password of 'me' is wrong"),
        ({"password": None}, "set MUSICFS_CLOUD_PASSWORD"),
        ({"user": None, "password": None}, "it requires a user and a password"),
    ],
)
async def test_who_may_not_is_told_what_to_do(env: WebdavEnv, access: Mapping[str, object], told: str) -> None:
    env.write("a", b"12345")
    file = await replica(await env.open(), "a")
    origin = await env.open(False, **access)
    for attempt in (origin.health(), origin.read(file, 0, 5), listing(origin)):
        with pytest.raises(OriginFailed, match=told) as failed:
            await attempt
        assert failed.value.fault is OriginFault.DENIED
        assert "another" not in f"{failed.value!r} {failed.value.__cause__!r} {vars(origin)}"


async def test_a_password_that_was_mended_counts_at_once(env: WebdavEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICFS_CLOUD_PASSWORD", "another")
    origin = await env.open()
    with pytest.raises(OriginFailed):
        await origin.health()
    monkeypatch.setenv("MUSICFS_CLOUD_PASSWORD", PASSWORD)
    assert await origin.health() is HealthStatus.HEALTHY


async def test_a_port_where_nothing_listens_is_refused(env: WebdavEnv) -> None:
    with pytest.raises(OriginFailed) as failed:
        await (await env.open(url=f"http://{HOST}:{free_port()}/")).health()
    assert failed.value.fault is OriginFault.REFUSED


# Servers that tell ETags, which nginx does not in listings


class Tagging:
    """A server with one file, and whatever ETags the test gives it."""

    def __init__(self) -> None:
        self.tag = self.sent = '"one"'
        self.data = b"12345"

    async def answer(self, request: web.Request) -> web.Response:
        changed = "Tue, 24 Nov 2026 00:56:03 GMT"
        if request.method == "PROPFIND":
            return web.Response(
                status=207, content_type="application/xml",
                text='<multistatus xmlns="DAV:"><response><href>/a</href><propstat><prop><resourcetype/>'
                f"<getcontentlength>{len(self.data)}</getcontentlength><getlastmodified>{changed}</getlastmodified>"
                f"<getetag>{self.tag}</getetag></prop><status>HTTP/1.1 200 OK</status></propstat></response>"
                "</multistatus>",
            )  # fmt: skip
        if request.headers.get("if-match", self.tag) != self.tag:
            return web.Response(status=412)
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["range"])
        assert found is not None
        first, last = int(found[1]), int(found[2])
        headers = {"content-range": f"bytes {first}-{last}/{len(self.data)}", "etag": self.sent}
        return web.Response(status=206, body=self.data[first : last + 1], headers=headers | {"last-modified": changed})


@asynccontextmanager
async def tagging() -> AsyncIterator[tuple[Tagging, WebdavOrigin]]:
    server, port = Tagging(), free_port()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    table = {"id": "cloud", "origin_type": "webdav", "url": f"http://{HOST}:{port}"}
    origin = WebdavOrigin(OriginConfig.model_validate(table))
    try:
        yield server, origin
    finally:
        await origin.aclose()
        await runner.cleanup()


async def test_an_etag_is_the_version_where_the_server_tells_one() -> None:
    async with tagging() as (server, origin):
        file = await replica(origin, "a")
        assert file.etag == "one"
        assert await origin.read(file, 1, 3) == b"234"
        server.tag = server.sent = '"two"'
        with pytest.raises(ReplicaFailed) as failed:
            await origin.read(file, 1, 3)
        assert failed.value.fault is ReplicaFault.CHANGED


async def test_bytes_of_another_etag_are_refused_though_the_server_ignores_the_condition() -> None:
    async with tagging() as (server, origin):
        file = await replica(origin, "a")
        server.sent = '"two"'
        with pytest.raises(ReplicaFailed) as failed:
            await origin.read(file, 1, 3)
        assert failed.value.fault is ReplicaFault.CHANGED


async def test_a_weak_etag_is_none() -> None:
    async with tagging() as (server, origin):
        server.tag = server.sent = 'W/"one"'
        file = await replica(origin, "a")
        assert file.etag is None
        assert await origin.read(file, 1, 3) == b"234"


# Answers that no honest server gives


def listed(*names: str) -> str:
    changed = "<getlastmodified>Tue, 24 Nov 2026 00:56:03 GMT</getlastmodified>"
    about = (
        f"<prop><resourcetype/><getcontentlength>1</getcontentlength>{changed}</prop><status>HTTP/1.1 200 OK</status>"
    )
    folder = "<response><href>/</href><propstat><prop><resourcetype><collection/></resourcetype></prop>"
    folder += "<status>HTTP/1.1 200 OK</status></propstat></response>"
    entries = (f"<response><href>/{name}</href><propstat>{about}</propstat></response>" for name in names)
    return f'<multistatus xmlns="DAV:">{folder}{"".join(entries)}</multistatus>'


@asynccontextmanager
async def telling(answer: Callable[[web.Request], web.Response]) -> AsyncIterator[WebdavOrigin]:
    async def handle(request: web.Request) -> web.Response:
        return answer(request)

    app, port = web.Application(), free_port()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    origin = WebdavOrigin(
        OriginConfig.model_validate({"id": "cloud", "origin_type": "webdav", "url": f"http://{HOST}:{port}"})
    )
    try:
        yield origin
    finally:
        await origin.aclose()
        await runner.cleanup()


def multistatus(text: str) -> web.Response:
    return web.Response(status=207, content_type="application/xml", text=text)


async def test_a_probe_takes_the_beginning_of_a_large_folder_for_all_of_it() -> None:
    text = listed(*(f"{number}.flac" for number in range(2000)))
    assert len(text) > 64 << 10
    async with telling(lambda request: multistatus(text)) as origin:
        assert await origin.health() is HealthStatus.HEALTHY
        assert len(await listing(origin)) == 2000


async def test_a_name_that_no_file_can_have_costs_that_name_alone() -> None:
    names = ["good.flac", "a/b.flac", "../c.flac", "..", ".", "%00.flac", "x" * 2000]
    async with telling(lambda request: multistatus(listed(*names))) as origin:
        assert set(await listing(origin)) == {"good.flac"}


async def test_folders_that_hold_themselves_are_listed_to_a_depth() -> None:
    def nested(request: web.Request) -> web.Response:
        path = request.path.rstrip("/")
        folder = "<prop><resourcetype><collection/></resourcetype></prop><status>HTTP/1.1 200 OK</status>"
        entries = (
            f"<response><href>{each}/</href><propstat>{folder}</propstat></response>" for each in (path, f"{path}/d")
        )
        return multistatus(f'<multistatus xmlns="DAV:">{"".join(entries)}</multistatus>')

    async with telling(nested) as origin:
        observer = RecordingObserver()
        assert await observed(origin, observer) == {}
        assert [problem.reason for problem in observer.problems] == [Reason.DEEP_FOLDER]


async def test_an_entry_that_is_kept_back_or_makes_no_sense_costs_itself_alone() -> None:
    def kept(href: str, status: str) -> str:
        return f"<response><href>{href}</href><status>{status}</status></response>"

    changed = "<getlastmodified>Tue, 24 Nov 2026 00:56:03 GMT</getlastmodified>"
    text = listed("a.flac", "sized.flac", "dated.flac")
    sized_at, dated_at = (text.index(f"<response><href>/{name}.flac") for name in ("sized", "dated"))
    text = (
        text[:sized_at]
        + text[sized_at:dated_at].replace("<getcontentlength>1<", "<getcontentlength>-1<")
        + text[dated_at:].replace(changed, "<getlastmodified>yesterday</getlastmodified>")
    )
    bad = [
        kept("/kept/", "HTTP/1.1 403 Forbidden"), kept("/kept.flac", "HTTP/1.1 403 Forbidden"),
        kept("/broken.flac", "HTTP/1.1 500 No"), kept("/odd.flac", "what?"), kept("/gone.flac", "HTTP/1.1 404 Gone"),
    ]  # fmt: skip
    async with telling(
        lambda request: multistatus(text.replace("</multistatus>", "".join(bad) + "</multistatus>"))
    ) as origin:
        observer = RecordingObserver()
        assert {path: stat.mtime_ns > 0 for path, stat in (await observed(origin, observer)).items()} == {
            "a.flac": True, "dated.flac": False
        }  # fmt: skip
        assert observer.reasons == {
            "sized.flac": Reason.BAD_SIZE, "kept": Reason.CLOSED_FOLDER, "kept.flac": Reason.DENIED,
            "broken.flac": Reason.READ_ERROR, "odd.flac": Reason.READ_ERROR,
        }  # fmt: skip


async def test_a_folder_with_too_much_in_it_is_reported_as_big(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musicfs_webdav.multistatus.MAX", 100)
    async with telling(lambda request: multistatus(listed(*map(str, range(200))))) as origin:
        observer = RecordingObserver()
        await observed(origin, observer)
        assert observer.reasons == {"": Reason.BIG_FOLDER}


@pytest.mark.parametrize(
    "place", ["bytes 0-0/" + "9" * 5000, "bytes " + "9" * 5000 + "-1/1", "bytes 1-2/1", "bytes 0-0/-1"]
)
async def test_a_range_that_is_said_to_lie_elsewhere_is_refused(place: str) -> None:
    changed = {"last-modified": "Tue, 24 Nov 2026 00:56:03 GMT"}

    file = Replica(OriginId("cloud"), "a", 1, 1795481763 * 10**9)
    headers = changed | {"content-range": place}
    async with telling(lambda request: web.Response(status=206, body=b"x", headers=headers)) as origin:
        with pytest.raises(OriginFailed) as failed:
            await origin.read(file, 0, 1)
        assert failed.value.fault is OriginFault.IO


# Settings


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("webdav://nas/Music", {"url": "http://nas/Music"}),
        ("webdavs://a%40b@nas:8443/M%20x/", {"url": "https://nas:8443/M%20x/", "user": "a@b"}),
    ],
)
def test_urls_stand_for_settings(url: str, settings: Mapping[str, object]) -> None:
    assert from_url(urlsplit(url)) == settings
    WebdavSettings.model_validate(settings)


@pytest.mark.parametrize("url", ["webdav://me:secret@nas/", "webdav:///x", "webdav://nas/?x", "webdavs://nas/#x"])
def test_urls_that_can_not_be_used_are_told(url: str) -> None:
    with pytest.raises(UsageError) as failed:
        origin_from_argument(url, [])
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize("url", ["nas/music", "ftp://nas/", "https://me:secret@nas/", "https://nas/?x"])
def test_an_address_that_is_none_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        WebdavSettings(url=url)
