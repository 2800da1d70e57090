"""The encoding of NFS calls and replies (XDR, RFC 4506)."""

from __future__ import annotations

import stat
import struct
from typing import NamedTuple

from musicfs.model import stored_ns

_MAX_HANDLE = 64
_KINDS = {1: stat.S_IFREG, 2: stat.S_IFDIR, 3: stat.S_IFBLK, 4: stat.S_IFCHR, 5: stat.S_IFLNK, 6: stat.S_IFSOCK}
_PIPE = stat.S_IFIFO

_WORD = struct.Struct(">I")
_FATTR3 = struct.Struct(">I16xQ40xII8x")
"""Type, size and the two halves of mtime. It skips mode, nlink, uid, gid; used, rdev, fsid, fileid, atime; ctime."""


class Malformed(Exception):
    """A reply breaks the protocol. The message continues the sentence "a reply of the server"."""


class NfsAttributes(NamedTuple):
    """A file's attributes. mode: its kind as in st_mode, without permissions."""

    mode: int
    size: int
    mtime_ns: int


class Cursor:
    """Reads the values of a reply one after the other. Its methods raise Malformed at the reply's end."""

    def __init__(self, data: memoryview, at: int) -> None:
        self._data = data
        self._at = at

    def skip(self, size: int) -> None:
        self._at += size
        if self._at > len(self._data):
            raise Malformed("ends too early")

    def word(self) -> int:
        at = self._at
        self.skip(4)
        value: int = _WORD.unpack_from(self._data, at)[0]
        return value

    def flag(self) -> bool:
        value = self.word()
        if value > 1:
            raise Malformed("has a number where yes or no belongs")
        return value == 1

    def skip_opaque(self, most: int) -> None:
        self._opaque(most)

    def opaque(self, most: int) -> bytes:
        """Bytes of variable length. The only copy that is made of a read's data."""
        size = self._opaque(most)
        start = self._at - size - (-size % 4)
        return bytes(self._data[start : start + size])

    def _opaque(self, most: int) -> int:
        size = self.word()
        if size > most:
            raise Malformed(f"has {size} bytes where {most} are allowed")
        self.skip(size + (-size % 4))
        return size

    def skip_handle(self) -> None:
        self._opaque(_MAX_HANDLE)

    def handle(self) -> bytes:
        return self.opaque(_MAX_HANDLE)

    def skip_attributes(self) -> None:
        """post_op_attr"""
        if self.flag():
            self.skip(_FATTR3.size)

    def maybe_attributes(self) -> NfsAttributes | None:
        """post_op_attr; None when the server leaves them out."""
        return self.attributes() if self.flag() else None

    def attributes(self) -> NfsAttributes:
        """fattr3"""
        at = self._at
        self.skip(_FATTR3.size)
        kind, size, secs, nsecs = _FATTR3.unpack_from(self._data, at)
        return NfsAttributes(_KINDS.get(kind, _PIPE), size, stored_ns(secs * 10**9 + nsecs))


def words(*values: int) -> bytes:
    """Unsigned numbers of 32 bits."""
    return struct.pack(f">{len(values)}I", *values)


def hyper(value: int) -> bytes:
    """An unsigned number of 64 bits."""
    return struct.pack(">Q", value)


def opaque(data: bytes) -> bytes:
    """Bytes of variable length."""
    return words(len(data)) + data + bytes(-len(data) % 4)
