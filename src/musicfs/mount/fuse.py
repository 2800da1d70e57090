"""The adapter between the kernel and `Filesystem`, and the only place that imports pyfuse3's operations.

Under pyfuse3's asyncio mode a handler that raises anything but `FUSEError` never answers, and the caller hangs until
the mount ends: `_answered` makes sure that nothing else gets out.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import os
import queue
import stat
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar, cast

from musicfs.mount import trioless  # noqa: F401 — before pyfuse3

# isort: split
import pyfuse3
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FUSEError, InodeT, ReaddirToken, RequestContext, StatvfsData

from musicfs.errors import UserError
from musicfs.library.tree import TreeChanges
from musicfs.mount import mount_points
from musicfs.mount.filesystem import Filesystem, Row, errno_of
from musicfs.mount.fuse_loop import FuseWaiter
from musicfs.mount.readers import Readers

log = logging.getLogger(__name__)

# The kernel hears of every change, so what it caches need not expire.
_TIMEOUT_SECS = 3600.0
# A block of cache/block_checksums.py. Of 128, 256, 512 and 1024 it was the fastest by a seventh to a third, for one
# reader and for eight: so much is yet in the processor's own cache on its way. And of a file's beginning less is
# fetched in vain.
_READ_AHEAD_KB = 256
_SESSION_BEGUN_SECS = 0.2
_FORGETTING_SECS = 2.0
_MAX_WORKERS = 10_000

P = ParamSpec("P")
T = TypeVar("T")


def _answered(
    handler: Callable[Concatenate[Operations, P], Awaitable[T]],
) -> Callable[Concatenate[Operations, P], Coroutine[Any, Any, T]]:
    """Turns any exception of a handler into an answer to the kernel, and records how long the answer took."""
    operation = handler.__name__

    @functools.wraps(handler)
    async def answer(self: Operations, /, *args: P.args, **kwargs: P.kwargs) -> T:
        started = time.perf_counter()
        try:
            return await handler(self, *args, **kwargs)
        except FUSEError:
            raise
        except BaseException as error:
            raise self._failure(operation, error) from None
        finally:
            self._counts.took[operation].add(time.perf_counter() - started)

    return answer


class Operations(pyfuse3.Operations):
    """Answers the kernel's requests from a `Filesystem`.

    The frequent requests re-use one answer object each: an answer is copied out before the next request is taken.

    readers: who may read a file, where other users see the mount; the filesystem then has owners. None: its one user
    may read all.
    """

    enable_writeback_cache = False

    def __init__(self, filesystem: Filesystem, waiter: FuseWaiter, readers: Readers | None = None) -> None:
        super().__init__()
        # Chosen once: without owners, what answers the frequent requests is to do no more than it has to.
        self._fill: Callable[..., EntryAttributes] = self._fill_plain
        self._reply_rows: Callable[[ReaddirToken, Any], int] = self._reply_plain_rows
        if readers is not None:
            self._readers = readers
            self._fill = self._fill_owned
            self._reply_rows = self._reply_owned_rows
        self._fs = filesystem
        self._counts = filesystem.counts
        self._reads_took = filesystem.counts.took["read"]
        self._pass_on = waiter.baton.pass_on
        self._file = self._template(stat.S_IFREG | 0o444, 1)
        # One link, not two: programs take two as the promise of a folder without folders. One promises nothing.
        self._dir = self._template(stat.S_IFDIR | 0o555, 1)
        self._nothing = EntryAttributes()
        self._nothing.st_ino = InodeT(0)
        self._nothing.entry_timeout = _TIMEOUT_SECS

    @staticmethod
    def _template(mode: int, links: int) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_mode = mode
        entry.st_nlink = links
        entry.st_uid = os.getuid()
        entry.st_gid = os.getgid()
        entry.st_blksize = 128 * 1024
        entry.attr_timeout = entry.entry_timeout = _TIMEOUT_SECS
        return entry

    def _failure(self, operation: str, error: BaseException) -> FUSEError:
        number = errno_of(error)
        self._counts.errors[operation, number] += 1
        if not isinstance(error, OSError) and number == errno.EIO:
            log.debug("%s fails with EIO: %s", operation, error, exc_info=error)
        return FUSEError(number)

    def _fill_plain(self, ino: int, is_directory: bool, size: int, mtime_ns: int) -> EntryAttributes:
        entry = self._dir if is_directory else self._file
        entry.st_ino = InodeT(ino)
        entry.st_size = size
        entry.st_blocks = (size + 511) >> 9
        entry.st_mtime_ns = mtime_ns
        entry.st_ctime_ns = mtime_ns
        entry.st_atime_ns = mtime_ns
        return entry

    def _fill_owned(
        self, ino: int, is_directory: bool, size: int, mtime_ns: int, *owner: int | None
    ) -> EntryAttributes:
        entry = self._fill_plain(ino, is_directory, size, mtime_ns)
        if not is_directory:
            entry.st_uid, entry.st_gid, mode = self._readers(*owner)
            entry.st_mode = stat.S_IFREG | mode
        return entry

    # names and attributes

    @_answered
    async def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        self._counts.lookup += 1
        found = self._fs.lookup(parent_inode, name)
        if found is None:
            # An answer without an inode lets the kernel remember that there is nothing.
            return self._nothing
        return self._fill(*found)

    @_answered
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        self._counts.getattr += 1
        return self._fill(*self._fs.getattr(inode))

    async def forget(self, inode_list: Any) -> None:
        """Nothing is kept per inode."""

    @_answered
    async def access(self, inode: InodeT, mode: int, ctx: RequestContext) -> bool:
        return not mode & os.W_OK

    @_answered
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        self._counts.statfs += 1
        totals = self._fs.totals
        answer = StatvfsData()
        answer.f_bsize = answer.f_frsize = 4096
        answer.f_blocks = (totals.bytes + 4095) // 4096
        answer.f_bfree = answer.f_bavail = 0
        answer.f_files = totals.files + totals.directories
        answer.f_ffree = answer.f_favail = 0
        answer.f_namemax = 255
        return answer

    # directories

    @_answered
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        self._counts.opendir += 1
        return FileHandleT(self._fs.opendir(inode))

    @_answered
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        self._counts.readdir += 1
        # Positions: 1 and 2 are "." and "..", an entry's is that in the tree plus 2.
        fs, reply = self._fs, pyfuse3.readdir_reply
        # Of these two the kernel takes the inode number alone.
        if start_id < 2:
            ino = fs.directory(fh)
            if start_id < 1 and not reply(token, b".", self._fill(ino, True, 0, 0), 1):
                return
            if not reply(token, b"..", self._fill(fs.parent(ino), True, 0, 0), 2):
                return
        after = max(0, start_id - 2)
        while rows := fs.readdir(fh, after):
            count = self._reply_rows(token, rows)
            fs.advance(fh, count)
            if count < len(rows):
                return
            after = rows[-1][5]

    def _reply_plain_rows(self, token: ReaddirToken, rows: Sequence[tuple[int, str, int | None, int, int, int]]) -> int:
        """Adds entries to the answer; how many it had room for."""
        for count, (ino, name, content, size, mtime_ns, position) in enumerate(rows):
            entry = self._fill_plain(ino, content is None, size, mtime_ns)
            if not pyfuse3.readdir_reply(token, name.encode(), entry, position + 2):
                return count
        return len(rows)

    def _reply_owned_rows(self, token: ReaddirToken, rows: Sequence[Row]) -> int:
        for count, (ino, name, content, size, mtime_ns, position, *owner) in enumerate(rows):
            entry = self._fill_owned(ino, content is None, size, mtime_ns, *owner)
            if not pyfuse3.readdir_reply(token, name.encode(), entry, position + 2):
                return count
        return len(rows)

    @_answered
    async def releasedir(self, fh: FileHandleT) -> None:
        self._fs.releasedir(fh)

    # files

    @_answered
    async def open(self, inode: InodeT, flags: int, ctx: RequestContext) -> FileInfo:
        self._counts.open += 1
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            raise FUSEError(errno.EROFS)
        # An inode stands for one content forever, so what the kernel has cached of it stays true, unless bytes of it
        # turned out to be wrong.
        handle = self._fs.open(inode)
        if not self._fs.is_certain(handle):
            self._pass_on()
            await self._fs.make_certain(handle)
        return FileInfo(fh=FileHandleT(handle), keep_cache=self._fs.keeps_pages(handle))

    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        counts = self._counts
        counts.read += 1
        taken_up = time.perf_counter()
        try:
            data = self._fs.read_now(fh, off, size)
            if data is not None:
                counts.read_bytes += len(data)
                return cast(bytes, data)
            self._pass_on()
            started = time.perf_counter()
            data = await self._fs.read(fh, off, size)
            counts.waited.add(time.perf_counter() - started)
            counts.read_bytes += len(data)
            return data
        except BaseException as error:
            raise self._failure("read", error) from None
        finally:
            self._reads_took.add(time.perf_counter() - taken_up)

    async def flush(self, fh: FileHandleT) -> None:
        """Nothing is ever written; this answer makes the kernel stop asking."""
        raise FUSEError(errno.ENOSYS)

    @_answered
    async def release(self, fh: FileHandleT) -> None:
        self._counts.release += 1
        self._fs.release(fh)

    # extended attributes

    @_answered
    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        self._counts.getxattr += 1
        if not name.startswith(b"user."):
            # Security labels and ACLs. After the answer that this file has none, `ls -l` asks at every file; after the
            # answer that the filesystem has none, it asks once.
            raise FUSEError(errno.ENOTSUP)
        value = self._fs.xattrs(inode).get(name.decode("utf-8", "replace"))
        if value is None:
            raise FUSEError(errno.ENODATA)
        return value.encode()

    @_answered
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> list[bytes]:
        # `user.musicfs.*` answers by name only: what is listed, `cp -a` and `rsync -X` write to their copies.
        self._counts.listxattr += 1
        return []


async def _read_only(*_: object) -> NoReturn:
    raise FUSEError(errno.EROFS)


# The mount is "ro", so the kernel refuses these itself, unless root remounts it.
for _name in (
    "create", "write", "mkdir", "mknod", "unlink", "rmdir", "rename", "link", "symlink", "setattr", "setxattr",
    "removexattr", "fsync", "fsyncdir",
):  # fmt: skip
    setattr(Operations, _name, _read_only)


class _Forgetter:
    """A thread that makes the kernel forget names: it may have to wait for the kernel, which may be waiting for us."""

    def __init__(self) -> None:
        self._names: queue.SimpleQueue[tuple[int, str] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="forgetter", daemon=True)
        self._ending = False

    def forget(self, names: Iterable[tuple[int, str]]) -> None:
        if not self._thread.is_alive():
            self._thread.start()
        for name in names:
            self._names.put(name)

    def _run(self) -> None:
        while (item := self._names.get()) is not None and not self._ending:
            parent, name = item
            try:
                pyfuse3.invalidate_entry(InodeT(parent), name.encode())
            except OSError as error:
                # Most names the kernel never heard of; and once the session has ended it hears of none.
                if error.errno != errno.ENOENT and not self._ending:
                    log.debug("can't make the kernel forget %r in %d: %s", name, parent, error)

    def end(self) -> bool:
        """Whether it has ended: while it has not, the session must not be destroyed."""
        self._ending = True
        self._names.put(None)
        if self._thread.is_alive():
            self._thread.join(_FORGETTING_SECS)
        return not self._thread.is_alive()


class FuseMount:
    """One mounted filesystem: `mount`, `serve` until it is unmounted or `stop` is called, `unmount`.

    allow_other: other users see it; the filesystem has owners then, and the kernel enforces what they may read.
    file_mode: see `Readers`.
    """

    def __init__(
        self, filesystem: Filesystem, mount_point: Path, waiter: FuseWaiter, *, allow_other: bool, file_mode: int
    ) -> None:
        self._mount_point = mount_point
        self._waiter = waiter
        self._operations = Operations(filesystem, waiter, Readers(file_mode) if allow_other else None)
        self._allow_other = allow_other
        self._mounted = False
        self._forgetter = _Forgetter()

    def mount(self) -> None:
        """Makes the filesystem appear. Raises `UserError` when the system refuses."""
        options = {"default_permissions", "ro", "nosuid", "nodev", "fsname=musicfs", "subtype=musicfs"}
        if self._allow_other:
            options.add("allow_other")
        self._waiter.install()
        try:
            pyfuse3.init(self._operations, str(self._mount_point), options)
        except RuntimeError as error:
            hint = " --allow-other needs `user_allow_other` in /etc/fuse.conf." if self._allow_other else ""
            raise UserError(
                f"Can't mount on {self._mount_point}: the system refused ({error}); is the package fuse3 installed"
                f" and /dev/fuse there?{hint}"
            ) from error
        self._mounted = True

    def _raise_read_ahead(self) -> None:
        """Lets the kernel ask for 256 KiB at a time, which only root may say; without it reads are 128 KiB each.

        To be called once requests are answered: the kernel sets its own value when the session begins.
        """
        here = mount_points.mounted(self._mount_point)  # not by stat(2): we would have to answer that ourselves
        try:
            if here is not None:
                Path(f"/sys/class/bdi/{here.device}/read_ahead_kb").write_text(str(_READ_AHEAD_KB))
        except OSError as error:
            log.debug("the read-ahead stays as it is: %s", error)

    async def serve(self) -> None:
        """Answers requests until the filesystem is unmounted, by `stop` or from outside."""
        asyncio.get_running_loop().call_later(_SESSION_BEGUN_SECS, self._raise_read_ahead)
        await pyfuse3.main(min_tasks=_MAX_WORKERS, max_tasks=_MAX_WORKERS)

    def stop(self) -> None:
        """Makes `serve` return once the requests under way are answered."""
        if self._mounted:
            pyfuse3.terminate()

    def unmount(self) -> None:
        if self._mounted:
            self._mounted = False
            if self._forgetter.end():
                pyfuse3.close(unmount=True)
            elif mount_points.mounted(self._mount_point):
                mount_points.unmount(self._mount_point, lazy=True)

    def forget(self, changes: TreeChanges) -> None:
        """Makes the kernel forget what it has cached of what changed. Returns at once."""
        if not self._mounted:
            return
        for ino in (*changes.directories, *changes.attributes):
            try:
                pyfuse3.invalidate_inode(InodeT(ino), attr_only=True)
            except OSError as error:  # the kernel never heard of it
                if error.errno != errno.ENOENT:
                    log.warning("can't make the kernel forget inode %d: %s", ino, error)
        self._forgetter.forget(changes.entries)


__all__ = ["FuseMount", "Operations"]
