"""Reports changes below a folder of this machine, through inotify."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress

from inotify_simple import INotify, flags

from musicfs.errors import OriginFailed
from musicfs.model import OriginId
from musicfs.origin import WatchCallback, outermost
from musicfs.origins.ignored import is_skipped
from musicfs.origins.links import Below, Links
from musicfs.origins.listing import FolderListing, Lister
from musicfs.origins.local.watch_table import WatchedFolders
from musicfs.system.linux import give_memory_back, is_on_disk
from musicfs.system.tasks import Tasks
from musicfs.system.threads import WorkersHeld, WorkersUnavailable, WorkerThreads

log = logging.getLogger(__name__)

_GONE = flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT
_APPEARED = flags.CREATE | flags.MOVED_TO
_MASK = (
    # Not MODIFY: a file that a program writes is worth reading when the program closes it.
    flags.ATTRIB
    | flags.CLOSE_WRITE
    | flags.MOVED_FROM
    | flags.DELETE
    | _APPEARED
    | _GONE
    | flags.ONLYDIR
    | flags.EXCL_UNLINK
)
_NO_WATCHES = (errno.ENOSPC, errno.ENOMEM)
_MANY_FOLDERS = 10_000
_MAX_PATHS = 10_000  # more in one batch are reported as "anything may have changed"


class _Shared:
    """The kernel's side of a watch. It is closed when its last user has left, so no thread uses a closed descriptor."""

    def __init__(self, inotify: INotify) -> None:
        self.inotify = inotify
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
                self.inotify.close()


