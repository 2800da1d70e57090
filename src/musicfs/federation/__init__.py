"""Many origins as one: membership, health, routing, and reads that survive the failure of origins."""

from musicfs.federation.failover import FailoverExecutor
from musicfs.federation.fetch import Fetched
from musicfs.federation.health import HealthMonitor
from musicfs.federation.health_state import HealthSnapshot, OriginHealthState
from musicfs.federation.ratelimit import RateLimit
from musicfs.federation.registry import Candidate, OriginRegistry
from musicfs.federation.router import LatencyStats, Router

__all__ = [
    "Candidate",
    "FailoverExecutor",
    "Fetched",
    "HealthMonitor",
    "HealthSnapshot",
    "LatencyStats",
    "OriginHealthState",
    "OriginRegistry",
    "RateLimit",
    "Router",
]
