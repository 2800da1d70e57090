"""Who may read a file of this machine: its owner, group and mode, narrowed by every folder on the way to it.

In a mount that other users see, the folders above a file do not protect it. So MusicFS takes what the folders forbid
from the file itself: each of its classes (owner, group, others) keeps its read bit only if the whole class may pass
every folder.
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
from musicfs.system.linux import is_on_disk

_ACL = "system.posix_acl_access"
_ENTRY = struct.Struct("<HHI")  # tag, permissions, id
_ACL_HEAD = 4  # bytes
_USER, _GROUP_OBJECT, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10
_OTHERS_READ, _OTHERS_PASS = 4, 1
_MAX_REMEMBERED = 10_000


class Gate(NamedTuple):
    """What a folder or a file allows each class of users: to pass the folder, or to read the file.

    group: a member of `gid`. others: a user in no group of interest. anyone: all users but the owner, in any group.
    """

    uid: int
    gid: int
    owner: bool
    group: bool
    others: bool
    anyone: bool
    has_acl: bool = False


Gates = frozenset[Gate]
"""The gates of the folders from the root of the file system down to one folder."""
CLOSED: Gates = frozenset({Gate(-1, -1, False, False, False, False)})


@lru_cache(4096)
def narrowed(gates: Gates, file: Gate) -> Owner:
    """Returns who may read a file in the folder that `gates` lead to."""
    owner, group, others = file.owner, file.group, file.others
    for gate in gates:
        ours = gate.gid == file.gid
        owner = owner and (gate.owner if gate.uid == file.uid else gate.others)
        # A folder may forbid its own group what it allows all others, and members of the file's group may be in it.
        group = group and not gate.has_acl and (gate.group if ours else gate.anyone)
        others = others and (gate.others if ours else gate.anyone)
    return Owner(file.uid, file.gid, 0o400 * owner | 0o040 * group | 0o004 * others)


@lru_cache(4096)
def _plain(uid: int, gid: int, mode: int) -> Gate:
    """Returns the gate that the mode alone makes."""
    bit = _bit(mode)
    owner, group, others = bool(mode & bit << 6), bool(mode & bit << 3), bool(mode & bit)
    return Gate(uid, gid, owner, group, others, group and others)


def _bit(mode: int) -> int:
    """Returns the permission that counts, at the place of the class "others"."""
    return _OTHERS_PASS if stat.S_ISDIR(mode) else _OTHERS_READ


class Ownership:
    """Finds the gates of folders and files. All methods block."""

    def __init__(self) -> None:
        self._folders: dict[str, Gate] = {}
        self._has_acls: dict[int, bool] = {}
        """By st_dev: whether to read the ACLs of the files there."""

    def on_the_way(self, folder: str) -> Gates:
        """Returns the gates from the root of the file system down to this folder, whose path has no links in it."""
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
        """Returns who may read the file at `path`, in the folder that `gates` lead to."""
        by_mode = narrowed(gates, _plain(about.st_uid, about.st_gid, about.st_mode))
        if (
            not by_mode.mode & 0o044
        ):  # for example below a home that is closed to others: an ACL can forbid nothing further
            return by_mode
        return narrowed(gates, self.gate(path, about))

    def gate(self, path: str, about: os.stat_result) -> Gate:
        """Returns the gate of the folder or file at `path`."""
        plain = _plain(about.st_uid, about.st_gid, about.st_mode)
        if not (plain.group or plain.others):
            return plain
        asks = self._has_acls.get(about.st_dev)
        if asks is None:  # not on a network mount, where each answer may cost a round trip
            asks = self._has_acls[about.st_dev] = is_on_disk(path)
        if not asks:
            return plain._replace(group=plain.anyone)
        try:
            if _ACL not in os.listxattr(path, follow_symlinks=False):  # takes half the time of reading the ACL
                return plain
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return plain
        return _by_acl(plain, _acl_of(path), _bit(about.st_mode))


def _acl_of(path: str) -> bytes:
    """Returns the ACL, or b"" if it can't be read."""
    try:
        return os.getxattr(path, _ACL, follow_symlinks=False)
    except OSError:
        return b""


def _by_acl(plain: Gate, acl: bytes, bit: int) -> Gate:
    """Returns the gate of a file with an ACL.

    The group's bits of the mode are the ACL's mask then and say nothing about the group, so that class is left out.
    Others may read only if no entry forbids a user or a group what all may do.
    """
    try:
        entries = list(_ENTRY.iter_unpack(acl[_ACL_HEAD:]))
    except struct.error:
        entries = []
    mask = next((allowed for tag, allowed, _ in entries if tag == _MASK), 7)
    named = [allowed & mask & bit for tag, allowed, _ in entries if tag in (_USER, _GROUP_OBJECT, _GROUP)]
    others = plain.others and bool(named) and all(named)
    return plain._replace(group=False, others=others, anyone=others, has_acl=True)
