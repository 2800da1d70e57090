"""Webhooks reach a real server that fails, hangs and comes back: signed, in order, and nobody waits for them."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from musicfs.config.load import load_config
from musicfs.config.models import WebhookConfig
from musicfs.control.webhooks import GIVEN_UP_SECS, MAX_WAITING, PAUSES_SECS, Webhooks, key_of, signature
from musicfs.errors import UserError
from musicfs.events import CacheResumed, EventBus, FailedOver, HealthChanged, OriginRegistered
from musicfs.model import HealthStatus, OriginId
from tests.unit.test_config import ORIGIN, Write, problems, write  # noqa: F401

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NAS = OriginId("nas")
LOST = HealthChanged(NAS, HealthStatus.HEALTHY, HealthStatus.UNHEALTHY, "unreachable")


class Receiver:
    """An HTTP server. answers: the next ones, as a status or what gives one; when there are none, `always`."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int | Callable[[], Awaitable[web.Response]]] = []
        self.always: int = 204
        self.headers: dict[str, str] = {}
        self.url = ""
        self._came = asyncio.Condition()

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[Receiver]:
        application = web.Application()
        application.router.add_post("/secret-path", self._take)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/secret-path"
            yield self
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        async with self._came:
            self.got.append(({name.lower(): value for name, value in request.headers.items()}, body))
            self._came.notify_all()
        answer = self.answers.pop(0) if self.answers else self.always
        if isinstance(answer, int):
            return web.Response(status=answer, headers=self.headers)
        return await answer()

    async def count(self, number: int) -> list[dict[str, Any]]:
        """The bodies, once so many have come."""
        async with asyncio.timeout(30), self._came:
            await self._came.wait_for(lambda: len(self.got) >= number)
        return [json.loads(body) for _, body in self.got]


class Naps:
    """Sleeps for no time at all, and notes how long that was to be; until `enough` of them, where it stays."""

    def __init__(self, enough: int = 10**6) -> None:
        self.taken: list[float] = []
        self._enough = enough
        self.tired = asyncio.Event()

    async def __call__(self, secs: float) -> None:
        self.taken.append(secs)
        if len(self.taken) >= self._enough:
            self.tired.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)


def hook(url: str, *events: str, **more: object) -> WebhookConfig:
    names = events or ("HealthChanged", "FailedOver")
    return WebhookConfig.model_validate({"id": "phone", "url": url, "events": names, "secret": SECRET, **more})


@asynccontextmanager
async def sending(
    *configs: WebhookConfig, timeout_secs: float = 15, naps: Naps | None = None
) -> AsyncIterator[EventBus]:
    bus = EventBus()
    webhooks = Webhooks(configs, bus, Path("/m"), timeout_secs=timeout_secs, sleep=naps or Naps(), rng=Random(1))
    webhooks.start()
    try:
        yield bus
    finally:
        await webhooks.aclose()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().running() as receiver:
        yield receiver


def paths(bodies: Sequence[dict[str, Any]]) -> list[str]:
    return [body["data"]["path"] for body in bodies]


def failover(path: str) -> FailedOver:
    return FailedOver(path, NAS, OriginId("disk"), "unreachable", 1.5)


def test_the_signature_is_that_of_the_specification() -> None:
    """Its own example."""
    key = key_of(hook("http://h"))
    assert key is not None
    made = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_chosen_event_is_posted_with_what_others_verify_and_other_events_are_not(receiver: Receiver) -> None:
    async with sending(hook(receiver.url)) as bus:
        bus.publish(OriginRegistered(NAS, 1))
        bus.publish(LOST)
        bus.publish(failover("n\udcff.flac"))
        first, second = await receiver.count(2)
    assert datetime.fromisoformat(first.pop("timestamp")).timestamp() == pytest.approx(LOST.at, abs=0.001)
    assert first == {
        "type": "HealthChanged",
        "mount_point": "/m",
        "data": {"origin": "nas", "before": "healthy", "after": "unhealthy", "reason": "unreachable"},
    }
    assert second["data"]["path"] == "n\udcff.flac"
    for headers, body in receiver.got:
        assert headers["content-type"] == "application/json"
        Webhook(SECRET).verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(body + b" ", headers)
    assert receiver.got[0][0]["webhook-id"] != receiver.got[1][0]["webhook-id"]


