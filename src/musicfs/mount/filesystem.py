"""The filesystem: inodes, handles and directories, over the tree and the reader. It knows no FUSE.

Everything but `read` is a plain synchronous call of some microseconds. Failures are `OSError`s with the errno that
the caller of the system call is to see.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from musicfs.cache.store import BlockStore
from musicfs.catalog.database import ROOT_INO
from musicfs.catalog.view import TreeTotals, TreeView
from musicfs.content.open_content import OpenContent
from musicfs.content.reader import Reader
from musicfs.model import OriginId, Replica
from musicfs.mount.stats import RequestStats
from musicfs.mount.variants import Variants

Attributes = tuple[int, bool, int, int, *tuple[int | None, ...]]
"""Inode number, whether it is a directory, size in bytes, time of change in nanoseconds since the epoch.

Of a filesystem with owners also uid, gid and mode as nodes have them (see ownership.sql), unless the file has left the
tree.
"""

Row = tuple[int, str, int | None, int, int, *tuple[int | None, ...]]
"""The fields of a `Node`, or of an `OwnedNode`."""

_PAGE = 1024
_MAX_NAME = 255  # bytes, as statfs says
XATTR_PREFIX = "user.musicfs."


def errno_of(error: BaseException) -> int:
    """The errno that stands for a failure: a system call's own, and EIO for whatever else went wrong."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    return errno.EIO


@dataclass(slots=True)
class _Directory:
    ino: int
    rows: Sequence[Row] = field(default_factory=list)
    """What was read ahead of the position `start` but not asked for yet."""
    start: int = -1
    complete: bool = False
    """Nothing comes after `rows`."""


@dataclass(frozen=True, slots=True)
class _File:
    attributes: Attributes
    opened: OpenContent


