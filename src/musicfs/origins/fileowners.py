"""Who may read a file of this machine: its owner, group and mode, narrowed by every folder on the way to it.

Through a mount that others see, no folder above a file stands in the way of a reader. So what the folders forbid is
taken from the file itself: each of its classes (owner, group, others) keeps its read bit only where the whole class
gets past every folder.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from functools import lru_cache
from pathlib import PurePosixPath
from typing import NamedTuple

from musicfs.model import Owner
from musicfs.system.linux import ON_DISK, filesystem_of

_ACL = "system.posix_acl_access"
_ENTRY = struct.Struct("<HHI")  # tag, permissions, id
_ACL_HEAD = 4  # bytes
_USER, _GROUP_OBJECT, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10
_OTHERS_READ, _OTHERS_PASS = 4, 1
_MAX_REMEMBERED = 10_000


class Gate(NamedTuple):
    """What a folder, or a file, lets each class do: pass, or read.

    group: a member of `gid`. others: who is in no group of interest. anyone: all but the owner, in whatever group.
    """

    uid: int
    gid: int
    owner: bool
    group: bool
    others: bool
    anyone: bool
    has_acl: bool = False


Gates = frozenset[Gate]
"""Those of the folders from the root of the file system down to one folder."""
CLOSED: Gates = frozenset({Gate(-1, -1, False, False, False, False)})


@lru_cache(4096)
def narrowed(gates: Gates, file: Gate) -> Owner:
    """Who may read a file in the folder that `gates` lead to."""
    owner, group, others = file.owner, file.group, file.others
    for gate in gates:
        ours = gate.gid == file.gid
        owner = owner and (gate.owner if gate.uid == file.uid else gate.others)
        # A folder may forbid its own group what it lets all others do, and members of the file's group may be in it.
        group = group and not gate.has_acl and (gate.group if ours else gate.anyone)
        others = others and (gate.others if ours else gate.anyone)
    return Owner(file.uid, file.gid, 0o400 * owner | 0o040 * group | 0o004 * others)


@lru_cache(4096)
def _plain(uid: int, gid: int, mode: int) -> Gate:
    """By the mode alone."""
    bit = _bit(mode)
    owner, group, others = bool(mode & bit << 6), bool(mode & bit << 3), bool(mode & bit)
    return Gate(uid, gid, owner, group, others, group and others)


def _bit(mode: int) -> int:
    """The permission that counts, as others have it."""
    return _OTHERS_PASS if stat.S_ISDIR(mode) else _OTHERS_READ


class Ownership:
    """Tells the gates of folders and files. All of it blocks."""

    def __init__(self) -> None:
        self._folders: dict[str, Gate] = {}
        self._has_acls: dict[int, bool] = {}
        """By st_dev, whether its files are asked for their ACL."""

    def on_the_way(self, folder: str) -> Gates:
        """The gates from the root of the file system down to the folder at this path, which has no links in it."""
        try:
            return frozenset(map(self._folder, (folder, *map(str, PurePosixPath(folder).parents))))
        except OSError:
            return CLOSED

    def _folder(self, path: str) -> Gate:
        gate = self._folders.get(path)
        if gate is None:
            if len(self._folders) >= _MAX_REMEMBERED:
                self._folders.clear()
            gate = self._folders[path] = self.gate(path, os.stat(path, follow_symlinks=False))  # noqa: PTH116
        return gate

    def owner(self, gates: Gates, path: str, about: os.stat_result) -> Owner:
        """Who may read the file at `path`, in the folder that `gates` lead to."""
        by_mode = narrowed(gates, _plain(about.st_uid, about.st_gid, about.st_mode))
        if not by_mode.mode & 0o044:  # as below a home that is closed to others: an ACL has nothing left to forbid
            return by_mode
        return narrowed(gates, self.gate(path, about))

    def gate(self, path: str, about: os.stat_result) -> Gate:
        """That of the folder or file at `path`."""
        plain = _plain(about.st_uid, about.st_gid, about.st_mode)
        if not (plain.group or plain.others):
            return plain
        asks = self._has_acls.get(about.st_dev)
        if asks is None:  # not on a network mount, where each answer may cost a round trip
            asks = self._has_acls[about.st_dev] = _is_on_disk(path)
        if not asks:
            return plain._replace(group=plain.anyone)
        try:
            if _ACL not in os.listxattr(path, follow_symlinks=False):  # in half the time that asking for it takes
                return plain
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return plain
        return _by_acl(plain, _acl_of(path), _bit(about.st_mode))


def _is_on_disk(path: str) -> bool:
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return filesystem_of(fd) in ON_DISK
    finally:
        os.close(fd)


def _acl_of(path: str) -> bytes:
    """Empty: it can't be had."""
    try:
        return os.getxattr(path, _ACL, follow_symlinks=False)
    except OSError:
        return b""


def _by_acl(plain: Gate, acl: bytes, bit: int) -> Gate:
    """With an ACL, the group's bits of the mode are its mask, and say nothing of the group: that class is left out.

    Others count as such only where no entry forbids a user or a group what all may do.
    """
    try:
        entries = list(_ENTRY.iter_unpack(acl[_ACL_HEAD:]))
    except struct.error:
        entries = []
    mask = next((allowed for tag, allowed, _ in entries if tag == _MASK), 7)
    named = [allowed & mask & bit for tag, allowed, _ in entries if tag in (_USER, _GROUP_OBJECT, _GROUP)]
    others = plain.others and bool(named) and all(named)
    return plain._replace(group=False, others=others, anyone=others, has_acl=True)
