"""One line in the log for each request that may change something: who asked, for what, and what came of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from musicfs.control.auth import caller_of

audit_log = logging.getLogger("musicfs.audit")
# It is written whatever `[log] level` is: that is about how much is told of the mount, not about who changed it.
audit_log.setLevel(logging.INFO)

_READING = ("GET", "HEAD", "OPTIONS")
_SHOWN = frozenset({"id", "origin_type", "origin", "priority", "path", "paths", "all", "drain_secs", "rate", "metered"})
_MAX = 200  # characters of one value


@web.middleware
async def audited(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Belongs behind what knows the caller, and before what makes an answer of each failure."""
    if request.method in _READING:
        return await handler(request)
    response: web.StreamResponse | None = None
    try:
        response = await handler(request)
    finally:
        audit_log.info("%s: %s: %s", caller_of(request).name, await _asked(request), _outcome(response))
    return response


async def _asked(request: web.Request) -> str:
    """The request, of its body only the names of the keys and the values that can be no secrets."""
    words = [request.method, _shown(request.path)]
    try:
        body = json.loads(await request.read()) if request.content.is_eof() else None
    except Exception:  # a body that can't be had is no reason to say nothing
        body = None
    if isinstance(body, Mapping):
        words += [f"{key}={_shown(body[key])}" if key in _SHOWN else _shown(key) for key in body]
    return " ".join(words)[: 4 * _MAX]


def _outcome(response: web.StreamResponse | None) -> str:
    if response is None:
        return "no answer"
    if response.status < 400:
        return "done"
    text = response.text if isinstance(response, web.Response) else None
    try:
        return f"refused ({response.status}): {_shown(json.loads(text or '')['error'])}"
    except (ValueError, KeyError, TypeError):
        return f"refused ({response.status})"


def _shown(value: object) -> str:
    """As JSON in ASCII: no line break, no control sequence, no sign that changes the direction of writing."""
    text = json.dumps(value)
    return text if len(text) <= _MAX else f"{text[:_MAX]}..."
