"""Kept for plugins: the names of `musicfs.origin` and `musicfs.config.kinds`. New code imports from there."""

from musicfs.config.kinds import OpenOrigin, OriginKind
from musicfs.origin import (
    HandOut,
    LeavesOutLinks,
    ObservesScans,
    OnDisk,
    Origin,
    ReadsNow,
    ReadsRanges,
    ScanObserver,
    SkipsFolders,
    Streams,
    TellFolder,
    TellLeftOut,
    WatchCallback,
    WatchHandle,
    list_all,
    outermost,
    server_name,
)

__all__ = [
    "HandOut",
    "LeavesOutLinks",
    "ObservesScans",
    "OnDisk",
    "OpenOrigin",
    "Origin",
    "OriginKind",
    "ReadsNow",
    "ReadsRanges",
    "ScanObserver",
    "SkipsFolders",
    "Streams",
    "TellFolder",
    "TellLeftOut",
    "WatchCallback",
    "WatchHandle",
    "list_all",
    "outermost",
    "server_name",
]
