"""Reads and lists the files of an export. All methods block: for worker threads."""

from __future__ import annotations

import errno
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, TypeVarTuple

from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import OriginId, Replica, Stat
from musicfs.origin import FolderIdentity
from musicfs.origins.folder_identity import folder_at_host, merged
from musicfs.origins.helpers import (
    EmptyRootCheck,
    FolderTooBig,
    check_length,
    check_version,
    name_problem,
    size_within,
)
from musicfs.origins.nfs.connection import Connection, Export, NfsEntry, Patience
from musicfs.origins.nfs.handle_cache import HandleCache
from musicfs.origins.nfs.libnfs import NfsStat64
from musicfs.origins.nfs.pool import ExportRefused, NfsPool, NfsSession
from musicfs.origins.nfs.rpc import Piece
from musicfs.origins.nfs.xdr import NfsAttributes
from musicfs.problems import Problem, Reason

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_DENIED = (errno.EACCES, errno.EPERM)
_BROKEN = (errno.EIO, errno.ENXIO)
_PAUSES = (0.1, 0.3, 1.0)
"""Seconds between the attempts of a call that the server wants to be made later: what it asks for changes just now, or
is brought from an archive."""


@dataclass(slots=True)
class NfsListing:
    """What one folder holds. folders: their paths and times in nanoseconds. problems: what is left out."""

    files: list[Stat] = field(default_factory=list)
    folders: list[tuple[str, int]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, path: str, about: NfsEntry | NfsStat64) -> None:
        if stat.S_ISREG(about.mode):
            self.files.append(Stat(path, about.size, about.mtime_ns))
        elif stat.S_ISDIR(about.mode):
            self.folders.append((path, about.mtime_ns))


