"""Webhooks: sends events to HTTP servers, signed as Standard Webhooks specifies, until a server accepts them.

The specification: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp

import musicfs
from musicfs.config.models import WebhookConfig
from musicfs.config.secrets import secret_of
from musicfs.errors import UserError
from musicfs.events import Event, EventBus, Listening, to_json
from musicfs.system.tasks import Tasks

log = logging.getLogger(__name__)

TIMEOUT_SECS = 15.0
PAUSES_SECS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 300.0)
"""The pauses between attempts; the last one repeats. Each varies by a tenth, so that many senders spread out."""
GIVEN_UP_SECS = 24 * 3600.0
MAX_WAITING = 100
_JITTER = 0.1
_PREFIX = "whsec_"
_GONE = 410
_TRY_AGAIN = (408, 425, 429)  # the 4xx that are about the moment, not about the message
_CLOSING_SECS = 1.0


def signature(key: bytes, id: str, timestamp: int, body: bytes) -> str:
    """The value of the header webhook-signature."""
    signed = hmac.digest(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(signed).decode()


def key_of(config: WebhookConfig) -> bytes | None:
    """Returns the key that signs this webhook's messages; None: they are not signed. Reads files. Raises UserError."""
    settings = {"secret": config.secret, "secret_file": config.secret_file}
    secret = secret_of(f"Webhook {config.id!r}", config.id, settings, "secret")
    if secret is None:
        return None
    try:
        key = base64.b64decode(secret.get_secret_value().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise UserError(
            f"Webhook {config.id!r}: its secret must be {_PREFIX} and 24 to 64 bytes in base64 (Standard Webhooks);"
            f' `echo "{_PREFIX}$(openssl rand -base64 32)"` makes one.'
        )
    return key


@dataclass(frozen=True, slots=True)
class _Message:
    """One event on its way. happened: in seconds on the loop's clock."""

    id: str
    body: bytes
    happened: float


@dataclass(frozen=True, slots=True)
class _DeliveryResult:
    """The result of one attempt.

    Args:
        reason: Why the server did not accept the message; "" when it did.
        final: Whether another attempt is useless.
        gone: Whether the server says that the webhook no longer exists.
        pause_secs: The shortest pause that the server asks for.
    """

    reason: str = ""
    final: bool = False
    gone: bool = False
    pause_secs: float = 0.0


class _Target:
    """One webhook: its queue, and the task that sends one message after the other. A full queue drops its oldest."""

    def __init__(self, config: WebhookConfig, source: Path, tools: Webhooks) -> None:
        self.id = config.id
        self._config = config
        self._source = str(source)
        self._tools = tools
        self._host = urlsplit(config.url.get_secret_value()).hostname
        self._key: bytes | None = None
        self._waiting: deque[_Message] = deque()
        self._arrived = asyncio.Event()
        self._ended = False
        self._lost = 0
        self._failing = ""

    def enqueue(self, event: Event) -> None:
        name = type(event).__name__
        if self._ended or name not in self._config.events:
            return
        data = to_json(event)
        body = {
            "type": data.pop("event"),
            "timestamp": datetime.fromtimestamp(data.pop("at"), UTC).isoformat(timespec="milliseconds"),
            "mount_point": self._source,
            "data": data,
        }
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._lost += 1
        now = asyncio.get_running_loop().time()
        self._waiting.append(_Message(f"msg_{uuid4().hex}", json.dumps(body).encode(), now))
        self._arrived.set()

    async def run(self) -> None:
        """Sends until the server says that the webhook is gone. Ends at once when its secret can't be read."""
        try:
            self._key = await asyncio.to_thread(key_of, self._config)
            while not self._ended:
                await self._arrived.wait()
                self._arrived.clear()
                while self._waiting and not self._ended:
                    await self._deliver(self._waiting.popleft())
        except UserError as error:
            log.error("%s Nothing is sent there.", error)  # noqa: TRY400 (a sentence, not a traceback)
        finally:
            self._ended = True
            self._waiting.clear()

    async def _deliver(self, message: _Message) -> None:
        """Sends the message until the server accepts it, refuses it for good, or it is a day old."""
        attempt = 0
        while (answer := await self._post(message)).reason:
            self._log_failure(answer)
            self._ended = answer.gone
            pause = PAUSES_SECS[min(attempt, len(PAUSES_SECS) - 1)] * self._tools.jitter()
            age = asyncio.get_running_loop().time() - message.happened
            if answer.final or age + pause > GIVEN_UP_SECS:
                self._lost += 1
                return
            attempt += 1
            await self._tools.sleep(max(pause, answer.pause_secs))
        if self._failing or self._lost:
            lost = f"; {self._lost} messages were lost" if self._lost else ""
            log.info("webhook %r at %s accepts messages again%s", self.id, self._host, lost)
        self._failing, self._lost = "", 0

    def _log_failure(self, answer: _DeliveryResult) -> None:
        """Logs the first failure, and the others at debug level: a server that is away for a day is worth one line."""
        what = (
            "it gets no more messages" if answer.gone else "it refused the message" if answer.final else "trying again"
        )
        level = logging.DEBUG if self._failing else logging.WARNING
        self._failing = answer.reason
        log.log(level, "webhook %r at %s did not accept a message (%s): %s", self.id, self._host, answer.reason, what)

    async def _post(self, message: _Message) -> _DeliveryResult:
        """Makes one attempt. Its result never contains the address: the address of many a webhook is a secret."""
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"MusicFS/{musicfs.__version__}",
            "webhook-id": message.id,
            "webhook-timestamp": str(now),
        }
        if self._key is not None:
            headers["webhook-signature"] = signature(self._key, message.id, now, message.body)
        url = self._config.url.get_secret_value()
        try:
            # The configuration does not name the target of a redirect.
            async with self._tools.session.post(
                url, data=message.body, headers=headers, allow_redirects=False
            ) as response:
                return _result_of(response)
        except TimeoutError:
            return _DeliveryResult("no answer in time")
        except aiohttp.ClientConnectorCertificateError:
            return _DeliveryResult("its certificate is not trusted")
        except aiohttp.ClientConnectorError as error:
            return _DeliveryResult(_reason(error.os_error))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _DeliveryResult(type(error).__name__)


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or not error.errno or error.errno < 0:
        return error.strerror or "no connection"
    return os.strerror(error.errno).lower()


