"""The audit log: one line for each request that may change something, with its caller and its result."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from musicfs.control.auth import caller_of

audit_log = logging.getLogger("musicfs.audit")
# These lines do not depend on `[log] level`, which sets how much the mount logs, not whether changes are logged.
audit_log.setLevel(logging.INFO)

_READING = ("GET", "HEAD", "OPTIONS")
_SHOWN = frozenset({"id", "origin_type", "origin", "priority", "path", "paths", "all", "drain_secs", "rate", "metered"})
_MAX = 200  # characters of one value


@web.middleware
async def audited(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Logs the request. It belongs inside the middleware that finds the caller, and outside `errors_as_json`."""
    if request.method in _READING:
        return await handler(request)
    response: web.StreamResponse | None = None
    try:
        response = await handler(request)
    finally:
        audit_log.info("%s: %s: %s", caller_of(request).name, await _request_text(request), _outcome(response))
    return response


async def _request_text(request: web.Request) -> str:
    """Returns the request for the log: of its body the names of the keys, and the values that can't be secrets."""
    words = [request.method, _shown(request.path)]
    try:
        body = json.loads(await request.read()) if request.content.is_eof() else None
    except Exception:  # without its body the request still goes to the log
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
    """Returns the value as ASCII JSON: no line break, no control sequence, no sign that turns the direction of text."""
    text = json.dumps(value)
    return text if len(text) <= _MAX else f"{text[:_MAX]}..."
