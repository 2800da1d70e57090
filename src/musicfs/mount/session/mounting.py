"""Mounting and unmounting: by mount(2) for root, otherwise by the setuid program fusermount3."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from musicfs.system import processes

# <linux/mount.h>, <sys/mount.h>
_MS_RDONLY = 1
_MS_NOSUID = 2
_MS_NODEV = 4
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8

_COMMFD = "_FUSE_COMMFD"
_DEVICE = "/dev/fuse"
_FUSERMOUNT = "fusermount3"
_MAX_SECS = 30.0


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, path: Path) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))


def mount(path: Path, name: str, *, allow_other: bool) -> int:
    """Mounts a read-only FUSE filesystem whose permissions the kernel checks.

    Args:
        path: An existing folder, as an absolute path.
        name: The source and the subtype, as the mount table shows them.
        allow_other: Whether users other than the mounting one may use it.

    Returns:
        The open /dev/fuse of the connection. The kernel has put FUSE_INIT there.

    Raises:
        OSError: The system refuses; the message says why.
    """
    options = ["default_permissions", *(["allow_other"] if allow_other else [])]
    if os.geteuid() == 0:
        try:
            return _mount_directly(path, name, options)
        except PermissionError:  # Root of a container, say. fusermount3 may know more.
            pass
    return _mount_by_fusermount(path, name, options)


def _mount_directly(path: Path, name: str, options: Sequence[str]) -> int:
    try:
        fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise OSError(errno.ENOENT, f"{_DEVICE} is missing; `modprobe fuse` makes it") from error
    try:
        data = f"fd={fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        _check(
            _libc().mount(
                name.encode(),
                os.fsencode(path),
                f"fuse.{name}".encode(),
                ctypes.c_ulong(_MS_RDONLY | _MS_NOSUID | _MS_NODEV),
                ",".join([data, *options]).encode(),
            ),
            path,
        )
    except BaseException:
        os.close(fd)
        raise
    return fd


def _mount_by_fusermount(path: Path, name: str, options: Sequence[str]) -> int:
    """Lets fusermount3 mount. It sends the open /dev/fuse through the socket that the environment names."""
    wanted = ",".join(["ro", "nosuid", "nodev", f"fsname={name}", f"subtype={name}", *options])
    ours, its = socket.socketpair()
    with ours, its:
        ours.settimeout(_MAX_SECS)
        _run_fusermount(["-o", wanted, "--", str(path)], its.fileno())
        _, received, _, _ = socket.recv_fds(ours, 1, 1)
    if not received:
        raise OSError(errno.EPROTO, f"{_FUSERMOUNT} sends no descriptor")
    os.set_inheritable(received[0], False)
    return received[0]


def unmount(path: Path, *, lazy: bool) -> None:
    """Takes the mount off its folder. With `lazy` it does so also while files are open, and they are served on.

    Raises:
        OSError: The system refuses; with EBUSY, because files are open.
    """
    if os.geteuid() == 0:
        try:
            _check(_libc().umount2(os.fsencode(path), _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)), path)
        except PermissionError:
            pass
        else:
            return
    _run_fusermount(["-u", *(["-z"] if lazy else []), "--", str(path)])


def _run_fusermount(arguments: Sequence[str], its_end: int | None = None) -> None:
    """Runs fusermount3 to its end.

    Args:
        arguments: Its command line.
        its_end: The socket to which it sends the open /dev/fuse.
    """
    environment = processes.environment()
    if its_end is not None:
        environment[_COMMFD] = str(its_end)
    try:
        done = subprocess.run(
            [_FUSERMOUNT, *arguments],
            env=environment,
            pass_fds=[] if its_end is None else [its_end],
            cwd=processes.WORKING_FOLDER,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_MAX_SECS,
        )
    except (FileNotFoundError, PermissionError) as error:  # the latter if a folder of PATH can't be searched
        raise OSError(errno.ENOENT, f"{_FUSERMOUNT} is missing; `apt install fuse3` installs it") from error
    except subprocess.TimeoutExpired as error:
        raise OSError(errno.ETIMEDOUT, f"{_FUSERMOUNT} does not end") from error
    if done.returncode != 0:
        number = errno.EBUSY if "busy" in done.stderr else errno.EPERM
        raise OSError(number, done.stderr.strip() or f"{_FUSERMOUNT} fails with {done.returncode}")
