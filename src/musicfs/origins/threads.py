"""Kept for plugins: the names of `musicfs.system.threads`. New code imports from there."""

from musicfs.system.threads import WorkersClosed, WorkersHeld, WorkersUnavailable, WorkerThreads

__all__ = [
    "WorkerThreads",
    "WorkersClosed",
    "WorkersHeld",
    "WorkersUnavailable",
]
