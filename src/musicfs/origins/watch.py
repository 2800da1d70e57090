"""Noticing changes below a folder of this machine, through inotify.

Spoken directly rather than through a library: names that are not UTF-8 must not end the watch, an overflowing
queue must be reported, and no thread should wake several times a second for nothing.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Protocol

from musicfs.model import OriginId
from musicfs.origins import linux
from musicfs.origins.base import WatchCallback
from musicfs.origins.listing import Lister, is_skipped
from musicfs.origins.threads import WorkersClosed, WorkerThreads

log = logging.getLogger(__name__)

_EVENT = struct.Struct("iIII")  # watch number, mask, cookie, length of the name
_GONE = linux.IN_DELETE_SELF | linux.IN_MOVE_SELF | linux.IN_UNMOUNT
_APPEARED = linux.IN_CREATE | linux.IN_MOVED_TO
_MASK = (
    # No IN_MODIFY: a file that is being written is worth a look when its writer closes it.
    linux.IN_ATTRIB
    | linux.IN_CLOSE_WRITE
    | linux.IN_MOVED_FROM
    | linux.IN_DELETE
    | _APPEARED
    | _GONE
    | linux.IN_ONLYDIR
    | linux.IN_EXCL_UNLINK
)
_NO_WATCHES = (errno.ENOSPC, errno.ENOMEM)
_MOST_PATHS = 10_000  # more in one batch are reported as "anything may have changed"


class Inotify(Protocol):
    """The kernel's calls (linux.py), so that a test can let them fail."""

    def inotify_open(self) -> int: ...
    def inotify_add(self, fd: int, path: str, mask: int) -> int: ...
    def inotify_remove(self, fd: int, number: int) -> None: ...


