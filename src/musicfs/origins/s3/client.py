"""Sends requests to one bucket and translates their failures. The only module of this kind that uses aiohttp."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from musicfs.errors import OriginFailed, OriginFault, UserError
from musicfs.model import OriginId
from musicfs.origins.interruptions import Interruptions
from musicfs.origins.s3.credentials import CredentialChain
from musicfs.origins.s3.settings import S3Settings
from musicfs.origins.s3.signing import Signer, escaped_path, escaped_query
from musicfs.system.threads import WorkersUnavailable, WorkerThreads

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from aiohttp.abc import AbstractResolver
    from aiohttp.client import _RequestContextManager

_CLOSING_SECS = 1.0
_MAX_ERROR = 16 << 10
"""Bytes of an error's answer that are read; Amazon's have 1 KB, and nothing beyond is of interest."""
_MIN_RATE = 16 << 10
"""Bytes that must arrive within the patience, or else the whole answer comes too late."""
_BUFFER = 512 << 10
"""About how many bytes of an answer may wait to be read; with aiohttp's own 64 KiB the connection pauses again and
again."""

_LOST = "the connection was lost"

Take = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class S3Response:
    """An answer. headers: by names in lower case. body: empty for a HEAD."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Bucket:
    """Sends requests to one bucket, at most `connections` at a time, signed with the credentials of `chain`.

    Nothing is tried again, except a request on a kept connection that the server has closed. The first request makes
    the session, which belongs to its event loop.

    Args:
        origin: the origin.
        settings: the bucket's address, and what all requests to it have.
        chain: finds the credentials.
        connections: requests at a time.
        patience: seconds that a request may wait for its answer to begin, and then for each next piece of it, so that
            a large answer may take long over a slow link. The whole answer may take as long again for each 16 KiB of
            its limit: a server that sends a byte now and then does not hold a call for long.
    """

    def __init__(
        self, origin: OriginId, settings: S3Settings, chain: CredentialChain, connections: int, patience: float
    ) -> None:
        self._origin = origin
        self._settings = settings
        self._chain = chain
        self._connections = connections
        self._patience = patience
        self._threads = WorkerThreads(f"origin-{origin}", 2)
        self._session: ClientSession | None = None
        self._dropping: asyncio.Task[None] | None = None
        self._interruptions = Interruptions(origin)
        self._trusted: ssl.SSLContext | None = None
        self._proxies = getproxies_environment()
        self._closed = False
        self._has_answered = False

    async def ask(
        self, method: str, key: str = "", query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None, *, most: int = 0, begin: Callable[[S3Response], Take] | None = None,
    ) -> S3Response:  # fmt: skip
        """Requests `key`, or the bucket itself. Returns the answer, with any status.

        Args:
            method: of HTTP.
            key: "" for the bucket.
            query: by names, not escaped.
            headers: those that are signed.
            most: the longest body of a success, in bytes.
            begin: takes the answer to a request for a range as soon as its body begins, and returns what takes the
                body piece by piece; may raise. The body of the returned answer is empty then.

        Raises:
            OriginFailed: there is no complete answer.
        """
        with self._interruptions.named():
            return await self._ask(method, key, query or {}, {**self._settings.headers, **(headers or {})}, most, begin)

    async def _ask(
        self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str],
        most: int, begin: Callable[[S3Response], Take] | None,
    ) -> S3Response:  # fmt: skip
        import aiohttp

        if self._closed:
            raise self._failure(OriginFault.UNREACHABLE, "it has been closed")
        signer: Signer | None = None
        try:
            async with asyncio.timeout(self._patience) as patience:
                signer = await self._chain.get(self._threads)
                if self._session is None:
                    self._trusted = await self._threads.run(self._chain.authorities)
                async with self._request(signer, method, key, query, headers) as response:
                    self._has_answered = True
                    head = _head(response)
                    if begin is not None and head.status == 206:
                        await self._pass_on(response, most, patience, begin(head))
                        return head
                    pieces: list[bytes] = []
                    await self._pass_on(response, most, patience, pieces.append)
                    return replace(head, body=b"".join(pieces))
        except asyncio.CancelledError:
            # Closing the session cancels requests that wait for one of its connections.
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                what = "it has been closed" if self._closed else "the connection was dropped"
                raise self._failure(OriginFault.UNREACHABLE, what) from None
            raise
        except UserError as error:
            raise self._failure(OriginFault.DENIED, str(error)) from error
        except TimeoutError:
            what = "answer" if signer else "access key from its source, such as a credential_process, came"
            raise self._failure(OriginFault.TIMEOUT, f"no {what} for {self._patience:g} s") from None
        except (aiohttp.ClientError, OSError, RuntimeError, WorkersUnavailable) as error:
            if self._closed:
                raise self._failure(OriginFault.UNREACHABLE, "it has been closed") from None
            if isinstance(error, RuntimeError):
                raise
            fault, detail = _reason(error)
            if detail == _LOST and not self._has_answered and self._speaks_plainly(signer):
                detail += "; if the server speaks TLS, write https:// in the endpoint"
            raise self._failure(fault, detail) from error

    def drop(self) -> None:
        """Ends all connections at once: requests under way fail, and the next one makes a new connection."""
        self._interruptions.record()
        session, self._session = self._session, None
        if session is not None:
            self._dropping = asyncio.create_task(session.close(), name=f"dropping connections of {self._origin}")

    async def aclose(self) -> None:
        self._closed = True
        self._threads.close()
        if self._session is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING_SECS):
                    await self._session.close()

    def _request(
        self, signer: Signer, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> _RequestContextManager:
        from yarl import URL

        url = urlsplit(self._settings.url_in(signer.region))
        path = url.path.rstrip("/") + ("/" + escaped_path(key) if key else "") or "/"
        whole = f"{url.scheme}://{url.netloc}{path}?{escaped_query(query)}".rstrip("?")
        # The stored bytes must arrive as they are, without any content encoding.
        complete = {**signer.signed(method, whole, headers), "accept-encoding": "identity"}
        bypassed = proxy_bypass_environment(url.netloc, self._proxies)
        return self._opened().request(
            method, URL(whole, encoded=True), headers=complete, allow_redirects=False,
            proxy=None if bypassed else self._proxies.get(url.scheme),
        )  # fmt: skip

    def _speaks_plainly(self, signer: Signer | None) -> bool:
        return signer is not None and self._settings.url_in(signer.region).startswith("http:")

    def _opened(self) -> ClientSession:
        import aiohttp

        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=self._connections, resolver=_resolver(self._threads), ssl=self._trusted or True
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                auto_decompress=False,
                read_bufsize=_BUFFER,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _pass_on(self, response: ClientResponse, most: int, patience: asyncio.Timeout, take: Take) -> None:
        """Passes the body to `take`. Leaving a body unread closes the connection, which is cheaper than reading what no
        caller wants."""
        if response.method == "HEAD":
            return
        refused = response.status >= 300
        limit = _MAX_ERROR if refused else most
        size = 0
        now = asyncio.get_running_loop().time
        latest = now() + self._patience * (1 + limit / _MIN_RATE)
        async for piece in response.content.iter_any():
            patience.reschedule(min(latest, now() + self._patience))
            size += len(piece)
            if size > limit and refused:
                take(piece[: limit - size])
                return
            if size > limit:
                why = "; it does not understand ranges" if "range" in response.request_info.headers else ""
                raise self._failure(OriginFault.IO, f"more was sent than asked for{why}")
            take(piece)

    def _failure(self, fault: OriginFault, detail: str) -> OriginFailed:
        return OriginFailed(self._origin, fault, detail)


def _head(response: ClientResponse) -> S3Response:
    """Returns the answer without its body. Some servers give a range the status of a whole file, but name its place."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    is_range = response.status == 200 and "content-range" in headers
    return S3Response(206 if is_range else response.status, headers, b"")


def _reason(error: Exception) -> tuple[OriginFault, str]:
    """Returns a fault and its detail, without aiohttp's own message, which may contain the whole request."""
    import aiohttp

    if isinstance(error, WorkersUnavailable):
        return error.fault, str(error)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return OriginFault.UNREACHABLE, f"the proxy of the environment refuses: HTTP {error.status}"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return OriginFault.UNREACHABLE, f"nothing answers at the proxy of the environment, {error.host}:{error.port}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return OriginFault.UNREACHABLE, f"{error.host} is not to be trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        what = "does not speak TLS as this machine does; is the endpoint one of http://?"
        return OriginFault.UNREACHABLE, f"{error.host}:{error.port} {what} ({error.os_error})"
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        if cause.errno == errno.ECONNREFUSED:
            return OriginFault.REFUSED, f"nothing listens at {error.host}:{error.port}"
        return OriginFault.UNREACHABLE, f"{error.host}: {cause.strerror or cause}"
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        return OriginFault.UNREACHABLE, _LOST
    return OriginFault.IO, f"the answer makes no sense ({type(error).__name__})"


def _resolver(threads: WorkerThreads) -> AbstractResolver:
    """Resolves names in the origin's own threads: a name server that hangs must delay nothing else."""
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Resolver(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            found = await threads.run(_look_up, host, port, family)
            return [
                ResolveResult(hostname=host, host=str(at[0]), port=port, family=kind, proto=proto, flags=0)
                for kind, _, proto, _, at in found
            ]

        async def close(self) -> None:
            return None

    return Resolver()


def _look_up(host: str, port: int, family: int) -> list[Any]:
    return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
