"""How the kernel's requests are answered from a `Filesystem`: one operation for each opcode."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from musicfs.errors import MusicFSError
from musicfs.mount.entries import NO_ENTRY, EntryPacker
from musicfs.mount.filesystem import Filesystem, errno_of
from musicfs.mount.listings import Listings
from musicfs.mount.passthrough import Passthrough
from musicfs.mount.readers import Readers
from musicfs.mount.session import protocol as fuse
from musicfs.mount.session.channel import Payload
from musicfs.mount.session.session import MAX_ANSWER, MAX_OFFSET, Answer, FuseError, Operation
from musicfs.system.lru import Lru

log = logging.getLogger(__name__)

_MOST_STORED = 8192
_BODY = fuse.BODY
# For kernels that do not cache listings unless they are asked to. It names no handle: none is needed.
_OPENED_FOLDER = fuse.OPEN_OUT.pack(0, fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_CACHE_DIR, 0)

_WRITING = (
    fuse.FUSE_SETATTR, fuse.FUSE_SYMLINK, fuse.FUSE_MKNOD, fuse.FUSE_MKDIR, fuse.FUSE_UNLINK, fuse.FUSE_RMDIR,
    fuse.FUSE_RENAME, fuse.FUSE_LINK, fuse.FUSE_WRITE, fuse.FUSE_FSYNC, fuse.FUSE_SETXATTR, fuse.FUSE_REMOVEXATTR,
    fuse.FUSE_FSYNCDIR, fuse.FUSE_CREATE, fuse.FUSE_FALLOCATE, fuse.FUSE_RENAME2,
)  # fmt: skip
"""The mount is "ro", so the kernel refuses these itself, unless root remounts it."""


class Operations:
    """Answers the kernel's requests from a `Filesystem`.

    Args:
        filesystem: What the mount shows.
        readers: Who may read a file, where other users see the mount; the filesystem then has owners. None: its one
            user may read all.
        store: Gives the kernel the whole of a file, by its inode number, while no read of it is under way.
    """

    def __init__(
        self,
        filesystem: Filesystem,
        readers: Readers | None = None,
        store: Callable[[int, Payload], None] | None = None,
    ) -> None:
        self._fs = filesystem
        self._store = store
        self._stored: Lru[int, None] = Lru(_MOST_STORED)
        self.passthrough: Passthrough | None = None
        self._counts = filesystem.counts
        self._entries = EntryPacker(readers)
        self._listings = Listings(filesystem, self._entries)
        self.on_open: Callable[[bool], None] = lambda near: None
        """Takes whether a disk of this machine serves the file that is about to be opened."""

    def by_opcode(self) -> dict[int, Operation]:
        """Returns how each request is answered. FLUSH is not among them: ENOSYS makes the kernel stop asking."""
        read, release, getxattr = fuse.READ_IN.size, fuse.RELEASE_IN.size, fuse.GETXATTR_IN.size
        operations = {
            fuse.FUSE_LOOKUP: self._operation("lookup", self.lookup, 1),
            fuse.FUSE_GETATTR: self._operation("getattr", self.getattr),
            fuse.FUSE_STATFS: self._operation("statfs", self.statfs),
            fuse.FUSE_OPENDIR: self._operation("opendir", self.opendir),
            fuse.FUSE_READDIR: self._operation("readdir", self.readdir, read),
            fuse.FUSE_READDIRPLUS: self._operation("readdir", self.readdirplus, read),
            fuse.FUSE_RELEASEDIR: self._operation("releasedir", lambda *_: b""),
            fuse.FUSE_OPEN: self._operation("open", self.open, fuse.OPEN_IN.size, self._undelivered_file),
            fuse.FUSE_READ: self._operation("read", self.read, read),
            fuse.FUSE_RELEASE: self._operation("release", self.release, release),
            fuse.FUSE_GETXATTR: self._operation("getxattr", self.getxattr, getxattr + 1),
            fuse.FUSE_LISTXATTR: self._operation("listxattr", self.listxattr, getxattr),
        }
        refused = self._operation("write", _refuse_writing)
        return operations | dict.fromkeys(_WRITING, refused)

    def forget_listings(self) -> None:
        """Drops what was read of listings, after the tree has changed."""
        self._listings.forget()

    def _operation(
        self,
        name: str,
        answer: Callable[[int, bytes], Answer],
        least: int = 0,
        undelivered: Callable[[Payload], None] | None = None,
    ) -> Operation:
        return Operation(answer, partial(self._failed, name), self._counts.took[name].add, least, undelivered)

    def _failed(self, operation: str, error: BaseException) -> int:
        number = errno_of(error)
        self._counts.errors[operation, number] += 1
        if not isinstance(error, OSError) and number == errno.EIO:
            # What is raised on purpose is reported where it happens; anything else is a mistake of the programmer's.
            expected = isinstance(error, (MusicFSError, asyncio.CancelledError))
            level = logging.DEBUG if expected else logging.ERROR
            log.log(level, "a request (%s) fails with EIO: %s: %s", operation, type(error).__name__, error)
            log.debug("this failed", exc_info=error)
        return number

    # names and attributes

    def lookup(self, parent: int, request: bytes) -> bytes:
        self._counts.lookup += 1
        name = _name(request, _BODY)
        found = self._fs.lookup(parent, name)
        if found is None:
            # File servers, which know a file by its number alone, ask for these two. No entry has such a name.
            if name == b".":
                found = self._fs.getattr(parent)
            elif name == b"..":
                found = self._fs.getattr(self._fs.parent(parent))
            else:
                return NO_ENTRY
        return self._entries.entry(*found)

    def getattr(self, ino: int, _: bytes) -> bytes:
        self._counts.getattr += 1
        return self._entries.attributes(*self._fs.getattr(ino))

    def statfs(self, *_: object) -> bytes:
        self._counts.statfs += 1
        totals = self._fs.totals
        blocks = (totals.bytes + 4095) // 4096
        return fuse.STATFS_OUT.pack(blocks, 0, 0, totals.files + totals.directories, 0, 4096, 255, 4096, 0)

    # folders

    def opendir(self, *_: object) -> bytes:
        self._counts.opendir += 1
        return _OPENED_FOLDER

    def readdir(self, folder: int, request: bytes) -> bytes:
        self._counts.readdir += 1
        return self._listings.readdir(folder, request)

    def readdirplus(self, folder: int, request: bytes) -> bytes:
        self._counts.readdir += 1
        return self._listings.readdirplus(folder, request)

    # files

    def open(self, ino: int, request: bytes) -> Answer:
        self._counts.open += 1
        flags, _ = fuse.OPEN_IN.unpack_from(request, _BODY)
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            raise FuseError(errno.EROFS)
        handle = self._fs.open(ino)
        return self._opened(ino, handle) if self._fs.is_certain(handle) else self._open_certain(ino, handle)

    async def _open_certain(self, ino: int, handle: int) -> Payload:
        await self._fs.make_certain(handle)
        return self._opened(ino, handle)

    def _opened(self, ino: int, handle: int) -> bytes:
        self.on_open(self._fs.is_near(handle))
        # An inode stands for one content forever, so what the kernel has cached of it stays true, unless bytes of it
        # turned out to be wrong.
        if self.passthrough is not None:
            number = self.passthrough.begin(ino, handle, alone=self._fs.is_alone(handle))
            if number is not None:
                return fuse.OPEN_OUT.pack(handle, fuse.FOPEN_PASSTHROUGH, number)
        if not self._fs.keeps_pages(handle):
            return fuse.OPEN_OUT.pack(handle, 0, 0)
        if ino not in self._stored:
            self._store_small(ino, handle)
        return fuse.OPEN_OUT.pack(handle, fuse.FOPEN_KEEP_CACHE, 0)

    def _store_small(self, ino: int, handle: int) -> None:
        """Gives the kernel a small file whose bytes are here: it needs no request to read it.

        A request of its own costs more than these bytes: each makes the reader sleep and wake up. Once is enough,
        since the kernel keeps them; if it does not, it asks.
        """
        data = self._fs.whole(handle) if self._store is not None else None
        if data is None or self._store is None:
            return
        try:
            self._store(ino, data)
        except OSError as error:
            log.debug("the kernel does not take the bytes of %d: %s", ino, error)
            return
        self._stored.put(ino, None)
        self._counts.read_bytes += len(data)

    def _undelivered_file(self, answer: Payload) -> None:
        self._close(fuse.OPEN_OUT.unpack(answer)[0])

    def read(self, _: int, request: bytes) -> Answer:
        counts = self._counts
        counts.read += 1
        fh, offset, size, _ = fuse.READ_IN.unpack_from(request, _BODY)
        if size > MAX_ANSWER or offset > MAX_OFFSET:
            raise FuseError(errno.EINVAL)
        data = self._fs.read_now(fh, offset, size)
        if data is None:
            return self._read_later(fh, offset, size)
        counts.read_bytes += len(data)
        return data

    async def _read_later(self, fh: int, offset: int, size: int) -> Payload:
        started = time.perf_counter()
        data = await self._fs.read(fh, offset, size)
        self._counts.waited.add(time.perf_counter() - started)
        self._counts.read_bytes += len(data)
        return data

    def release(self, _: int, request: bytes) -> bytes:
        self._counts.release += 1
        (fh,) = fuse.RELEASE_IN.unpack_from(request, _BODY)
        self._close(fh)
        return b""

    def _close(self, handle: int) -> None:
        if self.passthrough is not None:
            self.passthrough.end(handle)
        self._fs.release(handle)

    # extended attributes

    def getxattr(self, ino: int, request: bytes) -> bytes:
        self._counts.getxattr += 1
        size, _ = fuse.GETXATTR_IN.unpack_from(request, _BODY)
        name = _name(request, _BODY + fuse.GETXATTR_IN.size)
        if not name.startswith(b"user."):
            # Security labels and ACLs. After the answer that this file has none, `ls -l` asks at every file; after the
            # answer that the filesystem has none, it asks once.
            raise FuseError(errno.ENOTSUP)
        value = self._fs.xattrs(ino).get(name.decode("utf-8", "replace"))
        if value is None:
            raise FuseError(errno.ENODATA)
        return _sized(value.encode(), size)

    def listxattr(self, _: int, request: bytes) -> bytes:
        # `user.musicfs.*` answers by name only: what is listed, `cp -a` and `rsync -X` write to their copies.
        self._counts.listxattr += 1
        size, _ = fuse.GETXATTR_IN.unpack_from(request, _BODY)
        return _sized(b"", size)


def _name(request: bytes, start: int) -> bytes:
    """Returns the name that a request ends with."""
    end = len(request) - 1
    if request[end]:
        raise FuseError(errno.EINVAL)
    return request[start:end]


def _sized(value: bytes, size: int) -> bytes:
    """Returns the value of an attribute, or how long it is if the caller has no room for it yet."""
    if size == 0:
        return fuse.GETXATTR_OUT.pack(len(value), 0)
    if len(value) > size:
        raise FuseError(errno.ERANGE)
    return value


def _refuse_writing(*_: object) -> NoReturn:
    raise FuseError(errno.EROFS)
