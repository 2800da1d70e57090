"""The kernel's FUSE protocol: numbers, flags and structures, named as in include/uapi/linux/fuse.h.

A request is a `fuse_in_header` and what follows it for its opcode; an answer, a `fuse_out_header` and what follows it.
The fields of a structure are aligned by their sizes, so each format stands for the structure without padding.
"""

from __future__ import annotations

from enum import IntFlag
from struct import Struct

FUSE_KERNEL_VERSION = 7
FUSE_KERNEL_MINOR_VERSION = 38
"""The last one whose structures these are; an older kernel is asked for no more than it has."""
OLDEST_MINOR_VERSION = 23
"""Since Linux 3.15. Before it, `fuse_init_out` is shorter."""

FUSE_ROOT_ID = 1
FUSE_MIN_READ_BUFFER = 8192

# enum fuse_opcode

FUSE_LOOKUP = 1
FUSE_FORGET = 2
FUSE_GETATTR = 3
FUSE_SETATTR = 4
FUSE_SYMLINK = 6
FUSE_MKNOD = 8
FUSE_MKDIR = 9
FUSE_UNLINK = 10
FUSE_RMDIR = 11
FUSE_RENAME = 12
FUSE_LINK = 13
FUSE_OPEN = 14
FUSE_READ = 15
FUSE_WRITE = 16
FUSE_STATFS = 17
FUSE_RELEASE = 18
FUSE_FSYNC = 20
FUSE_SETXATTR = 21
FUSE_GETXATTR = 22
FUSE_LISTXATTR = 23
FUSE_REMOVEXATTR = 24
FUSE_FLUSH = 25
FUSE_INIT = 26
FUSE_OPENDIR = 27
FUSE_READDIR = 28
FUSE_RELEASEDIR = 29
FUSE_FSYNCDIR = 30
FUSE_CREATE = 35
FUSE_INTERRUPT = 36
FUSE_DESTROY = 38
FUSE_BATCH_FORGET = 42
FUSE_FALLOCATE = 43
FUSE_READDIRPLUS = 44
FUSE_RENAME2 = 45

# enum fuse_notify_code

FUSE_NOTIFY_INVAL_INODE = 2
FUSE_NOTIFY_INVAL_ENTRY = 3
FUSE_NOTIFY_STORE = 4


class InitFlags(IntFlag):
    """`fuse_init_in.flags` and `fuse_init_out.flags`. Those from 32 on are in `flags2`, shifted down."""

    FUSE_ASYNC_READ = 1 << 0
    FUSE_ATOMIC_O_TRUNC = 1 << 3
    FUSE_EXPORT_SUPPORT = 1 << 4
    FUSE_AUTO_INVAL_DATA = 1 << 12
    FUSE_DO_READDIRPLUS = 1 << 13
    FUSE_READDIRPLUS_AUTO = 1 << 14
    FUSE_ASYNC_DIO = 1 << 15
    FUSE_PARALLEL_DIROPS = 1 << 18
    FUSE_ABORT_ERROR = 1 << 21
    FUSE_MAX_PAGES = 1 << 22
    FUSE_NO_OPENDIR_SUPPORT = 1 << 24
    FUSE_INIT_EXT = 1 << 30
    FUSE_PASSTHROUGH = 1 << 37


# fuse_open_out.open_flags

FOPEN_KEEP_CACHE = 1 << 1
FOPEN_CACHE_DIR = 1 << 3
FOPEN_PASSTHROUGH = 1 << 7

# ioctl(2) of /dev/fuse

FUSE_DEV_IOC_BACKING_OPEN = 0x4010E501
FUSE_DEV_IOC_BACKING_CLOSE = 0x4004E502

# Structures

IN_HEADER = Struct("=IIQQIIIHH")
"""len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding."""
OUT_HEADER = Struct("=IiQ")
"""len, error (negative), unique."""

INIT_IN = Struct("=IIII")
"""major, minor, max_readahead, flags; flags2 follows if FUSE_INIT_EXT is among them."""
INIT_IN_FLAGS2 = Struct("=I")
INIT_OUT = Struct("=IIIIHHIIHHII24x")
"""major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran, max_pages,
map_alignment, flags2, max_stack_depth."""

_ATTR = "QQQqqqIII28s"
"""fuse_attr: ino, size, blocks, atime, mtime, ctime, atimensec, mtimensec, ctimensec, and an `ATTR_REST`. The times
before 1970 are negative, which the kernel reads so, too."""
_ENTRY_OUT = "Q32s" + _ATTR
"""fuse_entry_out: nodeid, an `ENTRY_VALIDITY`, attr."""
_DIRENT = "QQII"
"""fuse_dirent: ino, off, namelen, type; the name follows."""

# What most answers have in common is packed once.
ENTRY_VALIDITY = Struct("=QQQII")
"""generation, entry_valid, attr_valid, entry_valid_nsec, attr_valid_nsec."""
ATTR_REST = Struct("=IIIIIII")
"""mode, nlink, uid, gid, rdev, blksize, flags."""

ENTRY_OUT = Struct("=" + _ENTRY_OUT)
ATTR_OUT = Struct("=QII" + _ATTR)
"""attr_valid, attr_valid_nsec, dummy, attr."""
DIRENT = Struct("=" + _DIRENT)
DIRENTPLUS = Struct("=" + _ENTRY_OUT + _DIRENT)
OPEN_IN = Struct("=II")
"""flags, open_flags."""
BACKING_MAP = Struct("=iIQ")
"""fd, flags, padding: fuse_backing_map."""
BACKING_ID = Struct("=I")
OPEN_OUT = Struct("=QII")
"""fh, open_flags, backing_id."""
READ_IN = Struct("=QQII")
"""fh, offset, size, read_flags; of the rest nothing is used."""
RELEASE_IN = Struct("=Q")
"""fh; of the rest nothing is used."""
STATFS_OUT = Struct("=QQQQQIIII24x")
"""blocks, bfree, bavail, files, ffree, bsize, namelen, frsize, padding."""
GETXATTR_IN = Struct("=II")
"""size, padding; a name follows for FUSE_GETXATTR."""
GETXATTR_OUT = Struct("=II")
"""size, padding."""
INTERRUPT_IN = Struct("=Q")
"""unique."""
NOTIFY_INVAL_INODE_OUT = Struct("=Qqq")
"""ino, off, len; a negative off leaves the data."""
NOTIFY_INVAL_ENTRY_OUT = Struct("=QII")
"""parent, namelen, flags; the name and a zero follow."""
NOTIFY_STORE_OUT = Struct("=QQII")
"""nodeid, offset, size, padding; the data follow."""

IN_HEADER_START = Struct("=IIQQ8xI")
"""len, opcode, unique, nodeid, pid: what there is to know of most requests."""
BODY = IN_HEADER.size
"""Where in a request the structure of its opcode begins."""

ALIGNMENT = tuple(bytes(-length % 8) for length in range(8))
"""What follows a name in a listing, by the last three bits of its length: FUSE_DIRENT_ALIGN."""
