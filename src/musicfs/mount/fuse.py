"""The adapter between the FUSE session and `Filesystem`: operations by opcode, and the life of one mount."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

from musicfs.errors import MusicFSError, UserError
from musicfs.library.tree_changes import TreeChanges
from musicfs.mount import mount_points
from musicfs.mount.filesystem import Filesystem, errno_of
from musicfs.mount.readers import Readers
from musicfs.mount.session import mounting
from musicfs.mount.session import protocol as fuse
from musicfs.mount.session.channel import Payload
from musicfs.mount.session.forgetter import Forgetter, Stale
from musicfs.mount.session.session import MAX_ANSWER, Answer, FuseError, FuseSession, Operation

log = logging.getLogger(__name__)

# The kernel hears of every change, so what it caches need not expire.
_TIMEOUT_SECS = 3600
# A block of cache/block_checksums.py. Of 128, 256, 512 and 1024 it was the fastest by a seventh to a third, for one
# reader and for eight: so much is yet in the processor's own cache on its way. And of a file's beginning less is
# fetched in vain.
_READ_AHEAD_KB = 256
_BLOCK_SIZE = 128 * 1024
_NAME = "musicfs"
_BODY = fuse.BODY
_MAX_OFFSET = 2**63 - 1

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
    """

    def __init__(self, filesystem: Filesystem, readers: Readers | None = None) -> None:
        self._fs = filesystem
        self._counts = filesystem.counts
        self._uid, self._gid = os.getuid(), os.getgid()
        # Chosen once: without owners, what answers the frequent requests is to do no more than it has to.
        self._attributes: Callable[..., tuple[int, ...]] = self._plain
        if readers is not None:
            self._readers = readers
            self._attributes = self._owned

    def by_opcode(self) -> dict[int, Operation]:
        """Returns how each request is answered. FLUSH is not among them: ENOSYS makes the kernel stop asking."""
        read, release, getxattr = fuse.READ_IN.size, fuse.RELEASE_IN.size, fuse.GETXATTR_IN.size
        operations = {
            fuse.FUSE_LOOKUP: self._operation("lookup", self.lookup, 1),
            fuse.FUSE_GETATTR: self._operation("getattr", self.getattr),
            fuse.FUSE_STATFS: self._operation("statfs", self.statfs),
            fuse.FUSE_OPENDIR: self._operation("opendir", self.opendir, undelivered=self._undelivered_directory),
            fuse.FUSE_READDIR: self._operation("readdir", self.readdir, read),
            fuse.FUSE_READDIRPLUS: self._operation("readdir", self.readdirplus, read),
            fuse.FUSE_RELEASEDIR: self._operation("releasedir", self.releasedir, release),
            fuse.FUSE_OPEN: self._operation("open", self.open, fuse.OPEN_IN.size, self._undelivered_file),
            fuse.FUSE_READ: self._operation("read", self.read, read),
            fuse.FUSE_RELEASE: self._operation("release", self.release, release),
            fuse.FUSE_GETXATTR: self._operation("getxattr", self.getxattr, getxattr + 1),
            fuse.FUSE_LISTXATTR: self._operation("listxattr", self.listxattr, getxattr),
        }
        refused = self._operation("write", _refuse_writing)
        return operations | dict.fromkeys(_WRITING, refused)

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

    # Attributes: the fields of a `fuse_attr`.

    def _plain(self, ino: int, is_directory: bool, size: int, mtime_ns: int) -> tuple[int, ...]:
        mode = stat.S_IFDIR | 0o555 if is_directory else stat.S_IFREG | 0o444
        secs, ns = divmod(mtime_ns, 1_000_000_000)
        # One link, also of folders: programs take two as the promise of a folder without folders. One promises nothing.
        return (
            ino, size, (size + 511) >> 9, secs, secs, secs, ns, ns, ns, mode, 1, self._uid, self._gid, 0, _BLOCK_SIZE, 0
        )  # fmt: skip

    def _owned(self, ino: int, is_directory: bool, size: int, mtime_ns: int, *owner: int | None) -> tuple[int, ...]:
        if is_directory:
            return self._plain(ino, True, size, mtime_ns)
        uid, gid, mode = self._readers(*owner)
        secs, ns = divmod(mtime_ns, 1_000_000_000)
        return (
            ino, size, (size + 511) >> 9, secs, secs, secs, ns, ns, ns, stat.S_IFREG | mode, 1, uid, gid, 0,
            _BLOCK_SIZE, 0,
        )  # fmt: skip

    # names and attributes

    def lookup(self, parent: int, request: bytes) -> bytes:
        self._counts.lookup += 1
        name = _name(request, _BODY)
        if name == b".":  # These two are for file servers, which know a file by its number alone.
            found = self._fs.getattr(parent)
        elif name == b"..":
            found = self._fs.getattr(self._fs.parent(parent))
        elif (looked_up := self._fs.lookup(parent, name)) is None:
            return _NO_ENTRY
        else:
            found = looked_up
        return fuse.ENTRY_OUT.pack(found[0], 0, _TIMEOUT_SECS, _TIMEOUT_SECS, 0, 0, *self._attributes(*found))

    def getattr(self, ino: int, _: bytes) -> bytes:
        self._counts.getattr += 1
        return fuse.ATTR_OUT.pack(_TIMEOUT_SECS, 0, 0, *self._attributes(*self._fs.getattr(ino)))

    def statfs(self, *_: object) -> bytes:
        self._counts.statfs += 1
        totals = self._fs.totals
        blocks = (totals.bytes + 4095) // 4096
        return fuse.STATFS_OUT.pack(blocks, 0, 0, totals.files + totals.directories, 0, 4096, 255, 4096, 0)

    # directories

    def opendir(self, ino: int, _: bytes) -> bytes:
        self._counts.opendir += 1
        return fuse.OPEN_OUT.pack(self._fs.opendir(ino), 0, 0)

    def readdir(self, _: int, request: bytes) -> bytes:
        return self._listed(request, dirent, self._dirent)

    def readdirplus(self, _: int, request: bytes) -> bytes:
        return self._listed(request, direntplus_without_entry, self._direntplus)

    def _listed(
        self, request: bytes, link: Callable[[int, bytes, int, int], bytes], record: Callable[..., bytes]
    ) -> bytes:
        """Returns the records that fit.

        Args:
            request: A `fuse_read_in`. Positions: 1 and 2 are "." and "..", an entry's is that in the tree plus 2.
            link: Makes the record of "." or "..", of which the kernel takes the inode number alone.
            record: Makes the record of a row.
        """
        self._counts.readdir += 1
        fh, offset, room, _ = fuse.READ_IN.unpack_from(request, _BODY)
        if room > MAX_ANSWER or offset > _MAX_OFFSET:
            raise FuseError(errno.EINVAL)
        fs = self._fs
        records: list[bytes] = []
        if offset < 2:
            ino = fs.directory(fh)
            records = [link(ino, b".", 1, stat.S_IFDIR), link(fs.parent(ino), b"..", 2, stat.S_IFDIR)][offset:]
            room -= sum(map(len, records))
        after = max(0, offset - 2)
        while rows := fs.readdir(fh, after):
            count = len(records)
            for row in rows:
                made = record(*row)
                room -= len(made)
                if room < 0:
                    break
                records.append(made)
            used = len(records) - count
            fs.advance(fh, used)
            if used < len(rows):
                break
            after = rows[-1][5]
        return b"".join(records)

    def _dirent(
        self, ino: int, name: str, content: int | None, _size: int, _mtime: int, position: int, *_: object
    ) -> bytes:
        return dirent(ino, name.encode(), position + 2, stat.S_IFDIR if content is None else stat.S_IFREG)

    def _direntplus(
        self, ino: int, name: str, content: int | None, size: int, mtime_ns: int, position: int, *owner: int | None
    ) -> bytes:
        encoded = name.encode()
        length = len(encoded)
        attributes = self._attributes(ino, content is None, size, mtime_ns, *owner)
        entry = fuse.DIRENTPLUS.pack(
            ino, 0, _TIMEOUT_SECS, _TIMEOUT_SECS, 0, 0, *attributes,
            ino, position + 2, length, _DT_DIR if content is None else _DT_REG,
        )  # fmt: skip
        return entry + encoded + fuse.ALIGNMENT[length & 7]

    def releasedir(self, _: int, request: bytes) -> bytes:
        (fh,) = fuse.RELEASE_IN.unpack_from(request, _BODY)
        self._fs.releasedir(fh)
        return b""

    def _undelivered_directory(self, answer: Payload) -> None:
        self._fs.releasedir(fuse.OPEN_OUT.unpack(answer)[0])

    # files

    def open(self, ino: int, request: bytes) -> Answer:
        self._counts.open += 1
        flags, _ = fuse.OPEN_IN.unpack_from(request, _BODY)
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            raise FuseError(errno.EROFS)
        handle = self._fs.open(ino)
        return self._opened(handle) if self._fs.is_certain(handle) else self._open_certain(handle)

    async def _open_certain(self, handle: int) -> Payload:
        await self._fs.make_certain(handle)
        return self._opened(handle)

    def _opened(self, handle: int) -> bytes:
        # An inode stands for one content forever, so what the kernel has cached of it stays true, unless bytes of it
        # turned out to be wrong.
        return fuse.OPEN_OUT.pack(handle, fuse.FOPEN_KEEP_CACHE if self._fs.keeps_pages(handle) else 0, 0)

    def _undelivered_file(self, answer: Payload) -> None:
        self._fs.release(fuse.OPEN_OUT.unpack(answer)[0])

    def read(self, _: int, request: bytes) -> Answer:
        counts = self._counts
        counts.read += 1
        fh, offset, size, _ = fuse.READ_IN.unpack_from(request, _BODY)
        if size > MAX_ANSWER or offset > _MAX_OFFSET:
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
        self._fs.release(fh)
        return b""

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


