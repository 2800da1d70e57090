"""The interface of a driver: what MusicFS needs of an origin. Each kind of origin has one driver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol, runtime_checkable

from musicfs.model import DiskFolder, HealthStatus, OriginId, OriginType, Replica, Stat
from musicfs.problems import Problem

INTERFACE_VERSION = 1
"""The version of the plugin interface: this module, config.kinds.OriginKind, and what docs/PLUGINS.md lists.

It changes when a driver that keeps to the present one could fail. What is added, such as an optional capability or a
field with a default, leaves it as it is.
"""

WatchCallback = Callable[[Sequence[str]], None]
"""Called on the event loop with the paths (files or folders, relative to the root) that may have changed. An
empty path means that anything may have changed, so everything is listed."""


def outermost(paths: Collection[str]) -> list[str]:
    """Returns the paths that lie below none of the others, sorted; the empty path is above all."""
    if "" in paths:
        return [""]
    return sorted(path for path in paths if not any(str(above) in paths for above in PurePosixPath(path).parents))


class WatchHandle(Protocol):
    """A running watch. `close` stops it; it may be called more than once and never raises."""

    def close(self) -> None: ...


@runtime_checkable
class WatchesInPart(Protocol):
    """Optional, for a watch that can't see some of the folders below its own."""

    def unwatched(self) -> Collection[str]:
        """Returns the paths at and below which changes are not reported, so that they must be polled."""
        ...


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
        """Reports changes at and below `path` until the handle is closed. Returns None if the origin must be polled."""
        ...

    async def aclose(self) -> None:
        """Closes connections and threads; reads in flight fail. Never blocks on a hung origin."""
        ...


@runtime_checkable
class ReadsNow(Protocol):
    """Optional, for an origin on a local disk: a read that never waits."""

    def read_now(self, replica: Replica, offset: int, size: int) -> bytes | memoryview | None:
        """Returns the bytes if it can without blocking, else None (then use `read`).

        Synchronous, for the mount's hot path. A memoryview is valid until the next call. Raises as `read` does.
        """
        ...


@runtime_checkable
class OpensFiles(Protocol):
    """Optional, for an origin on a local disk whose files the kernel may read itself."""

    def open_now(self, replica: Replica) -> int | None:
        """Returns a descriptor of the file, which the caller closes; None: it is not the version that was scanned, to
        open it would take a wait, or the origin's settings do not allow it.

        Synchronous and never raises, as for `ReadsNow`.
        """
        ...


@runtime_checkable
class ReadsRanges(Protocol):
    """Optional, for an origin that reads several ranges of a file for little more than the price of one."""

    async def read_ranges(self, replica: Replica, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Reads each (offset, size), in their order, as `read` does; raises as `read` does."""
        ...


@runtime_checkable
class DropsConnections(Protocol):
    """Optional, for an origin that keeps connections to a server."""

    def drop_connections(self) -> None:
        """Ends all connections at once, without waiting: the machine has slept, and they may be dead. Calls under way
        fail with UNREACHABLE; the next call makes a new connection."""
        ...


@runtime_checkable
class PlansRequests(Protocol):
    """Optional, for an origin whose `read_ranges` does not make one request of each range."""

    def plan_requests(self, ranges: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        """Returns the (offset, size) of the requests that reading the ranges takes."""
        ...


@runtime_checkable
class OnDisk(Protocol):
    """Optional, for an origin in a folder of this machine: other processes may read its files themselves."""

    async def folder_on_disk(self) -> DiskFolder | None:
        """Returns the root if reading there can't hang because it is on a disk, else None. Raises `OriginFailed` when
        the root is away."""
        ...


class ScanObserver(Protocol):
    """Hears what a scan meets besides files. The driver calls it on the event loop, while the scan runs."""

    @property
    def marker(self) -> str:
        """The name of a file that all folders of this very mount have, and no others; "" if there is no mount. A folder
        that has it is no place to list: it is reported with `Reason.OWN_MOUNT`."""
        ...

    def enters(self, folder: str, mtime_ns: int | None) -> bool:
        """Returns whether to list `folder`, which lies below the root; the folder above it was asked about before.

        mtime_ns: the folder's time of change before it is listed, in nanoseconds; None: not known. A folder that is not
        listed is either ignored, or known to hold what it held; the driver need not know which. Drivers leave out no
        folder for its name: hidden and ignored ones are asked about, too. A driver that asks about a folder after the
        files of the folder above it were yielded spares itself what a file such as `.nomedia` there rules out.
        """
        ...

    def report(self, problem: Problem) -> None:
        """Takes a file, link or folder that the listing leaves out. A folder that can't be listed is reported with one
        of the reasons that hide what is below it, and the scan goes on beside it."""
        ...


@runtime_checkable
class ObservesScans(Protocol):
    """Optional, for an origin whose scans go on when one folder, link or name is bad."""

    def scan_observed(self, observer: ScanObserver, under: str = "") -> AsyncIterator[Stat]:
        """Scans as `scan` does, but asks the observer before each folder and reports what is left out.

        Raises `OriginFailed` only when the root can't be listed or the connection is lost for good.
        """
        ...


HandOut = Callable[[int, bytes], None]
"""Takes the number of a part of a read, and its bytes."""


@runtime_checkable
class Streams(Protocol):
    """Optional, for an origin whose answers come as a stream: one request may be long, and its parts serve before its
    end."""

    async def read_parts(self, replica: Replica, offset: int, sizes: Sequence[int], hand_out: HandOut) -> None:
        """Reads parts that follow each other from `offset`, and hands out each as soon as it has arrived, in order, on
        the event loop. Returns after the last.

        Args:
            replica: the file. Each part is of this version, even if the rest fails.
            offset: of the first part, in bytes.
            sizes: of the parts, in bytes; none is 0, and the last part ends within the file.
            hand_out: takes the parts.

        Raises as `read` does.
        """
        ...


@dataclass(frozen=True, slots=True)
class FolderIdentity:
    """Where an origin's root really is, in names that do not depend on how the configuration writes it.

    root: names of the root. above: names of the folders above it. A name is the same for the same folder, such as
    "disk:64769:1234567", or a server's key and a real path.
    """

    root: frozenset[str] = frozenset()
    above: frozenset[str] = frozenset()

    def overlaps(self, other: FolderIdentity) -> bool:
        """Whether one of the two folders is the other, or lies below it."""
        return not self.root.isdisjoint(other.root | other.above) or not other.root.isdisjoint(self.above)


@runtime_checkable
class KnowsItsFolder(Protocol):
    """Optional, for an origin whose folder has a name that does not depend on the way to it."""

    async def identify_folder(self) -> FolderIdentity:
        """Returns what the root really is. Raises `OriginFailed`."""
        ...


def server_name(host: object, port: object = None) -> str | None:
    """Returns a server's name in one form, for `OriginKind.server`; None without a host."""
    if not isinstance(host, str) or not host:
        return None
    return host.lower() if port is None else f"{host.lower()}:{port}"
