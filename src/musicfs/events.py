"""Events as typed values, and the bus that carries them to listeners."""

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
    """The base class of all events. at: when it happened, in seconds since the epoch; comparisons ignore it."""

    at: float = field(default_factory=time.time, kw_only=True, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class HealthChanged(Event):
    origin: OriginId
    before: HealthStatus
    after: HealthStatus
    reason: str


@dataclass(frozen=True, slots=True)
class AllOriginsUnhealthy(Event):
    """No origin is healthy or degraded. Published once per transition, not once per read."""

    origins: tuple[OriginId, ...]


@dataclass(frozen=True, slots=True)
class FailedOver(Event):
    """Another origin served a read that one could not serve. gap_ms: how much longer the reader waited."""

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
    """A file differs from its entry in the catalogue; its path must be scanned again."""

    origin: OriginId
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReplicaQuarantined(Event):
    """A replica's bytes disagree with the recorded checksum. It no longer serves reads until its version changes."""

    origin: OriginId
    path: str
    block: int


@dataclass(frozen=True, slots=True)
class ReplicasDisagree(Event):
    """Two replicas of one content differ, and nothing shows which is right. `origin` continues to serve; `other` does
    not until one of the two changes."""

    origin: OriginId
    path: str
    other: OriginId
    other_path: str
    block: int


@dataclass(frozen=True, slots=True)
class CopiesDiffer(Event):
    """Two files with the same fingerprint hold other bytes elsewhere. `origin` continues to serve; `other` does not
    until one of the two changes or leaves."""

    origin: OriginId
    path: str
    other: OriginId
    other_path: str


@dataclass(frozen=True, slots=True)
class OriginRegistered(Event):
    origin: OriginId
    priority: int


@dataclass(frozen=True, slots=True)
class OriginUnregistered(Event):
    origin: OriginId


@dataclass(frozen=True, slots=True)
class ScanProgress(Event):
    """The progress of a scan: files listed so far, those of them that were read (new or changed) or failed to parse."""

    origin: OriginId
    listed: int
    read: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class ScanFinished(Event):
    """A scan ended.

    Args:
        removals_held: Files that are gone but kept in the tree, because too many vanished at once.
        error: Why it did not complete; None when it did.
        links_left_out: Symbolic links of the origin that its `links` setting leaves out.
        problems: Other files, links and folders that this scan met and that are not shown as they should be.
        folders_unlisted: Of these, folders that could not be listed. Nothing below them was removed.
    """

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
    problems: int = 0
    folders_unlisted: int = 0


@dataclass(frozen=True, slots=True)
class CacheStopped(Event):
    """The cache's disk fails or is full; music plays without the cache. Published once, until the cache works again."""

    reason: str


@dataclass(frozen=True, slots=True)
class CacheResumed(Event):
    """The cache works again."""


@dataclass(frozen=True, slots=True)
class PinProgress(Event):
    """A track of a pin is fetched: `complete` of its `tracks` and `cached_bytes` of its `bytes` are on this disk."""

    path: str
    tracks: int
    complete: int
    bytes: int
    cached_bytes: int


@dataclass(frozen=True, slots=True)
class PinCompleted(Event):
    """Everything that is pinned at this path of the tree is on this disk."""

    path: str
    tracks: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ScrubProgress(Event):
    """The progress of a scrub: `done_files` of `files` copies are compared, and `found` of them differ."""

    path: str
    files: int
    done_files: int
    bytes: int
    done_bytes: int
    found: int


@dataclass(frozen=True, slots=True)
class ScrubMismatch(Event):
    """A scrub found a copy that differs.

    Args:
        path: The path at the origin.
        file: The path in the tree; None when the tree does not show it.
        block: The first block that differs, counted in 256 KiB.
        against: The origin whose copy it disagrees with, when nothing shows which is right; None: its bytes are wrong.
    """

    origin: OriginId
    path: str
    file: str | None
    block: int
    against: OriginId | None


@dataclass(frozen=True, slots=True)
class ScrubFinished(Event):
    """A scrub has compared every copy at or below this path of the tree; `unchecked` of them could not be read."""

    path: str
    files: int
    found: int
    unchecked: int


@dataclass(frozen=True, slots=True)
class FilesChanged(Event):
    """A commit of a scan: the numbers of files of the origin that it added, changed and removed in the catalogue."""

    origin: OriginId
    added: int
    changed: int
    removed: int


@dataclass(frozen=True, slots=True)
class EventsDropped(Event):
    """In one subscriber's stream only: it was too slow, and `count` events are missing here."""

    count: int


def to_json(event: Event) -> dict[str, Any]:
    """The event as values that JSON can carry: its class's name as "event", "at", and its own fields.

    Bytes of a path that are not UTF-8 are lone surrogates, which `json.dumps` escapes.
    """
    own = {f.name: _plain(getattr(event, f.name)) for f in fields(event) if f.name != "at"}
    return {"event": type(event).__name__, "at": event.at, **own}


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


class Subscription:
    """The bounded queue of one listener. When it is full, the oldest events are dropped, and an `EventsDropped` in
    their place says how many."""

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
    """A registered callback, which every event calls until this is closed."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus

    def close(self) -> None:
        """Ends the calls, from the next event on. May be called again."""
        self._bus._callbacks.pop(self, None)


class EventBus:
    """Carries events to their listeners. Publishing never waits and never raises.

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
        """Calls `callback` on every event, synchronously within `publish`, so it must be quick. `close()` of the result
        ends that."""
        listening = Listening(self)
        self._callbacks[listening] = callback
        return listening

    def subscribe(self, capacity: int = 1000) -> Subscription:
        """Returns an asynchronous iterator over the events from now on; the caller closes it."""
        subscription = Subscription(self, capacity)
        self._subscriptions.add(subscription)
        return subscription


class History:
    """The latest events of some kinds. Each kind has its own queue, so a flood of one does not push out the others.

    Args:
        kinds: The classes of events to keep.
        capacity: How many of each.
    """

    def __init__(self, kinds: Sequence[type[Event]], capacity: int = 200) -> None:
        self._kept: dict[type[Event], deque[Event]] = {kind: deque(maxlen=capacity) for kind in kinds}

    def record(self, event: Event) -> None:
        """Keeps an event of one of the kinds; for `EventBus.listen`."""
        kept = self._kept.get(type(event))
        if kept is not None:
            kept.append(event)

    def latest(self, count: int = 200) -> list[Event]:
        """Returns at most `count` events, the newest first."""
        everything = (event for kept in self._kept.values() for event in kept)
        return sorted(everything, key=lambda event: event.at, reverse=True)[:count]
