"""The driver for folders of this machine: on a disk, or on anything else that is mounted."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from os import RWF_NOWAIT, fstat, preadv
from pathlib import Path
from typing import Annotated, TypeVar, TypeVarTuple

from pydantic import BaseModel, ConfigDict

from musicfs.config.kinds import OriginKind
from musicfs.config.models import OriginConfig
from musicfs.config.sources import Expected
from musicfs.errors import MusicFSError, OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import DiskFolder, HealthStatus, OriginId, OriginType, Replica, Stat, stored_ns
from musicfs.origin import FolderIdentity, ScanObserver, WatchCallback, WatchHandle
from musicfs.origins.folder_identity import folder_here
from musicfs.origins.helpers import (
    EmptyRootCheck,
    StrictObserver,
    check_inside,
    check_version,
    is_inside,
    read_exactly,
    size_within,
)
from musicfs.origins.links import Below, LinkRefused, LinksSetting
from musicfs.origins.listing import BROKEN, DENIED, Identity, Lister, fault_of, identity_of
from musicfs.origins.local.open_files import Key, OpenFile, OpenFiles, close_all, key_of
from musicfs.origins.local.walk import FirstLook, FolderScan, Stuck, StuckPlaces, no_answer, patiently
from musicfs.origins.local.watch import FolderWatch
from musicfs.problems import Problem, Reason
from musicfs.system.linux import ON_DISK, filesystem_of, open_cached
from musicfs.system.threads import WorkersUnavailable, WorkerThreads

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_OPEN_FILES = 128
_WATCHING_THREADS = 2
_MAX_UNREADABLE = 3
"""So many files with a bad sector, and no good read between them, are a bad disk."""
_MAX_NOW = 4 << 20  # bytes; longer requests are not worth a permanent buffer
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_NEVER_NOW = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class LocalSettings(BaseModel):
    """The settings. path: the folder that holds the music. links: which symbolic links in it are followed; by default
    all of them if the mount is for one user. passthrough: whether the kernel may read files past MusicFS."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[Path, Expected("the folder that holds the music")]
    links: LinksSetting = None
    passthrough: Annotated[bool, Expected("true or false")] = False


@dataclass(frozen=True, slots=True)
class _Root:
    """The root folder as last seen. fd: open only on a disk of this machine, and only while in use."""

    identity: Identity
    on_disk: bool
    fd: int | None


class _Reported(Exception):
    """The observer knows what is wrong, and there is nothing to list."""


