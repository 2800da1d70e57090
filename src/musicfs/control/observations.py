"""What the control API reports of the time before its first client."""

from __future__ import annotations

from musicfs.control.event_counts import EventCounts
from musicfs.control.latency_history import LatencyHistory
from musicfs.events import EventBus
from musicfs.federation.registry import OriginRegistry


class Observations:
    """Observes a mount from its start, while the server that reports it may not be loaded. Belongs to the event loop's
    thread."""

    def __init__(self, bus: EventBus, registry: OriginRegistry) -> None:
        self._bus = bus
        self.events = EventCounts()
        self.latencies = LatencyHistory(registry)

    def start(self) -> None:
        self._bus.listen(self.events.count)
        self.latencies.start()

    def stop(self) -> None:
        self.latencies.stop()
