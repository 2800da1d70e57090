"""The filesystem: names, inodes and open files, over the tree and the reader. It knows no FUSE.

Every method except `read`, `make_certain` and `drain` is a plain synchronous call of some microseconds. Failures are
`OSError`s with the errno for the caller of the system call.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import NoReturn, TypeVar

from musicfs.cache.store import BlockStore
from musicfs.catalog.database import ROOT_INO
from musicfs.catalog.view import TreeTotals, TreeView
from musicfs.content.open_content import OpenContent
from musicfs.content.reader import Reader
from musicfs.model import OriginId, Replica
from musicfs.mount.stats import RequestStats
from musicfs.mount.variants import Variants

Attributes = tuple[int, int | None, int, int, *tuple[int | None, ...]]
"""Inode number, content (None: a folder), size in bytes, modification time in nanoseconds since the epoch.

A filesystem with owners adds uid, gid and mode as in a row of the tree (see ownership.sql), unless the file left the
tree.
"""

Row = tuple[int, str, int | None, int, int, int, *tuple[int | None, ...]]
"""An entry of a listing: inode number, name, content, size, mtime_ns, position; and the owner, if there is one."""

T = TypeVar("T")

_MAX_NAME = 255  # bytes, as statfs says
_SMALL = 128 * 1024  # bytes: what the kernel asks for at once, whoever mounts
_NO_CONTENT = 0  # of a file that no origin has
_MARKER_INO = 2**53 - 1  # the last number that a double holds; the catalogue's begin at 1
XATTR_PREFIX = "user.musicfs."


def errno_of(error: BaseException) -> int:
    """Returns the errno for a failure: that of a system call, or EIO for any other failure."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    return errno.EIO


@dataclass(frozen=True, slots=True)
class _File:
    attributes: Attributes
    opened: OpenContent


@dataclass(frozen=True, slots=True)
class _Generated:
    """An open file whose bytes are made by MusicFS. They stay, whatever the tree shows meanwhile."""

    attributes: Attributes
    data: bytes


class _Opened(dict[int, T]):
    """What is open, by its handle."""

    def __missing__(self, handle: int) -> NoReturn:
        raise OSError(errno.EBADF, "no such handle")