async def test_without_a_secret_it_is_sent_unsigned(receiver: Receiver) -> None:
    async with sending(hook(receiver.url, secret=None)) as bus:
        bus.publish(LOST)
        await receiver.count(1)
    assert "webhook-signature" not in receiver.got[0][0]


async def test_a_server_that_fails_is_asked_again_after_growing_waits_and_gets_all_in_order(receiver: Receiver) -> None:
    receiver.answers = [500, 503, 429, 408, 500, 502, 504, 500, 500, 500, 500]
    failures = len(receiver.answers)
    naps = Naps()
    async with sending(hook(receiver.url), naps=naps) as bus:
        for path in "abc":
            bus.publish(failover(path))
        bodies = await receiver.count(failures + 3)
    assert paths(bodies) == ["a"] * (failures + 1) + ["b", "c"]
    ids = Counter(headers["webhook-id"] for headers, _ in receiver.got)
    assert sorted(ids.values()) == [1, 1, failures + 1]
    wanted = [*PAUSES_SECS, *[PAUSES_SECS[-1]] * (failures - len(PAUSES_SECS))]
    assert naps.taken == [pytest.approx(pause, rel=0.1) for pause in wanted]
    assert tuple(sorted(PAUSES_SECS)) == PAUSES_SECS
    assert {pause > nominal for pause, nominal in zip(naps.taken, wanted, strict=True)} == {True, False}, "spread"


async def test_a_server_that_asks_for_a_pause_gets_it_within_limits(receiver: Receiver) -> None:
    naps = Naps(2)
    receiver.headers = {"Retry-After": "20"}
    receiver.answers = [429]
    receiver.always = 503
    async with sending(hook(receiver.url), naps=naps) as bus:
        bus.publish(LOST)
        await receiver.count(1)
        receiver.headers = {"Retry-After": "100000"}
        await naps.tired.wait()
    assert naps.taken[0] == 20
    assert naps.taken[1] in (20, 300)


async def test_a_server_that_hangs_holds_nobody_up_and_gets_the_last_hundred_once_it_is_back(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "musicfs")
    silent = asyncio.Event()

    async def hang() -> web.Response:
        await silent.wait()
        return web.Response()

    receiver.answers = [hang, hang]
    async with sending(hook(receiver.url), timeout_secs=0.2) as bus:
        bus.publish(failover("first"))
        await receiver.count(1)
        begun = time.perf_counter()
        for number in range(10 * MAX_WAITING):
            bus.publish(failover(str(number)))
        assert time.perf_counter() - begun < 5  # what it would take if each of them waited is minutes
        bodies = await receiver.count(3 + MAX_WAITING)
        silent.set()
    last = [str(number) for number in range(9 * MAX_WAITING, 10 * MAX_WAITING)]
    assert paths(bodies) == ["first"] * 3 + last
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "webhook 'phone' at 127.0.0.1 did not accept a message (no answer in time): trying again",
        "webhook 'phone' at 127.0.0.1 accepts messages again; 900 messages were lost",
    ]


async def test_a_server_that_is_not_there_gets_the_message_when_it_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    receiver, naps = Receiver(), Naps()
    async with sending(hook(f"http://127.0.0.1:{port}/secret-path"), naps=naps) as bus:
        bus.publish(failover("a"))
        async with asyncio.timeout(30):
            while len(naps.taken) < 3:
                await asyncio.sleep(0.01)
        async with receiver.running(port):
            assert paths(await receiver.count(1)) == ["a"]
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == [
        "webhook 'phone' at 127.0.0.1 did not accept a message (connection refused): trying again"
    ]