class _Descriptor:
    """An inotify descriptor that is closed when its last user has left, lest a thread use its number afterwards."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._users = 1
        self._lock = threading.Lock()

    def enter(self) -> bool:
        with self._lock:
            self._users += bool(self._users)
            return bool(self._users)

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                os.close(self.fd)


class FolderWatch:
    """Reports changes below `under` once they have been quiet for `quiet` seconds, and at least every `longest`.

    ended: the folder has gone; the last report was "look at everything", and `restart` watches it anew. Belongs
    to the event loop's thread.
    """

    def __init__(
        self,
        origin: OriginId,
        root: str,
        under: str,
        callback: WatchCallback,
        threads: WorkerThreads,
        closed: Callable[[FolderWatch], None] = lambda _: None,
        *,
        quiet: float = 0.2,
        longest: float = 2.0,
        kernel: Inotify = linux,
    ) -> None:
        self.ended = False
        self._origin = origin
        self._root = root
        self._under = under
        self._callback = callback
        self._threads = threads
        self._on_close = closed
        self._quiet = quiet
        self._longest = longest
        self._kernel = kernel
        self._kernel_side: _Descriptor | None = None
        self._folders: dict[int, str] = {}
        self._pending: set[str] = set()
        self._first = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._adding: set[asyncio.Task[None]] = set()
        self._incomplete = False
        self._closed = False

    async def start(self) -> bool:
        """Watches every folder there is; False, after one warning and `close`, where that can't be done."""
        try:
            self._kernel_side = descriptor = _Descriptor(self._kernel.inotify_open())
            self._folders = await self._threads.run(self._add_below, descriptor, self._under)
        except OSError as error:
            log.warning("Origin %r is polled for changes, as it can't be watched: %s.", self._origin, _remedy(error))
            self.close()
            return False
        except (WorkersClosed, asyncio.CancelledError):
            self._stop()
            self.ended = True
            raise
        if self._closed:
            return False
        asyncio.get_running_loop().add_reader(descriptor.fd, self._readable, descriptor.fd)
        return True

    async def restart(self) -> None:
        """Watches what is there now, and has everything looked at."""
        self._stop()
        self.ended = False
        if await self.start():
            self._report("")

    def close(self) -> None:
        self._closed = True
        self._stop()
        self._on_close(self)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._adding:
            task.cancel()
        self._pending.clear()
        self._stop_reading()

    def _stop_reading(self) -> None:
        self._folders = {}
        descriptor, self._kernel_side = self._kernel_side, None
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor.fd)
            descriptor.leave()

    def _add_below(self, descriptor: _Descriptor, start: str) -> dict[int, str]:
        """Watches `start` and every folder below it; for a worker thread."""
        if not descriptor.enter():
            return {}
        try:
            return dict(self._add_each(descriptor.fd, start))
        finally:
            descriptor.leave()

    def _add_each(self, fd: int, start: str) -> Iterator[tuple[int, str]]:
        lister = Lister(self._root)
        waiting = deque([start])
        while waiting:
            folder = waiting.popleft()
            try:
                # Before it is listed, so that a folder made meanwhile is either listed or reported.
                number = self._kernel.inotify_add(fd, f"{self._root}/{folder}", _MASK)
                below = lister.list(folder, files=False)
            except OSError as error:
                if error.errno in _NO_WATCHES or folder == self._under:
                    raise
                continue  # it vanished, or a scan will tell what is wrong with it
            yield number, folder
            waiting += below.folders + below.linked

    def _readable(self, fd: int) -> None:
        try:
            data = os.read(fd, 32768)
        except BlockingIOError:
            return
        at = 0
        while at < len(data) and not self.ended:
            number, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            self._note(number, mask, os.fsdecode(data[at - length : at].rstrip(b"\0")))

    def _note(self, number: int, mask: int, name: str) -> None:
        if mask & linux.IN_Q_OVERFLOW:
            self._add_later(self._under)  # folders may have been made unseen
            self._report("")
            return
        folder = self._folders.pop(number, None) if mask & linux.IN_IGNORED else self._folders.get(number)
        if folder is None or mask & linux.IN_IGNORED:
            return
        if mask & _GONE:
            if folder == self._under:
                self._end()
            return  # the parent of any other folder reports it too
        path = f"{folder}/{name}" if folder and name else folder or name
        if mask & linux.IN_ISDIR:
            if is_skipped(name):
                return
            if mask & linux.IN_MOVED_FROM:
                self._forget(path)
            elif not mask & linux.IN_DELETE:
                self._add_later(path)
                return  # reported once it is watched: what is put into it after the look is reported by itself
        self._report(path)

    def _end(self) -> None:
        self.ended = True
        self._stop_reading()
        self._report("")

    def _forget(self, path: str) -> None:
        """Ends the watches of a folder that was moved away: it may be anywhere now."""
        assert self._kernel_side is not None
        for number, folder in tuple(self._folders.items()):
            if folder == path or folder.startswith(f"{path}/"):
                self._kernel.inotify_remove(self._kernel_side.fd, number)
                del self._folders[number]

    def _add_later(self, folder: str) -> None:
        task = asyncio.get_running_loop().create_task(self._add(folder))
        self._adding.add(task)
        task.add_done_callback(self._adding.discard)

    async def _add(self, folder: str) -> None:
        descriptor = self._kernel_side
        if descriptor is None:
            return
        try:
            folders = await self._threads.run(self._add_below, descriptor, folder)
        except WorkersClosed:
            return
        except OSError as error:
            if not self._incomplete:
                log.warning("Not all of origin %r is watched for changes: %s.", self._origin, _remedy(error))
            self._incomplete = True
        else:
            if descriptor is self._kernel_side:
                self._folders |= folders
        self._report(folder)

    def _report(self, path: str) -> None:
        """Puts `path` into the batch that is sent when it has been quiet for a while."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._first = loop.time()
        else:
            self._timer.cancel()
        if len(self._pending) < _MOST_PATHS:
            self._pending.add(path)
        else:
            self._pending = {""}
        self._timer = loop.call_at(min(loop.time() + self._quiet, self._first + self._longest), self._send)

    def _send(self) -> None:
        self._timer = None
        paths, self._pending = self._pending, set()
        try:
            self._callback(_outermost(paths))
        except Exception:
            log.exception("looking at the changes of origin %r failed", self._origin)


def _outermost(paths: set[str]) -> list[str]:
    """Without those that lie below another of them, sorted."""
    if "" in paths:
        return [""]
    return sorted(path for path in paths if not any(str(above) in paths for above in PurePosixPath(path).parents))


def _remedy(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the limit of watched folders is reached; raise fs.inotify.max_user_watches with sysctl"
    if error.errno == errno.EMFILE:
        return "the limit of inotify instances is reached; raise fs.inotify.max_user_instances with sysctl"
    return error.strerror or str(error)
