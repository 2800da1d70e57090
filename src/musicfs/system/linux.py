"""The calls of the Linux kernel that the standard library lacks."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path

from musicfs.system.mounts import mounts

RESOLVE_NO_XDEV = 0x1
RESOLVE_NO_MAGICLINKS = 0x2
RESOLVE_NO_SYMLINKS = 0x4
RESOLVE_BENEATH = 0x8
_RESOLVE_CACHED = 0x20
_OPENAT2 = 437
_PR_SET_PDEATHSIG = 1
_FALLOC_FL_KEEP_SIZE = 0x1
_FALLOC_FL_PUNCH_HOLE = 0x2

# fmt: off
ON_DISK = frozenset((
    "bcachefs", "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfsplus", "iso9660", "jfs", "nilfs2",
    "ntfs", "ntfs3", "overlay", "ramfs", "reiserfs", "squashfs", "tmpfs", "udf", "vfat", "xfs", "zfs",
))
# fmt: on
"""Filesystems of this machine: a read can ask their page cache without waiting, and inotify sees every change."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
"""Flags to open a file that may have become a pipe or a terminal, which must not block the thread."""
_WITHIN = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def open_cached(folder: int, path: str, *, through_links: bool = True) -> int:
    """Opens as `open_within` does, but never waits for a disk: raises EAGAIN when it would have to."""
    more = _RESOLVE_CACHED if through_links else _RESOLVE_CACHED | RESOLVE_NO_SYMLINKS
    return openat2(folder, path, READING, _WITHIN | more)


def open_within(folder: int, path: str, *, through_links: bool = True) -> int:
    """Opens `path` below the open `folder` read-only, on the folder's own mount. Returns the descriptor.

    Raises OSError: EXDEV when the path leaves the folder or its mount, ELOOP when it has a symbolic link in it though
    not `through_links`, ENOSYS where the kernel has no such call (before 5.6, for `open_cached` 5.12).
    """
    return openat2(folder, path, READING, _WITHIN if through_links else _WITHIN | RESOLVE_NO_SYMLINKS)


def openat2(folder: int, path: str, flags: int, resolve: int) -> int:
    """Makes the system call of this name. resolve: RESOLVE_* flags, which limit where `path` may lead.

    Raises OSError: ENOSYS or EPERM where the kernel, or the sandbox of a container, has no such call.
    """
    fd = _opener(flags, resolve)(folder, os.fsencode(path))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return fd


@cache
def _opener(flags: int, resolve: int) -> Callable[[int, bytes], int]:
    """Prepares the call: every first read of a file makes it."""
    if platform.machine() not in ("x86_64", "aarch64"):  # elsewhere it may have another number
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    call = _libc().syscall  # no other code here uses it, so its argument types can be fixed
    call.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
    how = _OpenHow(flags, 0, resolve)
    given, size = ctypes.byref(how), ctypes.sizeof(how)
    return lambda folder, name: call(_OPENAT2, folder, name, given, size)


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Frees the disk space of a range of the open file; the file keeps its size, and the range reads as zeros.

    Raises OSError: EOPNOTSUPP where the filesystem has no holes.
    """
    mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    if _libc().fallocate64(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def give_memory_back() -> None:
    """Makes the C library return freed memory to the system. Not every C library can."""
    trim = getattr(_libc(), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(ctypes.c_size_t(0))


def end_with_parent() -> None:
    """Makes the kernel kill this process when the thread that started it ends."""
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # it fails for bad arguments only


def filesystem_of(fd: int) -> str:
    """Returns the type of the filesystem of an open file or folder, such as "ext4"; "" when it is unknown.

    It finds the filesystem by the mount's number: st_dev differs from the mount table's on btrfs and overlay.
    """
    try:
        info = dict(line.split(":\t", 1) for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines())
        return next((mount.type for mount in mounts() if mount.id == info.get("mnt_id")), "")
    except (OSError, ValueError):
        return ""


def is_on_disk(path: str) -> bool:
    """Whether a file or folder, or what a link leads to, is on a filesystem of this machine. False: or not known."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return filesystem_of(fd) in ON_DISK
    finally:
        os.close(fd)