class NfsFiles:
    """The files of one export. `call` runs the methods that take a session, and translates what they raise."""

    def __init__(self, origin: OriginId, export: Export, populated: bool) -> None:
        self._origin = origin
        self._export = export
        self._sessions = NfsPool(export)
        self._handles = HandleCache()
        detail = f"the folder {export.path} is empty; is its disk mounted at {export.host}?"
        self._check_empty = EmptyRootCheck(origin, populated, detail)
        self._filled: tuple[bytes, int] | None = None  # the root, and its time, when there last was something in it

    def close(self) -> None:
        self._sessions.close()

    @property
    def connected(self) -> bool:
        return self._sessions.connected

    def connect(self, patience: Patience) -> None:
        """Makes a connection, which takes up to ten round trips. Raises as `call` does."""
        try:
            self._sessions.connect(patience)
        except TimeoutError:
            raise
        except OSError as error:
            raise self._failure(error) from error

    def drop(self) -> None:
        """Closes the connections that are not in use. The others end with the patience of their calls."""
        self._sessions.forget()

    def call(self, patience: Patience, path: str, call: Callable[[NfsSession, *Ts], T], *args: *Ts) -> T:
        """Returns what `call` returns. Raises TimeoutError when `patience` ends, else OriginFailed or ReplicaFailed."""
        patience.heard()
        try:
            for pause in _PAUSES:
                try:
                    return self._found_again(patience, path, call, args)
                except OSError as error:
                    if error.errno != errno.EAGAIN or patience.left() <= pause:
                        raise
                time.sleep(pause)
            return self._found_again(patience, path, call, args)
        except TimeoutError:
            raise
        except OSError as error:
            raise self._failure(error) from error

    def _found_again(self, patience: Patience, path: str, call: Callable[[NfsSession, *Ts], T], args: tuple[*Ts]) -> T:
        """Calls; when the server has forgotten a handle, perhaps not the file, finds all from the export's path on."""
        try:
            return self._attempt(patience, path, call, args)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        self._sessions.forget()
        self._handles.clear()
        return self._attempt(patience, path, call, args)

    def _attempt(self, patience: Patience, path: str, call: Callable[[NfsSession, *Ts], T], args: tuple[*Ts]) -> T:
        with self._sessions.one(patience) as session:
            try:
                return call(session, *args)
            except OSError as error:
                fault = _fault_of_file(error)
                if fault is None or not path:
                    raise
                self.check_root(session)  # a missing file means something only while the root is there
                raise ReplicaFailed(self._origin, path, fault, error.strerror or "") from error

    def _failure(self, error: OSError) -> OriginFailed:
        export = self._export
        place = f"{export.host}:{export.path}"
        if isinstance(
            error, ExportRefused
        ):  # servers answer unknown clients as they answer requests for missing exports
            detail = f"the server does not let this machine mount {place}; see that the folder exists, and that its "
            detail += "export allows this machine and, by the option 'insecure', ports above 1023"
            return OriginFailed(self._origin, OriginFault.UNREACHABLE, detail)
        if error.errno == errno.ECONNREFUSED:
            hint = "; if the server has no rpcbind, give port and mount_port; if it has only version 4, mount it and"
            hint += " set path"
            hint = "" if export.port and export.mount_port else hint
            return OriginFailed(self._origin, OriginFault.REFUSED, f"{export.host}: connection refused{hint}")
        if error.errno == errno.E2BIG:
            return FolderTooBig(self._origin, error.strerror or "")
        if "resolv" in (error.strerror or ""):
            return OriginFailed(self._origin, OriginFault.UNREACHABLE, f"the address of {export.host} can't be found")
        unreachable = isinstance(error, ConnectionError) or error.errno == errno.ESTALE
        fault = OriginFault.UNREACHABLE if unreachable else OriginFault.IO
        return OriginFailed(self._origin, fault, f"{place}: {error.strerror}")

    def check_root(self, session: NfsSession) -> bytes:
        """Returns the root's handle. Raises OriginFailed when the root is empty and had files before, and OSError with
        ESTALE when it is gone."""
        about = session.connection.stat("/")
        if about.nlink == 0 and session.used:
            raise OSError(errno.ESTALE, "the folder was removed")
        root = session.connection.root()
        seen = root, about.mtime_ns
        if seen == self._filled:
            return root
        try:
            empty = not session.connection.list("/")
        except PermissionError:
            detail = f"the folder {self._export.path!r} may not be listed"
            raise OriginFailed(self._origin, OriginFault.DENIED, detail) from None
        self._check_empty(empty)
        if not empty:
            self._filled = seen
        return root

    def check_same(self, session: NfsSession, root: bytes) -> None:
        if self.check_root(session) != root:
            raise OriginFailed(self._origin, OriginFault.UNREACHABLE, "the folder was replaced while it was listed")

    def identify(self, session: NfsSession) -> FolderIdentity:
        """Handles are the same by every address of a server, and other ones at every other server."""
        export, handle = self._export, session.connection.root().hex()
        by_handle = FolderIdentity(frozenset((f"nfs:{handle}",)))
        return merged((by_handle, folder_at_host("nfs", export.host, export.path)))

    def read(self, session: NfsSession, replica: Replica, offset: int, size: int) -> bytes:
        return self.read_ranges(session, replica, [(offset, size)])[0]

    def read_ranges(self, session: NfsSession, replica: Replica, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Reads each (offset, size). Requests all of them at once."""
        connection = session.connection
        within = [(offset, size_within(replica, offset, size)) for offset, size in ranges]
        certain = True
        try:
            handle, certain = self._handles.find(connection, replica.path)
            return self._read_at(connection, handle, replica, within)
        except (ConnectionError, TimeoutError):
            raise
        except (OSError, ReplicaFailed):
            self._handles.forget(connection, replica.path)
            if certain:
                raise
        # The known handle led elsewhere, for example because a folder was replaced: walk the path from the root.
        handle, _ = self._handles.find(connection, replica.path, afresh=True)
        return self._read_at(connection, handle, replica, within)

    def _read_at(
        self, connection: Connection, handle: bytes, replica: Replica, ranges: Sequence[tuple[int, int]]
    ) -> list[bytes]:
        try:
            found = _read_exactly(connection, handle, ranges)
        except (ConnectionError, TimeoutError):
            raise
        except OSError:
            self._check_version(replica, connection.get_attributes(handle))  # there may be a folder now
            raise
        # Each piece has the attributes of its own time, so all of them are of that version.
        pieces = [piece for several in found for piece in several]
        if not pieces or any(piece.about is None for piece in pieces):
            self._check_version(replica, connection.get_attributes(handle))
        for piece in pieces:
            if piece.about is not None:
                self._check_version(replica, piece.about)
        read = [_joined(several) for several in found]
        for data, (_, size) in zip(read, ranges, strict=True):
            check_length(replica, data, size)
        return read

    def _check_version(self, replica: Replica, about: NfsAttributes) -> None:
        now = Stat(replica.path, about.size, about.mtime_ns) if stat.S_ISREG(about.mode) else None
        check_version(replica, now, is_folder=stat.S_ISDIR(about.mode))

    def stat(self, session: NfsSession, path: str) -> Stat:
        about = session.connection.stat(f"/{path}")
        if not stat.S_ISREG(about.mode):
            self.check_root(session)
            raise ReplicaFailed(self._origin, path, ReplicaFault.MISSING, "it is not a file")
        return Stat(path, about.size, about.mtime_ns)

    def begin(self, session: NfsSession, under: str) -> tuple[bytes, Stat | None]:
        """Returns the root, and the file at `under`, or None if there is a folder."""
        root = self.check_root(session)
        about = session.connection.stat(f"/{under}")
        return root, Stat(under, about.size, about.mtime_ns) if stat.S_ISREG(about.mode) else None

    def list(self, session: NfsSession, root: bytes, folder: str) -> NfsListing:
        """Returns what `folder` holds, sorted by name; nothing if it has gone. Links are left out: what they lead to in
        the export is listed under its own name. Raises OSError or OriginFailed when it can't be listed."""
        found = NfsListing()
        try:
            entries = sorted(session.connection.list(f"/{folder}"))
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                found.problems.append(Problem(folder, Reason.DEEP_FOLDER, error.strerror or ""))
            elif error.errno in _GONE:  # one folder, or all of them?
                self.check_same(session, root)
            elif error.errno in _DENIED:
                detail = error.strerror or "" if folder else f"the folder {self._export.path!r} may not be listed"
                raise OriginFailed(self._origin, OriginFault.DENIED, detail) from error
            else:
                raise
            return found
        for entry in entries:
            if (problem := name_problem(folder, entry.name, is_folder=stat.S_ISDIR(entry.mode))) is not None:
                found.problems.append(problem)
                continue
            self._add(session.connection, f"{folder}/{entry.name}" if folder else entry.name, entry, found)
        return found

    @staticmethod
    def _add(connection: Connection, path: str, entry: NfsEntry, found: NfsListing) -> None:
        is_link = stat.S_ISLNK(entry.mode)
        try:
            about = connection.stat(f"/{path}") if is_link or not entry.mode else entry
        except (ConnectionError, TimeoutError):
            raise
        except OSError as error:
            problem = _entry_problem(path, error, is_link=is_link)
            found.problems += [] if problem is None else [problem]
            return
        if not is_link:
            found.add(path, about)


def _entry_problem(path: str, error: OSError, *, is_link: bool) -> Problem | None:
    """Returns why an entry can't be looked at; None if it has gone. What is no link may be a folder."""
    if is_link:
        reason = Reason.DENIED if error.errno in _DENIED else Reason.LINK_BROKEN
        return Problem(path, reason, "" if error.errno == errno.ENOENT else error.strerror or "")
    if error.errno in _GONE:
        return None
    return Problem(path, Reason.CLOSED_FOLDER if error.errno in _DENIED else Reason.BROKEN_FOLDER, error.strerror or "")


def _fault_of_file(error: OSError) -> ReplicaFault | None:
    """Returns the fault if the server refuses one file, else None."""
    if isinstance(error, ConnectionError | TimeoutError):
        return None
    faults = ((_GONE, ReplicaFault.MISSING), (_DENIED, ReplicaFault.DENIED), (_BROKEN, ReplicaFault.IO))
    return next((fault for numbers, fault in faults if error.errno in numbers), None)


def _read_exactly(connection: Connection, handle: bytes, ranges: Sequence[tuple[int, int]]) -> list[list[Piece]]:
    """Reads all bytes of the ranges, fewer only at the end of the file."""
    found = [list(pieces) for pieces in connection.read_ranges(handle, ranges)]
    for pieces, (offset, size) in zip(found, ranges, strict=True):
        done = total = sum(len(piece.data) for piece in pieces)
        while total < size and done:  # the server sends less at a time than it announces, or the file has ended
            more = connection.read_ranges(handle, [(offset + total, size - total)])[0]
            done = sum(len(piece.data) for piece in more)
            total += done
            pieces += more
    return found


def _joined(pieces: Sequence[Piece]) -> bytes:
    return pieces[0].data if len(pieces) == 1 else b"".join(piece.data for piece in pieces)
