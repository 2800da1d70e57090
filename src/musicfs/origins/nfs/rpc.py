"""Three calls of NFS version 3 (RFC 1813, section 3.3) as libnfs has them: what is asked, and what is made of answers.

By them a file is read as the protocol allows it and the library's own calls do not: from a handle that is known
already, with the file's attributes out of the very answer that has its bytes.
"""

from __future__ import annotations

import ctypes as c
import errno
import os
import stat
from typing import NamedTuple

_KINDS = {1: stat.S_IFREG, 2: stat.S_IFDIR, 3: stat.S_IFBLK, 4: stat.S_IFCHR, 5: stat.S_IFLNK, 6: stat.S_IFSOCK}
_PIPE = stat.S_IFIFO

_ERRORS = {63: errno.ENAMETOOLONG, 69: errno.EDQUOT, 70: errno.ESTALE, 71: errno.EREMOTE, 10001: errno.ESTALE}
"""Of nfsstat3, those that Linux has by other numbers. 10001 is NFS3ERR_BADHANDLE."""

_LAST_COMMON_ERROR = 31  # up to here the numbers are the same


class About(NamedTuple):
    """A file's attributes. mode: its kind as in st_mode, without permissions."""

    mode: int
    size: int
    mtime_ns: int


class Piece(NamedTuple):
    """Of a file. about: the file when they were read, None when the server does not tell."""

    data: bytes
    about: About | None


class _Bytes(c.Structure):
    """nfs_fh3, and the data of READ3resok."""

    _fields_ = [("length", c.c_uint), ("data", c.c_void_p)]


class _Time(c.Structure):
    _fields_ = [("secs", c.c_uint32), ("nsecs", c.c_uint32)]


class _Attributes(c.Structure):
    """fattr3."""

    _fields_ = [
        ("type", c.c_uint32), ("mode", c.c_uint32), ("nlink", c.c_uint32), ("uid", c.c_uint32), ("gid", c.c_uint32),
        ("size", c.c_uint64), ("used", c.c_uint64), ("rdev", c.c_uint32 * 2), ("fsid", c.c_uint64),
        ("fileid", c.c_uint64), ("atime", _Time), ("mtime", _Time), ("ctime", _Time),
    ]  # fmt: skip


class _MaybeAttributes(c.Structure):
    """post_op_attr."""

    _fields_ = [("follow", c.c_uint32), ("attributes", _Attributes)]


class _Lookup(c.Structure):
    _fields_ = [("folder", _Bytes), ("name", c.c_char_p)]


class _LookupDone(c.Structure):
    class _Ok(c.Structure):
        _fields_ = [("handle", _Bytes), ("about", _MaybeAttributes)]

    _fields_ = [("status", c.c_uint32), ("ok", _Ok)]


class Read(c.Structure):
    _fields_ = [("file", _Bytes), ("offset", c.c_uint64), ("count", c.c_uint32)]

    count: int


class _ReadDone(c.Structure):
    class _Ok(c.Structure):
        _fields_ = [("about", _MaybeAttributes), ("count", c.c_uint32), ("eof", c.c_uint32), ("bytes", _Bytes)]

    _fields_ = [("status", c.c_uint32), ("ok", _Ok)]


class _GetattrDone(c.Structure):
    """Its question is _Bytes, a handle."""

    class _Ok(c.Structure):
        _fields_ = [("about", _Attributes)]

    _fields_ = [("status", c.c_uint32), ("ok", _Ok)]


def to_look_up(folder: bytes, name: str) -> c.Structure:
    return _Lookup(_bytes(folder), os.fsencode(name))


def to_read(file: bytes, offset: int, count: int) -> Read:
    return Read(_bytes(file), offset, count)


def to_get_attributes(file: bytes) -> c.Structure:
    return _bytes(file)


# What is made of an answer in the library's memory at the address: the server's refusal is an OSError that is returned.


def looked_up(address: int) -> tuple[bytes, About | None] | OSError:
    done = _LookupDone.from_address(address)
    return _refusal(done.status) or (_taken(done.ok.handle), _maybe(done.ok.about))


def has_read(address: int) -> Piece | OSError:
    done = _ReadDone.from_address(address)
    return _refusal(done.status) or Piece(_taken(done.ok.bytes), _maybe(done.ok.about))


def got_attributes(address: int) -> About | OSError:
    done = _GetattrDone.from_address(address)
    return _refusal(done.status) or _about(done.ok.about)


def _bytes(handle: bytes) -> _Bytes:
    """Valid as long as `handle`."""
    return _Bytes(len(handle), c.cast(c.c_char_p(handle), c.c_void_p))


def _taken(found: _Bytes) -> bytes:
    return c.string_at(found.data, found.length) if found.length else b""


def _maybe(found: _MaybeAttributes) -> About | None:
    return _about(found.attributes) if found.follow else None


def _about(found: _Attributes) -> About:
    mtime_ns = found.mtime.secs * 10**9 + found.mtime.nsecs
    return About(_KINDS.get(found.type, _PIPE), found.size, mtime_ns)


def _refusal(status: int) -> OSError | None:
    if not status:
        return None
    number = _ERRORS.get(status, status if status <= _LAST_COMMON_ERROR else errno.EIO)
    return OSError(number, os.strerror(number))
