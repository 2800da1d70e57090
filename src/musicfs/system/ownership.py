"""Checks that only this user can change a file or folder, like sshd's StrictModes.

What other users can't change needs no care against races: once every folder on the way belongs to this user or to root
and no one else may write to it, only these two can put something else there.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import re
import stat
from functools import cache
from pathlib import Path

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600

_MAX_STEPS = 4096  # links may form a circle
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Untrusted(PermissionError):
    """Another user can change a file or folder. `strerror` says which one, and the remedy."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(errno.EACCES, f"{path} {problem}", os.fspath(path))


def check_way(path: Path) -> os.stat_result:
    """Walks to `path` and returns its status; symbolic links are followed if they are this user's or root's.

    Raises:
        Untrusted: A folder on the way, or a link, belongs to another user, or other users may write to it. Sticky
            folders such as /tmp are allowed: no one can replace what belongs to this user there.
        OSError: There is no such path, or it can't be reached.
    """
    whole = path if path.is_absolute() else Path.cwd() / path
    done, rest = Path("/"), list(reversed(whole.parts[1:]))
    status = done.lstat()
    for _ in range(_MAX_STEPS):
        if not rest:
            return status
        _check_above(done, status)
        part = rest.pop()
        status = (done / part).lstat()
        if not stat.S_ISLNK(status.st_mode):
            done = done.parent if part == ".." else done / part
            continue
        check_owner(done / part, status, root=True)
        target = (done / part).readlink()
        rest += reversed([name for name in target.parts if name != "/"])
        done = Path("/") if target.is_absolute() else done
        status = done.lstat()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))


def _check_above(folder: Path, status: os.stat_result) -> None:
    check_owner(folder, status, root=True)
    if stat.S_ISDIR(status.st_mode) and not status.st_mode & stat.S_ISVTX and others_may_write(folder, status):
        raise Untrusted(folder, f"can be changed by other users (`chmod go-w {folder}` prevents that)")


def check_owner(path: Path, status: os.stat_result, *, root: bool) -> None:
    """Raises `Untrusted` if another user owns it. root: root may own it, too."""
    if status.st_uid != os.geteuid() and not (root and status.st_uid == 0):
        raise Untrusted(path, f"belongs to the user {_name_of(status.st_uid)}")


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def others_may_write(path: Path, status: os.stat_result) -> bool:
    """Whether other users than the owner may write to it. A group that only this user is in counts as the user: with a
    umask of 002, that group can write to everything that the user creates."""
    if status.st_mode & stat.S_IWOTH:
        return True
    if not status.st_mode & stat.S_IWGRP:
        return False
    # With an access control list, these bits are the most that the list grants to any user or group in it.
    return not _is_private_group(status.st_gid, os.geteuid()) or _has_acl(path)


@cache
def _is_private_group(gid: int, uid: int) -> bool:
    """Whether it is the user's primary group and no one else is in it, the rule of Debian's OpenSSH."""
    try:
        user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    members = {*group.gr_mem, *(each.pw_name for each in pwd.getpwall() if each.pw_gid == gid)}
    return user.pw_gid == gid and members <= {user.pw_name}


def _has_acl(path: Path) -> bool:
    try:
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except OSError:  # none, or the file system knows no such lists
        return False


def check_folder(folder: Path) -> os.stat_result:
    """Checks that only this user can change what is in the folder, and returns its status.

    Raises:
        Untrusted: Another user owns it, or other users may write to it or to a folder above it.
        OSError: There is no such folder, or it can't be reached.
    """
    status = check_way(folder)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(folder))
    check_owner(folder, status, root=False)
    if others_may_write(folder, status):
        raise Untrusted(folder, f"can be changed by other users (`chmod 700 {folder}` prevents that)")
    return status


def make_private(folder: Path) -> None:
    """Makes the folder if it is missing, checks it as `check_folder` does, and closes it to other users (0700)."""
    try:
        status = check_folder(folder)
    except FileNotFoundError:
        folder.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
        status = check_folder(folder)
    _close_to_others(folder, status, PRIVATE_FOLDER)


def _close_to_others(path: Path, status: os.stat_result, mode: int) -> None:
    """path: checked, in a folder that only this user can change."""
    if status.st_mode & _OTHERS:
        try:
            path.chmod(mode)
        except PermissionError:  # a file system without owners, such as FAT: its modes come from how it was mounted
            return


def open_private(path: Path, flags: int) -> int:
    """Opens a file that this user owns and that has one name, and closes it to other users (0600).

    Raises:
        Untrusted: It is a link, another user's, no plain file, or has a second name (a hard link).
        OSError: As os.open.
    """
    try:
        # Without waiting, in case it is a pipe; for a plain file it makes no difference.
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, PRIVATE_FILE)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _is_link(path) from error
        raise
    try:
        status = os.fstat(fd)
        _check_private(path, status)
        if status.st_mode & _OTHERS:
            os.fchmod(fd, PRIVATE_FILE)
    except PermissionError as error:
        if isinstance(error, Untrusted):
            os.close(fd)
            raise
    return fd


def close_to_others(path: Path) -> None:
    """Does what `open_private` does, without opening the file: closing a descriptor of a database would end SQLite's
    locks on it.

    path: in a folder that only this user can change. A folder is left as it is.
    """
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode):
        return
    if stat.S_ISLNK(status.st_mode):
        raise _is_link(path)
    _check_private(path, status)
    _close_to_others(path, status, PRIVATE_FILE)


def close_all_to_others(folder: Path, names: re.Pattern[str]) -> None:
    """Calls `close_to_others` for everything in the folder whose name matches; files may come and go meanwhile."""
    for name in os.listdir(folder):  # noqa: PTH208 (names are what is asked for)
        if names.fullmatch(name):
            with contextlib.suppress(FileNotFoundError):
                close_to_others(folder / name)


def _is_link(path: Path) -> Untrusted:
    return Untrusted(path, f"is a symbolic link, which is not followed here (`rm {path}` removes it)")


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Untrusted(path, "is no plain file: remove it")
    check_owner(path, status, root=False)
    if status.st_nlink > 1:
        raise Untrusted(path, f"is a file that has another name, too (`cp {path} {path}.new` makes one of its own)")


def open_trusted(path: Path) -> int:
    """Opens for reading what only this user or root can write. Returns the descriptor. It may be a pipe.

    Raises:
        Untrusted: Another user owns it, or may write to it or to a folder above it.
        OSError: As os.open.
    """
    check_owner(path, path.stat(), root=True)  # before another user's pipe makes this process wait
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(fd)
        check_owner(path, status, root=True)
        if stat.S_ISREG(status.st_mode):
            if others_may_write(path, status):
                raise Untrusted(path, f"can be changed by other users (`chmod go-w {path}` prevents that)")
            check_way(path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_trusted(path: Path) -> bytes:
    """Returns the content of a file that only this user or root can write. Raises as `open_trusted` does."""
    with os.fdopen(open_trusted(path), "rb") as file:
        return file.read()
