"""One read-only music folder, organised by tags, over music that lives in several places.

The names in `__all__` also federate origins without a mount. Each is imported when it is first used. They are closed:
whatever the public methods of a class here take, return or raise is here, too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from musicfs.config.kinds import open_origin
    from musicfs.config.load import LoadedConfig, load_config
    from musicfs.config.models import (
        CacheConfig,
        Config,
        ControlConfig,
        HealthConfig,
        LogConfig,
        MountConfig,
        OriginConfig,
        RetryConfig,
        TreeConfig,
        WebhookConfig,
    )
    from musicfs.errors import (
        ConfigError,
        MusicFSError,
        NoReplicaAvailable,
        OriginFailed,
        OriginFault,
        ReplicaFailed,
        ReplicaFault,
        UsageError,
        UserError,
    )
    from musicfs.events import Event, EventBus, Listening, Subscription
    from musicfs.federation.failover import FailoverExecutor
    from musicfs.federation.fetch import Demand, Fetched
    from musicfs.federation.health import HealthMonitor
    from musicfs.federation.health_state import HealthSnapshot, OriginHealthState
    from musicfs.federation.ratelimit import RateLimit
    from musicfs.federation.registry import Candidate, OriginRegistry
    from musicfs.federation.router import LatencyStats, Router
    from musicfs.model import HealthStatus, OriginId, OriginType, Owner, Replica, Stat
    from musicfs.origin import Origin, WatchHandle
    from musicfs.problems import Problem, Reason

__version__ = "0.1.0"

__all__ = [
    "CacheConfig",
    "Candidate",
    "Config",
    "ConfigError",
    "ControlConfig",
    "Demand",
    "Event",
    "EventBus",
    "FailoverExecutor",
    "Fetched",
    "HealthConfig",
    "HealthMonitor",
    "HealthSnapshot",
    "HealthStatus",
    "LatencyStats",
    "Listening",
    "LoadedConfig",
    "LogConfig",
    "MountConfig",
    "MusicFSError",
    "NoReplicaAvailable",
    "Origin",
    "OriginConfig",
    "OriginFailed",
    "OriginFault",
    "OriginHealthState",
    "OriginId",
    "OriginRegistry",
    "OriginType",
    "Owner",
    "Problem",
    "RateLimit",
    "Reason",
    "Replica",
    "ReplicaFailed",
    "ReplicaFault",
    "RetryConfig",
    "Router",
    "Stat",
    "Subscription",
    "TreeConfig",
    "UsageError",
    "UserError",
    "WatchHandle",
    "WebhookConfig",
    "load_config",
    "open_origin",
]

_HOMES = {
    "config.kinds": ("open_origin",),
    "config.load": ("LoadedConfig", "load_config"),
    "config.models": (
        "CacheConfig",
        "Config",
        "ControlConfig",
        "HealthConfig",
        "LogConfig",
        "MountConfig",
        "OriginConfig",
        "RetryConfig",
        "TreeConfig",
        "WebhookConfig",
    ),
    "errors": (
        "ConfigError",
        "MusicFSError",
        "NoReplicaAvailable",
        "OriginFailed",
        "OriginFault",
        "ReplicaFailed",
        "ReplicaFault",
        "UsageError",
        "UserError",
    ),
    "events": ("Event", "EventBus", "Listening", "Subscription"),
    "federation.failover": ("FailoverExecutor",),
    "federation.fetch": ("Demand", "Fetched"),
    "federation.health": ("HealthMonitor",),
    "federation.health_state": ("HealthSnapshot", "OriginHealthState"),
    "federation.ratelimit": ("RateLimit",),
    "federation.registry": ("Candidate", "OriginRegistry"),
    "federation.router": ("LatencyStats", "Router"),
    "model": ("HealthStatus", "OriginId", "OriginType", "Owner", "Replica", "Stat"),
    "origin": ("Origin", "WatchHandle"),
    "problems": ("Problem", "Reason"),
}


def __getattr__(name: str) -> object:
    """See PEP 562: the command line must start without waiting for all of this."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
