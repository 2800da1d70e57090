"""Requests and responses of the control API: JSON in, JSON out, and one sentence for every failure."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, ConfigDict, ValidationError

from musicfs.app.current_config import CurrentConfig
from musicfs.errors import MusicFSError
from musicfs.federation.registry import OriginRegistry
from musicfs.model import OriginId

log = logging.getLogger(__name__)

BODY_SECS = 10.0
"""How long the body of a request may take to arrive."""


class RequestRefused(MusicFSError):
    """The request can't be carried out. status: the HTTP status, 4xx."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Body(BaseModel):
    """The body of a request: a JSON object with exactly these keys, of exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True)


B = TypeVar("B", bound=Body)


async def json_body(request: web.Request) -> dict[str, object]:
    """Returns the JSON object in the body; an empty one when there is no body. Raises `RequestRefused`."""
    try:
        async with asyncio.timeout(BODY_SECS):
            raw = await request.read()
    except TimeoutError:
        raise RequestRefused(
            408, f"The body of {request.method} {request.path} did not arrive within {BODY_SECS:g} s."
        ) from None
    try:
        value = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RequestRefused(400, f"The body of {request.method} {request.path} is not a JSON object.")
    return value


async def body_of(request: web.Request, model: type[B]) -> B:
    """Returns the JSON object in the body, checked against `model`. Raises `RequestRefused`."""
    try:
        return model.model_validate(await json_body(request))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, found["loc"]))
        raise RequestRefused(400, f"{request.method} {request.path}: {key}: {found['msg']}.") from None


def number_of(request: web.Request, name: str, default: int, most: int) -> int:
    """Returns a parameter of the query, a whole number from 1 to `most`.

    Args:
        request: The request.
        name: The name of the parameter.
        default: Its value when it is missing.
        most: Its largest value.

    Raises:
        RequestRefused: It is another value.
    """
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise RequestRefused(400, f"{request.path}: {name} must be a whole number from 1 to {most}.")
    return int(text)


class KnownOrigins:
    """Finds the origins that requests name."""

    def __init__(self, config: CurrentConfig, registry: OriginRegistry) -> None:
        self._config = config
        self._registry = registry

    def all(self) -> list[OriginId]:
        """The origins that take part."""
        return [origin.id for origin in self._registry.list()]

    def find(self, id: str) -> OriginId:
        """The id of an origin that takes part. Raises `RequestRefused` with 404 and the origins that there are."""
        if self._registry.get(OriginId(id)) is not None:
            return OriginId(id)
        config = next((config for config in self._config.origins if config.id == id), None)
        if config is not None:
            why = "could not be opened; the log says why" if config.enabled else "is disabled in the configuration"
            raise RequestRefused(404, f"The origin {id!r} {why}.")
        raise RequestRefused(404, f"There is no origin {id!r}; there are: {', '.join(self.all()) or 'none'}.")


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        headers = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        return error_answer(error.status, f"{request.method} {request.path}: {error.reason}.", headers)
    except RequestRefused as error:
        return error_answer(error.status, str(error))
    except MusicFSError as error:
        return error_answer(409, str(error))
    except Exception as error:
        log.exception("%s %s failed", request.method, request.path)
        return error_answer(500, f"The mount hit an internal error ({type(error).__name__}); the log has the details.")


def error_answer(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": sentence}, status=status, headers=headers)
