"""Remembers the handles of paths, so that not every read walks from the export's root."""

from __future__ import annotations

import stat
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from musicfs.origins.nfs.connection import Connection
from musicfs.origins.nfs.rpc import Found
from musicfs.system.lru import Lru

_MAX = 4096
_BELIEVED_SECS = 60.0  # as long as kernels trust names that they cached from NFS

_Key = tuple[bytes, str]
"""The handle of the export's root, and a path below it."""


@dataclass(slots=True)
class _Known:
    """A handle. since: when the walk to it started. looked_up: how many files were looked up in it, if it is a
    folder."""

    handle: bytes
    since: float
    looked_up: int = 0


class HandleCache:
    """Keeps at most `most` handles of folders and files below an export, the most recently used. For any thread.

    Handles belong to no connection. A handle always leads to the same file or folder, wherever that is moved, so what
    a known handle leads to may no longer be at the path. No handle is trusted for longer than `believed_secs` after
    the walk from the root that led to it.
    """

    def __init__(
        self, most: int = _MAX, believed_secs: float = _BELIEVED_SECS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._believed_secs = believed_secs
        self._clock = clock
        self._lock = threading.Lock()
        self._known: Lru[_Key, _Known] = Lru(most)

    def find(self, connection: Connection, path: str, *, afresh: bool = False) -> tuple[bytes, bool]:
        """Returns the handle of what is at the path, and whether that is certain because no cached handle was used.

        afresh: walk from the root. Links are followed. Raises OSError.
        """
        names = path.split("/")
        known = None if afresh else self._deepest(connection.root(), names)
        if known is not None:
            try:
                return self._walk(connection, names, *known), False
            except (ConnectionError, TimeoutError):
                raise
            except OSError:
                self.forget(connection, path)
        return self._walk(connection, names, connection.root(), 0, self._clock()), True

    def _walk(self, connection: Connection, names: list[str], handle: bytes, depth: int, since: float) -> bytes:
        """Walks on from the handle of what the first `depth` names lead to."""
        root, last = connection.root(), len(names) - 1
        for number in range(depth, len(names)):
            folder = root, "/".join(names[:number])
            if number == last and self._is_second(folder):
                (handle, about), others = connection.look_up_among(handle, names[number])
                self._keep_others(folder, others, since)
            else:
                handle, about = connection.look_up(handle, names[number])
            if about is None or stat.S_ISLNK(about.mode):
                return connection.walk("/" + "/".join(names))
            self._keep((root, "/".join(names[: number + 1])), _Known(handle, since))
        return handle

    def _is_second(self, folder: _Key) -> bool:
        """Whether one file was looked up in the folder before: a program that reads two will read more. So the first
        one does not wait for the names of the others."""
        with self._lock:
            found = self._known.get(folder)
            if found is not None:
                found.looked_up += 1
            return found is not None and found.looked_up == 2

    def _keep_others(self, folder: _Key, others: Mapping[str, Found], since: float) -> None:
        root, path = folder
        for name, (handle, about) in others.items():
            if about is not None and stat.S_ISREG(about.mode):
                self._keep((root, f"{path}/{name}"), _Known(handle, since))

    def forget(self, connection: Connection, path: str) -> None:
        """Drops the path's handle, and those of the folders above it."""
        root, names = connection.root(), path.split("/")
        with self._lock:
            for number in range(len(names)):
                self._known.pop((root, "/".join(names[: number + 1])), None)

    def clear(self) -> None:
        with self._lock:
            self._known.clear()

    def _deepest(self, root: bytes, names: list[str]) -> tuple[bytes, int, float] | None:
        """Returns what is known of the path or of the nearest folder above it: handle, depth, time of the walk."""
        oldest = self._clock() - self._believed_secs
        with self._lock:
            for depth in range(len(names), 0, -1):
                key = root, "/".join(names[:depth])
                found = self._known.get(key)
                if found is not None and found.since >= oldest:
                    self._known.move_to_end(key)
                    return found.handle, depth, found.since
        return None

    def _keep(self, key: _Key, known: _Known) -> None:
        with self._lock:
            before = self._known.get(key)
            if before is not None and before.handle == known.handle:
                known.looked_up = before.looked_up  # two threads walked there at the same time
            self._known.put(key, known)
