"""Which handle leads to which path, as far as is known: so that not each file is walked to from the export's root."""

from __future__ import annotations

import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from musicfs.origins.nfs.libnfs import Connection

_MOST = 4096
_BELIEVED_SECS = 60.0  # as kernels believe what they know of names on NFS

_Known = tuple[bytes, float]


class Places:
    """Handles of folders and files below an export, at most `most`; those unused for longest go first. For any thread.

    Handles belong to no connection. One leads to the same file or folder for ever, wherever that is moved, so that
    what is found by one that was known may be at the path no more. None is believed for longer than `believed_secs`
    after the walk from the root that led to it.
    """

    def __init__(
        self, most: int = _MOST, believed_secs: float = _BELIEVED_SECS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._believed_secs = believed_secs
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[bytes, str], _Known] = OrderedDict()  # by the root's handle, and the path

    def find(self, connection: Connection, path: str, *, afresh: bool = False) -> tuple[bytes, bool]:
        """The handle of what is at the path, and whether that is certain, as nothing known was used.

        afresh: from the root on. Links are followed. Raises OSError.
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
        """On from the handle of what the first `depth` names lead to."""
        root = connection.root()
        for number in range(depth, len(names)):
            handle, about = connection.look_up(handle, names[number])
            if about is None or stat.S_ISLNK(about.mode):
                return connection.walk("/" + "/".join(names))
            self._keep((root, "/".join(names[: number + 1])), (handle, since))
        return handle

    def forget(self, connection: Connection, path: str) -> None:
        """The path's handle, and those of the folders above it."""
        root, names = connection.root(), path.split("/")
        with self._lock:
            for number in range(len(names)):
                self._known.pop((root, "/".join(names[: number + 1])), None)

    def clear(self) -> None:
        with self._lock:
            self._known.clear()

    def _deepest(self, root: bytes, names: list[str]) -> tuple[bytes, int, float] | None:
        """What is known of the path or of the nearest folder above it: the handle, its depth, the time of the walk."""
        oldest = self._clock() - self._believed_secs
        with self._lock:
            for depth in range(len(names), 0, -1):
                key = root, "/".join(names[:depth])
                found = self._known.get(key)
                if found is not None and found[1] >= oldest:
                    self._known.move_to_end(key)
                    return found[0], depth, found[1]
        return None

    def _keep(self, key: tuple[bytes, str], known: _Known) -> None:
        with self._lock:
            self._known[key] = known
            self._known.move_to_end(key)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