class LocalOrigin:
    """Reads a folder; origin.Origin is the contract. Blocking calls run in the origin's own threads."""

    def __init__(self, config: OriginConfig, *, populated: bool = False) -> None:
        self.id: OriginId = config.id
        self.kind: OriginType = config.origin_type
        settings = LocalSettings.model_validate(dict(config.settings))
        self._path = str(settings.path)
        self._passthrough = settings.passthrough
        self._below = Below(self._path, settings.links or "all")
        self._through_links = self._below.links != "none"
        self._check_empty = EmptyRootCheck(config.id, populated, f"the folder {self._path} is empty; is it mounted?")
        self._threads = WorkerThreads(f"origin-{config.id}", config.pool_size)
        # A watch can hang at a mount below the folder: reads must not lose their threads to it.
        self._watching = WorkerThreads(f"watch-{config.id}", _WATCHING_THREADS)
        self._files = OpenFiles(_OPEN_FILES)
        self._root: _Root | None = None
        self._used = False  # since the last health check
        self._closed = False
        self._held: OpenFile | None = None
        self._held_for: Replica | None = None
        self._buffer = memoryview(bytearray(64 << 10))
        self._view = self._buffer
        self._watches: set[FolderWatch] = set()
        self._stuck = StuckPlaces()
        self._unreadable: set[str] = set()
        """Files whose disk has failed since the last read that succeeded."""
        self._warned: set[str] = set()

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        self._used = True
        if self._root is None or (self._root.on_disk and self._root.fd is None):
            await self._reopen_root()
        return await self._run(replica.path, self._read, replica, offset, size)

    async def folder_on_disk(self) -> DiskFolder | None:
        """Returns the root if it is on a disk of this machine (origin.OnDisk)."""
        if self._root is None:
            await self._reopen_root()
        if self._root is None or not self._root.on_disk:
            return None
        return DiskFolder(self._path, self._through_links)

    async def identify_folder(self) -> FolderIdentity:
        """Names the folder by its device and inode number (origin.KnowsItsFolder)."""
        return await self._run("", folder_here, self._path)

    async def stat(self, path: str) -> Stat:
        return await self._run(path, self._stat, path)

    def scan(self, under: str = "") -> AsyncIterator[Stat]:
        return self._scan(StrictObserver(self.id), under)

    def scan_observed(self, observer: ScanObserver, under: str = "") -> AsyncIterator[Stat]:
        """Scans, and goes on beside what can't be listed (origin.ObservesScans)."""
        return self._scan(observer, under)

    async def _scan(self, observer: ScanObserver, under: str) -> AsyncIterator[Stat]:
        if self._stuck.holds(under):
            observer.report(Problem(under, Reason.SLOW_FOLDER, "it has not answered since an earlier scan"))
            return
        try:
            begun = await self._first_look(observer, under)
        except _Reported:
            return
        except ReplicaFailed as failure:
            if isinstance(failure.__cause__, LinkRefused):
                observer.report(Problem(under, Reason.LINK_OUTSIDE))
            raise
        if begun is None:
            observer.report(Problem(under, Reason.OWN_MOUNT))
            return
        if isinstance(begun, Stat):
            yield begun
            return
        scan = FolderScan(self.id, begun, self._threads, self._check_same, self._stuck, observer)
        try:
            async for file in scan.files(under):
                yield file
        except WorkersUnavailable as error:
            raise OriginFailed(self.id, error.fault, str(error)) from None

    async def _first_look(self, observer: ScanObserver, under: str) -> Stat | Lister | None:
        """Calls `_begin`. Raises _Reported when that hangs at the path alone, and not at the root."""
        look = FirstLook(lambda: self._translated(under, self._begin, (under, observer.marker)))
        try:
            return await patiently(self._threads, look, lambda: 0)
        except Stuck:
            if not under:
                raise no_answer(self.id) from None
        except WorkersUnavailable as error:
            raise OriginFailed(self.id, error.fault, str(error)) from None
        self._stuck.add(under, look)
        await self._patiently("", self._check_root)
        observer.report(Problem(under, Reason.SLOW_FOLDER, str(no_answer(self.id).detail)))
        raise _Reported

    async def _patiently(self, path: str, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """Runs a call of a scan. Raises OriginFailed when it hangs."""
        try:
            return await patiently(self._threads, lambda: self._translated(path, call, args), lambda: 0)
        except Stuck:
            raise no_answer(self.id) from None
        except WorkersUnavailable as error:
            raise OriginFailed(self.id, error.fault, str(error)) from None

    async def health(self) -> HealthStatus:
        """Also closes what was not used since the last check, so that an idle disk can be unmounted."""
        identity = await self._run("", self._check_root)
        moved = self._root is not None and self._root.identity != identity
        if moved or not self._used:
            await self._rest()
        if moved or self._root is None:
            await self._reopen_root()
        self._used = False
        for watch in tuple(self._watches):
            if moved or watch.ended:
                await watch.restart()
        return HealthStatus.HEALTHY

    async def watch(self, path: str, callback: WatchCallback) -> WatchHandle | None:
        """Returns None also if the folder is on a network mount: the kernel does not report changes made by others
        there."""
        await self._patiently("", self._check_root)  # or a root that hangs would keep the caller
        if self._root is None:
            await self._reopen_root()
        if self._root is None or not self._root.on_disk or not is_inside(path):
            return None
        forget = self._watches.discard
        watch = FolderWatch(
            self.id, self._path, path, callback, self._watching, forget, links=self._below.links, warned=self._warned
        )
        self._watches.add(watch)
        try:
            return watch if await watch.start() else None
        except BaseException:
            watch.close()
            raise

    async def aclose(self) -> None:
        self._closed = True
        for watch in tuple(self._watches):
            watch.close()
        self._threads.close()
        self._watching.close()
        self._let_go()
        fds = self._files.clear(for_good=True)
        root, self._root = self._root, None
        if root is not None and root.fd is not None:
            close_all([*fds, root.fd])
        elif fds:
            _close_aside(fds)

    async def _reopen_root(self) -> None:
        """Reopens the root. Only the event loop's thread swaps the descriptor, because `read_now` uses it."""
        root = await self._run("", self._open_root, undo=_close_root)
        before, self._root = self._root, None if self._closed else root
        for old in (before, root if self._closed else None):
            if old is not None:
                _close_root(old)

    async def _rest(self) -> None:
        self._let_go()
        fds = self._files.clear()
        if self._root is not None and self._root.fd is not None:
            fds.append(self._root.fd)
            self._root = replace(self._root, fd=None)
        try:
            if fds:
                await self._run("", close_all, fds)
        except BaseException:
            _close_aside(fds)
            raise

    def read_now(self, replica: Replica, offset: int, size: int) -> memoryview | None:
        """Reads without waiting (origin.ReadsNow). Never raises: `read` finds and reports what is wrong."""
        file = self._held if replica is self._held_for else self._hold(replica)
        if file is None or not file.now or size > _MAX_NOW:
            return None
        self._used = True
        view = self._view
        if len(view) != size:
            view = self._view = self._buffer_for(size)
        try:
            done = preadv(file.fd, (view,), offset, RWF_NOWAIT)
            about = fstat(file.fd)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in _NEVER_NOW:
                file.now = False
            else:
                self._let_go(wrong=True)
            return None
        if (
            about.st_mtime_ns != replica.mtime_ns and stored_ns(about.st_mtime_ns) != replica.mtime_ns
        ) or about.st_size != replica.size:
            self._let_go(wrong=True)
            return None
        if done == size:
            return view
        return view[:done] if offset + done >= replica.size else None

    def open_now(self, replica: Replica) -> int | None:
        """Opens the file for the kernel, if the settings allow that (origin.OpensFiles)."""
        if not self._passthrough or self._root is None or self._root.fd is None or not is_inside(replica.path):
            return None
        try:
            fd = open_cached(self._root.fd, replica.path, through_links=self._through_links)
        except (OSError, ValueError):
            return None
        about = fstat(fd)
        if replica.is_version(Stat(replica.path, about.st_size, about.st_mtime_ns)):
            self._used = True
            return fd
        os.close(fd)
        return None

    def _buffer_for(self, size: int) -> memoryview:
        if size > len(self._buffer):
            self._buffer = memoryview(bytearray(size))
        return self._buffer[:size]

    def _hold(self, replica: Replica) -> OpenFile | None:
        """Takes the file for this read and the following ones: reads come in runs, and taking a file costs a lock."""
        self._let_go()
        key = key_of(replica)
        # Never a file of a network mount: closing it can hang there, and this is the event loop.
        file = self._files.take(key, now=True)
        if file is None and key not in self._files:
            file = self._open_now(key)
        if file is not None:
            self._held, self._held_for = file, replica
        return file

    def _let_go(self, wrong: bool = False) -> None:
        file, replica = self._held, self._held_for
        self._held = self._held_for = None
        if file is None or replica is None:
            return
        if wrong:
            self._files.drop(key_of(replica), file)
        fd = self._files.release(file)
        if fd is not None:
            close_all([fd])

    def _open_now(self, key: Key) -> OpenFile | None:
        if self._root is None or self._root.fd is None or not is_inside(key[0]):
            return None
        try:
            fd = open_cached(self._root.fd, key[0], through_links=self._through_links)
        except (OSError, ValueError):
            return None
        # `read_now` compares the version. What is no file has no size, or can't be read.
        file, leaving = self._files.add(key, fd, now=True)
        close_all(leaving)
        return file

    async def _run(
        self, path: str, call: Callable[[*Ts], T], *args: *Ts, undo: Callable[[T], object] | None = None
    ) -> T:
        """Runs a blocking call in a thread and translates its failures. undo: frees a result that no caller takes."""
        try:
            return await self._threads.run(self._translated, path, call, args, undo=undo)
        except WorkersUnavailable as error:
            raise OriginFailed(self.id, error.fault, str(error)) from None

    # The rest runs in worker threads.

    def _translated(self, path: str, call: Callable[[*Ts], T], args: tuple[*Ts]) -> T:
        check_inside(self.id, path)
        try:
            return call(*args)
        except OSError as error:
            raise self._failure(path, error) from error

    def _failure(self, path: str, error: OSError) -> MusicFSError:
        """Translates `error` into a failure of the origin, or only of the file at `path`."""
        detail = f"{error.filename or path}: {error.strerror}" if error.strerror else str(error)
        fault = _fault_of_file(error)
        if fault is ReplicaFault.IO:
            self._unreadable.add(path)
        if not path or fault is None or len(self._unreadable) >= _MAX_UNREADABLE:
            return OriginFailed(self.id, fault_of(error), detail)
        try:
            self._check_root()
        except OriginFailed as failed:
            return failed
        return ReplicaFailed(self.id, path, fault, error.strerror or str(error))

    def _check_root(self) -> Identity:
        """Returns the root's identity. Raises OriginFailed when the root is gone, or empty although it had files."""
        try:
            about = Path(self._path).stat()
            with os.scandir(self._path) as entries:
                empty = next(entries, None) is None
        except NotADirectoryError:
            raise OriginFailed(self.id, OriginFault.UNREACHABLE, f"{self._path} is not a folder") from None
        except OSError as error:
            raise OriginFailed(self.id, fault_of(error), f"{self._path}: {error.strerror}") from error
        self._check_empty(empty)
        return identity_of(about)

    def _open_root(self) -> _Root:
        self._check_root()
        fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        identity, on_disk = identity_of(fstat(fd)), filesystem_of(fd) in ON_DISK
        if not on_disk:
            os.close(fd)
        return _Root(identity, on_disk, fd if on_disk else None)

    def _read(self, replica: Replica, offset: int, size: int) -> bytes:
        try:
            return self._read_once(replica, offset, size)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        return self._read_once(replica, offset, size)  # the server forgot the handle, perhaps not the file

    def _read_once(self, replica: Replica, offset: int, size: int) -> bytes:
        key = key_of(replica)
        file = self._files.take(key) or self._open(replica, key)
        try:
            data = read_exactly(
                lambda at, left: os.pread(file.fd, left, at), offset, size_within(replica, offset, size)
            )
            self._check_version(replica, fstat(file.fd))  # after the read: then what was read is of that version
            if self._unreadable:
                self._unreadable.clear()
            return data
        except (OSError, ReplicaFailed):
            self._files.drop(key, file)
            raise
        finally:
            fd = self._files.release(file)
            if fd is not None:
                close_all([fd])

    def _open(self, replica: Replica, key: Key) -> OpenFile:
        fd = self._below.open(replica.path)
        try:
            about = fstat(fd)
            self._check_version(replica, about)
        except BaseException:
            os.close(fd)
            raise
        root = self._root
        file, leaving = self._files.add(key, fd, root is not None and root.on_disk and root.identity[0] == about.st_dev)
        close_all(leaving)
        return file

    def _check_version(self, replica: Replica, about: os.stat_result) -> None:
        same_user = replica.uid is None or about.st_uid == replica.uid
        is_file = stat.S_ISREG(about.st_mode) and same_user
        now = Stat(replica.path, about.st_size, about.st_mtime_ns) if is_file else None
        check_version(replica, now, is_folder=stat.S_ISDIR(about.st_mode))

    def _stat(self, path: str) -> Stat:
        about = self._below.stat(path)
        if not stat.S_ISREG(about.st_mode):
            raise ReplicaFailed(self.id, path, ReplicaFault.MISSING, "it is not a file")
        return Stat(path, about.st_size, about.st_mtime_ns)

    def _begin(self, under: str, marker: str) -> Stat | Lister | None:
        """Returns a walk from the folder `under`, or the file there; None: it is a folder of this mount itself."""
        self._check_root()
        about, lister = self._below.stat(under), Lister(self._path, self._below.links, marker)
        if lister.is_own(under, about):
            return None
        return lister.file(under, about) if stat.S_ISREG(about.st_mode) else lister

    def _check_same(self, walk: Lister) -> None:
        if self._check_root() != walk.root_identity:
            raise OriginFailed(self.id, OriginFault.UNREACHABLE, "the folder was replaced while it was listed")


def _fault_of_file(error: OSError) -> ReplicaFault | None:
    """Returns what the error means if it is the file's alone; None: it is the origin's."""
    if error.errno in DENIED:
        return ReplicaFault.DENIED
    if error.errno in _GONE or isinstance(error, LinkRefused):
        return ReplicaFault.MISSING
    return ReplicaFault.IO if error.errno in BROKEN else None


def _close_aside(fds: list[int]) -> None:
    """Closes descriptors in a new thread: closing hangs when the mount does."""
    threading.Thread(target=close_all, args=(fds,), daemon=True).start()


def _close_root(root: _Root) -> None:
    if root.fd is not None:  # of a disk of this machine
        os.close(root.fd)


def open_mounted(config: OriginConfig, *, populated: bool) -> LocalOrigin:
    """Returns a driver for the folder where the system has mounted an origin of another kind."""
    own = {name: config.settings[name] for name in LocalSettings.model_fields if name in config.settings}
    return LocalOrigin(config.model_copy(update={"settings": own}), populated=populated)


KIND = OriginKind(OriginType.LOCAL, LocalSettings, LocalOrigin, remote=False)
