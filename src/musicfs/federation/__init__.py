"""Many origins as one: which take part, how they are, whom to ask, and how a read outlives their failures."""

from musicfs.federation.bandwidth import Bandwidth
from musicfs.federation.failover import FailoverExecutor
from musicfs.federation.fetching import Fetched
from musicfs.federation.health import HealthMonitor
from musicfs.federation.registry import Candidate, OriginRegistry
from musicfs.federation.router import LatencyStats, Router
from musicfs.federation.state import HealthSnapshot, OriginHealthState

__all__ = [
    "Bandwidth",
    "Candidate",
    "FailoverExecutor",
    "Fetched",
    "HealthMonitor",
    "HealthSnapshot",
    "LatencyStats",
    "OriginHealthState",
    "OriginRegistry",
    "Router",
]