async def test_two_webhooks_do_not_wait_for_each_other(receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, and says nothing
        dead = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        async with sending(hook(dead, id="dead"), hook(receiver.url)) as bus:
            for path in "ab":
                bus.publish(failover(path))
            assert paths(await receiver.count(2)) == ["a", "b"]


@pytest.mark.parametrize("status", [200, 202, 299])
async def test_every_2xx_takes_the_message(receiver: Receiver, status: int) -> None:
    receiver.always = status
    naps = Naps()
    async with sending(hook(receiver.url), naps=naps) as bus:
        bus.publish(failover("a"))
        bus.publish(failover("b"))
        assert paths(await receiver.count(2)) == ["a", "b"]
    assert naps.taken == []


@pytest.mark.parametrize("status", [300, 302, 400, 404])
async def test_what_is_refused_is_not_sent_again_and_the_next_is_sent(
    receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [status]
    receiver.headers = {"Location": receiver.url}
    naps = Naps()
    async with sending(hook(receiver.url), naps=naps) as bus:
        bus.publish(failover("a"))
        bus.publish(failover("b"))
        assert paths(await receiver.count(2)) == ["a", "b"]
    assert naps.taken == []
    assert f"(HTTP status {status}): it refused the message" in caplog.text


async def test_a_server_that_says_that_it_has_gone_is_left_alone(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [410]
    async with sending(hook(receiver.url), hook(receiver.url, "CacheResumed", id="other")) as bus:
        bus.publish(failover("a"))
        await receiver.count(1)
        while "it gets no more messages" not in caplog.text:
            await asyncio.sleep(0)
        bus.publish(failover("b"))
        bus.publish(CacheResumed())
        assert [body["type"] for body in await receiver.count(2)] == ["FailedOver", "CacheResumed"]


async def test_a_message_that_has_become_too_old_is_given_up_and_the_next_is_sent(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day is long. With 12 s, the fifth wait would come to an end too late: it would be 16 s."""
    monkeypatch.setattr("musicfs.control.webhooks.GIVEN_UP_SECS", 12.0)
    naps = Naps()
    receiver.answers = [500] * 5
    async with sending(hook(receiver.url), naps=naps) as bus:
        bus.publish(failover("a"))
        bus.publish(failover("b"))
        bodies = await receiver.count(6)
    assert paths(bodies) == ["a"] * 5 + ["b"]
    assert naps.taken == [pytest.approx(pause, rel=0.1) for pause in PAUSES_SECS[:4]]
    assert GIVEN_UP_SECS == 24 * 3600


@pytest.mark.parametrize("secret", ["hush", "whsec_c2hvcnQ=", "whsec_?", SECRET + "?"])
async def test_a_secret_that_is_none_is_told_without_its_value_and_nothing_is_sent(
    secret: str, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    async with sending(hook(receiver.url, secret=secret), hook(receiver.url, id="other")) as bus:
        bus.publish(LOST)
        await receiver.count(1)
        while "Nothing is sent there" not in caplog.text:
            await asyncio.sleep(0)
    assert '`echo "whsec_$(openssl rand -base64 32)"` makes one' in caplog.text
    assert secret not in caplog.text
    assert len(receiver.got) == 1


def test_the_secret_comes_from_a_file_that_nobody_else_can_read(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    with_file = hook("http://h", secret=None, secret_file=str(file))
    assert key_of(with_file) == key_of(hook("http://h"))
    file.chmod(0o644)
    with pytest.raises(UserError, match=r"Webhook 'phone': others can read .*; `chmod 600") as refused:
        key_of(with_file)
    assert SECRET not in str(refused.value)


async def test_neither_the_secret_nor_the_address_is_in_any_log_or_repr(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    config = hook(receiver.url)
    receiver.answers = [500, 404]
    async with sending(config) as bus:
        for path in "ab":
            bus.publish(failover(path))
        await receiver.count(4 - 1)
    async with sending(hook("http://127.0.0.1:1/secret-path"), naps=Naps(1)) as bus:
        bus.publish(LOST)
        while "did not accept a message" not in caplog.records[-1].getMessage():
            await asyncio.sleep(0.01)
    assert "127.0.0.1" in caplog.text
    everything = f"{caplog.text} {config!r} {config} {config.model_dump()} {config.model_dump_json()}"
    assert SECRET.removeprefix("whsec_") not in everything
    assert "secret-path" not in everything


def test_webhooks_are_configured_by_name_with_their_secrets_elsewhere(
    write: Write,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = write(
        ORIGIN + '[[webhooks]]\nid = "my-phone"\nurl = "https://h/x"\nevents = ["ScanFinished"]\nsecret_file = "s"'
    )
    (webhook,) = load_config(file).config.webhooks
    assert webhook.secret_file == file.parent / "s"
    assert webhook.events == ("ScanFinished",)
    monkeypatch.setenv("MUSICFS_MY_PHONE_SECRET", SECRET)
    assert key_of(webhook) == key_of(hook("http://h"))
    literal = write(
        ORIGIN + f'[[webhooks]]\nid = "my-phone"\nurl = "https://h/x"\nevents = ["ScanFinished"]\nsecret = "{SECRET}"'
    )
    loaded = load_config(literal, environ={"MUSICFS_MY_PHONE_SECRET": SECRET})
    (warning,) = loaded.warnings
    assert "webhooks[0].secret is written out" in warning
    assert "MUSICFS_MY_PHONE_SECRET" in warning
    assert SECRET not in f"{warning} {loaded!r}"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            'id = "a"\nurl = "ftp://me:hush@h/x"\nevents = ["ScanFinished"]',
            "webhooks[0].url is not usable: use an address",
        ),
        ('id = "a"\nurl = "https://me:hush@h"\nevents = ["ScanFinished"]', "webhooks[0].url is not usable"),
        ('id = "a"\nurl = "https://h"\nevents = ["Nonsense"]', "use a list of names of docs/EVENTS.md"),
        ('id = "a"\nurl = "https://h"\nevents = ["EventsDropped"]', "use a list of names of docs/EVENTS.md"),
        ('id = "a"\nurl = "https://h"\nevents = []', "use a list of names of docs/EVENTS.md"),
        ('id = "a"\nurl = "https://h"', "webhooks[0].events is missing"),
        ('id = "a b"\nurl = "https://h"\nevents = ["ScanFinished"]', "webhooks[0].id is"),
        (
            'id = "a"\nurl = "https://h"\nevents = ["ScanFinished"]\nsecret = ["hush"]',
            "webhooks[0].secret is not usable",
        ),
        ('id = "a"\nurl = "https://h"\nevents = ["ScanFinished"]\nsecrt = "hush"', "did you mean secret?"),
        (
            'id = "a"\nurl = "https://h"\nevents = ["ScanFinished"]\n[[webhooks]]\nid = "a"\nurl = "https://h"\n'
            'events = ["ScanFinished"]',
            "as webhooks[0].id is: give each webhook its own id",
        ),
    ],
)
def test_a_webhook_that_is_wrong_is_told_and_nothing_of_it_shown(write: Write, table: str, words: str) -> None:  # noqa: F811
    (told,) = problems(write(ORIGIN + f"[[webhooks]]\n{table}\n"))
    assert words in told
    assert "hush" not in told


def test_event_names_of_an_earlier_version_stand_for_the_present_ones() -> None:
    hook = WebhookConfig.model_validate(
        {"id": "phone", "url": "http://127.0.0.1/", "events": ["RotFound", "VerificationFinished", "HealthChanged"]}
    )
    assert hook.events == ("ScrubMismatch", "ScrubFinished", "HealthChanged")
