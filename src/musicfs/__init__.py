"""One read-only music folder, organised by tags, over music that lives in several places.

What is offered here federates origins without a mount, too; it is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from musicfs.config.models import CacheConfig, Config, HealthConfig, OriginConfig, RetryConfig
    from musicfs.federation.failover import FailoverExecutor
    from musicfs.federation.health import HealthMonitor
    from musicfs.federation.health_state import HealthSnapshot, OriginHealthState
    from musicfs.federation.registry import OriginRegistry
    from musicfs.federation.router import LatencyStats, Router
    from musicfs.model import OriginType
    from musicfs.origin import Origin, WatchHandle

__version__ = "0.1.0"

__all__ = [
    "CacheConfig",
    "Config",
    "FailoverExecutor",
    "HealthConfig",
    "HealthMonitor",
    "HealthSnapshot",
    "LatencyStats",
    "Origin",
    "OriginConfig",
    "OriginHealthState",
    "OriginRegistry",
    "OriginType",
    "RetryConfig",
    "Router",
    "WatchHandle",
]

_HOMES = {
    "config.models": ("CacheConfig", "Config", "HealthConfig", "OriginConfig", "RetryConfig"),
    "federation.failover": ("FailoverExecutor",),
    "federation.health": ("HealthMonitor",),
    "federation.registry": ("OriginRegistry",),
    "federation.router": ("LatencyStats", "Router"),
    "federation.health_state": ("HealthSnapshot", "OriginHealthState"),
    "model": ("OriginType",),
    "origin": ("Origin", "WatchHandle"),
}


def __getattr__(name: str) -> object:
    """See PEP 562: the command line must start without waiting for all of this."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
