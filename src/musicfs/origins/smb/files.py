"""Files and folders below the prefix of a connected share: paths, versions, failures. All methods block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smbprotocol.header import NtStatus

from musicfs.errors import MusicFSError, OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import OriginId, Replica, Stat
from musicfs.origin import FolderIdentity
from musicfs.origins.folder_identity import folder_at_host, folder_on_server, merged
from musicfs.origins.helpers import EmptyRootCheck, check_length, check_version, read_exactly, size_within
from musicfs.origins.smb import wire
from musicfs.origins.smb.errors import ShareLost, StatusRefused
from musicfs.origins.smb.session import Deadline, Share
from musicfs.problems import Problem, Reason

_MISSING = frozenset(
    {
        NtStatus.STATUS_OBJECT_NAME_NOT_FOUND, NtStatus.STATUS_OBJECT_PATH_NOT_FOUND, NtStatus.STATUS_NO_SUCH_FILE,
        NtStatus.STATUS_NOT_FOUND, NtStatus.STATUS_OBJECT_NAME_INVALID, NtStatus.STATUS_OBJECT_PATH_INVALID,
        NtStatus.STATUS_OBJECT_PATH_SYNTAX_BAD, NtStatus.STATUS_FILE_IS_A_DIRECTORY, NtStatus.STATUS_NOT_A_DIRECTORY,
        NtStatus.STATUS_DELETE_PENDING, NtStatus.STATUS_STOPPED_ON_SYMLINK, 0xC0000106,  # name too long
        0xC0000279, 0xC0000280,  # a reparse point that the server does not follow
    }
)  # fmt: skip
_FILE_LOCK_CONFLICT = 0xC0000054
_DENIED = frozenset({NtStatus.STATUS_ACCESS_DENIED, NtStatus.STATUS_SHARING_VIOLATION, _FILE_LOCK_CONFLICT})
_OUTLIVED = frozenset({NtStatus.STATUS_USER_SESSION_DELETED, NtStatus.STATUS_NETWORK_NAME_DELETED, 0xC000035C})
_BROKEN = frozenset(
    {0xC000003E, 0xC000003F, 0xC0000185, 0xC0000032, 0xC00000E9, 0xC0000102}
)  # errors of the server's disk
_TOO_LONG = 0xC0000106
_LINKS = frozenset({NtStatus.STATUS_STOPPED_ON_SYMLINK, 0xC0000257, 0xC0000279, 0xC0000280})
"""The folder is a link that the server does not follow, or leads to another server (DFS)."""
_FILE_IS_OFFLINE = 0xC0000267
_CLOUD = range(0xC000CF00, 0xC000D000)
"""Refusals to bring a file back from a cloud."""


@dataclass(slots=True)
class SmbListing:
    """A folder whose listing is under way. entries: the present page."""

    path: str
    about: wire.SmbAttributes
    entries: list[wire.SmbEntry]


class SmbFiles:
    """The files of one connection. Methods raise OriginFailed and ReplicaFailed as origin.Origin says."""

    def __init__(self, id: OriginId, share: Share, prefix: str, populated: bool) -> None:
        self._id = id
        self._share = share
        self._prefix = prefix
        self._shown = f"the folder {prefix!r} of the share" if prefix else "the share's folder"
        self._check_empty = EmptyRootCheck(id, populated, f"{self._shown} is empty; is the server's disk there?")

    @property
    def populated(self) -> bool:
        """Whether it is known to have had files."""
        return self._check_empty.populated

    @property
    def alive(self) -> bool:
        return self._share.alive

    def connect(self) -> None:
        """Connects. Call it once, and first."""
        try:
            self._share.connect()
        except ShareLost as lost:
            raise OriginFailed(self._id, lost.fault, str(lost)) from lost

    def close(self) -> None:
        self._share.close()

    def identify(self, deadline: Deadline) -> FolderIdentity:
        server, login = self._share.server_id, self._share.login
        path = f"{login.share}/{self._prefix}".lower()  # as servers compare them
        return merged((folder_on_server(f"smb:{server}", path), folder_at_host("smb", login.host, path)))

    # Reading

    def read(self, replica: Replica, offset: int, size: int, deadline: Deadline) -> bytes:
        return self.read_ranges(replica, [(offset, size)], deadline)[0]

    def read_ranges(self, replica: Replica, ranges: Sequence[tuple[int, int]], deadline: Deadline) -> list[bytes]:
        """Reads each (offset, size), several in one round trip."""
        left = [(offset, size_within(replica, offset, size)) for offset, size in ranges]
        found: list[bytes] = []
        try:
            while left:
                some = self._share.together([size for _, size in left])
                for (offset, size), data in zip(left, self._read_once(replica, left[:some], deadline), strict=False):
                    found.append(self._completed(replica, offset, size, data, deadline))
                left = left[some:]
        except (StatusRefused, ShareLost) as error:
            raise self._failure(replica.path, error, deadline) from error
        return found

    def _read_once(self, replica: Replica, ranges: Sequence[tuple[int, int]], deadline: Deadline) -> list[bytes]:
        read, before, after = self._share.read(self._full(replica.path), ranges, deadline)
        check_version(replica, _stat(replica.path, before) if before == after else None)
        return read

    def _completed(self, replica: Replica, offset: int, size: int, data: bytes, deadline: Deadline) -> bytes:
        """Returns all of a range of which the server has sent the beginning."""

        def read_some(offset: int, size: int) -> bytes:
            return self._read_once(replica, [(offset, size)], deadline)[0]

        if data and len(data) < size:
            data += read_exactly(read_some, offset + len(data), size - len(data))
        check_length(replica, data, size)
        return data

    # Attributes

    def stat(self, path: str, deadline: Deadline) -> Stat:
        try:
            about = self._share.stat(self._full(path), deadline)
        except (StatusRefused, ShareLost) as error:
            raise self._failure(path, error, deadline) from error
        return _stat(path, about.version)

    def check_root(self, deadline: Deadline) -> wire.Identity | None:
        """Returns the root's identity. Raises OriginFailed when the root is gone, or empty although it had files."""
        try:
            about, entries = self._share.peek(self._full(""), deadline)
        except ShareLost as lost:
            raise OriginFailed(self._id, lost.fault, str(lost)) from lost
        except StatusRefused as refused:
            if refused.status not in _DENIED:
                self.close()  # a server may hide a folder that has come back from a connection that saw it go
            fault = OriginFault.DENIED if refused.status in _DENIED else OriginFault.UNREACHABLE
            raise OriginFailed(self._id, fault, f"{self._shown}: {refused}") from refused
        empty = all(entry.name in (".", "..") for entry in entries)
        self._check_empty(empty)
        return about.identity

    # Listing

    def begin(self, under: str, deadline: Deadline) -> tuple[wire.Identity | None, Stat | None]:
        """Returns the root's identity, to compare at the end, and the file at `under`, or None if it is a folder."""
        root = self.check_root(deadline)
        if not under:
            return root, None
        try:
            about = self._share.stat(self._full(under), deadline, folder=None)
        except (StatusRefused, ShareLost) as error:
            raise self._failure(under, error, deadline) from error
        return root, None if about.is_folder else _stat(under, about.version)

    def open_folder(self, path: str, root: wire.Identity | None, deadline: Deadline) -> SmbListing | Problem | None:
        """Returns the folder with its first page, or why it has none; None if it has gone and the root is still there.
        Raises OriginFailed."""
        try:
            about, entries = self._share.list_folder(self._full(path), deadline)
        except ShareLost as lost:
            raise OriginFailed(self._id, lost.fault, str(lost)) from lost
        except StatusRefused as refused:
            if refused.status in _LINKS | {_TOO_LONG}:
                reason = Reason.DEEP_FOLDER if refused.status == _TOO_LONG else Reason.LINK_OUTSIDE
                return Problem(path, reason, str(refused))
            if refused.status in _MISSING:
                self.check_same(root, deadline)
                return None
            raise self._not_listed(path, refused) from refused
        return SmbListing(path, about, entries)

    def next_page(self, folder: SmbListing, deadline: Deadline) -> bool:
        """Fetches the next page. Returns False, and closes the folder, when there is none."""
        try:
            entries = self._share.list_on(folder.about.handle, deadline)
        except ShareLost as lost:
            raise OriginFailed(self._id, lost.fault, str(lost)) from lost
        except StatusRefused as refused:
            raise self._not_listed(folder.path, refused) from refused
        if entries is None:
            self.close_folder(folder, deadline)
            return False
        folder.entries = entries
        return True

    def close_folder(self, folder: SmbListing, deadline: Deadline) -> None:
        self._share.shut(folder.about.handle, deadline)

    def check_same(self, root: wire.Identity | None, deadline: Deadline) -> None:
        if self.check_root(deadline) != root:
            raise OriginFailed(self._id, OriginFault.UNREACHABLE, "the folder was replaced while it was listed")

    def _not_listed(self, path: str, refused: StatusRefused) -> OriginFailed:
        fault = OriginFault.DENIED if refused.status in _DENIED else _fault(refused)
        detail = str(refused) if path else f"{self._shown} can't be listed: {refused}"
        return OriginFailed(self._id, fault, detail)

    # Failures

    def _failure(self, path: str, error: StatusRefused | ShareLost, deadline: Deadline) -> MusicFSError:
        """Translates `error` into a failure of the origin, or only of the file at `path`."""
        if isinstance(error, ShareLost):
            return OriginFailed(self._id, error.fault, str(error))
        if error.status in _OUTLIVED:
            self.close()
        fault = _fault_of_file(error.status)
        if fault is None or (fault is ReplicaFault.IO and not path):
            return OriginFailed(self._id, _fault(error), f"{path}: {error}")
        try:
            self.check_root(deadline)
        except OriginFailed as failed:
            return failed
        return ReplicaFailed(self._id, path, fault, str(error))

    def _full(self, path: str) -> str:
        return "/".join(part for part in (self._prefix, path) if part).replace("/", "\\")


def is_addressable(path: str) -> bool:
    """Whether a listing can contain this path."""
    return not path or all(wire.is_name(part) and part not in (".", "..") for part in path.split("/"))


def _stat(path: str, version: wire.Version) -> Stat:
    return Stat(path, version.size, version.mtime_ns)


def _fault_of_file(status: int) -> ReplicaFault | None:
    """Returns the fault if the server refuses one file, else None."""
    if status == _FILE_IS_OFFLINE or status in _CLOUD:
        return ReplicaFault.ARCHIVED
    faults = ((_MISSING, ReplicaFault.MISSING), (_DENIED, ReplicaFault.DENIED), (_BROKEN, ReplicaFault.IO))
    return next((fault for statuses, fault in faults if status in statuses), None)


def _fault(refused: StatusRefused) -> OriginFault:
    return OriginFault.IO if refused.status in _BROKEN else OriginFault.UNREACHABLE
