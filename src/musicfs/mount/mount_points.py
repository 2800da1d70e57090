"""Mount points: checks before mounting, removal of a mount that a crash left, unmounting."""

from __future__ import annotations

import errno
import os
import pwd
import queue
import threading
from pathlib import Path

from musicfs.errors import UserError
from musicfs.mount.session import mounting
from musicfs.system.mounts import Mounted, mounts

_TYPE = "fuse.musicfs"
_MODE = 0o755
_ANSWER_SECS = 2.0


def mounted(path: Path) -> Mounted | None:
    """Returns the MusicFS mount, alive or dead, that is the topmost mount on `path`, or None."""
    here = [m for m in mounts() if m.path == path]
    return here[-1] if here and here[-1].type == _TYPE else None


def ours() -> set[Path]:
    """Returns the paths whose topmost mount is a MusicFS mount, alive or dead, of any user."""
    topmost = {m.path: m.type for m in mounts()}
    return {path for path, type_ in topmost.items() if type_ == _TYPE}


def user_of(mount: Mounted) -> str | None:
    """Returns the name of the user whose mount it is; None if that is this user, or not known."""
    if mount.owner is None or mount.owner == os.getuid():
        return None
    try:
        return pwd.getpwuid(mount.owner).pw_name
    except KeyError:
        return f"with the number {mount.owner}"


def answers(path: Path) -> bool:
    """Whether the filesystem at `path` answers within two seconds. It may hang, so another thread asks it."""
    found: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def ask() -> None:
        try:
            os.statvfs(path)
        except OSError:
            found.put(False)
        else:
            found.put(True)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return found.get(timeout=_ANSWER_SECS)
    except queue.Empty:
        return False


def prepare(path: Path) -> None:
    """Prepares `path` for a mount: removes a dead MusicFS mount, and creates the folder if it is missing.

    Raises:
        UserError: it is in use, not a folder, or not empty.
    """
    try:
        if here := mounted(path):
            _clear_dead(path, user_of(here))
        _make(path)
        with os.scandir(path) as entries:
            if next(entries, None) is not None:
                raise UserError(f"The mount point {path} isn't empty; choose an empty folder, or a new name.")
    except FileExistsError as error:
        raise UserError(f"The mount point {path} isn't a folder; choose an empty folder, or a new name.") from error
    except OSError as error:
        raise UserError(f"The mount point {path} can't be used: {error.strerror}.") from error


def _make(path: Path) -> None:
    """Creates the folder and its missing parents, readable by others whatever the umask is: they may use the mount."""
    if path.is_dir():
        return
    if not path.parent.exists():
        _make(path.parent)
    path.mkdir()
    path.chmod(_MODE)


def _clear_dead(path: Path, other: str | None) -> None:
    """other: the user whose mount it is, unless that is this user."""
    if other is not None and os.getuid() != 0:
        raise UserError(f"{path} is mounted by the user {other}; choose another folder.")
    try:
        os.statvfs(path)  # not stat(2): the kernel caches attributes, also those of a dead mount
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
            raise
        unmount(path, lazy=True)
        return
    raise UserError(f"{path} is mounted by MusicFS already; `musicfs unmount {path}` unmounts it.")


def unmount(path: Path, *, lazy: bool = False) -> None:
    """Unmounts.

    Raises:
        UserError: the system refuses, as it does while files are open (unless `lazy`).
    """
    try:
        mounting.unmount(path, lazy=lazy)
    except OSError as error:
        if mounted(path) is None:
            return
        if error.errno == errno.EBUSY:
            raise UserError(
                f"{path} is in use; close what plays or browses it, or use `musicfs unmount --lazy`."
            ) from error
        raise UserError(f"{path} can't be unmounted: {error.strerror}.") from error
