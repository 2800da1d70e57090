"""libnfs, the system's NFS client in user space, bound with ctypes: its structures and functions."""

from __future__ import annotations

import ctypes as c
import functools

from musicfs.model import stored_ns

SONAMES = ("libnfs.so.13", "libnfs.so.14")
"""Releases 4 and 5, whose interfaces are the same as far as it is used here; release 6 changed them."""


class NfsStat64(c.Structure):
    """struct nfs_stat_64."""

    _fields_ = [(name, c.c_uint64) for name in (
        "dev", "ino", "mode", "nlink", "uid", "gid", "rdev", "size", "blksize", "blocks",
        "atime", "mtime", "ctime", "atime_nsec", "mtime_nsec", "ctime_nsec", "used",
    )]  # fmt: skip

    dev: int
    ino: int
    mode: int
    nlink: int
    size: int
    mtime: int
    mtime_nsec: int

    @property
    def mtime_ns(self) -> int:
        return stored_ns(self.mtime * 10**9 + self.mtime_nsec)


class NfsHandle(c.Structure):
    """struct nfs_fh."""

    _fields_ = [("length", c.c_int), ("data", c.c_void_p)]


class _Timeval(c.Structure):
    _fields_ = [("sec", c.c_long), ("usec", c.c_long)]


class NfsDirent(c.Structure):
    """struct nfsdirent."""


NfsDirent._fields_ = [
    ("next", c.POINTER(NfsDirent)), ("name", c.c_char_p), ("inode", c.c_uint64), ("type", c.c_uint32),
    ("mode", c.c_uint32), ("size", c.c_uint64), ("atime", _Timeval), ("mtime", _Timeval), ("ctime", _Timeval),
    ("uid", c.c_uint32), ("gid", c.c_uint32), ("nlink", c.c_uint32), ("dev", c.c_uint64), ("rdev", c.c_uint64),
    ("blksize", c.c_uint64), ("blocks", c.c_uint64), ("used", c.c_uint64),
    ("atime_nsec", c.c_uint32), ("mtime_nsec", c.c_uint32), ("ctime_nsec", c.c_uint32),
]  # fmt: skip

Answered = c.CFUNCTYPE(None, c.c_int, c.c_void_p, c.c_void_p, c.c_void_p)


@functools.cache
def load() -> c.CDLL:
    """Loads the library and types its functions. Raises OSError when it is not installed."""
    library = _find()
    context, handle, text, done = c.c_void_p, c.c_void_p, c.c_char_p, (Answered, c.c_void_p)
    for name, result, arguments in (
        ("nfs_init_context", context, ()),
        ("nfs_destroy_context", None, (context,)),
        ("nfs_get_error", c.c_char_p, (context,)),
        ("nfs_set_error", None, (context, text)),
        ("libnfs_authunix_create", c.c_void_p, (text, c.c_uint32, c.c_uint32, c.c_uint32, c.POINTER(c.c_uint32))),
        ("nfs_set_auth", None, (context, c.c_void_p)),
        ("nfs_parse_url_dir", c.c_void_p, (context, text)),
        ("nfs_destroy_url", None, (c.c_void_p,)),
        ("nfs_get_fd", c.c_int, (context,)),
        ("nfs_which_events", c.c_int, (context,)),
        ("nfs_service", c.c_int, (context, c.c_int)),
        ("nfs_mount_async", c.c_int, (context, text, text, *done)),
        ("nfs_get_rootfh", c.POINTER(NfsHandle), (context,)),
        ("nfs_stat64_async", c.c_int, (context, text, *done)),
        ("nfs_open_async", c.c_int, (context, text, c.c_int, *done)),
        ("nfs_close", c.c_int, (context, handle)),
        ("nfs_get_fh", c.POINTER(NfsHandle), (handle,)),
        ("nfs_get_readmax", c.c_uint64, (context,)),
        ("nfs_opendir_async", c.c_int, (context, text, *done)),
        ("nfs_readdir", c.POINTER(NfsDirent), (context, handle)),
        ("nfs_closedir", None, (context, handle)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _find() -> c.CDLL:
    for name in SONAMES[:-1]:
        try:
            return c.CDLL(name)
        except OSError:
            continue
    return c.CDLL(SONAMES[-1])
