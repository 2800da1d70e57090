"""Opens files below an origin's folder, and follows only the symbolic links that the setting `links` allows.

The kernel checks each open: neither a link nor a folder that another program replaces by a link between a check and
an open can lead past it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Annotated, Literal

from musicfs.config.sources import Expected
from musicfs.system.linux import READING, RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

Links = Literal["all", "inside", "none"]
"""all: every link is followed. inside: those whose target lies below the origin's folder. none: no link."""

LinksSetting = Annotated[Links | None, Expected("one of all, inside, none")]
"""None: the mount's `allow_other` decides; `config.settle_links` replaces it."""

_PLACE = os.O_PATH | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_INSIDE = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
_NO_LINK = _INSIDE | RESOLVE_NO_SYMLINKS
_ROUNDS = 16


class LinkRefused(OSError):
    """The setting `links` forbids to follow a link in the path: it leads out of the origin's folder, or every link is
    forbidden."""

    def __init__(self, path: str, links: Links) -> None:
        leads = "leads out of the origin's folder" if links == "inside" else "is on its way"
        super().__init__(errno.EXDEV, f'a symbolic link {leads}, and links = "{links}" forbids to follow it', path)


class Below:
    """Opens what lies below one folder, as far as `links` allows. Paths are relative to the folder, without "..".

    The folder itself may be a link. Each call opens it again, so that an idle object keeps no network mount busy. All
    methods block and raise OSError; `LinkRefused` means that `links` forbids a link in the path.
    """

    def __init__(self, root: str, links: Links) -> None:
        self._root = root
        self.links = links

    def open(self, path: str, flags: int = READING) -> int:
        """Returns a descriptor of what `path` leads to."""
        if self.links == "all":
            return os.open(self._full(path), flags)
        root = os.open(self._root, _PLACE | os.O_DIRECTORY)
        try:
            return _open_below(root, path or ".", flags, self.links)
        finally:
            os.close(root)

    def stat(self, path: str) -> os.stat_result:
        """Returns the attributes of what `path` leads to."""
        if self.links == "all":
            return os.stat(self._full(path))  # noqa: PTH116 (a Path costs as much as the call)
        fd = self.open(path, _PLACE)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    @contextmanager
    def folder(self, path: str) -> Iterator[int]:
        """Opens the folder at `path` for as long as the context lasts."""
        fd = self.open(path, _FOLDER)
        try:
            yield fd
        finally:
            os.close(fd)

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root


def _open_below(root: int, path: str, flags: int, links: Links) -> int:
    if links == "none":
        return _open_without_links(root, path, flags, links)
    try:
        return _retried(root, path, flags, _INSIDE)
    except OSError as error:
        # EXDEV also means an absolute link that leads inside. EAGAIN: folders are moved all the time.
        if not (error.errno in (errno.EXDEV, errno.EAGAIN) or _is_missing(error)):
            raise
    # First find where the path leads. The answer may be out of date at once, but then the path has a link and is
    # refused.
    return _open_without_links(root, _real(root, path), flags, links)


def _retried(folder: int, path: str, flags: int, resolve: int) -> int:
    """Opens again after EAGAIN: something was renamed while the kernel walked over a ".." in a link."""
    for _ in range(_ROUNDS):
        with suppress(BlockingIOError):
            return openat2(folder, path, flags, resolve)
    return openat2(folder, path, flags, resolve)


def _real(root: int, path: str) -> str:
    """Returns the path, without links and relative to `root`, of what `path` leads to."""
    base = _path_of(root)
    try:
        fd = _retried(root, path, _PLACE, RESOLVE_NO_MAGICLINKS)
    except OSError as error:
        if not _is_missing(error):
            raise
        fd = os.open(path, _PLACE, dir_fd=root)
    try:
        real = _path_of(fd)
    finally:
        os.close(fd)
    if real == base:
        return "."
    above = base.rstrip("/") + "/"
    if not real.startswith(above):
        raise LinkRefused(path, "inside")
    return real[len(above) :]


def _path_of(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 (a Path would normalise it)


def _open_without_links(root: int, path: str, flags: int, links: Links) -> int:
    try:
        return openat2(root, path, flags, _NO_LINK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise LinkRefused(path, links) from None
        if not _is_missing(error):
            raise
    return _walk(root, path, flags, links)


def _walk(root: int, path: str, flags: int, links: Links) -> int:
    """Does what `openat2` without links does, on a kernel without that call: opens each part of the path by itself."""
    *folders, name = path.split("/")
    at = os.dup(root)
    try:
        for folder in folders:
            below = _step(at, folder, _PLACE | os.O_DIRECTORY, path, links)
            os.close(at)
            at = below
        return _step(at, name, flags, path, links)
    finally:
        os.close(at)


def _step(folder: int, name: str, flags: int, path: str, links: Links) -> int:
    if name == "..":
        raise LinkRefused(path, links)
    try:
        fd = os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP or (error.errno == errno.ENOTDIR and _is_link(folder, name)):
            raise LinkRefused(path, links) from None
        raise
    if flags & os.O_PATH and stat.S_ISLNK(os.fstat(fd).st_mode):  # O_PATH opens the link itself
        os.close(fd)
        raise LinkRefused(path, links)
    return fd


def _is_link(folder: int, name: str) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _is_missing(error: OSError) -> bool:
    """Whether the error means that the call does not exist: an old kernel, or a container's filter of calls."""
    return error.errno == errno.ENOSYS or (error.errno == errno.EPERM and not _has_openat2())


@cache
def _has_openat2() -> bool:
    root = os.open("/", _PLACE | os.O_DIRECTORY)
    try:
        os.close(openat2(root, ".", _PLACE, _NO_LINK))
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(root)
