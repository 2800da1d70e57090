"""Where running mounts are found: one control socket each, named after the mount point; and the cache's lock."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from blake3 import blake3

from musicfs.errors import UserError

_MOST_STEPS = 4096  # links may run in a circle


def runtime_dir() -> Path:
    """The folder of the control sockets, readable by this user alone."""
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    if not folder.is_dir():
        folder = Path("/run") if os.getuid() == 0 else platformdirs.user_cache_path()
    return folder / "musicfs"


def absolute(path: Path) -> Path:
    """Without asking the filesystem, which hangs or fails at a dead mount."""
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100


def canonical(path: Path, stop_at: Collection[Path]) -> Path:
    """`path` without symbolic links, as the mount table has it; nothing at or below `stop_at` is asked."""
    done = Path("/")
    rest = list(reversed(absolute(path).parts[1:]))
    for _ in range(_MOST_STEPS):
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
    """The control socket of the mount at `mount_point`."""
    digest = blake3(os.fsencode(absolute(mount_point))).hexdigest(8)
    return runtime_dir() / f"{digest}.sock"


def control_token(mount_point: Path) -> Path:
    """The file with the token that the mount's control API asks for over TCP, if it made one itself."""
    return control_socket(mount_point).with_suffix(".token")


def control_sockets() -> list[Path]:
    """The control sockets of this user's mounts; some may be left over from a crash."""
    return sorted(runtime_dir().glob("*.sock"))


@contextmanager
def lock_cache(cache_dir: Path, mount_point: Path | None) -> Iterator[None]:
    """Keeps any second process from using the same cache folder.

    Raises `UserError` that names the other one.
    """
    try:
        cache_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(cache_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UserError(
            f"The cache folder {cache_dir} can't be used: {error.strerror}; name another with cache_dir."
        ) from error
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
        who = f"process {its['pid']}" + (f", mounted on {its['mount_point']}" if its["mount_point"] else "")
    except (ValueError, KeyError, TypeError):
        who = "another process"
    return f"The cache folder {cache_dir} is in use by {who}; unmount that first, or give this one its own cache_dir."