# An answer without an inode lets the kernel remember that there is nothing.
_NO_ENTRY = fuse.ENTRY_OUT.pack(0, 0, _TIMEOUT_SECS, 0, 0, 0, *(0,) * 16)
_DT_DIR = stat.S_IFDIR >> 12
_DT_REG = stat.S_IFREG >> 12


def dirent(ino: int, name: bytes, position: int, mode: int) -> bytes:
    return fuse.DIRENT.pack(ino, position, len(name), mode >> 12) + name + fuse.ALIGNMENT[len(name) & 7]


def direntplus_without_entry(ino: int, name: bytes, position: int, mode: int) -> bytes:
    """Returns a `fuse_direntplus` that lets the kernel remember neither the name nor the attributes."""
    return bytes(fuse.ENTRY_OUT.size) + dirent(ino, name, position, mode)


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


class FuseMount:
    """One mounted filesystem: `mount`, `serve` until it is unmounted or `stop` is called, `unmount`.

    Args:
        filesystem: What it shows.
        mount_point: An empty folder.
        allow_other: Whether other users see it; the filesystem has owners then, and the kernel enforces what they may
            read.
        file_mode: See `Readers`.
    """

    def __init__(self, filesystem: Filesystem, mount_point: Path, *, allow_other: bool, file_mode: int) -> None:
        self._mount_point = mount_point
        self._operations = Operations(filesystem, Readers(file_mode) if allow_other else None)
        self._allow_other = allow_other
        self._session: FuseSession | None = None
        self._forgetter: Forgetter | None = None

    def mount(self) -> None:
        """Makes the filesystem appear.

        Raises:
            UserError: The system refuses.
        """
        try:
            fd = mounting.mount(self._mount_point, _NAME, allow_other=self._allow_other)
            session = FuseSession(fd, self._operations.by_opcode())
            session.negotiate()
        except OSError as error:
            hint = " --allow-other needs `user_allow_other` in /etc/fuse.conf." if self._allow_other else ""
            raise UserError(
                f"Can't mount on {self._mount_point}: the system refused ({error.strerror}).{hint}"
            ) from error
        self._session = session
        self._forgetter = Forgetter(session.channel)
        self._raise_read_ahead()

    def _raise_read_ahead(self) -> None:
        """Lets the kernel ask for 256 KiB at a time, which only root may say; without it reads are 128 KiB each."""
        here = mount_points.mounted(self._mount_point)  # not by stat(2): we would have to answer that ourselves
        try:
            if here is not None:
                Path(f"/sys/class/bdi/{here.device}/read_ahead_kb").write_text(str(_READ_AHEAD_KB))
        except OSError as error:
            log.debug("the read-ahead stays as it is: %s", error)

    async def serve(self) -> None:
        """Answers requests until the filesystem is unmounted, by `stop` or from outside."""
        assert self._session is not None
        await self._session.serve()

    def stop(self) -> None:
        """Makes `serve` return once the requests under way are answered."""
        if self._session is not None:
            self._session.stop()

    def unmount(self) -> None:
        """Unmounts, unless that has happened from outside, and ends the connection."""
        session, forgetter = self._session, self._forgetter
        if session is None or forgetter is None:
            return
        self._session = self._forgetter = None
        while not forgetter.end():
            session.refuse_pending()
        gone = session.channel.has_ended()
        # First: what looks at the mount while it is taken away must not wait for an answer.
        session.close()
        if not gone:
            try:
                mounting.unmount(self._mount_point, lazy=True)
            except OSError as error:
                log.warning("can't unmount %s: %s", self._mount_point, error)

    def forget(self, changes: TreeChanges) -> None:
        """Makes the kernel forget what it has cached of what changed. Returns at once."""
        if self._forgetter is not None:
            names = [(parent, name.encode()) for parent, name in changes.entries]
            self._forgetter.forget(Stale(changes.directories, changes.attributes, names))


__all__ = ["FuseMount", "Operations"]
