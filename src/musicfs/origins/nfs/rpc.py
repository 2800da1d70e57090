"""Calls of NFS version 3 (RFC 1813, section 3.3) as libnfs has them: what is asked, and what is made of answers.

By them a file is read as the protocol allows it and the library's own calls do not: from a handle that is known
already, with the file's attributes out of the very answer that has its bytes.
"""

from __future__ import annotations

import ctypes as c
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from musicfs.model import decode_path, encode_path, stored_ns
from musicfs.origins.bounds import is_usable

T = TypeVar("T")

_KINDS = {1: stat.S_IFREG, 2: stat.S_IFDIR, 3: stat.S_IFBLK, 4: stat.S_IFCHR, 5: stat.S_IFLNK, 6: stat.S_IFSOCK}
_PIPE = stat.S_IFIFO

_ERRORS = {63: errno.ENAMETOOLONG, 69: errno.EDQUOT, 70: errno.ESTALE, 71: errno.EREMOTE, 10001: errno.ESTALE}
"""Of nfsstat3, those that Linux has by other numbers. 10001 is NFS3ERR_BADHANDLE."""

_LAST_COMMON_ERROR = 31  # up to here the numbers are the same


class NfsAttributes(NamedTuple):
    """A file's attributes. mode: its kind as in st_mode, without permissions."""

    mode: int
    size: int
    mtime_ns: int


class Piece(NamedTuple):
    """Of a file. about: the file when they were read, None when the server does not tell."""

    data: bytes
    about: NfsAttributes | None


@dataclass(frozen=True, slots=True)
class NfsCall(Generic[T]):
    """One of libnfs's functions by `name`, what it is given, and what makes an answer of the memory at an address,
    which belongs to the library: if that is the server's refusal, an OSError, not raised."""

    name: str
    question: c.Structure
    parse: Callable[[int], T | OSError]


class _Bytes(c.Structure):
    """nfs_fh3, and the data of READ3resok."""

    _fields_ = [("length", c.c_uint), ("data", c.c_void_p)]


class _Time(c.Structure):
    _fields_ = [("secs", c.c_uint32), ("nsecs", c.c_uint32)]


class _Fattr3(c.Structure):
    """fattr3."""

    _fields_ = [
        ("type", c.c_uint32), ("mode", c.c_uint32), ("nlink", c.c_uint32), ("uid", c.c_uint32), ("gid", c.c_uint32),
        ("size", c.c_uint64), ("used", c.c_uint64), ("rdev", c.c_uint32 * 2), ("fsid", c.c_uint64),
        ("fileid", c.c_uint64), ("atime", _Time), ("mtime", _Time), ("ctime", _Time),
    ]  # fmt: skip


class _MaybeAttributes(c.Structure):
    """post_op_attr."""

    _fields_ = [("follow", c.c_uint32), ("attributes", _Fattr3)]


class _Lookup(c.Structure):
    _fields_ = [("folder", _Bytes), ("name", c.c_char_p)]


class _LookupDone(c.Structure):
    class _LookupOk(c.Structure):
        _fields_ = [("handle", _Bytes), ("about", _MaybeAttributes)]

    _fields_ = [("status", c.c_uint32), ("ok", _LookupOk)]


class _Read(c.Structure):
    _fields_ = [("file", _Bytes), ("offset", c.c_uint64), ("count", c.c_uint32)]


class _ReadDone(c.Structure):
    class _ReadOk(c.Structure):
        _fields_ = [("about", _MaybeAttributes), ("count", c.c_uint32), ("eof", c.c_uint32), ("bytes", _Bytes)]

    _fields_ = [("status", c.c_uint32), ("ok", _ReadOk)]


class _GetattrDone(c.Structure):
    """Its question is _Bytes, a handle."""

    class _GetattrOk(c.Structure):
        _fields_ = [("about", _Fattr3)]

    _fields_ = [("status", c.c_uint32), ("ok", _GetattrOk)]


class _List(c.Structure):
    """READDIRPLUS3args."""

    _fields_ = [
        ("folder", _Bytes), ("cookie", c.c_uint64), ("verifier", c.c_char * 8), ("names", c.c_uint32),
        ("most", c.c_uint32),
    ]  # fmt: skip


class _EntryPlus3(c.Structure):
    """entryplus3."""


_EntryPlus3._fields_ = [
    ("fileid", c.c_uint64), ("name", c.c_char_p), ("cookie", c.c_uint64), ("about", _MaybeAttributes),
    ("follows", c.c_uint32), ("handle", _Bytes), ("next", c.POINTER(_EntryPlus3)),
]  # fmt: skip


class _ListDone(c.Structure):
    class _ListOk(c.Structure):
        _fields_ = [("about", _MaybeAttributes), ("verifier", c.c_char * 8), ("first", c.POINTER(_EntryPlus3))]

    _fields_ = [("status", c.c_uint32), ("ok", _ListOk)]


Found = tuple[bytes, NfsAttributes | None]
"""The handle, and what it is, if the server tells."""


def look_up(folder: bytes, name: str) -> NfsCall[Found]:
    return NfsCall("lookup", _Lookup(_bytes(folder), encode_path(name)), _looked_up)


def list_some(folder: bytes, most: int) -> NfsCall[dict[str, Found]]:
    """Of what the folder holds, as much as goes into `most` bytes, by name; those without a handle left out."""
    return NfsCall("readdirplus", _List(_bytes(folder), 0, b"", most, most), _listed)


def read(file: bytes, offset: int, size: int) -> NfsCall[Piece]:
    return NfsCall("read", _Read(_bytes(file), offset, size), _has_read)


def get_attributes(file: bytes) -> NfsCall[NfsAttributes]:
    return NfsCall("getattr", _bytes(file), _got_attributes)


def _looked_up(address: int) -> Found | OSError:
    done = _LookupDone.from_address(address)
    return _refusal(done.status) or (_taken(done.ok.handle), _maybe(done.ok.about))


def _listed(address: int) -> dict[str, Found] | OSError:
    done = _ListDone.from_address(address)
    if refusal := _refusal(done.status):
        return refusal
    found, at = {}, done.ok.first
    while at:
        entry = at.contents
        if entry.follows and entry.name and is_usable(decode_path(entry.name)):
            found[decode_path(entry.name)] = _taken(entry.handle), _maybe(entry.about)
        at = entry.next
    return found


def _has_read(address: int) -> Piece | OSError:
    done = _ReadDone.from_address(address)
    return _refusal(done.status) or Piece(_taken(done.ok.bytes), _maybe(done.ok.about))


def _got_attributes(address: int) -> NfsAttributes | OSError:
    done = _GetattrDone.from_address(address)
    return _refusal(done.status) or _about(done.ok.about)


def _bytes(handle: bytes) -> _Bytes:
    """Valid as long as `handle`."""
    return _Bytes(len(handle), c.cast(c.c_char_p(handle), c.c_void_p))


def _taken(found: _Bytes) -> bytes:
    return c.string_at(found.data, found.length) if found.length else b""


def _maybe(found: _MaybeAttributes) -> NfsAttributes | None:
    return _about(found.attributes) if found.follow else None


def _about(found: _Fattr3) -> NfsAttributes:
    mtime_ns = stored_ns(found.mtime.secs * 10**9 + found.mtime.nsecs)
    return NfsAttributes(_KINDS.get(found.type, _PIPE), found.size, mtime_ns)


def _refusal(status: int) -> OSError | None:
    if not status:
        return None
    number = _ERRORS.get(status, status if status <= _LAST_COMMON_ERROR else errno.EIO)
    return OSError(number, os.strerror(number))