class FolderWatch:
    """Reports changes below `under` once they have been quiet for `quiet` seconds, and at least every `longest`.

    It belongs to the event loop's thread. links: which links lead to folders that are watched, too. warned: the
    warnings so far, for later watches: what can't be watched is tried again at every poll. ended: the folder has gone;
    the last
    report was "anything may have changed", and `restart` watches it again.
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
        inotify: Callable[[], INotify] = INotify,
        links: Links = "all",
        warned: set[str] | None = None,
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
        self._make = inotify
        self._shared: _Shared | None = None
        self._folders = WatchedFolders()
        self._pending: set[str] = set()
        self._first = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._adding = Tasks(log)
        self._incomplete = False
        self._on_disk: dict[int, bool] = {}
        """By st_dev: whether the kernel reports all changes there."""
        self._unwatched: set[str] = set()
        self._links: Links = links
        self._warned = set() if warned is None else warned
        self._closed = False

    async def start(self) -> bool:
        """Watches every folder. Returns False, after one warning and `close`, if that is impossible."""
        try:
            # In a thread: at its first use, the library runs a program to find the C library.
            shared = _Shared(await self._threads.run(self._make, undo=INotify.close))
            if self._closed:
                shared.leave()
                return False
            self._shared = shared
            self._folders = await self._threads.run(self._add_below, shared, self._under)
        except OSError as error:
            self._warn(f"Origin {self._origin!r} is polled for changes, as it can't be watched: {_remedy(error)}.")
            self.close()
            return False
        except (WorkersUnavailable, asyncio.CancelledError) as error:
            self._stop()
            self.ended = True
            if isinstance(error, WorkersHeld):
                raise OriginFailed(self._origin, error.fault, str(error)) from None
            raise
        if self._closed:
            return False
        asyncio.get_running_loop().add_reader(shared.inotify.fd, self._readable, shared.inotify)
        return True

    def unwatched(self) -> Collection[str]:
        """Returns the folders that must be polled (origin.WatchesInPart)."""
        return tuple(self._unwatched)

    async def restart(self) -> None:
        """Watches what is there now, and reports that anything may have changed."""
        self._stop()
        self._unwatched.clear()
        self._on_disk.clear()
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
        self._adding.cancel()
        self._pending.clear()
        self._stop_reading()

    def _stop_reading(self) -> None:
        self._folders = WatchedFolders()
        shared, self._shared = self._shared, None
        if shared is not None:
            asyncio.get_running_loop().remove_reader(shared.inotify.fd)
            shared.leave()

    def _add_below(self, shared: _Shared, start: str) -> WatchedFolders:
        """Watches `start` and every folder below it; for a worker thread."""
        added = WatchedFolders()
        if not shared.enter():
            return added
        try:
            for number, folder in self._add_each(shared.inotify, start):
                added[number] = folder
        finally:
            shared.leave()
        if len(added) > _MANY_FOLDERS:
            # Otherwise the memory of the walk, 30 MB for a hundred thousand folders, stays.
            gc.collect()
            give_memory_back()
        return added

    def _add_each(self, inotify: INotify, start: str) -> Iterator[tuple[int, str]]:
        lister = Lister(self._root, self._links)
        # Depth first, so that few of a hundred thousand folders wait at a time.
        waiting, linked = [start], deque[str]()
        while waiting or linked:
            folder = waiting.pop() if waiting else linked.popleft()
            try:
                # Before it is listed, so that a folder that is created meanwhile is either listed or reported.
                number = self._add_one(inotify, folder, lister.below)
                below = lister.list(folder, files=False)
            except OSError as error:
                if error.errno in _NO_WATCHES or folder == self._under:
                    raise
                continue  # it vanished, or a scan will report what is wrong with it
            yield number, folder
            waiting += (path for path in reversed(below.folders) if self._is_watched(path, below))
            linked += (path for path in below.linked if self._is_watched(path, below))

    def _is_watched(self, path: str, found: FolderListing) -> bool:
        """Whether to watch a folder. One on a network, or of a program, must be polled: the kernel does not report what
        others change there."""
        if is_skipped(path.rpartition("/")[2]):
            return False
        device = found.elsewhere.get(path)
        if device is None:
            return True
        if device not in self._on_disk:
            self._on_disk[device] = is_on_disk(f"{self._root}/{path}")
        if not self._on_disk[device]:
            self._unwatched.add(path)
        return self._on_disk[device]

    def _add_one(self, inotify: INotify, folder: str, below: Below) -> int:
        if self._links == "all":
            return int(inotify.add_watch(f"{self._root}/{folder}", _MASK))
        with below.folder(folder) as fd:  # the kernel accepts no descriptor here, but a path in /proc for one
            return int(inotify.add_watch(f"/proc/self/fd/{fd}", _MASK))

    def _readable(self, inotify: INotify) -> None:
        for number, mask, _, name in inotify.read(timeout=0):
            if self.ended:
                return
            self._handle(number, mask, name)

    def _handle(self, number: int, mask: int, name: str) -> None:
        if mask & flags.Q_OVERFLOW:
            self._add_later(self._under)  # folders may have been created unseen
            self._report("")
            return
        folder = self._folders.pop(number) if mask & flags.IGNORED else self._folders.get(number)
        if folder is None or mask & flags.IGNORED:
            return
        if mask & _GONE:
            if folder == self._under:
                self._end()
            return  # the parent of any other folder reports it too
        path = f"{folder}/{name}" if folder and name else folder or name
        if mask & flags.ISDIR:
            if is_skipped(name):
                return
            if mask & flags.MOVED_FROM:
                self._forget(path)
            elif not mask & flags.DELETE:
                self._add_later(path)
                return  # reported once it is watched: later changes in it are reported by themselves
        self._report(path)

    def _end(self) -> None:
        self.ended = True
        self._stop_reading()
        self._report("")

    def _forget(self, path: str) -> None:
        """Ends the watches of a folder that was moved away, since its new path is unknown."""
        assert self._shared is not None
        for number, folder in self._folders.items():
            if folder == path or folder.startswith(f"{path}/"):
                with suppress(OSError):  # the kernel has ended it
                    self._shared.inotify.rm_watch(number)
                self._folders.pop(number)

    def _add_later(self, folder: str) -> None:
        self._adding.spawn(self._add(folder), f"the watch of {folder!r} at origin {self._origin!r}")

    async def _add(self, folder: str) -> None:
        shared = self._shared
        if shared is None:
            return
        try:
            folders = await self._threads.run(self._add_below, shared, folder)
        except WorkersUnavailable:
            self.ended = True
            return
        except OSError as error:
            if not self._incomplete:
                self._warn(f"Not all of origin {self._origin!r} is watched for changes: {_remedy(error)}.")
            self._incomplete = True
        else:
            if shared is self._shared:
                self._folders.update(folders)
        self._report(folder)

    def _report(self, path: str) -> None:
        """Adds `path` to the batch that is sent after a quiet period."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._first = loop.time()
        else:
            self._timer.cancel()
        if len(self._pending) < _MAX_PATHS:
            self._pending.add(path)
        else:
            self._pending = {""}
        self._timer = loop.call_at(min(loop.time() + self._quiet, self._first + self._longest), self._send)

    def _send(self) -> None:
        self._timer = None
        paths, self._pending = self._pending, set()
        try:
            self._callback(outermost(paths))
        except Exception:
            log.exception("handling the changes of origin %r failed", self._origin, extra={"origin": self._origin})

    def _warn(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            log.warning("%s", sentence, extra={"origin": self._origin})


def _remedy(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the limit of watched folders is reached; raise fs.inotify.max_user_watches with sysctl"
    if error.errno == errno.EMFILE:
        return "the limit of inotify instances is reached; raise fs.inotify.max_user_instances with sysctl"
    return error.strerror or str(error)
