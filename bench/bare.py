"""The least that a Python filesystem can be: one folder shown as it is by pyfuse3, each request one system call.

What MusicFS costs beyond it is its own; what this costs beyond a program in C is Python's and pyfuse3's.
Usage: python -m bench.bare FOLDER MOUNT_POINT
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Sequence

import pyfuse3
import pyfuse3.asyncio
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FUSEError, InodeT, ReaddirToken, RequestContext

_TIMEOUT_SECS = 3600.0


class Bare(pyfuse3.Operations):
    """Paths by inode number; the root is 1."""

    enable_writeback_cache = False

    def __init__(self, root: str) -> None:
        super().__init__()
        self._paths = {1: root}
        self._inodes = {root: 1}
        self._listed: dict[int, list[os.DirEntry[str]]] = {}

    def _inode(self, path: str) -> int:
        number = self._inodes.setdefault(path, len(self._inodes) + 1)
        self._paths[number] = path
        return number

    def _entry(self, path: str, about: os.stat_result) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = InodeT(self._inode(path))
        entry.st_mode = about.st_mode
        entry.st_nlink = about.st_nlink
        entry.st_size = about.st_size
        entry.st_blocks = about.st_blocks
        entry.st_mtime_ns = entry.st_ctime_ns = entry.st_atime_ns = about.st_mtime_ns
        entry.attr_timeout = entry.entry_timeout = _TIMEOUT_SECS
        return entry

    async def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        path = f"{self._paths[parent_inode]}/{name.decode()}"
        try:
            return self._entry(path, os.lstat(path))
        except OSError as error:
            raise FUSEError(error.errno or errno.EIO) from None

    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        path = self._paths[inode]
        return self._entry(path, os.lstat(path))

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        pass

    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        with os.scandir(self._paths[inode]) as entries:
            self._listed[inode] = list(entries)
        return FileHandleT(inode)

    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        listed = self._listed[fh]
        for number in range(start_id, len(listed)):
            found = listed[number]
            entry = self._entry(found.path, found.stat(follow_symlinks=False))
            if not pyfuse3.readdir_reply(token, os.fsencode(found.name), entry, number + 1):
                return

    async def releasedir(self, fh: FileHandleT) -> None:
        self._listed.pop(fh, None)

    async def open(self, inode: InodeT, flags: int, ctx: RequestContext) -> FileInfo:
        return FileInfo(fh=FileHandleT(os.open(self._paths[inode], os.O_RDONLY)), keep_cache=True)

    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        return os.pread(fh, size, off)

    async def flush(self, fh: FileHandleT) -> None:
        raise FUSEError(errno.ENOSYS)

    async def release(self, fh: FileHandleT) -> None:
        os.close(fh)

    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        raise FUSEError(errno.ENOTSUP)


async def _serve(folder: str, mount_point: str) -> None:
    pyfuse3.asyncio.enable()
    pyfuse3.init(Bare(folder), mount_point, {"default_permissions", "ro", "fsname=bare"})
    try:
        await pyfuse3.main(min_tasks=1, max_tasks=1)
    finally:
        pyfuse3.close(unmount=True)


def main() -> None:
    asyncio.run(_serve(*sys.argv[1:3]))


if __name__ == "__main__":
    main()
