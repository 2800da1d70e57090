"""Kept for plugins: the names of `musicfs.origin` and `musicfs.config.kinds`. New code imports from there."""

from musicfs.config.kinds import OpenOrigin, OriginKind
from musicfs.origin import (
    HandOut,
    ObservesScans,
    OnDisk,
    Origin,
    ReadsNow,
    ReadsRanges,
    ScanObserver,
    Streams,
    WatchCallback,
    WatchHandle,
    outermost,
    server_name,
)

__all__ = [
    "HandOut",
    "ObservesScans",
    "OnDisk",
    "OpenOrigin",
    "Origin",
    "OriginKind",
    "ReadsNow",
    "ReadsRanges",
    "ScanObserver",
    "Streams",
    "WatchCallback",
    "WatchHandle",
    "outermost",
    "server_name",
]
