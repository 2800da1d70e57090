"""What happened, as typed values, and the bus that carries them to whoever listens."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from musicfs.model import HealthStatus, OriginId

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """The root of all events."""


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
    """error is None when the scan completed; removals_held counts files kept because too many vanished at once."""

    origin: OriginId
    listed: int
    read: int
    unreadable: int
    added: int
    changed: int
    removed: int
    removals_held: int
    error: str | None


class Subscription:
    """One listener's queue: bounded; when it is full the oldest event goes and `dropped` counts it."""

    def __init__(self, bus: EventBus, capacity: int) -> None:
        self._bus = bus
        self._queue: deque[Event] = deque(maxlen=capacity)
        self._arrived = asyncio.Event()
        self.dropped = 0

    def _put(self, event: Event) -> None:
        if len(self._queue) == self._queue.maxlen:
            self.dropped += 1
        self._queue.append(event)
        self._arrived.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            while self._queue:
                yield self._queue.popleft()
            self._arrived.clear()
            await self._arrived.wait()

    def close(self) -> None:
        self._bus._subscriptions.discard(self)


class EventBus:
    """Carries events from where they happen to whoever listens; publishing never waits and never raises.

    All methods belong to the event loop's thread.
    """

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._callbacks: list[Callable[[Event], None]] = []

    def publish(self, event: Event) -> None:
        for callback in self._callbacks:
            try:
                callback(event)
            except Exception:
                log.exception("a listener failed on %r", event)
        for subscription in self._subscriptions:
            subscription._put(event)

    def listen(self, callback: Callable[[Event], None]) -> None:
        """Calls `callback` synchronously on every event, in the publisher's turn: it must be quick."""
        self._callbacks.append(callback)

    def subscribe(self, capacity: int = 1000) -> Subscription:
        """An asynchronous iterator over the events from now on; `close()` it when done."""
        subscription = Subscription(self, capacity)
        self._subscriptions.add(subscription)
        return subscription
