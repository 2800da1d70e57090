"""What an origin is to the rest of MusicFS. One driver per kind implements this and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import PurePosixPath
from typing import Protocol, runtime_checkable

from musicfs.model import DiskFolder, HealthStatus, OriginId, OriginType, Replica, Stat

INTERFACE_VERSION = 1
"""The version of the plugin interface: this module, config.kinds.OriginKind, and what docs/PLUGINS.md lists.

It changes when a driver that keeps to the present one could fail. What is added, such as an optional capability or a
field with a default, leaves it as it is.
"""

WatchCallback = Callable[[Sequence[str]], None]
"""Called on the event loop with the paths (files or folders, relative to the root) that may have changed; an
empty path means: anything may have, look at everything."""


def outermost(paths: Collection[str]) -> list[str]:
    """The paths without those that lie below another of them, sorted; the empty path is above all."""
    if "" in paths:
        return [""]
    return sorted(path for path in paths if not any(str(above) in paths for above in PurePosixPath(path).parents))


class WatchHandle(Protocol):
    """A running watch. `close` stops it; it may be called more than once and never raises."""

    def close(self) -> None: ...


class Origin(Protocol):
    """One place that holds music.

    Constructors store their arguments; connections are made by the first call that needs one. All methods may
    be called concurrently and may be cancelled at any await. Drivers never retry, and raise nothing but
    `OriginFailed` and `ReplicaFailed` (errors.py).
    """

    @property
    def id(self) -> OriginId: ...

    @property
    def kind(self) -> OriginType: ...

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        """Exactly `size` bytes at `offset`, fewer only at the end of the file, none past it.

        Raises `ReplicaFailed` when the file is missing, unreadable or not the version in `replica`; never
        returns bytes of another version. Raises `OriginFailed` when the origin does not answer.
        """
        ...

    async def stat(self, path: str) -> Stat:
        """The file at `path` now. Raises as `read` does; a folder is `ReplicaFailed` with MISSING."""
        ...

    def scan(self, under: str = "") -> AsyncIterator[Stat]:
        """Every file at and below `under`, streaming, in bounded memory, in any order that keeps a folder's
        files together.

        Raises `OriginFailed` when the root, or any folder below it, can't be listed: an incomplete listing
        must never look complete. `under` itself missing is `ReplicaFailed` with MISSING.
        """
        ...

    async def health(self) -> HealthStatus:
        """HEALTHY or DEGRADED after a real operation that is cheap (a root stat, a HEAD); raises `OriginFailed`
        otherwise. The caller bounds its time."""
        ...

    async def watch(self, path: str, callback: WatchCallback) -> WatchHandle | None:
        """Reports changes at and below `path` until the handle is closed; None: this origin must be polled."""
        ...

    async def aclose(self) -> None:
        """Closes connections and threads; reads in flight fail. Never blocks on a hung origin."""
        ...


@runtime_checkable
class ReadsNow(Protocol):
    """What an origin on a local disk offers besides: a read that never waits."""

    def read_now(self, replica: Replica, offset: int, size: int) -> bytes | memoryview | None:
        """The bytes, if they can be had without blocking, else None (then use `read`).

        Synchronous, for the mount's hot path. A memoryview is valid until the next call. Raises as `read` does.
        """
        ...


@runtime_checkable
class ReadsRanges(Protocol):
    """What an origin offers besides for which several reads of one file cost little more than one."""

    async def read_ranges(self, replica: Replica, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """As `read` of each (offset, size), in their order; raises as it does."""
        ...


@runtime_checkable
class OnDisk(Protocol):
    """What an origin in a folder of this machine offers besides: that other processes read its files themselves."""

    async def folder_on_disk(self) -> DiskFolder | None:
        """The root, if reading there can't hang because it is on a disk; else None. Raises `OriginFailed` when it is
        away."""
        ...


TellLeftOut = Callable[[str], None]
"""Takes the path of a symbolic link that a listing leaves out because it may not be followed."""


@runtime_checkable
class LeavesOutLinks(Protocol):
    """What an origin offers besides that is set to follow only some of the symbolic links in it."""

    def scan_telling(self, tell: TellLeftOut, under: str = "") -> AsyncIterator[Stat]:
        """As `scan`; `tell` is called on the event loop with each link that is left out, before the scan ends."""
        ...


HandOut = Callable[[int, bytes], None]
"""Takes the number of a part of a read, and its bytes."""


@runtime_checkable
class Streams(Protocol):
    """What an origin offers besides whose answers come as a stream: one request may be long, and nobody waits for its
    end."""

    async def read_parts(self, replica: Replica, offset: int, sizes: Sequence[int], hand_out: HandOut) -> None:
        """Reads parts of these sizes (bytes, none of them 0), which follow each other from `offset` and end within the
        file; hands out each as soon as it is there, in order, on the event loop.

        What is handed out is of the version in `replica`, whatever becomes of the rest. Returns after the last; raises
        as `read` does.
        """
        ...


TellFolder = Callable[[str, int | None], bool]
"""Takes a folder's path and time of change, in nanoseconds (None: not known); whether the folder need not be listed."""


def list_all(folder: str, mtime_ns: int | None) -> bool:
    """A TellFolder that leaves out nothing."""
    return False


@runtime_checkable
class SkipsFolders(Protocol):
    """What an origin offers besides whose listings tell the times of the folders in them."""

    def scan_folders(self, tell: TellFolder) -> AsyncIterator[Stat]:
        """As `scan` of everything, but `tell` is asked about each folder below the root, after the one that it is in
        and with the time that it had before it is listed: where it says so, the folder is left out."""
        ...


def server_name(host: object, port: object = None) -> str | None:
    """A server's name in one form, for `OriginKind.server`; None without a host."""
    if not isinstance(host, str) or not host:
        return None
    return host.lower() if port is None else f"{host.lower()}:{port}"
