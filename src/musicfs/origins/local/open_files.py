"""Keeps descriptors of files open, in the version that was scanned, and closes the least recently used first."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from musicfs.model import Replica
from musicfs.system.lru import Lru

Key = tuple[str, int, int]


def key_of(replica: Replica) -> Key:
    return replica.path, replica.mtime_ns, replica.size


class OpenFile:
    """One descriptor. `now`: reading it probably never waits."""

    __slots__ = ("dropped", "fd", "now", "users")

    def __init__(self, fd: int, now: bool) -> None:
        self.fd = fd
        self.now = now
        self.users = 0
        self.dropped = False


class OpenFiles:
    """At most `limit` descriptors at rest; one in use is never closed. Every method may be called from any thread.

    The lock is held for bookkeeping only. Closing may block on a network mount, so the methods return the
    descriptors to close, and the caller chooses the thread.
    """

    def __init__(self, limit: int) -> None:
        self._files: Lru[Key, OpenFile] = Lru(limit)
        self._lock = threading.Lock()
        self._closed = False

    def take(self, key: Key, *, now: bool = False) -> OpenFile | None:
        """Takes an open file; the caller returns it with `release`. now: only if it can be read without waiting."""
        with self._lock:
            file = self._files.get(key)
            if file is not None and now and not file.now:
                return None
            if file is not None:
                file.users += 1
                self._files.move_to_end(key)
            return file

    def __contains__(self, key: Key) -> bool:
        return key in self._files

    def add(self, key: Key, fd: int, now: bool) -> tuple[OpenFile, list[int]]:
        """Adds a file. Returns it, already taken, and the descriptors to close because of it."""
        with self._lock:
            file = OpenFile(fd, now)
            file.users = 1
            before = self._files.pop(key, None)
            oldest = self._files.put(key, file)
            leaving = [before] if before else []
            if oldest is not None:
                leaving.append(oldest[1])
            if self._closed:
                leaving.append(self._files.pop(key))
            return file, [old.fd for old in leaving if self._leave(old)]

    def release(self, file: OpenFile) -> int | None:
        """Returns a taken file; gives its descriptor if the caller must close it now."""
        with self._lock:
            file.users -= 1
            return file.fd if file.dropped and not file.users else None

    def drop(self, key: Key, file: OpenFile) -> None:
        """Forgets a taken file that is wrong; `release` then says when to close it."""
        with self._lock:
            if self._files.get(key) is file:
                del self._files[key]
            file.dropped = True

    def clear(self, for_good: bool = False) -> list[int]:
        """Forgets all files. Returns the descriptors to close now; those in use follow as they are released."""
        with self._lock:
            self._closed = self._closed or for_good
            leaving = list(self._files.values())
            self._files.clear()
            return [file.fd for file in leaving if self._leave(file)]

    @staticmethod
    def _leave(file: OpenFile) -> bool:
        file.dropped = True
        return not file.users


def close_all(fds: list[int]) -> None:
    """Closes all descriptors and removes them from the list, so that of two calls each closes what the other has not.

    A dead mount reports an error for each, but the descriptors are free all the same.
    """
    with suppress(IndexError):
        while True:
            fd = fds.pop()
            with suppress(OSError):
                os.close(fd)
