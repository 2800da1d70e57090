"""Entries and attributes as the kernel takes them: what the tree has of an inode, packed."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from musicfs.mount.filesystem import Row
from musicfs.mount.readers import Readers
from musicfs.mount.session import protocol as fuse

# The kernel hears of every change, so what it caches need not expire.
_TIMEOUT_SECS = 3600
_BLOCK_SIZE = 128 * 1024
_VALIDITY = fuse.ENTRY_VALIDITY.pack(0, _TIMEOUT_SECS, _TIMEOUT_SECS, 0, 0)
_DT_DIR = stat.S_IFDIR >> 12
_DT_REG = stat.S_IFREG >> 12
_NS = 1_000_000_000
_MOST_OWNERS = 4096
_DIRENTPLUS_SIZE = fuse.DIRENTPLUS.size
_DIRENT_SIZE = fuse.DIRENT.size

NO_ENTRY = fuse.ENTRY_OUT.pack(
    0, fuse.ENTRY_VALIDITY.pack(0, _TIMEOUT_SECS, 0, 0, 0), *(0,) * 9, bytes(fuse.ATTR_REST.size)
)
"""An answer without an inode lets the kernel remember that there is nothing."""


class EntryPacker:
    """Packs what the tree has of an inode: its number, its content (None: a folder), its size, its time, its owner.

    Args:
        readers: Who may read a file, where other users see the mount; rows have owners then. None: the one user of the
            mount may read all.
    """

    def __init__(self, readers: Readers | None = None) -> None:
        self._readers = readers
        self._uid, self._gid = os.getuid(), os.getgid()
        self._folder = self._rest(stat.S_IFDIR | 0o555, self._uid, self._gid)
        self._file = None if readers is not None else self._rest(stat.S_IFREG | 0o444, self._uid, self._gid)
        self._owned: dict[tuple[int, int, int], bytes] = {}

    def _rest(self, mode: int, uid: int, gid: int) -> bytes:
        # One link, also of folders: programs take two as the promise of a folder without folders. One promises nothing.
        return fuse.ATTR_REST.pack(mode, 1, uid, gid, 0, _BLOCK_SIZE, 0)

    def _of_owner(self, *owner: int | None) -> bytes:
        """Returns the rest of a file's attributes, in a filesystem with owners."""
        assert self._readers is not None
        shown = self._readers(*owner)
        rest = self._owned.get(shown)
        if rest is None:
            if len(self._owned) >= _MOST_OWNERS:
                self._owned.clear()
            uid, gid, mode = shown
            rest = self._owned[shown] = self._rest(stat.S_IFREG | mode, uid, gid)
        return rest

    def entry(self, ino: int, content: int | None, size: int, mtime_ns: int, *owner: int | None) -> bytes:
        """Returns a `fuse_entry_out`."""
        secs, ns = divmod(mtime_ns, _NS)
        rest = self._folder if content is None else self._file or self._of_owner(*owner)
        return fuse.ENTRY_OUT.pack(
            ino, _VALIDITY, ino, size, (size + 511) >> 9, secs, secs, secs, ns, ns, ns, rest
        )  # fmt: skip

    def attributes(self, ino: int, content: int | None, size: int, mtime_ns: int, *owner: int | None) -> bytes:
        """Returns a `fuse_attr_out`."""
        secs, ns = divmod(mtime_ns, _NS)
        rest = self._folder if content is None else self._file or self._of_owner(*owner)
        return fuse.ATTR_OUT.pack(
            _TIMEOUT_SECS, 0, 0, ino, size, (size + 511) >> 9, secs, secs, secs, ns, ns, ns, rest
        )  # fmt: skip

    def direntplus(self, rows: Sequence[Row], room: int, records: list[bytes]) -> int:
        """Appends a `fuse_direntplus` for each row, as long as there is room, in bytes. Returns how many rows fit.

        It is written for speed: a library has hundreds of thousands of rows.
        """
        pack, alignment, folder, plain, used = fuse.DIRENTPLUS.pack, fuse.ALIGNMENT, self._folder, self._file, 0
        for ino, name, content, size, mtime_ns, position, *owner in rows:
            encoded = name.encode()
            length = len(encoded)
            padding = alignment[length & 7]
            room -= _DIRENTPLUS_SIZE + length + len(padding)
            if room < 0:
                break
            secs, ns = divmod(mtime_ns, _NS)
            if content is None:
                rest, kind = folder, _DT_DIR
            else:
                rest, kind = plain or self._of_owner(*owner), _DT_REG
            records += (
                pack(
                    ino, _VALIDITY, ino, size, (size + 511) >> 9, secs, secs, secs, ns, ns, ns, rest,
                    ino, position + 2, length, kind,
                ),
                encoded,
                padding,
            )  # fmt: skip
            used += 1
        return used

    def dirent(self, rows: Sequence[Row], room: int, records: list[bytes]) -> int:
        """Appends a `fuse_dirent` for each row, as long as there is room, in bytes. Returns how many rows fit."""
        for used, (ino, name, content, _, _, position, *_) in enumerate(rows):
            record = dirent(ino, name.encode(), position + 2, _DT_DIR if content is None else _DT_REG)
            room -= len(record)
            if room < 0:
                return used
            records.append(record)
        return len(rows)


def dirent(ino: int, name: bytes, offset: int, kind: int = _DT_DIR) -> bytes:
    return fuse.DIRENT.pack(ino, offset, len(name), kind) + name + fuse.ALIGNMENT[len(name) & 7]


def direntplus_without_entry(ino: int, name: bytes, offset: int) -> bytes:
    """Returns a `fuse_direntplus` that lets the kernel remember neither the name nor the attributes."""
    return bytes(fuse.ENTRY_OUT.size) + dirent(ino, name, offset)
