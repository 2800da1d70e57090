"""Counts of events since the mount started, for the metrics."""

from __future__ import annotations

from collections import Counter

from musicfs.events import (
    Event,
    FailedOver,
    HealthChanged,
    HedgeWon,
    ReplicaQuarantined,
    ScanFinished,
    ScanProgress,
)

Labels = tuple[str, ...]


class EventCounts:
    """Counts events, by labels."""

    def __init__(self) -> None:
        self.failovers: Counter[Labels] = Counter()
        self.hedges: Counter[Labels] = Counter()
        self.quarantines: Counter[Labels] = Counter()
        self.health: Counter[Labels] = Counter()
        self.scans: Counter[Labels] = Counter()
        self.scanned: Counter[Labels] = Counter()
        self._under_way: dict[str, tuple[int, int, int]] = {}

    def count(self, event: Event) -> None:
        """For `EventBus.listen`."""
        match event:
            case FailedOver(source=source, target=target):
                self.failovers[source, target] += 1
            case HedgeWon(late=late, winner=winner):
                self.hedges[late, winner] += 1
            case ReplicaQuarantined(origin=origin):
                self.quarantines[origin,] += 1
            case HealthChanged(origin=origin, after=after):
                self.health[origin, after.value] += 1
            case ScanProgress():
                self._scanned(event)
            case ScanFinished(origin=origin):
                self._scanned(event)
                del self._under_way[origin]
                self.scans[origin, "failed" if event.error else "completed"] += 1
                for what in ("added", "changed", "removed"):
                    self.scanned[origin, what] += getattr(event, what)

    def _scanned(self, event: ScanProgress | ScanFinished) -> None:
        """Counts what is new since the last event of this scan, so that the rate of a long scan is visible."""
        origin, now = event.origin, (event.listed, event.read, event.unreadable)
        before = self._under_way.get(origin, (0, 0, 0))
        if now[0] < before[0]:  # another scan: the worker died in the one before
            before = (0, 0, 0)
        for what, old, new in zip(("listed", "read", "unreadable"), before, now, strict=True):
            self.scanned[origin, what] += max(new - old, 0)
        self._under_way[origin] = now
