"""Finds running mounts by their control sockets, which are named after mount points; and locks the cache."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shlex
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import platformdirs
from blake3 import blake3

from musicfs.errors import UserError
from musicfs.system.mounts import mounts
from musicfs.system.ownership import (
    check_folder,
    check_owner,
    check_way,
    close_all_to_others,
    make_private,
    open_private,
    others_may_write,
)

log = logging.getLogger(__name__)

_MAX_STEPS = 4096  # links may form a circle
_NAME = "musicfs"
_TEMPORARY = Path("/tmp")
_IN_THE_CACHE = re.compile(r"lock|musicfs\.log(\.\d+)?|[a-z]+\.sqlite.*")
"""The names of the files in a cache folder, including those that were set aside."""


def runtime_dir() -> Path:
    """Returns the folder of the control sockets. It may not exist; if it does, only this user can change what is in it.

    The first of these that qualifies: $XDG_RUNTIME_DIR/musicfs, /run/user/UID/musicfs, and then /run/musicfs for root,
    ~/.cache/musicfs and /tmp/musicfs-UID for others. The same user finds the same one again. A folder that
    XDG_RUNTIME_DIR names in vain is logged, once.

    Raises:
        UserError: None of them qualifies.
    """
    named = os.environ.get("XDG_RUNTIME_DIR", "")
    problem = _problem_with_session(Path(named)) if named else ""
    if named and problem is None:
        return Path(named) / _NAME
    folder = _fallback()
    if problem:
        _warn(f"XDG_RUNTIME_DIR is not used: {problem}; the control sockets are in {folder}.")
    return folder


@cache
def _warn(sentence: str) -> None:
    log.warning(sentence)


def _fallback() -> Path:
    uid = os.geteuid()
    if _problem_with_session(Path(f"/run/user/{uid}")) is None:
        return Path(f"/run/user/{uid}") / _NAME
    parent = Path("/run") if uid == 0 else platformdirs.user_cache_path()
    if _problem_with_parent(parent) is None and _problem_with(parent / _NAME) is None:
        return parent / _NAME
    last = _TEMPORARY / f"{_NAME}-{uid}"
    if problem := _problem_with(last):
        raise UserError(
            f"There is no safe folder for the control sockets ({problem}); set XDG_RUNTIME_DIR to a folder that only"
            " you can open."
        )
    return last


def _problem_with_session(folder: Path) -> str | None:
    """Returns why the folder of a login session can't be used; None if it can, and "" if there is none."""
    if not folder.is_absolute():
        return f"{folder} is not an absolute path"
    try:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode):
            return f"{folder} is a symbolic link, or no folder"
        check_way(folder)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return error.strerror or str(error)
    # A folder of root's, such as /run, is open to all users; the service manager has made a folder for us in it.
    if status.st_uid != 0 and status.st_mode & 0o077:
        return f"{folder} is open to other users (`chmod 700 {folder}` closes it)"
    return _problem_with_parent(folder) or _problem_with(folder / _NAME)


def _problem_with_parent(folder: Path) -> str | None:
    """Returns why this folder, which may not exist yet, can't hold a safe folder of ours."""
    nearest = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    try:
        status = check_way(nearest)
        check_owner(nearest, status, root=True)
    except OSError as error:
        return error.strerror or str(error)
    if others_may_write(nearest, status):
        return f"{nearest} can be changed by other users"
    made = nearest == folder and os.path.isdir(folder / _NAME)  # noqa: PTH112 (is_dir() raises in closed folders)
    if not made and not os.access(nearest, os.W_OK):
        return f"{nearest} can't be written"
    return None


def _problem_with(folder: Path) -> str | None:
    """Returns why an existing folder of sockets can't be used. It must be no link, which would mislead root."""
    try:
        if stat.S_ISLNK(folder.lstat().st_mode):
            return f"{folder} is a symbolic link"
        check_folder(folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror or str(error)
    return None


def absolute(path: Path) -> Path:
    """Makes a path absolute without asking the filesystem, which hangs or fails at a dead mount."""
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100


def canonical(path: Path, stop_at: Collection[Path]) -> Path:
    """Returns `path` without symbolic links, as in the mount table; never touches what is at or below `stop_at`."""
    done = Path("/")
    rest = list(reversed(absolute(path).parts[1:]))
    for _ in range(_MAX_STEPS):
        if not rest or done in stop_at:
            break
        part = rest.pop()
        if part == "..":
            done = done.parent
            continue
        target = "" if done / part in stop_at else _link_target(done / part)
        if target.startswith("/"):
            done = Path("/")
        if target:
            rest += reversed([name for name in Path(target).parts if name != "/"])
        else:
            done /= part
    return done.joinpath(*reversed(rest))


def _link_target(path: Path) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115
    except OSError:
        return ""


def control_socket(mount_point: Path) -> Path:
    """Returns the control socket of the mount at `mount_point`."""
    digest = blake3(os.fsencode(absolute(mount_point))).hexdigest(8)
    return runtime_dir() / f"{digest}.sock"


def control_token(mount_point: Path) -> Path:
    """Returns the file with the token for the mount's control API over TCP, if the mount made one itself."""
    return control_socket(mount_point).with_suffix(".token")


def control_sockets() -> list[Path]:
    """Returns the control sockets of this user's mounts; a crash may have left some."""
    return sorted(runtime_dir().glob("*.sock"))


def claim_cache(cache_dir: Path) -> None:
    """Creates the folder if it is missing, and closes it and all files in it to other users.

    Raises:
        UserError: It can't be created, or another user can change it.
    """
    try:
        make_private(cache_dir)
        close_all_to_others(cache_dir, _IN_THE_CACHE)
    except OSError as error:
        raise _unusable(cache_dir, error) from error


def open_in_cache(path: Path, flags: int) -> int:
    """Opens a file of a cache folder; returns the descriptor. Raises `UserError` when it is not this user's alone."""
    try:
        return open_private(path, flags)
    except OSError as error:
        raise _unusable(path.parent, error) from error


def _unusable(cache_dir: Path, error: OSError) -> UserError:
    return UserError(f"The cache folder {cache_dir} can't be used: {error.strerror}; name another with cache_dir.")


@contextmanager
def lock_cache(cache_dir: Path, mount_point: Path | None) -> Iterator[None]:
    """Keeps a second process from using the same cache folder, which `claim_cache` has prepared.

    Raises `UserError` that names the other process.
    """
    claim_cache(cache_dir)
    descriptor = open_in_cache(cache_dir / "lock", os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(_in_use(cache_dir, os.pread(descriptor, 4096, 0))) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "mount_point": str(mount_point or "")}).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _in_use(cache_dir: Path, owner: bytes) -> str:
    try:
        its = json.loads(owner)
        place = str(its["mount_point"])
        who = f"process {its['pid']}"
    except (ValueError, KeyError, TypeError):
        place, who = "", "another process"
    if place and all(str(mount.path) != place for mount in mounts()):
        return (
            f"The cache folder {cache_dir} is in use by {who}, although {place} is not mounted: it has just started, or"
            f" was unmounted while files were open. Close them, or `musicfs shutdown {shlex.quote(place)}` ends it."
        )
    who += f", mounted on {place}" if place else ""
    return f"The cache folder {cache_dir} is in use by {who}; unmount that first, or give this one its own cache_dir."
