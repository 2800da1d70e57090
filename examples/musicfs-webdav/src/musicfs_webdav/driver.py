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
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from pydantic import SecretStr

from musicfs.config import OriginConfig
from musicfs.errors import MusicFSError, OriginFailed, OriginFault, ReplicaFailed, ReplicaFault, UserError
from musicfs.model import HealthStatus, OriginId, OriginType, Replica, Stat
from musicfs.origins.base import WatchCallback, WatchHandle
from musicfs.origins.listing import is_skipped
from musicfs.secrets import find_secret, variable_of
from musicfs_webdav.multistatus import QUESTION, Entry, parse, strong, time_of
from musicfs_webdav.settings import WebdavSettings

if TYPE_CHECKING:
    from aiohttp import ClientSession

_LARGEST_LISTING = 256 << 20
_LARGEST_ERROR = 64 << 10
_CLOSING_SECS = 1.0
_FAR_NS = 2**63 - 1  # a time that could not be kept exactly


@dataclass(frozen=True, slots=True)
class Answer:
    """headers: by names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class WebdavOrigin:
    """See musicfs.origins.base.Origin for the contract."""

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
        self._populated = populated
        self._slots = asyncio.Semaphore(config.pool_size)
        self._session: ClientSession | None = None
        self._closed = False

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        path = self._checked(replica.path)
        size = min(size, replica.size - offset)
        if size <= 0:
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
        if now.size != replica.size or not replica.is_version(now):
            raise ReplicaFailed(self.id, path, ReplicaFault.CHANGED)
        if first != offset or len(answer.body) != size:
            raise self._broken("another range was sent than was asked for")
        return answer.body

    async def stat(self, path: str) -> Stat:
        entry = await self._entry(self._checked(path))
        if entry.is_folder:
            raise ReplicaFailed(self.id, path, ReplicaFault.MISSING, "it is a folder")
        return Stat(path, entry.size, entry.mtime_ns, entry.etag)

    async def scan(self, under: str = "") -> AsyncIterator[Stat]:
        if under and not (await self._entry(self._checked(under))).is_folder:
            yield await self.stat(under)
            return
        waiting = [under]
        while waiting:
            folder = waiting.pop()
            try:
                entries = await self._list(folder)
            except ReplicaFailed as failed:
                if failed.fault is ReplicaFault.MISSING:
                    continue  # gone since its parent was listed
                raise OriginFailed(self.id, OriginFault.DENIED, f"{folder} can't be listed") from failed
            prefix = f"{folder}/" if folder else ""
            for name, entry in sorted(entries.items()):
                if not entry.is_folder:
                    yield Stat(prefix + name, entry.size, entry.mtime_ns, entry.etag)
            waiting += [prefix + name for name, entry in entries.items() if entry.is_folder and not is_skipped(name)]

    async def health(self) -> HealthStatus:
        await self._list("")
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
        """What lies in the folder, by its name. Raises OriginFailed for an empty root where there was music."""
        entries = await self._propfind(folder, "/", depth=1)
        whole = f"{self._root}/{folder}".rstrip("/")
        found = {entry.path.removeprefix(f"{whole}/"): entry for entry in entries if entry.path != whole}
        if wrong := next((name for name in found if "/" in name or name in ("", ".", "..")), None):
            raise self._broken(f"{wrong!r} is listed in {whole}/, where it can't be")
        if not folder:
            if self._populated and not found:
                raise OriginFailed(self.id, OriginFault.UNREACHABLE, f"there is nothing in {self._shown('')}")
            self._populated = bool(found)
        return found

    async def _entry(self, path: str) -> Entry:
        entries = await self._propfind(path, "", depth=0)
        if len(entries) != 1:
            raise self._broken(f"{len(entries)} answers for one file")
        return entries[0]

    async def _propfind(self, path: str, slash: str, depth: int) -> list[Entry]:
        headers = {"depth": str(depth), "content-type": "application/xml"}
        answer = await self._ask("PROPFIND", path, headers, QUESTION, slash=slash, most=_LARGEST_LISTING)
        if not slash and urlsplit(answer.headers.get("location", "")).path.endswith("/"):
            return [Entry(path, is_folder=True)]  # as Apache tells of folders
        if answer.status != 207:
            raise await self._failure(path, answer)
        try:
            return parse(answer.body)
        except PermissionError as error:
            raise OriginFailed(self.id, OriginFault.DENIED, str(error)) from error
        except ValueError as error:
            raise self._broken(f"a listing can't be understood: {error}") from error

    def _described(self, path: str, answer: Answer) -> tuple[int, Stat]:
        """Where the body begins in its file, and the file."""
        first, whole = 0, len(answer.body)
        if answer.status == 206:
            place = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("content-range", ""))
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
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *, slash: str = "", most: int
    ) -> Answer:
        """The answer, whatever its status. most: the longest body of a success. Raises OriginFailed for none."""
        import aiohttp

        try:
            async with asyncio.timeout(self._timeout_ms / 1000), self._slots:
                return await self._exchange(method, f"{self._root}/{path}".rstrip("/") + slash, headers, body, most)
        except TimeoutError:
            raise OriginFailed(self.id, OriginFault.TIMEOUT, f"no answer within {self._timeout_ms} ms") from None
        except asyncio.CancelledError:
            # Closing the session cancels what is about to connect.
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

    async def _exchange(self, method: str, path: str, headers: Mapping[str, str], body: bytes, most: int) -> Answer:
        import aiohttp
        from yarl import URL

        if self._closed:
            raise self._has_been_closed()
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(),
            )  # fmt: skip
        # Stored bytes are wanted as they are; and a redirection could lead the password elsewhere.
        whole = {**headers, **await self._access(), "accept-encoding": "identity"}
        url = URL(self._server + quote(path.encode("utf-8", "surrogateescape") or b"/"), encoded=True)
        async with self._session.request(method, url, headers=whole, data=body, allow_redirects=False) as response:
            limit = most if response.status < 300 else _LARGEST_ERROR
            pieces, size = [], 0
            async for piece in response.content.iter_any():
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    raise self._broken("more was sent than asked for; it does not understand ranges")
            return Answer(response.status, {name.lower(): v for name, v in response.headers.items()}, b"".join(pieces))

    async def _access(self) -> dict[str, str]:
        """The header that lets us in. Raises UserError when there is no password for the user."""
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
        """Whom to blame for a request that was refused: the origin, or only the file."""
        if answer.status in (412, 416):
            return ReplicaFailed(self.id, path, ReplicaFault.CHANGED)
        if answer.status == 401:
            self._password = None  # to be looked up again, for it may be mended meanwhile
            told = f"the password of {self._user!r} is wrong" if self._user else "it wants a user and a password"
            return OriginFailed(self.id, OriginFault.DENIED, told)
        if answer.status in (403, 404, 410) and path:
            try:
                await self._list("")
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
        return self._broken(f"{where}: HTTP {answer.status}")

    def _lost(self, error: Exception) -> OriginFailed:
        """Without the message of aiohttp's own, which may hold the whole request."""
        import aiohttp

        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            told = f"{error.host} is not to be trusted: {error.certificate_error}"
            return OriginFailed(self.id, OriginFault.UNREACHABLE, told)
        if isinstance(error, aiohttp.ClientConnectorError):
            refused = error.os_error.errno == errno.ECONNREFUSED
            told = (
                f"nothing listens at {error.host}:{error.port}"
                if refused
                else f"{error.host}: {error.os_error.strerror}"
            )
            return OriginFailed(self.id, OriginFault.REFUSED if refused else OriginFault.UNREACHABLE, told)
        if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
            return OriginFailed(self.id, OriginFault.UNREACHABLE, "the connection was lost")
        return self._broken(f"the answer makes no sense ({type(error).__name__})")

    def _has_been_closed(self) -> OriginFailed:
        return OriginFailed(self.id, OriginFault.UNREACHABLE, "it has been closed")

    def _broken(self, detail: str) -> OriginFailed:
        return OriginFailed(self.id, OriginFault.IO, detail)

    def _shown(self, path: str) -> str:
        return f"{self._server}{self._root}/{path}"
