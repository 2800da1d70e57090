"""Reads and lists the files of an export. All methods block: for worker threads."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Sequence
from typing import TypeVar, TypeVarTuple

from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import OriginId, Replica, Stat
from musicfs.origins.helpers import (
    EmptyRootCheck,
    check_length,
    check_version,
    is_in_reach,
    is_skipped,
    is_usable,
    size_within,
)
from musicfs.origins.listing import FolderListing
from musicfs.origins.nfs.handle_cache import HandleCache
from musicfs.origins.nfs.libnfs import Connection, Export, NfsStat64, Patience
from musicfs.origins.nfs.pool import ExportRefused, NfsPool, NfsSession
from musicfs.origins.nfs.rpc import Piece
from musicfs.origins.nfs.xdr import NfsAttributes

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_DENIED = (errno.EACCES, errno.EPERM)


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

    def call(self, patience: Patience, path: str, call: Callable[[NfsSession, *Ts], T], *args: *Ts) -> T:
        """Returns what `call` returns. Raises TimeoutError when `patience` ends, else OriginFailed or ReplicaFailed."""
        patience.heard()
        try:
            try:
                return self._attempt(patience, path, call, args)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
            # The server forgot a handle, perhaps not the file: find everything again from the export's path on.
            self._sessions.forget()
            self._handles.clear()
            return self._attempt(patience, path, call, args)
        except TimeoutError:
            raise
        except OSError as error:
            raise self._failure(error) from error

    def _attempt(self, patience: Patience, path: str, call: Callable[[NfsSession, *Ts], T], args: tuple[*Ts]) -> T:
        with self._sessions.one(patience) as session:
            try:
                return call(session, *args)
            except OSError as error:
                if error.errno not in _GONE + _DENIED:
                    raise
                self.check_root(session)  # a missing file means something only while the root is there
                fault = ReplicaFault.MISSING if error.errno in _GONE else ReplicaFault.DENIED
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
            hint = (
                "" if export.port and export.mount_port else "; if the server has no rpcbind, give port and mount_port"
            )
            return OriginFailed(self._origin, OriginFault.REFUSED, f"{export.host}: connection refused{hint}")
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
            raise self._unlisted(self._export.path) from None
        self._check_empty(empty)
        if not empty:
            self._filled = seen
        return root

    def check_same(self, session: NfsSession, root: bytes) -> None:
        if self.check_root(session) != root:
            raise OriginFailed(self._origin, OriginFault.UNREACHABLE, "the folder was replaced while it was listed")

    def read_ranges(self, session: NfsSession, replica: Replica, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Reads each (offset, size) as `read` does."""
        return [self.read(session, replica, offset, size) for offset, size in ranges]

    def read(self, session: NfsSession, replica: Replica, offset: int, size: int) -> bytes:
        connection, size = session.connection, size_within(replica, offset, size)
        certain = True
        try:
            handle, certain = self._handles.find(connection, replica.path)
            return self._read_at(connection, handle, replica, offset, size)
        except (ConnectionError, TimeoutError):
            raise
        except (OSError, ReplicaFailed):
            self._handles.forget(connection, replica.path)
            if certain:
                raise
        # The known handle led elsewhere, for example because a folder was replaced: walk the path from the root.
        handle, _ = self._handles.find(connection, replica.path, afresh=True)
        return self._read_at(connection, handle, replica, offset, size)

    def _read_at(self, connection: Connection, handle: bytes, replica: Replica, offset: int, size: int) -> bytes:
        try:
            pieces = _read_exactly(connection, handle, offset, size)
        except (ConnectionError, TimeoutError):
            raise
        except OSError:
            self._check_version(replica, connection.get_attributes(handle))  # there may be a folder now
            raise
        # Each piece has the attributes of its own time, so all of them are of that version.
        if not pieces or any(piece.about is None for piece in pieces):
            self._check_version(replica, connection.get_attributes(handle))
        for piece in pieces:
            if piece.about is not None:
                self._check_version(replica, piece.about)
        data = pieces[0].data if len(pieces) == 1 else b"".join(piece.data for piece in pieces)
        check_length(replica, data, size)
        return data

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

    def list(self, session: NfsSession, root: bytes, folder: str) -> FolderListing:
        """Returns what `folder` holds. Links are left out: what they lead to in the export is listed under its own
        name."""
        found = FolderListing()
        try:
            entries = sorted(session.connection.list(f"/{folder}"))
        except OSError as error:
            if error.errno in _GONE:  # one folder, or all of them?
                self.check_same(session, root)
                return found
            if error.errno in _DENIED:
                raise self._unlisted(folder or self._export.path) from error
            raise
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if not is_usable(entry.name) or not is_in_reach(path):
                continue
            about = entry if entry.mode else self._stat_if_there(session, path)
            if about is None:
                continue
            if stat.S_ISREG(about.mode):
                found.files.append(Stat(path, about.size, about.mtime_ns))
            elif stat.S_ISDIR(about.mode) and not is_skipped(entry.name):
                found.folders.append(path)
                found.times[path] = about.mtime_ns
        return found

    def _unlisted(self, folder: str) -> OriginFailed:
        return OriginFailed(self._origin, OriginFault.DENIED, f"the folder {folder!r} may not be listed")

    def _stat_if_there(self, session: NfsSession, path: str) -> NfsStat64 | None:
        """Returns the attributes that the listing lacks; None if the file has gone meanwhile."""
        try:
            return session.connection.stat(f"/{path}")
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise


def _read_exactly(connection: Connection, handle: bytes, offset: int, size: int) -> list[Piece]:
    """Reads all `size` bytes, fewer only at the end of the file."""
    found: list[Piece] = []
    done = 1
    while size > 0 and done:
        pieces = connection.read(handle, offset, size)
        done = sum(len(piece.data) for piece in pieces)
        found += pieces
        offset += done
        size -= done
    return found