def _result_of(response: aiohttp.ClientResponse) -> _DeliveryResult:
    status = response.status
    if 200 <= status < 300:
        return _DeliveryResult()
    wanted = response.headers.get("Retry-After", "")
    pause = min(float(wanted), PAUSES_SECS[-1]) if wanted.isascii() and wanted.isdecimal() else 0.0
    final = 300 <= status < 500 and status not in _TRY_AGAIN
    return _DeliveryResult(f"HTTP status {status}", final, status == _GONE, pause)


class Webhooks:
    """Sends events to the configured servers. Publishing an event never waits for them. Belongs to the event loop's
    thread, and must be made while the loop runs.

    Args:
        configs: The webhooks.
        bus: Where the events come from.
        source: The mount point; each message names it.
        timeout_secs: How long one attempt may take.
        sleep: Waits for so many seconds; tests replace it.
        rng: Varies the pauses; tests replace it.
    """

    def __init__(
        self,
        configs: Sequence[WebhookConfig],
        bus: EventBus,
        source: Path,
        *,
        timeout_secs: float = TIMEOUT_SECS,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        rng: Random | None = None,
    ) -> None:
        self.sleep = sleep
        self._rng = rng or Random()
        self._timeout_secs = timeout_secs
        self._session: aiohttp.ClientSession | None = None
        self._targets = [_Target(config, source, self) for config in configs]
        self._bus = bus
        self._listening: Listening | None = None
        self._tasks = Tasks(log)

    def jitter(self) -> float:
        return self._rng.uniform(1 - _JITTER, 1 + _JITTER)

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session that sends all messages; exists after `start`."""
        assert self._session is not None
        return self._session

    def start(self) -> None:
        """Opens the session, and starts to send."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_secs), cookie_jar=aiohttp.DummyCookieJar()
        )
        self._listening = self._bus.listen(self._enqueue)
        for each in self._targets:
            self._tasks.spawn(each.run(), f"webhook {each.id}")

    def _enqueue(self, event: Event) -> None:
        for target in self._targets:
            target.enqueue(event)

    async def aclose(self) -> None:
        """Ends at once. Messages that wait are lost."""
        if self._listening is not None:
            self._listening.close()
        await self._tasks.aclose(_CLOSING_SECS)
        if self._session is not None:
            await self._session.close()
