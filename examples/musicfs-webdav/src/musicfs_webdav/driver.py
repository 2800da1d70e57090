"""The driver for WebDAV servers. A path below the URL is a path of the origin."""

from __future__ import annotations

import asyncio
import errno
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from pydantic import SecretStr

from musicfs.config.models import OriginConfig
from musicfs.config.secret_variables import variable_of
from musicfs.config.secrets import find_secret
from musicfs.errors import MusicFSError, OriginFailed, OriginFault, ReplicaFailed, ReplicaFault, UserError
from musicfs.model import HealthStatus, OriginId, OriginType, Replica, Stat
from musicfs.origin import ScanObserver, WatchCallback, WatchHandle
from musicfs.origins.helpers import (
    MAX_FOLDERS,
    EmptyRootCheck,
    FolderFailures,
    FolderTooBig,
    StrictObserver,
    check_version,
    name_problem,
    size_within,
)
from musicfs.problems import Problem
from musicfs_webdav.multistatus import QUESTION, Entry, TooManyEntries, parse, strong, time_of
from musicfs_webdav.settings import WebdavSettings

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

_MAX_LISTING = 32 << 20
"""Bytes of the listing of one folder: about 600 for each of the most files that are accepted."""
_MAX_PROBE = 64 << 10
"""Bytes of the root's listing that a probe reads: it needs no complete listing."""
_MAX_ERROR = 16 << 10
_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/([0-9]{1,19})")
_CLOSING_SECS = 1.0
_FAR_NS = 2**63 - 1  # a time that could not be kept exactly


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. headers: by names in lower case. whole: the body is complete."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True


