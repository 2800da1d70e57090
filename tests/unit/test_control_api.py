"""The control API is what its OpenAPI file says, over TCP asks for its token, and takes hostile input calmly."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import tempfile
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import openapi_spec_validator
import pytest
import schemathesis
import yaml
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import (
    content_type_conformance,
    negative_data_rejection,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from schemathesis.config import SchemathesisConfig

from musicfs.app.live_config import ConfigSource
from musicfs.config.load import load_config
from musicfs.config.models import ControlConfig
from musicfs.control.routes import events as event_routes
from musicfs.control.routes.openapi import description
from musicfs.events import AllOriginsUnhealthy, HealthChanged
from musicfs.model import HealthStatus, OriginId
from tests.support.commands import make_album
from tests.support.control import Running, local_origin, running_app
from tests.support.raw import Place, exchange, get, status_of
from tests.unit.test_config import ORIGIN, Write, problems, write  # noqa: F401 (a fixture)
from tests.unit.test_pagelistener import SPELLINGS

SONG = "Artist/Album (2001) [FLAC]/01 - Song 1.flac"
TOKEN = "sixteen letters or more"
READ_TOKEN = "sixteen more letters"


@pytest.fixture
async def api() -> AsyncIterator[Running]:
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as name:
        folder = Path(name)
        make_album(folder / "a" / "Album")
        (folder / "b").mkdir()
        (folder / "b" / "noise.flac").write_bytes(b"no music")
        tokens = {"token": TOKEN, "read_token": READ_TOKEN}
        control = ControlConfig.model_validate({"listen": "127.0.0.1:0", **tokens})
        origins = local_origin("a", folder / "a", 0), local_origin("b", folder / "b", 1)
        async with running_app(folder, *origins, control=control, source=_written(folder)) as running:
            yield running


def _written(folder: Path) -> ConfigSource:
    """The same origins in a file."""
    (folder / "m.toml").write_text(
        "".join(f'[[origins]]\nid = "{id}"\norigin_type = "local"\npath = "{folder / id}"\n' for id in "ab")
    )
    return ConfigSource(folder / "m.toml", {}, lambda file, overrides: load_config(file, overrides=overrides))


def _url(api: Running) -> str:
    return f"http://{api.server.address}"


def _place(api: Running) -> Place:
    assert api.server.address is not None
    host, _, port = api.server.address.rpartition(":")
    return host, int(port)


async def _status(url: str, **headers: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        assert response.headers["Content-Type"].startswith("application/json")
        assert "Access-Control-Allow-Origin" not in response.headers
        return response.status


def _operations() -> set[tuple[str, str]]:
    return {
        (method.upper(), path)
        for path, item in description()["paths"].items()
        for method in item
        if method in ("get", "post", "put", "patch", "delete")
    }


# The description


async def test_every_route_is_described_and_every_description_has_its_route(api: Running) -> None:
    served = {(route.method, route.path) for route in api.server.routes if isinstance(route, web.RouteDef)}
    assert served == _operations()


async def test_answers_are_as_they_are_described(api: Running) -> None:
    await api.scanned()
    (api.folder / "b").rename(api.folder / "gone")
    await api.post("/origins/b/check")
    document = await api.get("/openapi.json")
    examples: dict[tuple[str, str], Any] = {
        ("GET", "/why"): await api.get("/why", path=SONG),
        ("GET", "/origins/{id}/history"): await api.get("/origins/a/history"),
        ("POST", "/origins/{id}/check"): await api.post("/origins/a/check"),
        ("POST", "/origins/{id}/reparse"): await api.post("/origins/a/reparse"),
        ("POST", "/origins/{id}/accept-removals"): await api.post("/origins/a/accept-removals"),
        ("POST", "/scan"): await api.post("/scan"),
        ("POST", "/cache/clear"): await api.post("/cache/clear", {"all": True}),
        ("POST", "/cache/verify"): await api.post("/cache/verify"),
        ("POST", "/verify"): await api.post("/verify"),
        ("POST", "/verify/stop"): await api.post("/verify/stop"),
        ("POST", "/problems/dismiss"): await api.post("/problems/dismiss"),
        ("POST", "/pins"): await api.post("/pins", {"paths": [SONG]}),
        ("POST", "/pins/remove"): await api.post("/pins/remove", {"paths": [SONG]}),
        ("POST", "/quarantine/release"): await api.post("/quarantine/release", {"all": True}),
        ("POST", "/reload"): await api.post("/reload"),
        ("POST", "/origins"): await api.post("/origins", {"id": "c", "origin_type": "local", "path": str(api.folder)}),
        ("POST", "/origins/{id}/priority"): await api.post("/origins/c/priority", {"priority": 9}),
        ("POST", "/origins/{id}/disable"): await api.post("/origins/c/disable"),
        ("POST", "/origins/{id}/enable"): await api.post("/origins/c/enable"),
        ("DELETE", "/origins/{id}"): await api.delete("/origins/c"),
        ("POST", "/shutdown"): await api.post("/shutdown"),
    }
    for method, path in sorted(_operations()):
        content = document["paths"][path][method.lower()]["responses"]["200"]["content"]
        if "application/json" not in content:
            continue
        answer = examples[method, path] if (method, path) in examples else await api.get(path.replace("{id}", "a"))
        schema = content["application/json"]["schema"] | {"components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer)


def test_the_description_that_is_served_is_the_one_that_people_write() -> None:
    control = resources.files("musicfs.control")
    written = yaml.safe_load(control.joinpath("openapi.yaml").read_bytes())
    served = json.loads(control.joinpath("openapi.json").read_bytes())
    assert served == json.loads(json.dumps(written)), "`make openapi` makes openapi.json from openapi.yaml"


def test_no_comma_cuts_a_sentence_of_the_description_in_two() -> None:
    """In YAML `{ description: one, two }` has a key "two" without a value."""

    def without_value(node: object) -> list[str]:
        if isinstance(node, list):
            return [key for each in node for key in without_value(each)]
        if not isinstance(node, dict):
            return []
        return [key for key, value in node.items() if value is None] + without_value(list(node.values()))

    assert without_value(description()) == []


def test_the_description_is_valid_openapi() -> None:
    openapi_spec_validator.validate(description())


# Over TCP


async def test_over_tcp_it_answers_only_clients_that_know_the_token(api: Running) -> None:
    url = _url(api) + "/status"
    assert await _status(url) == 401
    assert await _status(url, Authorization="Bearer wrong") == 401
    assert await _status(url, Authorization=TOKEN) == 401
    assert await _status(url, Authorization="Bearer \u00e9\u00e8") == 401
    assert await _status(url, Authorization=f"Bearer {TOKEN}") == 200
    assert (await api.get("/status"))["listening"] == api.server.address


@pytest.mark.parametrize("target", SPELLINGS)
async def test_over_tcp_no_spelling_of_a_path_leads_past_the_token(api: Running, target: str) -> None:
    answer = await exchange(_place(api), get(target))
    assert b"mount_point" not in answer
    assert status_of(answer) in (400, 401) or (target[1:2] == "?" and status_of(answer) == 200), answer


async def test_the_read_only_token_reads_everything_and_changes_nothing(api: Running) -> None:
    bearer = f"Authorization: Bearer {READ_TOKEN}"
    for method, path in sorted(_operations()):
        if path == "/events":
            continue
        asked = get(path.replace("{id}", "a"), bearer, "Content-Length: 0", method=method)
        answer = await exchange(_place(api), asked)
        assert (status_of(answer) == 403) == (method != "GET"), (method, path, answer)
    assert [origin["id"] for origin in (await api.get("/origins"))["origins"]] == ["a", "b"]


async def test_no_answer_names_a_version(api: Running) -> None:
    for sent in (get("/"), get("/status"), get("/status", f"Authorization: Bearer {TOKEN}"), b"\x00\xff\r\n\r\n"):
        answer = (await exchange(_place(api), sent)).lower()
        head = answer.partition(b"\r\n\r\n")[0]
        assert b"server: musicfs" in head
        assert b"aiohttp" not in head
        assert b"python" not in head


async def test_over_tcp_the_files_of_the_status_page_need_no_token(api: Running) -> None:
    async with aiohttp.ClientSession() as session:
        for path in "/", "/page/main.js", "/page/page.css":
            async with session.get(_url(api) + path) as response:
                assert response.status == 200
                assert response.headers["Content-Security-Policy"].startswith("default-src 'self';")
                assert TOKEN not in await response.text()
        async with session.get(_url(api), headers={"Host": "evil.example"}) as response:
            assert response.status == 403


async def test_a_page_that_has_its_own_name_lead_here_is_refused(api: Running) -> None:
    names = (
        "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8383", "", "[", "127.0.0.1@evil.example",
        "evil@127.0.0.1", "evil.example@127.0.0.1:8383", "127.0.0.1:8383:1", "127.0.0.1/x", "::1", "[127.0.0.1]",
    )  # fmt: skip
    answers = dict.fromkeys(("127.0.0.1:8383", "localhost", "[::1]:1"), 200) | dict.fromkeys(names, 403)
    for host, answer in answers.items():
        assert await _status(_url(api) + "/status", Authorization=f"Bearer {TOKEN}", Host=host) == answer, host


async def test_a_token_that_is_not_configured_is_made_for_this_user_alone() -> None:
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "a").mkdir()
        control = ControlConfig(listen="127.0.0.1:0")
        async with running_app(folder, local_origin("a", folder / "a", 0), control=control) as running:
            (full,) = (folder / "run").glob("*.token")
            (read,) = (folder / "run").glob("*.read-token")
            tokens = [file.read_text().strip() for file in (full, read)]
            assert len(set(tokens)) == 2
            for file, token in zip((full, read), tokens, strict=True):
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
                assert len(token) >= 32
                assert await _status(_url(running) + "/status", Authorization=f"Bearer {token}") == 200
            post = [get("/scan", f"Authorization: Bearer {token}", method="POST") for token in tokens]
            assert [status_of(await exchange(_place(running), sent)) for sent in post] == [200, 403]
        assert not full.exists()
        assert not read.exists()


async def test_without_a_configured_address_nothing_listens() -> None:
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "a").mkdir()
        async with running_app(folder, local_origin("a", folder / "a", 0)) as running:
            assert running.server.address is None
            assert (await running.get("/status"))["listening"] is None
            assert not list((folder / "run").glob("*.token"))


async def test_an_address_that_is_taken_is_logged_and_the_socket_answers(
    api: Running, caplog: pytest.LogCaptureFixture
) -> None:
    assert api.server.address is not None
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "a").mkdir()
        control = ControlConfig(listen=api.server.address)
        async with running_app(folder, local_origin("a", folder / "a", 0), control=control) as running:
            assert (await running.get("/status"))["listening"] is None
    assert f"can't listen at {api.server.address}" in caplog.text
    caplog.clear()


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ('listen = "0.0.0.0:80"', "listen is 0.0.0.0:80, where other machines can connect: set MUSICFS_CONTROL_TOKEN"),
        ('listen = "8383"', 'listen is "8383": use an address of this machine and a port'),
        ('listen = "::1:8383"', "use an address of this machine and a port"),
        ('listen = "127.0.0.1:65536"', "use an address of this machine and a port"),
        ('token = "short"', "control.token is not usable: use a text of at least 16 characters"),
        ('read_token = "short"', "control.read_token is not usable: use a text of at least 16 characters"),
        (f'token = "{TOKEN}"\nread_token = "{TOKEN}"', "token and read_token are the same"),
        ('tls_cert = "c.pem"', "tls_cert and tls_key belong together: set both, or none"),
    ],
)
def test_what_cannot_be_listened_at_is_told(write: Write, section: str, problem: str) -> None:  # noqa: F811
    (told,) = problems(write(ORIGIN + f"[control]\n{section}\n"))
    assert problem in told
    assert "short" not in told


def test_a_token_of_the_environment_opens_other_addresses_and_one_in_the_file_is_warned_of(write: Write) -> None:  # noqa: F811
    file = write(ORIGIN + '[control]\nlisten = "[::]:8383"\n')
    loaded = load_config(file, environ={"MUSICFS_CONTROL_TOKEN": TOKEN})
    assert loaded.warnings == ()
    assert TOKEN not in repr(loaded)
    (warning,) = load_config(write(ORIGIN + f'[control]\ntoken = "{TOKEN}"\n')).warnings
    assert "prefer MUSICFS_CONTROL_TOKEN" in warning
    assert TOKEN not in warning
    (warning,) = load_config(write(ORIGIN + f'[control]\nread_token = "{TOKEN}"\n')).warnings
    assert "prefer MUSICFS_CONTROL_READ_TOKEN" in warning
    assert TOKEN not in warning
    control = load_config(file, environ={"MUSICFS_CONTROL_TOKEN": TOKEN, "MUSICFS_CONTROL_READ_TOKEN": READ_TOKEN})
    assert control.config.control.read_token is not None
    assert control.config.control.read_token.get_secret_value() == READ_TOKEN


# Events


def _event(n: int) -> HealthChanged:
    return HealthChanged(OriginId("a"), HealthStatus.HEALTHY, HealthStatus.DEGRADED, f"number {n}")


async def _frames(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, dict[str, Any] | str]]:
    """(name, data) of each event, ("", text) of each comment."""
    while frame := (await response.content.readuntil(b"\n\n")).decode().rstrip("\n"):
        if frame.startswith(":"):
            yield "", frame
        else:
            name, data = frame.split("\n")
            yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def _connector(api: Running) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.UnixConnector(os.fspath(api.client.socket)))


async def test_events_arrive_as_they_happen_and_the_stream_shows_that_it_lives(
    api: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_routes, "HEARTBEAT_SECS", 0.01)
    async with _connector(api) as session, session.get("http://x/events") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        frames = _frames(response)
        assert (await anext(frames))[0] == ""
        api.parts.bus.publish(_event(1))
        beats = 0
        async for name, data in frames:
            beats += name == ""
            if name == "HealthChanged" and isinstance(data, dict) and data["reason"] == "number 1":
                assert (data["event"], data["before"], data["after"]) == ("HealthChanged", "healthy", "degraded")
                break
        async for name, _ in frames:
            if name == "":
                break
    recent = (await api.get("/events/recent"))["events"]
    assert "number 1" in [event["reason"] for event in recent if event["event"] == "HealthChanged"]
    assert len((await api.get("/events/recent", count="1"))["events"]) == 1


async def test_who_reads_too_slowly_is_told_how_much_was_lost(api: Running) -> None:
    async with _connector(api) as session, session.get("http://x/events") as response:
        frames = _frames(response)
        await anext(frames)
        sent = 3000
        for n in range(sent):
            api.parts.bus.publish(_event(n))
        seen = lost = 0
        async for name, data in frames:
            assert isinstance(data, dict) or name == ""
            if name == "EventsDropped" and isinstance(data, dict):
                lost += data["count"]
            elif name == "HealthChanged" and isinstance(data, dict) and data["reason"].startswith("number"):
                seen += 1
                if data["reason"] == f"number {sent - 1}":
                    break
    assert lost > 0
    assert seen <= 1001


async def test_streams_end_with_the_mount_and_leave_no_subscription(api: Running) -> None:
    async with _connector(api) as session, session.get("http://x/events") as response:
        await response.content.readuntil(b"\n\n")
        await api.server.aclose()
        async with asyncio.timeout(30):  # the stream ends; what the origins' first probes said may come before
            rest = await response.content.read()
        assert not rest or rest.endswith(b"\n\n")
    api.parts.bus.publish(AllOriginsUnhealthy((OriginId("a"),)))
    assert not api.parts.bus._subscriptions


# Hostile input

_SCHEMATHESIS = SchemathesisConfig.from_dict({"seed": 20})
_CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance,
    response_schema_conformance, unsupported_method,
]  # fmt: skip


async def test_hostile_requests_are_refused_and_change_nothing(api: Running, caplog: pytest.LogCaptureFixture) -> None:
    """Requests made from the description, right ones and wrong ones, each answered as it says and none with a 5xx."""
    await asyncio.to_thread(_fuzz, _url(api), description())
    assert "Traceback" not in caplog.text
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert (await api.get("/status"))["pid"] == os.getpid()


def _ok(result: Any) -> Any:
    return result.ok()


def _fuzz(url: str, document: dict[str, Any]) -> None:
    paths = {path: item for path, item in document["paths"].items() if path != "/events"}
    schema = schemathesis.openapi.from_dict(document | {"paths": paths}, config=_SCHEMATHESIS)
    schema.config.update(base_url=url)
    for operation in schema.get_all_operations():
        _attack(_ok(operation))


def _attack(operation: Any) -> None:
    right, wrong = map(operation.as_strategy, schemathesis.GenerationMode)
    # Queries may have more than is known of; bodies may not.
    checks = [*_CHECKS, negative_data_rejection] if operation.body else _CHECKS

    @settings(max_examples=15, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=right | wrong)
    def attempt(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, checks=checks)

    attempt()


_NO_REQUESTS = [
    b"\x00\xff\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /status HTTP/1.1\r\nHost: \x00\r\n\r\n",
    b"POST /scan HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n[]",
    b"POST /scan HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\xff\xff\xff\xff",
    b"POST /scan HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n" + b"[" * 40000,
    b"POST /scan HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /scan HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /scan HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n" + b"x" * 99999,
    b"GET /why?path=%ff%00../../etc HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
]


async def test_bytes_that_are_no_good_request_get_a_4xx(api: Running, caplog: pytest.LogCaptureFixture) -> None:
    for sent in _NO_REQUESTS:
        reading, writing = await asyncio.open_unix_connection(os.fspath(api.client.socket))
        writing.write(sent)
        answer = await reading.readline()
        assert answer[:5] + answer[8:10] == b"HTTP/ 4", (sent[:80], answer)
        writing.close()
    assert "Traceback" not in caplog.text
