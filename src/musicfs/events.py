"""What happened, as typed values, and the bus that carries them to whoever listens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from musicfs.model import HealthStatus, OriginId

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """The root of all events. at: when it happened, in seconds since the epoch; it makes no two events different."""

    at: float = field(default_factory=time.time, kw_only=True, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class HealthChanged(Event):
    origin: OriginId
    before: HealthStatus
    after: HealthStatus
    reason: str


@dataclass(frozen=True, slots=True)
class AllOriginsUnhealthy(Event):
    """No origin is healthy or degraded any more. Once per transition, not once per read."""

    origins: tuple[OriginId, ...]


@dataclass(frozen=True, slots=True)
class FailedOver(Event):
    """A read that one origin could not serve was served by another; gap_ms is what the reader waited longer."""

    path: str
    source: OriginId
    target: OriginId
    reason: str
    gap_ms: float


@dataclass(frozen=True, slots=True)
class HedgeWon(Event):
    """The second candidate, asked because the first was late, answered first."""

    path: str
    late: OriginId
    winner: OriginId
    gap_ms: float


@dataclass(frozen=True, slots=True)
class ReplicaSuspect(Event):
    """A file is not what the catalogue says it is; its path should be scanned again."""

    origin: OriginId
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReplicaQuarantined(Event):
    """A replica's bytes disagree with the recorded checksum; it serves no more until its version changes."""

    origin: OriginId
    path: str
    block: int


@dataclass(frozen=True, slots=True)
class ReplicasDisagree(Event):
    """Two replicas of one content differ, and nobody can tell which is right: `origin` goes on serving, `other` does
    not until one of the two changes."""

    origin: OriginId
    path: str
    other: OriginId
    other_path: str
    block: int


@dataclass(frozen=True, slots=True)
class OriginRegistered(Event):
    origin: OriginId
    priority: int


@dataclass(frozen=True, slots=True)
class OriginUnregistered(Event):
    origin: OriginId


@dataclass(frozen=True, slots=True)
class ScanProgress(Event):
    """A scan under way: files listed so far, of them read (new or changed), and failed to parse."""

    origin: OriginId
    listed: int
    read: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class ScanFinished(Event):
    """error is None when the scan completed; removals_held counts files kept because too many vanished at once, and
    links_left_out the symbolic links of the origin that its `links` setting leaves out."""

    origin: OriginId
    listed: int
    read: int
    unreadable: int
    added: int
    changed: int
    removed: int
    removals_held: int
    error: str | None
    links_left_out: int = 0


@dataclass(frozen=True, slots=True)
class CacheStopped(Event):
    """The cache's disk fails or is full: music plays on uncached. Once, until it works again."""

    reason: str


@dataclass(frozen=True, slots=True)
class CacheResumed(Event):
    """Music is kept in the cache again."""


@dataclass(frozen=True, slots=True)
class PinProgress(Event):
    """A track of a pin was fetched, so `complete` of its `tracks` and `cached_bytes` of its `bytes` are here."""

    path: str
    tracks: int
    complete: int
    bytes: int
    cached_bytes: int


@dataclass(frozen=True, slots=True)
class PinCompleted(Event):
    """All that is pinned at this path of the tree is on this disk."""

    path: str
    tracks: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ScrubProgress(Event):
    """Copies are being read and compared: `done_files` of `files` have been gone through, `found` of them differ."""

    path: str
    files: int
    done_files: int
    bytes: int
    done_bytes: int
    found: int


@dataclass(frozen=True, slots=True)
class ScrubMismatch(Event):
    """A verification met a copy that is not what it ought to be. file: where the tree shows it, if it does. against:
    the origin that it disagrees with, where nobody can tell which is right; None: its bytes are known to be wrong."""

    origin: OriginId
    path: str
    file: str | None
    block: int
    against: OriginId | None


@dataclass(frozen=True, slots=True)
class ScrubFinished(Event):
    """Every copy at or below this path of the tree was gone through; `unchecked` of them could not be read."""

    path: str
    files: int
    found: int
    unchecked: int


@dataclass(frozen=True, slots=True)
class FilesChanged(Event):
    """A commit of a scan: so many files of the origin are new, changed, or gone from the catalogue by it."""

    origin: OriginId
    added: int
    changed: int
    removed: int


@dataclass(frozen=True, slots=True)
class EventsDropped(Event):
    """In one subscriber's stream only: it was too slow, and so many events are missing at this place."""

    count: int


def to_json(event: Event) -> dict[str, Any]:
    """The event as values that JSON can carry: its class's name as "event", "at", and its own fields.

    Bytes of a path that are not UTF-8 are lone surrogates, as everywhere: `json.dumps` escapes them.
    """
    own = {f.name: _plain(getattr(event, f.name)) for f in fields(event) if f.name != "at"}
    return {"event": type(event).__name__, "at": event.at, **own}


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


class Subscription:
    """One listener's queue: bounded; when it is full the oldest events go, and an `EventsDropped` in their place says
    how many."""

    def __init__(self, bus: EventBus, capacity: int) -> None:
        self._bus = bus
        self._queue: deque[Event] = deque(maxlen=capacity)
        self._arrived = asyncio.Event()
        self._dropped = 0

    def _put(self, event: Event) -> None:
        if len(self._queue) == self._queue.maxlen:
            self._dropped += 1
        self._queue.append(event)
        self._arrived.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            while self._queue:
                if self._dropped:
                    count, self._dropped = self._dropped, 0
                    yield EventsDropped(count)
                yield self._queue.popleft()
            self._arrived.clear()
            await self._arrived.wait()

    def close(self) -> None:
        self._bus._subscriptions.discard(self)


class Listening:
    """A callback that is called on every event, until this is closed."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus

    def close(self) -> None:
        """Has the callback called no more, from the next event on. May be called again."""
        self._bus._callbacks.pop(self, None)


class EventBus:
    """Carries events from where they happen to whoever listens; publishing never waits and never raises.

    All methods belong to the event loop's thread.
    """

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._callbacks: dict[Listening, Callable[[Event], None]] = {}

    def publish(self, event: Event) -> None:
        for callback in tuple(self._callbacks.values()):
            try:
                callback(event)
            except Exception:
                log.exception("a listener failed on %r", event)
        for subscription in tuple(self._subscriptions):
            subscription._put(event)

    def listen(self, callback: Callable[[Event], None]) -> Listening:
        """Calls `callback` synchronously on every event, in the publisher's turn: it must be quick. `close()` the
        result to end that."""
        listening = Listening(self)
        self._callbacks[listening] = callback
        return listening

    def subscribe(self, capacity: int = 1000) -> Subscription:
        """An asynchronous iterator over the events from now on; `close()` it when done."""
        subscription = Subscription(self, capacity)
        self._subscriptions.add(subscription)
        return subscription


class History:
    """The last events of each of some kinds: of each on its own, so that a flood of one does not push out the others.

    `note` is for `EventBus.listen`.
    """

    def __init__(self, kinds: Sequence[type[Event]], capacity: int = 200) -> None:
        self._kept: dict[type[Event], deque[Event]] = {kind: deque(maxlen=capacity) for kind in kinds}

    def note(self, event: Event) -> None:
        kept = self._kept.get(type(event))
        if kept is not None:
            kept.append(event)

    def latest(self, count: int = 200) -> list[Event]:
        """At most `count` events, the newest first."""
        everything = (event for kept in self._kept.values() for event in kept)
        return sorted(everything, key=lambda event: event.at, reverse=True)[:count]