class WebdavOrigin:
    """Reads a folder of a WebDAV server; musicfs.origin.Origin is the contract."""

    def __init__(self, config: OriginConfig, *, populated: bool = False) -> None:
        settings = WebdavSettings.model_validate(dict(config.settings))
        self.id: OriginId = config.id
        self.kind: OriginType = config.origin_type
        self._config = config
        self._user = settings.user
        self._password: SecretStr | None = None
        url = urlsplit(settings.url)
        self._server = f"{url.scheme}://{url.netloc}"
        self._root = unquote(url.path, errors="surrogateescape")
        self._timeout_ms = config.timeout_ms
        self._check_empty = EmptyRootCheck(config.id, populated, f"there is nothing in {self._shown('')}")
        self._slots = asyncio.Semaphore(config.pool_size)
        self._session: ClientSession | None = None
        self._closed = False

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        path = self._checked(replica.path)
        size = size_within(replica, offset, size)
        if not size:
            return b""
        headers = {"range": f"bytes={offset}-{offset + size - 1}"}
        if replica.etag is not None:
            headers["if-match"] = f'"{replica.etag}"'
        elif abs(replica.mtime_ns) < _FAR_NS:
            headers["if-unmodified-since"] = formatdate(replica.mtime_ns // 10**9, usegmt=True)
        answer = await self._ask("GET", path, headers, most=size)
        if answer.status not in (200, 206):
            raise await self._failure(path, answer)
        first, now = self._described(path, answer)
        check_version(replica, now)
        if first != offset or len(answer.body) != size:
            raise self._broken("another range was sent than was asked for")
        return answer.body

    async def stat(self, path: str) -> Stat:
        entry = await self._entry(self._checked(path))
        if entry.is_folder:
            raise ReplicaFailed(self.id, path, ReplicaFault.MISSING, "it is a folder")
        return Stat(path, entry.size, entry.mtime_ns, entry.etag)

    def scan(self, under: str = "") -> AsyncIterator[Stat]:
        return self.scan_observed(StrictObserver(self.id), under)

    async def scan_observed(self, observer: ScanObserver, under: str = "") -> AsyncIterator[Stat]:
        """Scans, and reports what can't be listed (musicfs.origin.ObservesScans)."""
        if under and not (await self._entry(self._checked(under))).is_folder:
            yield await self.stat(under)
            return
        failures = FolderFailures(observer, self._check_root)
        waiting = [under]
        while waiting:
            folder = waiting.pop()
            below = []
            for name, entry in sorted((await failures.list(folder, partial(self._list, folder)) or {}).items()):
                path = f"{folder}/{name}" if folder else name
                problem = name_problem(folder, name, is_folder=entry.is_folder)
                if problem is None and entry.left_out is not None:
                    problem = Problem(path, *entry.left_out)
                if problem is not None:
                    observer.report(problem)
                elif entry.is_folder:
                    below.append(path)
                else:
                    yield Stat(path, entry.size, entry.mtime_ns, entry.etag)
            waiting += [path for path in reversed(below) if observer.enters(path, None)]
            if len(waiting) > MAX_FOLDERS:
                raise self._broken("it has more folders than can be listed")

    async def health(self) -> HealthStatus:
        await self._check_root()
        return HealthStatus.HEALTHY

    async def watch(self, path: str, callback: WatchCallback) -> WatchHandle | None:
        return None

    async def aclose(self) -> None:
        self._closed = True
        if self._session is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING_SECS):
                    await self._session.close()

    # What there is

    async def _list(self, folder: str) -> dict[str, Entry]:
        """Returns what lies in the folder, by name; nothing if it has gone. Raises OriginFailed for a folder that can't
        be listed, and for an empty root where there was music."""
        try:
            found = self._named(folder, await self._propfind(folder, "/", depth=1, most=_MAX_LISTING))
        except ReplicaFailed as failure:
            if failure.fault is ReplicaFault.MISSING:
                return {}
            raise OriginFailed(self.id, OriginFault.DENIED, failure.detail or "HTTP 403") from failure
        if not folder:
            self._check_empty(not found)
        return found

    async def _check_root(self) -> None:
        """Raises OriginFailed if the root can't be listed, or is empty although there was music in it."""
        entries = await self._propfind("", "/", depth=1, most=_MAX_PROBE, cut=True)
        self._check_empty(not self._named("", entries))

    def _named(self, folder: str, entries: list[Entry]) -> dict[str, Entry]:
        """Returns the entries by name."""
        whole = f"{self._root}/{folder}".rstrip("/")
        below = f"{whole}/"
        if wrong := next((entry for entry in entries if not f"{entry.path}/".startswith(below)), None):
            raise self._broken(f"{wrong.path!r} is listed in {below}, where it can't be")
        return {entry.path.removeprefix(below): entry for entry in entries if entry.path != whole}

    async def _entry(self, path: str) -> Entry:
        entries = await self._propfind(path, "", depth=0, most=_MAX_PROBE)
        if len(entries) != 1:
            raise self._broken(f"{len(entries)} answers for one file")
        return entries[0]

    async def _propfind(self, path: str, slash: str, *, depth: int, most: int, cut: bool = False) -> list[Entry]:
        """Sends PROPFIND. most: bytes of the answer. cut: ignores what exceeds them; otherwise it is a failure."""
        headers = {"depth": str(depth), "content-type": "application/xml"}
        answer = await self._ask("PROPFIND", path, headers, QUESTION, slash=slash, most=most, cut=cut)
        if not slash and urlsplit(answer.headers.get("location", "")).path.endswith("/"):
            return [Entry(path, is_folder=True)]  # Apache answers so for folders
        if answer.status != 207:
            raise await self._failure(path, answer)
        try:
            # In a thread: the event loop serves all origins, and this server decides how long parsing takes.
            return await asyncio.to_thread(parse, answer.body, whole=answer.whole)
        except TooManyEntries as error:
            raise FolderTooBig(self.id, str(error)) from error
        except ValueError as error:
            raise self._broken(f"a listing can't be understood: {error}") from error

    def _described(self, path: str, answer: Answer) -> tuple[int, Stat]:
        """Returns where the body begins in its file, and the file."""
        first, whole = 0, len(answer.body)
        if answer.status == 206:
            place = re.fullmatch(
                r"bytes ([0-9]{1,19})-[0-9]{1,19}/([0-9]{1,19})", answer.headers.get("content-range", "")
            )
            if place is None:
                raise self._broken("a range was sent without its place")
            first, whole = int(place[1]), int(place[2])
        try:
            changed = time_of(answer.headers.get("last-modified", ""))
        except ValueError:
            raise self._broken("a file was sent without its time") from None
        return first, Stat(path, whole, changed, strong(answer.headers.get("etag")))

    # Asking

    def _checked(self, path: str) -> str:
        if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
            raise ReplicaFailed(self.id, path, ReplicaFault.MISSING, "it is no path of a file")
        return path

    async def _ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *,
        slash: str = "", most: int, cut: bool = False,
    ) -> Answer:  # fmt: skip
        """Sends a request. Returns the answer, with any status.

        most: the longest body of a success, in bytes. cut: accepts the beginning of a longer one; otherwise that is a
        failure. Raises OriginFailed when there is no answer.
        """
        import aiohttp

        try:
            async with asyncio.timeout(self._timeout_ms / 1000), self._slots:
                place = f"{self._root}/{path}".rstrip("/") + slash
                return await self._exchange(method, place, headers, body, most, cut)
        except TimeoutError:
            raise OriginFailed(self.id, OriginFault.TIMEOUT, f"no answer within {self._timeout_ms} ms") from None
        except asyncio.CancelledError:
            # Closing the session cancels requests that are connecting.
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                raise self._has_been_closed() from None
            raise
        except UserError as error:
            raise OriginFailed(self.id, OriginFault.DENIED, str(error)) from error
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            if self._closed:
                raise self._has_been_closed() from None
            if isinstance(error, RuntimeError):
                raise
            raise self._lost(error) from error

    async def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, most: int, cut: bool
    ) -> Answer:
        import aiohttp
        from yarl import URL

        if self._closed:
            raise self._has_been_closed()
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(),
            )  # fmt: skip
        # The stored bytes must arrive as they are, and a redirection could lead the password elsewhere.
        complete = {**headers, **await self._access(), "accept-encoding": "identity"}
        url = URL(self._server + quote(path.encode("utf-8", "surrogateescape") or b"/"), encoded=True)
        async with self._session.request(method, url, headers=complete, data=body, allow_redirects=False) as response:
            data, whole = await _taken(response, most if response.status < 300 else _MAX_ERROR)
            if not whole and response.status < 300 and not cut:
                raise self._broken("more was sent than was asked for")
            return Answer(response.status, {name.lower(): v for name, v in response.headers.items()}, data, whole)

    async def _access(self) -> dict[str, str]:
        """Returns the header that logs in. Raises UserError when there is no password for the user."""
        if self._user is None:
            return {}
        if self._password is None:
            self._password = await asyncio.to_thread(find_secret, self._config, "password")
        if self._password is None:
            raise UserError(f"there is no password for {self._user!r}: set {variable_of(self.id, 'password')}")
        pair = f"{self._user}:{self._password.get_secret_value()}"
        return {"authorization": f"Basic {b64encode(pair.encode()).decode()}"}

    # What went wrong

    async def _failure(self, path: str, answer: Answer) -> MusicFSError:
        """Translates a refused request into a failure of the origin, or only of the file."""
        if answer.status in (412, 416):
            return ReplicaFailed(self.id, path, ReplicaFault.CHANGED)
        if answer.status == 401:
            self._password = None  # find it again at the next request, in case it was corrected
            detail = f"the password of {self._user!r} is wrong" if self._user else "it requires a user and a password"
            return OriginFailed(self.id, OriginFault.DENIED, detail)
        if answer.status in (403, 404, 410) and path:
            try:
                await self._check_root()
            except OriginFailed as failed:
                return failed
            fault = ReplicaFault.DENIED if answer.status == 403 else ReplicaFault.MISSING
            return ReplicaFailed(self.id, path, fault)
        where = self._shown(path)
        if answer.status in (404, 410):
            return OriginFailed(self.id, OriginFault.UNREACHABLE, f"there is no {where}")
        if answer.status == 403:
            return OriginFailed(self.id, OriginFault.DENIED, f"{where} is closed to {self._user or 'all'}")
        if answer.status in (405, 501):
            return self._broken(f"{self._server} does not speak WebDAV there")
        busy = 0.0 if answer.status in (429, 503) else None
        return OriginFailed(self.id, OriginFault.IO, f"{where}: HTTP {answer.status}", busy_secs=busy)

    def _lost(self, error: Exception) -> OriginFailed:
        """Translates a failure, without aiohttp's own message, which may contain the whole request."""
        import aiohttp

        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            detail = f"{error.host} is not to be trusted: {error.certificate_error}"
            return OriginFailed(self.id, OriginFault.UNREACHABLE, detail)
        if isinstance(error, aiohttp.ClientConnectorError):
            refused = error.os_error.errno == errno.ECONNREFUSED
            detail = (
                f"nothing listens at {error.host}:{error.port}"
                if refused
                else f"{error.host}: {error.os_error.strerror}"
            )
            return OriginFailed(self.id, OriginFault.REFUSED if refused else OriginFault.UNREACHABLE, detail)
        if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
            return OriginFailed(self.id, OriginFault.UNREACHABLE, "the connection was lost")
        return self._broken(f"the answer makes no sense ({type(error).__name__})")

    def _has_been_closed(self) -> OriginFailed:
        return OriginFailed(self.id, OriginFault.UNREACHABLE, "it has been closed")

    def _broken(self, detail: str) -> OriginFailed:
        return OriginFailed(self.id, OriginFault.IO, detail)

    def _shown(self, path: str) -> str:
        return f"{self._server}{self._root}/{path}"


async def _taken(response: ClientResponse, most: int) -> tuple[bytes, bool]:
    """The first `most` bytes of the body, and whether they are all. The rest is not read: the connection is closed."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > most:
            return b"".join(pieces)[:most], False
    return b"".join(pieces), True
