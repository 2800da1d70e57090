"""What opens the page of `musicfs page`: a ticket for the browser that it starts, a code for any other, and the tokens
that both are changed for."""

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
    """Tickets, the code and tokens of one listener.

    Args:
        clock: Seconds that only go up.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tickets: dict[str, float] = {}  # until when each may be used
        self._given: dict[str, str] = {}  # the token that each used ticket was changed for
        self._tokens: list[str] = []
        self._wrong = 0
        signs = "".join(secrets.choice(_SIGNS) for _ in range(12))
        self.code = f"{signs[:4]}-{signs[4:8]}-{signs[8:]}"
        """What a browser that has no token is asked for; good as often as needed, until too many wrong ones came."""

    def new_ticket(self) -> str:
        """Good once, within `TICKET_SECS`."""
        ticket = secrets.token_urlsafe(32)
        self._tickets[ticket] = self._clock() + TICKET_SECS
        return ticket

    def is_waiting(self, ticket: str) -> bool:
        """Whether the ticket can still be used."""
        return self._tickets.get(ticket, 0.0) > self._clock()

    def use_ticket(self, given: str) -> str | None:
        """A token for a ticket; None for one that is not good. Used a second time, it ends the token that it gave: one
        of the two who used it has no right to it."""
        ticket = _among(given, self._given)
        if ticket is not None:
            log.warning("The ticket of the browser was used twice, so its page is closed: something else has read it.")
            self._end(self._given[ticket])
            return None
        ticket = _among(given, self._tickets)
        if ticket is None or self._tickets.pop(ticket) <= self._clock():
            return None
        self._given[ticket] = self._new_token()
        return self._given[ticket]

    def use_code(self, given: object) -> str | None:
        """A token for the code, however it is spaced; None for a wrong one, and for any after too many of these."""
        if self._wrong >= MAX_WRONG_CODES:
            return None
        text = given.upper().replace("-", "").replace(" ", "") if isinstance(given, str) else ""
        if hmac.compare_digest(_bytes(text), _bytes(self.code.replace("-", ""))):
            return self._new_token()
        self._wrong += 1
        return None

    def why_not(self) -> str:
        """Why `use_code` gave nothing, in a sentence."""
        if self._wrong >= MAX_WRONG_CODES:
            return "Too many wrong codes were given: end `musicfs page` with Ctrl-C, and start it again."
        return "This is not the code that `musicfs page` has printed."

    def opened_by(self, authorization: str) -> bool:
        """Whether this value of the header Authorization bears one of the tokens."""
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
    """A page that posts the ticket to `address`, in a file that only this user can read; it goes in the end.

    folder: one that is closed to others. Raises OSError.
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
    """The answer to a ticket: a page whose script keeps the token for this tab, and goes on to the status page."""
    return _ENTRANCE.format(token=html.escape(token))


def _among(given: str, kept: Iterable[str]) -> str | None:
    """The one of `kept` that is `given`, in a time that does not depend on how much of it is right."""
    found = None
    for each in kept:
        if hmac.compare_digest(_bytes(given), _bytes(each)):
            found = each
    return found


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