class Filesystem:
    """The tree as files. Belongs to the event loop's thread.

    rank: the origins that would serve these replicas, best first. store: the cache on disk, if there is one. variants:
    who says whether a file that is opened can be read; None: it always can. owners: whether attributes and rows say
    whom a file belongs to.
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
    ) -> None:
        self._tree = tree
        self._owners = owners
        self._lookup: Callable[[int, str], Row | None] = tree.owned_lookup if owners else tree.lookup
        self._node: Callable[[int], Row | None] = tree.owned_node if owners else tree.node
        self._children: Callable[[int, int, int], Sequence[Row]] = tree.owned_children if owners else tree.children
        self._reader = reader
        self._rank = rank
        self._store = store
        self._variants = variants
        self._handles = itertools.count(1)
        self._files: dict[int, _File] = {}
        self._directories: dict[int, _Directory] = {}
        self.totals = TreeTotals(0, 0, 0)
        self.counts = RequestStats()
        self._ending = False
        self._reading = 0
        self._quiet = asyncio.Event()

    @property
    def open_files(self) -> int:
        return len(self._files)

    async def drain(self) -> None:
        """From now on nothing can be opened. Returns once no read is under way."""
        self._ending = True
        while self._reading:
            self._quiet.clear()
            await self._quiet.wait()

    def opened(self, most: int) -> list[tuple[str, OpenContent]]:
        """What is open now, the newest first: each file once, by its path in the tree, at most so many."""
        newest = {file.attributes[0]: file.opened for file in islice(reversed(self._files.values()), most)}
        return [(self._tree.path(ino), opened) for ino, opened in newest.items()]

    # names and attributes

    def lookup(self, parent: int, name: bytes) -> Attributes | None:
        """The attributes of what `parent` has under `name`; None if it has no such thing."""
        if len(name) > _MAX_NAME:
            raise OSError(errno.ENAMETOOLONG, "the name is too long")
        try:
            row = self._lookup(parent, name.decode("utf-8"))
        except UnicodeDecodeError:
            return None
        if row is None:
            return None
        if self._owners:
            return row[0], row[2] is None, *row[3:]
        return row[0], row[2] is None, row[3], row[4]  # a slice would cost a tenth of the lookup

    def getattr(self, ino: int) -> Attributes:
        row = self._node(ino)
        if row is not None:
            return row[0], row[2] is None, *row[3:]
        for file in self._files.values():  # removed from the tree while somebody has it open
            if file.attributes[0] == ino:
                return file.attributes
        raise OSError(errno.ENOENT, "no such inode")

    def parent(self, ino: int) -> int:
        return self._tree.parent(ino)

    # directories

    def opendir(self, ino: int) -> int:
        handle = next(self._handles)
        self._directories[handle] = _Directory(ino)
        return handle

    def directory(self, handle: int) -> int:
        return self._directories[handle].ino

    def readdir(self, handle: int, after: int) -> Sequence[Row]:
        """Entries of the directory with an inode number above `after`, in that order; empty at the end.

        From its beginning (`after` is 0) it is read anew; what follows was mostly read with it.
        """
        directory = self._directories[handle]
        if after == 0 or directory.start != after or not (directory.rows or directory.complete):
            directory.rows = self._children(directory.ino, after, _PAGE)
            directory.start = after
            directory.complete = len(directory.rows) < _PAGE
        return directory.rows

    def advance(self, handle: int, count: int) -> None:
        """Notes that the first `count` entries of the last `readdir` were taken."""
        directory = self._directories[handle]
        if count:
            directory.start = directory.rows[count - 1][0]
            directory.rows = directory.rows[count:]

    def releasedir(self, handle: int) -> None:
        self._directories.pop(handle, None)

    # files

    def open(self, ino: int) -> int:
        """A handle that is pinned to the content that the inode stands for. Waits for no origin."""
        if self._ending:
            raise OSError(errno.ESHUTDOWN, "the mount is ending")
        opened = self._tree.open_file(ino)
        if opened is None:
            node = self._tree.node(ino)
            raise OSError(errno.EISDIR if node is not None and node.content is None else errno.ESTALE, "not a file")
        content, replicas, mtime_ns = opened
        handle = next(self._handles)
        attributes = (ino, False, content.size, mtime_ns)
        file = OpenContent(content, replicas, partial(self._following, ino))
        self._files[handle] = _File(attributes, file)
        self._reader.prepare(file)
        return handle

    def is_certain(self, handle: int) -> bool:
        """Whether the file that has just been opened is the one to read, as far as can be said without waiting."""
        file = self._files[handle]
        return self._variants is None or self._variants.is_certain(file.attributes[0], file.opened)

    async def make_certain(self, handle: int) -> None:
        """Raises ESTALE, and the handle is gone, if by now the tree shows another variant of the track under the name:
        whoever asked looks the name up again, and opens that one."""
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

    def read_now(self, handle: int, offset: int, size: int) -> bytes | memoryview | None:
        """The bytes if they can be had without waiting, else None; valid until the next call."""
        return self._reader.read_now(self._files[handle].opened, offset, size)

    async def read(self, handle: int, offset: int, size: int) -> bytes:
        """The bytes, from whichever replica of the handle's content answers within the deadline."""
        self._reading += 1
        try:
            return await self._reader.read(self._files[handle].opened, offset, size)
        finally:
            self._reading -= 1
            if not self._reading:
                self._quiet.set()

    def release(self, handle: int) -> None:
        file = self._files.pop(handle, None)
        if file is not None:
            self._reader.close(file.opened)

    def _following(self, ino: int) -> OpenContent | None:
        """The next file of the same kind in the folder: most likely the next track of the album."""
        following = self._tree.following(ino)
        opened = self._tree.open_file(following) if following is not None else None
        return OpenContent(opened[0], opened[1]) if opened is not None else None

    # extended attributes

    def xattrs(self, ino: int) -> dict[str, str]:
        """What `getfattr -d` shows of a file; nothing for a directory."""
        opened = self._tree.open_file(ino)
        if opened is None:
            return {}
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
