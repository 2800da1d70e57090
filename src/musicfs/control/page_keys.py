"""The keys to the page of `musicfs page`: a ticket for the browser that it starts, a code for any other browser, and
the tokens that both are exchanged for."""

from __future__ import annotations

import hmac
import html
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

TICKET_SECS = 120.0
MAX_WRONG_CODES = 20
_MAX_TOKENS = 64
# Without I, L, O, 0 and 1, which are easily mistaken; twelve of them are 59 bits.
_SIGNS = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
_ENTRANCE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>MusicFS</title>
<meta name="referrer" content="no-referrer"><meta name="musicfs-token" content="{token}">
<script type="module" src="page/enter.js"></script></head>
<body><noscript>This page needs JavaScript.</noscript></body></html>
"""
_FORM = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>MusicFS</title><meta name="referrer" content="no-referrer"></head>
<body><form method="post" action="{address}"><input type="hidden" name="ticket" value="{ticket}">
<button>Open the status page of MusicFS</button></form>
<script>document.forms[0].submit()</script></body></html>
"""


class PageKeys:
    """The tickets, the code and the tokens of one listener.

    Args:
        clock: Seconds that only go up.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tickets: dict[str, float] = {}  # when each expires
        self._given: dict[str, str] = {}  # the token that each used ticket was exchanged for
        self._tokens: list[str] = []
        self._wrong = 0
        signs = "".join(secrets.choice(_SIGNS) for _ in range(12))
        self.code = f"{signs[:4]}-{signs[4:8]}-{signs[8:]}"
        """What a browser without a token must send. It works any number of times, until too many wrong codes came."""

    def new_ticket(self) -> str:
        """Returns a ticket that works once, within `TICKET_SECS`."""
        ticket = secrets.token_urlsafe(32)
        self._tickets[ticket] = self._clock() + TICKET_SECS
        return ticket

    def is_waiting(self, ticket: str) -> bool:
        """Whether the ticket still works."""
        return self._tickets.get(ticket, 0.0) > self._clock()

    def use_ticket(self, given: str) -> str | None:
        """Returns a token for a ticket; None for a ticket that does not work.

        A second use ends the token of the first: one of the two users of the ticket has no right to it.
        """
        ticket = _among(given, self._given)
        if ticket is not None:
            log.warning("The browser's ticket was used twice, so another program may have read it; its page is closed.")
            self._end(self._given[ticket])
            return None
        ticket = _among(given, self._tickets)
        if ticket is None or self._tickets.pop(ticket) <= self._clock():
            return None
        self._given[ticket] = self._new_token()
        return self._given[ticket]

    def use_code(self, given: object) -> str | None:
        """Returns a token for the code, with any spacing; None for a wrong code, or after too many wrong ones."""
        if self._wrong >= MAX_WRONG_CODES:
            return None
        text = given.upper().replace("-", "").replace(" ", "") if isinstance(given, str) else ""
        if hmac.compare_digest(_bytes(text), _bytes(self.code.replace("-", ""))):
            return self._new_token()
        self._wrong += 1
        return None

    def why_not(self) -> str:
        """Returns a sentence that says why `use_code` returned None."""
        if self._wrong >= MAX_WRONG_CODES:
            return "Too many wrong codes: end `musicfs page` with Ctrl-C, and start it again."
        return "This is not the code that `musicfs page` printed."

    def opened_by(self, authorization: str) -> bool:
        """Whether this value of the Authorization header has one of the tokens."""
        return _among(authorization.removeprefix("Bearer "), self._tokens) is not None

    def _new_token(self) -> str:
        token = secrets.token_urlsafe(32)
        self._tokens = [*self._tokens[1 - _MAX_TOKENS :], token]
        return token

    def _end(self, token: str) -> None:
        if token in self._tokens:
            self._tokens.remove(token)


@contextmanager
def pass_file(folder: Path, address: str, ticket: str) -> Iterator[Path]:
    """Writes a page that posts the ticket to `address`, in a file that only this user can read; removes it at the end.

    Args:
        folder: Where the file goes; only this user can open it.
        address: The page's address.
        ticket: The ticket.

    Raises:
        OSError: The file can't be written.
    """
    path = folder / f"page-{secrets.token_hex(8)}.html"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(_FORM.format(address=html.escape(address), ticket=html.escape(ticket)))
        yield path
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def entrance_page(token: str) -> str:
    """Returns the answer to a ticket: a page whose script stores the token for this tab and opens the status page."""
    return _ENTRANCE.format(token=html.escape(token))


def _among(given: str, kept: Iterable[str]) -> str | None:
    """Returns the element of `kept` that equals `given`, in a time that does not depend on how much of it matches."""
    found = None
    for each in kept:
        if hmac.compare_digest(_bytes(given), _bytes(each)):
            found = each
    return found


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