class Filesystem:
    """The tree as files. It belongs to the thread of the event loop.

    Attributes:
        children: Returns at most so many entries of a folder at positions above one, in that order.

    Args:
        tree: Answers lookups and listings.
        reader: Reads contents.
        rank: Returns the origins that would serve these replicas, best first.
        store: The cache on disk, if there is one.
        variants: Checks whether a file can be read when it is opened; None if it always can.
        owners: Whether attributes and rows have the owner of a file.
        marker: The name of an empty file that every folder has and none lists, by which an origin is recognised that
            shows this mount; "" for none.
    """

    def __init__(
        self,
        tree: TreeView,
        reader: Reader,
        rank: Callable[[Sequence[Replica]], list[OriginId]],
        store: BlockStore | None = None,
        variants: Variants | None = None,
        *,
        owners: bool = False,
        marker: str = "",
    ) -> None:
        self._tree = tree
        self._marker = marker.encode()
        self._lookup: Callable[[int, str], Attributes | None] = tree.owned_lookup if owners else tree.lookup
        self._inode: Callable[[int], Attributes | None] = tree.owned_inode if owners else tree.inode
        self.children: Callable[[int, int, int], Sequence[Row]] = tree.owned_children if owners else tree.children
        self._reader = reader
        self._rank = rank
        self._store = store
        self._variants = variants
        self._handles = itertools.count(1)
        self._files: dict[int, _File] = {}
        self._holders: dict[int, int] = {}
        self._generated: _Opened[_Generated] = _Opened()
        self.totals = TreeTotals(0, 0, 0)
        self.counts = RequestStats()
        self._ending = False
        self._reading = 0
        self._quiet = asyncio.Event()

    @property
    def open_files(self) -> int:
        return len(self._files) + len(self._generated)

    async def drain(self) -> None:
        """Refuses to open files from now on. Returns once no read is running."""
        self._ending = True
        while self._reading:
            self._quiet.clear()
            await self._quiet.wait()

    def opened(self, most: int) -> list[tuple[str, OpenContent]]:
        """Returns at most `most` open files, the newest first: each file once, with its path in the tree."""
        newest = {file.attributes[0]: file.opened for file in islice(reversed(self._files.values()), most)}
        return [(self._tree.path(ino), opened) for ino, opened in newest.items()]

    # names and attributes

    def lookup(self, parent: int, name: bytes) -> Attributes | None:
        """Returns the attributes of the entry `name` of `parent`; None if there is no such entry."""
        if len(name) > _MAX_NAME:
            raise OSError(errno.ENAMETOOLONG, "the name is too long")
        try:
            row = self._lookup(parent, name.decode("utf-8"))
        except UnicodeDecodeError:
            return None
        return (_MARKER_INO, _NO_CONTENT, 0, 0) if row is None and name == self._marker else row

    def getattr(self, ino: int) -> Attributes:
        row = self._inode(ino)
        if row is not None:
            return row
        open_files: Iterable[_File | _Generated] = chain(self._files.values(), self._generated.values())
        for file in open_files:  # it left the tree while it is open
            if file.attributes[0] == ino:
                return file.attributes
        if ino == _MARKER_INO:
            return ino, _NO_CONTENT, 0, 0
        raise OSError(errno.ENOENT, "no such inode")

    def parent(self, ino: int) -> int:
        return self._tree.parent(ino)

    # files

    def open(self, ino: int) -> int:
        """Returns a handle for the one content of the inode. Waits for no origin."""
        if self._ending:
            raise OSError(errno.ESHUTDOWN, "the mount is ending")
        opened = self._tree.open_file(ino)
        if opened is None:
            return self._open_generated(ino)
        content, replicas, mtime_ns = opened
        handle = next(self._handles)
        attributes = (ino, content.id, content.size, mtime_ns)
        file = OpenContent(content, replicas, partial(self._following, ino))
        self._files[handle] = _File(attributes, file)
        self._holders[ino] = self._holders.get(ino, 0) + 1
        self._reader.prepare(file)
        return handle

    def _open_generated(self, ino: int) -> int:
        found = self._tree.generated(ino)
        if found is None:
            inode = self._tree.inode(ino)
            raise OSError(errno.EISDIR if inode is not None and inode.content is None else errno.ESTALE, "not a file")
        handle = next(self._handles)
        self._holders[ino] = self._holders.get(ino, 0) + 1
        self._generated[handle] = _Generated((ino, _NO_CONTENT, len(found.data), found.mtime_ns), found.data)
        return handle

    def is_certain(self, handle: int) -> bool:
        """Whether the file that has just been opened is the one to read, as far as can be said without waiting."""
        if handle in self._generated:
            return True
        file = self._files[handle]
        return self._variants is None or self._variants.is_certain(file.attributes[0], file.opened)

    async def make_certain(self, handle: int) -> None:
        """Checks whether the file can be read, for some seconds at most.

        Raises:
            OSError: ESTALE: the tree now shows another variant of the track under the name. The handle is released;
                the caller looks the name up again, and opens that variant.
        """
        assert self._variants is not None
        file = self._files[handle]
        try:
            if await self._variants.find_out(file.attributes[0], file.opened):
                return
        except BaseException:
            self.release(handle)
            raise
        self.release(handle)
        raise OSError(errno.ESTALE, "another variant is shown now")

    def keeps_pages(self, handle: int) -> bool:
        """Whether the kernel may keep what it has cached of the file that has just been opened."""
        return handle in self._generated or self._reader.keeps_pages(self._files[handle].opened.content)

    def is_near(self, handle: int) -> bool:
        """Whether a disk of this machine serves the file that has just been opened, as far as is known."""
        return handle in self._generated or self._reader.is_near(self._files[handle].opened)

    def read_now(self, handle: int, offset: int, size: int) -> bytes | memoryview | None:
        """Returns the bytes if that takes no waiting, else None. The bytes are valid until the next call."""
        try:
            opened = self._files[handle].opened
        except KeyError:  # costs other files nothing
            return self._generated[handle].data[offset : offset + size]
        return self._reader.read_now(opened, offset, size)

    def is_alone(self, handle: int) -> bool:
        """Whether nobody else has the file open that has just been opened."""
        file = self._files.get(handle) or self._generated[handle]
        return self._holders[file.attributes[0]] == 1

    def backing(self, handle: int) -> int | None:
        """Returns a descriptor of the file for the kernel, see `Reader.open_now`."""
        file = self._files.get(handle)
        return self._reader.open_now(file.opened) if file is not None else None

    def whole(self, handle: int) -> bytes | memoryview | None:
        """Returns all bytes of a small file that has just been opened, if that takes no waiting, no one else has it
        open, and so no read of it is under way. They are valid until the next call."""
        file = self._files.get(handle) or self._generated[handle]
        ino, _, size, *_ = file.attributes
        if not 0 < size <= _SMALL or self._holders[ino] > 1:
            return None
        data = self.read_now(handle, 0, size)
        return data if data is not None and len(data) == size else None

    async def read(self, handle: int, offset: int, size: int) -> bytes:
        """Returns the bytes from any replica of the handle's content that answers within the deadline."""
        self._reading += 1
        try:
            return await self._reader.read(self._files[handle].opened, offset, size)
        finally:
            self._reading -= 1
            if not self._reading:
                self._quiet.set()

    def release(self, handle: int) -> None:
        closed: _File | _Generated | None = self._files.pop(handle, None)
        if isinstance(closed, _File):
            self._reader.close(closed.opened)
        else:
            closed = self._generated.pop(handle, None)
        if closed is not None:
            ino = closed.attributes[0]
            self._holders[ino] -= 1
            if not self._holders[ino]:
                del self._holders[ino]

    def _following(self, ino: int) -> OpenContent | None:
        """Returns the next file of the same kind in the folder: most likely the next track of the album."""
        following = self._tree.following(ino)
        opened = self._tree.open_file(following) if following is not None else None
        return OpenContent(opened[0], opened[1]) if opened is not None else None

    # extended attributes

    def xattrs(self, ino: int) -> dict[str, str]:
        """Returns the extended attributes of a file; a directory has none."""
        opened = self._tree.open_file(ino)
        if opened is None:
            generated = self._tree.generated(ino)
            return {XATTR_PREFIX + "generated": "yes"} if generated is not None else {}
        content, replicas, _ = opened
        ranked = self._rank(replicas)
        cached = self._store.share(content) if self._store is not None else 0.0
        return {
            XATTR_PREFIX + "origin": ranked[0] if ranked else "",
            XATTR_PREFIX + "replicas": ",".join(dict.fromkeys(ranked)),
            XATTR_PREFIX + "content": content.fingerprint.hex(),
            XATTR_PREFIX + "cached": f"{int(100 * cached)}%",
            XATTR_PREFIX + "pinned": "yes" if self._store is not None and self._store.is_pinned(content) else "no",
        }


__all__ = ["ROOT_INO", "XATTR_PREFIX", "Attributes", "Filesystem", "errno_of"]
