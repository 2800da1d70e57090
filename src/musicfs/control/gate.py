"""Who may ask over TCP: whoever knows the token. On the Unix socket the system itself sees to that."""

from __future__ import annotations

import hmac
import os
import secrets
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from musicfs.control.answers import error_answer
from musicfs.control.routes.page import is_page


def gate(token: str) -> Middleware:
    """Lets requests pass that bear the token and name this machine by its address. The page's own files need no token:
    they are the same everywhere, and a browser can't send one with its first request.

    A web page of a stranger that has its own name resolve to our address (DNS rebinding) would name itself.
    """
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _is_address(request.host):
            return error_answer(403, "Ask by address, such as http://127.0.0.1:8383, or as localhost.")
        if is_page(request.path):
            return await handler(request)
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, expected):
            return error_answer(
                401, "This needs the token: `Authorization: Bearer TOKEN`.", {"WWW-Authenticate": "Bearer"}
            )
        return await handler(request)

    return check


def _is_address(host: str) -> bool:
    """Whether this value of the header Host is an IP address or localhost, with or without a port."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost":
            return True
        ip_address(name)
    except ValueError:
        return False
    return True


class TokenFile:
    """A token made for one mount, in a file that only this user can read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = ""

    def make(self) -> str:
        """Raises OSError."""
        self._token = secrets.token_urlsafe(32)
        new = self._path.with_suffix(".new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self._token + "\n")
        new.replace(self._path)
        return self._token

    def remove(self) -> None:
        """Unless another mount has put its own there, or none was made."""
        try:
            if self._token and self._path.read_text().strip() == self._token:
                self._path.unlink()
        except OSError:
            pass
