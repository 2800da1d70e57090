"""/events: a stream of server-sent events, and the latest events."""

from __future__ import annotations

import asyncio
import contextlib
import json

from aiohttp import web

from musicfs.control.responses import RequestRefused, number_of
from musicfs.events import Event, EventBus, History, to_json

HEARTBEAT_SECS = 15.0
_MAX_STREAMS = 32
_QUEUE = 1000
_MAX_RECENT = 200


class EventRoutes:
    def __init__(self, bus: EventBus, history: History) -> None:
        self._bus = bus
        self._history = history
        self._streams: set[asyncio.Task[object]] = set()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/events", self._stream, allow_head=False),
            web.get("/events/recent", self._recent),
        ]

    async def close(self, _: web.Application) -> None:
        """Ends the streams, which never end by themselves."""
        for stream in self._streams:
            stream.cancel()

    async def _recent(self, request: web.Request) -> web.Response:
        count = number_of(request, "count", _MAX_RECENT, _MAX_RECENT)
        return web.json_response({"events": [to_json(event) for event in self._history.latest(count)]})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Sends events until the client leaves or the mount ends. A client that is too slow gets `EventsDropped`."""
        if len(self._streams) >= _MAX_STREAMS:
            raise RequestRefused(429, f"{_MAX_STREAMS} clients follow the events already; close one.")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        subscription = self._bus.subscribe(_QUEUE)
        events = aiter(subscription)
        next_event: asyncio.Task[Event] | None = None
        try:
            await response.prepare(request)
            await response.write(b": events from now on follow\n\n")
            while True:
                next_event = next_event or asyncio.ensure_future(anext(events))
                done, _ = await asyncio.wait({next_event}, timeout=HEARTBEAT_SECS)
                if done:
                    event, next_event = next_event.result(), None
                    await response.write(_frame(event))
                else:
                    await response.write(b": still here\n\n")
        except (ConnectionError, asyncio.CancelledError):
            return response
        finally:
            subscription.close()
            self._streams.discard(task)
            if next_event is not None:
                next_event.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await next_event


def _frame(event: Event) -> bytes:
    value = to_json(event)
    return f"event: {value['event']}\ndata: {json.dumps(value)}\n\n".encode()
