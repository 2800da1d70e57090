"""Walks the folders of an SFTP server, each once, however many links lead to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING

from musicfs.model import Stat, decode_path, encode_path, stored_ns
from musicfs.origins.helpers import is_skipped, name_problem
from musicfs.origins.sftp.session import Child, SftpSession
from musicfs.problems import Problem, Reason

if TYPE_CHECKING:
    from asyncssh import SFTPAttrs

_ASKED_AT_ONCE = 32
_NAME = itemgetter(0)


def is_file(about: SFTPAttrs | Child) -> bool:
    from asyncssh import FILEXFER_TYPE_REGULAR

    return about.type == FILEXFER_TYPE_REGULAR


def is_folder(about: SFTPAttrs | Child) -> bool:
    from asyncssh import FILEXFER_TYPE_DIRECTORY

    return about.type == FILEXFER_TYPE_DIRECTORY


def is_link(about: Child) -> bool:
    from asyncssh import FILEXFER_TYPE_SYMLINK

    return about.type == FILEXFER_TYPE_SYMLINK


def is_unknown(about: SFTPAttrs | Child) -> bool:
    """Whether the server does not say what it is."""
    from asyncssh import FILEXFER_TYPE_UNKNOWN

    return about.type == FILEXFER_TYPE_UNKNOWN


async def is_folder_there(session: SftpSession, path: bytes, about: SFTPAttrs) -> bool:
    """Whether there is a folder. What the attributes do not say, listing it does."""
    from asyncssh import SFTPError, SFTPPermissionDenied

    if not is_unknown(about):
        return is_folder(about)
    try:
        await session.is_empty(path)
    except SFTPError as error:  # many say that a file is no folder by saying that it is not there
        if isinstance(error, SFTPPermissionDenied) or not session.alive:
            raise
        return False
    return True


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
    """What a folder holds. linked: folders that are links. problems: what is left out."""

    files: list[Stat] = field(default_factory=list)
    folders: list[SftpFolder] = field(default_factory=list)
    linked: list[SftpFolder] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, found: Stat | SftpFolder | Problem | None, *, is_link: bool = True) -> None:
        if isinstance(found, Stat):
            self.files.append(found)
        elif isinstance(found, SftpFolder):
            (self.linked if is_link else self.folders).append(found)
        elif found is not None:
            self.problems.append(found)


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

    async def list(self, session: SftpSession, place: SftpFolder, *, asks: bool = True) -> Listed:
        """Returns what the folder holds, by name.

        asks: also where links lead, and what an entry is that the listing does not describe; otherwise these are
        reported as if they did not answer. Raises as the session does when it can't list the folder.
        """
        names = await session.names(self.full(place.path))
        found = Listed()
        if names.cut is not None:
            found.problems.append(Problem(place.path, *names.cut))
        unclear: list[tuple[str, bool]] = []
        for child in sorted(names.children, key=_NAME):
            name = decode_path(child.name)
            if (problem := name_problem(place.path, name, is_folder=is_folder(child))) is not None:
                found.problems.append(problem)
                continue
            path = f"{place.path}/{name}" if place.path else name
            if is_file(child) and child.size is not None and child.mtime is not None:
                found.files.append(Stat(path, *version_of(child)))
            elif is_folder(child):
                found.folders.append(SftpFolder(path, _joined(place.real, path), place.beyond, time_of(child)))
            elif is_link(child) or is_unknown(child) or is_file(child):
                unclear.append((path, is_link(child)))
        if asks:
            await self._ask(session, place, unclear, found)
        else:
            found.problems += [Problem(path, Reason.SLOW_FOLDER, "the server does not answer") for path, _ in unclear]
        found.files.sort(key=lambda file: file.path)
        return found

    def full(self, path: str) -> bytes:
        return below(self._root, path)

    async def _ask(
        self, session: SftpSession, place: SftpFolder, unclear: Sequence[tuple[str, bool]], found: Listed
    ) -> None:
        """Adds entries, of which only the path is known and whether they are links."""
        for start in range(0, len(unclear), _ASKED_AT_ONCE):
            several = unclear[start : start + _ASKED_AT_ONCE]
            answers = await asyncio.gather(
                *(self._resolved(session, place, path, linked=linked) for path, linked in several)
            )
            for answer in answers:
                own = isinstance(answer, SftpFolder) and answer.real == _joined(place.real, answer.path)
                found.add(answer, is_link=not own)

    async def _resolved(
        self, session: SftpSession, place: SftpFolder, path: str, *, linked: bool
    ) -> Stat | SftpFolder | Problem | None:
        """Returns what is at `path`, or where it leads; None if it has gone, or leads to what the walk lists itself."""
        from asyncssh import SFTPError, SFTPNoSuchFile, SFTPPermissionDenied

        try:
            async with asyncio.timeout(session.patience):
                return await self._described(session, place, path, linked=linked)
        except SFTPNoSuchFile:
            return Problem(path, Reason.LINK_BROKEN) if linked else None
        except (SFTPError, ValueError) as error:
            if not session.alive:
                raise
            said = error.reason if isinstance(error, SFTPError) else str(error)
            denied = isinstance(error, SFTPPermissionDenied)
            if linked:
                return Problem(path, Reason.DENIED if denied else Reason.LINK_BROKEN, said)
            # What is denied may be a folder.
            return Problem(path, Reason.CLOSED_FOLDER if denied else Reason.UNKNOWN_TYPE, said)

    async def _described(
        self, session: SftpSession, place: SftpFolder, path: str, *, linked: bool
    ) -> Stat | SftpFolder | None:
        full, own = self.full(path), _joined(place.real, path)
        about = await session.stat(full)  # first, as many a server has a real path for what is not there
        real = await (session.resolve(place.real, full) if linked else session.realpath(full))
        if linked and real == own:
            raise ValueError("the server does not say where the link leads")
        if real != own and self._is_listed_itself(real):
            return None
        if await is_folder_there(session, full, about):
            return SftpFolder(path, real, place.beyond if real == own else True, time_of(about))
        return Stat(path, *version_of(about)) if is_file(about) or is_unknown(about) else None

    def _is_listed_itself(self, real: bytes) -> bool:
        """Whether the walk from the root reaches the real path `real` without following a link."""
        if real == self._real_root:
            return True
        inside = self._real_root.rstrip(b"/") + b"/"
        return real.startswith(inside) and not any(map(is_skipped, _folders_of(real[len(inside) :])))


def below(root: bytes, path: str) -> bytes:
    """Returns the path on the server of what is at `path` below the root."""
    return root.rstrip(b"/") + b"/" + encode_path(path) if path else root


def _joined(folder: bytes, path: str) -> bytes:
    """Returns the real path of the entry that is listed as `path`, from that of its folder."""
    return folder.rstrip(b"/") + b"/" + encode_path(path.rpartition("/")[2])


def _folders_of(path: bytes) -> Iterable[str]:
    return map(decode_path, path.split(b"/")[:-1])
