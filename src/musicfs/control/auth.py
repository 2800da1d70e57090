"""Authentication: over TCP a client needs a token; on the Unix socket the system admits only this user."""

from __future__ import annotations

import hmac
import os
import re
import secrets
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from musicfs.control.connections import connection_of
from musicfs.control.responses import error_answer
from musicfs.control.routes.page import is_page

_READING = ("GET", "HEAD")
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::\d{1,5})?")


@dataclass(frozen=True, slots=True)
class Caller:
    """The client that makes a request.

    Args:
        name: For the log.
        local: Whether it uses the Unix socket, and so is this user or root.
        may_change: Whether it may do more than read.
    """

    name: str
    local: bool
    may_change: bool


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a listener. full: for all requests; read: for those that change nothing. Empty: no such token."""

    full: str
    read: str

    def caller(self, request: web.Request) -> Caller | None:
        """Returns the caller if it sent one of the tokens, else None. Takes the same time for all wrong tokens."""
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        full, read = (
            hmac.compare_digest(given, f"Bearer {token}".encode()) and bool(token) for token in (self.full, self.read)
        )
        if not (full or read):
            return None
        return Caller(f"{request.remote} with the {'full' if full else 'read-only'} token", False, full)


def require_token(tokens: Tokens, *, any_name: bool = False) -> Middleware:
    """Returns a middleware that admits requests with a token whose Host header is an address of this machine.

    The page's own files need no token: they are the same everywhere, and a browser can't send one with its first
    request. The Host header stops DNS rebinding: a stranger's web page whose name resolves to our address sends its own
    name.

    Args:
        tokens: The tokens.
        any_name: Whether the Host header may be any name. With TLS the certificate proves the name.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.raw_path.startswith("/"):
            return error_answer(400, "The request must name a path, such as GET /status.")
        if not is_ours(request.headers.getall("Host", []), any_name):
            return error_answer(403, "The Host header must be an address, such as 127.0.0.1:8383, or localhost.")
        if request.method in _READING and is_page(request.raw_path):
            return await handler(request)
        caller = tokens.caller(request)
        if caller is None:
            return error_answer(
                401, "This needs the token: `Authorization: Bearer TOKEN`.", {"WWW-Authenticate": "Bearer"}
            )
        connection = connection_of(request)
        connection.become_known()
        connection.caller = caller
        return await handler(request)

    return check


@web.middleware
async def by_socket(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Records the caller on the Unix socket, which only this user can open."""
    pid, uid = _peer(request)
    connection_of(request).caller = Caller(f"uid {uid} (process {pid}) over the Unix socket", True, True)
    return await handler(request)


@web.middleware
async def enforce_rights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses requests that change something from callers that may only read."""
    if request.method in _READING or caller_of(request).may_change:
        return await handler(request)
    return error_answer(403, "This token only reads; a request that changes something needs the full token.")


def caller_of(request: web.Request) -> Caller:
    """Returns the caller of a request, after `require_token` or `by_socket`."""
    caller = connection_of(request).caller
    assert isinstance(caller, Caller)
    return caller


def _peer(request: web.Request) -> tuple[int, int]:
    """Returns the process and the user at the other end; -1 when they are not known."""
    ours: socket.socket | None = request.get_extra_info("socket")
    try:
        assert ours is not None
        pid, uid, _ = struct.unpack("3i", ours.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    except (OSError, AssertionError):
        return -1, -1
    return pid, uid


def is_ours(hosts: list[str], any_name: bool = False) -> bool:
    """Whether there is one Host header and it is an IP address or localhost, with or without a port."""
    found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if found is None:
        return False
    name = found["name"].strip("[]").lower()
    if name == "localhost" or (any_name and not found["name"].startswith("[")):
        return True
    try:
        return (ip_address(name).version == 6) == found["name"].startswith("[")
    except ValueError:
        return False


class TokenFile:
    """A file with a random token for one mount, which only this user can read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = ""

    def make(self) -> str:
        """Writes a new token to the file and returns it. Raises OSError."""
        self._token = secrets.token_urlsafe(32)
        new = self._path.with_name(f"{self._path.name}.new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self._token + "\n")
        new.replace(self._path)
        return self._token

    def remove(self) -> None:
        """Removes the file, unless it has the token of another mount."""
        try:
            if self._token and self._path.read_text().strip() == self._token:
                self._path.unlink()
        except OSError:
            pass
