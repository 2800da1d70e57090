"""Walks the folders of an SFTP server, each once, however many links lead to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING

from musicfs.model import Stat, decode_path, encode_path, stored_ns
from musicfs.origins.helpers import is_in_reach, is_skipped, is_usable
from musicfs.origins.sftp.session import Child, SftpSession

if TYPE_CHECKING:
    from asyncssh import SFTPAttrs

_LINKS_AT_ONCE = 32
_NAME = itemgetter(0)


def is_file(about: SFTPAttrs | Child) -> bool:
    from asyncssh import FILEXFER_TYPE_REGULAR

    return about.type == FILEXFER_TYPE_REGULAR


def is_folder(about: SFTPAttrs | Child) -> bool:
    from asyncssh import FILEXFER_TYPE_DIRECTORY

    return about.type == FILEXFER_TYPE_DIRECTORY


def version_of(about: SFTPAttrs | Child) -> tuple[int, int]:
    """(size, mtime_ns). The common version of the protocol has whole seconds. Raises ValueError if it sends neither."""
    if about.size is None or about.mtime is None:
        raise ValueError("the server sends no sizes and times")
    return about.size, stored_ns(about.mtime * 10**9 + (about.mtime_ns or 0))


def time_of(about: SFTPAttrs | Child) -> int | None:
    return None if about.mtime is None else stored_ns(about.mtime * 10**9 + (about.mtime_ns or 0))


@dataclass(frozen=True, slots=True)
class SftpFolder:
    """A folder. path: from the root, as listed. real: on the server, without links. beyond: a link led there.

    mtime_ns: when a name in it last changed, if the server says so.
    """

    path: str
    real: bytes
    beyond: bool = False
    mtime_ns: int | None = None


@dataclass(slots=True)
class Listed:
    """What a folder holds. linked: folders that are links."""

    files: list[Stat] = field(default_factory=list)
    folders: list[SftpFolder] = field(default_factory=list)
    linked: list[SftpFolder] = field(default_factory=list)


class Walk:
    """One walk over a root. `real_root`: the root's path without links.

    A link to something that the walk finds under its own name is left out, so that the result does not depend on which
    comes first.
    """

    def __init__(self, root: bytes, real_root: bytes) -> None:
        self._root = root
        self._real_root = real_root
        self._seen = {real_root}  # only what links lead to: the walk finds everything else once

    def place(self, under: str, real: bytes) -> SftpFolder:
        """Returns the folder where a walk begins."""
        return SftpFolder(under, real, beyond=not self._is_listed_itself(real))

    def is_new(self, place: SftpFolder) -> bool:
        """Whether the folder is new; marks it as listed."""
        if not place.beyond:
            return True
        new = place.real not in self._seen
        self._seen.add(place.real)
        return new

    async def list(self, session: SftpSession, place: SftpFolder) -> Listed:
        """Returns what the folder holds, by name. Raises as the session does when it can't list everything."""
        from asyncssh import FILEXFER_TYPE_SYMLINK, FILEXFER_TYPE_UNKNOWN

        found = Listed()
        links = []
        for child in sorted(await session.names(self.full(place.path)), key=_NAME):
            name = decode_path(child.name)
            path = f"{place.path}/{name}" if place.path else name
            if not is_usable(name) or not is_in_reach(path):
                continue
            if is_file(child):
                found.files.append(Stat(path, *version_of(child)))
            elif is_folder(child):
                if not is_skipped(name):
                    found.folders.append(SftpFolder(path, place.real + b"/" + child.name, place.beyond, time_of(child)))
            elif child.type == FILEXFER_TYPE_SYMLINK:
                links.append(path)
            elif child.type == FILEXFER_TYPE_UNKNOWN:
                raise ValueError(f"the server does not say what {path!r} is")
        for start in range(0, len(links), _LINKS_AT_ONCE):
            several = [self._follow(session, place, link) for link in links[start : start + _LINKS_AT_ONCE]]
            for led_to in await asyncio.gather(*several):
                self._add(found, led_to)
        found.files.sort(key=lambda file: file.path)
        return found

    def full(self, path: str) -> bytes:
        return self._root + b"/" + encode_path(path) if path else self._root

    @staticmethod
    def _add(found: Listed, led_to: Stat | SftpFolder | None) -> None:
        if isinstance(led_to, Stat):
            found.files.append(led_to)
        elif led_to is not None:
            found.linked.append(led_to)

    async def _follow(self, session: SftpSession, place: SftpFolder, path: str) -> Stat | SftpFolder | None:
        """Returns the file or folder that the link at `path` leads to; None if it leads nowhere or to a listed
        folder."""
        from asyncssh import SFTPNoSuchFile

        try:
            async with asyncio.timeout(session.patience):
                real = await session.resolve(place.real, self.full(path))
                if self._is_listed_itself(real):
                    return None
                about = await session.stat(self.full(path))
        except SFTPNoSuchFile:
            return None  # gone meanwhile, a link to nowhere, or to itself
        if is_file(about):
            return Stat(path, *version_of(about))
        if is_folder(about) and not is_skipped(path.rpartition("/")[2]):
            return SftpFolder(path, real, True, time_of(about))
        return None

    def _is_listed_itself(self, real: bytes) -> bool:
        """Whether the walk from the root reaches the real path `real` without following a link."""
        if real == self._real_root:
            return True
        inside = self._real_root.rstrip(b"/") + b"/"
        return real.startswith(inside) and not any(map(is_skipped, _folders_of(real[len(inside) :])))


def _folders_of(path: bytes) -> Iterable[str]:
    return map(decode_path, path.split(b"/")[:-1])
