"""What every driver needs: checks of paths, versions, lengths and roots. For plugins, too (see docs/PLUGINS.md)."""

from __future__ import annotations

from collections.abc import Callable

from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import OriginId, Replica, Stat, ns_of, stored_ns
from musicfs.origins.bounds import (
    MAX_FOLDER_SECS,
    MAX_FOLDERS,
    MAX_LISTING,
    MAX_NAMES,
    is_in_reach,
    is_usable,
    name_problem,
)
from musicfs.origins.folder_failures import FolderFailures, FolderTooBig
from musicfs.origins.ignored import is_skipped
from musicfs.origins.observers import StrictObserver

__all__ = [
    "MAX_FOLDERS",
    "MAX_FOLDER_SECS",
    "MAX_LISTING",
    "MAX_NAMES",
    "EmptyRootCheck",
    "FolderFailures",
    "FolderTooBig",
    "StrictObserver",
    "check_inside",
    "check_length",
    "check_version",
    "is_in_reach",
    "is_inside",
    "is_skipped",
    "is_usable",
    "name_problem",
    "ns_of",
    "read_exactly",
    "size_within",
    "stored_ns",
]


def is_inside(path: str) -> bool:
    """Whether the path stays below the origin's root, as far as its text says."""
    return not path.startswith("/") and "\0" not in path and (".." not in path or ".." not in path.split("/"))


def check_inside(origin: OriginId, path: str) -> None:
    """Raises ReplicaFailed (MISSING) for a path that leads out of the root: the catalogue never has one."""
    if not is_inside(path):
        raise ReplicaFailed(origin, path, ReplicaFault.MISSING, "the path leads out of the origin's folder")


def size_within(replica: Replica, offset: int, size: int) -> int:
    """How many of `size` bytes at `offset` lie within the file; 0 beyond its end."""
    return max(0, min(size, replica.size - offset))


def check_version(replica: Replica, now: Stat | None, *, is_folder: bool = False) -> None:
    """Raises ReplicaFailed unless `now` is the version in the replica.

    Args:
        replica: the file as it was scanned.
        now: the file as it is read; None: there is something else than a file.
        is_folder: there is a folder, so the file is missing, not changed.
    """
    if is_folder:
        raise ReplicaFailed(replica.origin, replica.path, ReplicaFault.MISSING, "it is a folder now")
    if now is None or now.size != replica.size or not replica.is_version(now):
        raise ReplicaFailed(replica.origin, replica.path, ReplicaFault.CHANGED)


def read_exactly(read: Callable[[int, int], bytes], offset: int, size: int) -> bytes:
    """Calls `read` (offset, size) again for what is missing, until it returns nothing. Calls it at least once."""
    data = read(offset, size)
    if len(data) == size or not data:
        return data
    parts, done = [data], len(data)
    while done < size and (data := read(offset + done, size - done)):
        parts.append(data)
        done += len(data)
    return b"".join(parts)


def check_length(replica: Replica, data: bytes, size: int) -> None:
    """Raises OriginFailed unless a read of `size` bytes (see `size_within`) has all of them."""
    if len(data) != size:
        detail = f"{replica.path!r} gave {len(data)} bytes instead of {size}"
        raise OriginFailed(replica.origin, OriginFault.IO, detail)


class EmptyRootCheck:
    """Remembers whether a root has held files, so that it fails when it is empty later: an unmounted disk looks so.

    Args:
        origin: the origin.
        populated: as the driver was given it: the catalogue has files of this origin.
        detail: what OriginFailed says, such as "the folder /music is empty; is its disk mounted?".
    """

    def __init__(self, origin: OriginId, populated: bool, detail: str) -> None:
        self.populated = populated
        self._origin = origin
        self._detail = detail

    def __call__(self, empty: bool) -> None:
        """Raises OriginFailed (UNREACHABLE) when the root is empty now, and was not before."""
        if empty and self.populated:
            raise OriginFailed(self._origin, OriginFault.UNREACHABLE, self._detail)
        self.populated = self.populated or not empty
