"""The driver for folders on a server that is reached by SSH."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from musicfs.config.kinds import OriginKind, missing_extra
from musicfs.config.models import OriginConfig
from musicfs.errors import MusicFSError, OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import HealthStatus, OriginId, OriginType, Replica, Stat, decode_path, encode_path
from musicfs.origin import FolderIdentity, ScanObserver, WatchCallback, WatchHandle, server_name
from musicfs.origins.folder_identity import folder_at_host, folder_here, folder_on_server, is_this_machine, merged
from musicfs.origins.folder_queue import FolderQueue
from musicfs.origins.helpers import (
    MAX_FOLDERS,
    EmptyRootCheck,
    FolderFailures,
    StrictObserver,
    check_inside,
    check_length,
    check_version,
    size_within,
)
from musicfs.origins.interruptions import Interruptions
from musicfs.origins.sftp.connect import SftpConnector, SftpPool
from musicfs.origins.sftp.handles import Handles, lacks_handles
from musicfs.origins.sftp.listing import (
    Listed,
    SftpFolder,
    Walk,
    below,
    is_file,
    is_folder,
    is_folder_there,
    is_unknown,
    version_of,
)
from musicfs.origins.sftp.session import SftpSession
from musicfs.origins.sftp.settings import SftpSettings, from_url, remote_path
from musicfs.system.tasks import retrieve
from musicfs.texts import said

if TYPE_CHECKING:
    from asyncssh import SFTPAttrs

T = TypeVar("T")

# A second connection doubles what a link with much latency carries, as each has a window; and one slow request does
# not hold up everything. A third adds little.
_CONNECTIONS = 2


class SftpOrigin:
    """Reads a folder by SFTP; origin.Origin is the contract."""

    def __init__(self, config: OriginConfig, *, populated: bool = False) -> None:
        self.id: OriginId = config.id
        self.kind: OriginType = config.origin_type
        settings = SftpSettings.model_validate(dict(config.settings))
        self._root = encode_path(remote_path(settings.path))
        self._host = settings.host or ""
        self._shown = f"{settings.host}:{settings.path}"
        detail = f"the folder {self._shown} is empty; is its disk mounted there?"
        self._check_empty = EmptyRootCheck(config.id, populated, detail)
        self._timeout = config.timeout_ms / 1000
        self._turns = asyncio.Semaphore(config.pool_size)
        most = min(_CONNECTIONS, config.pool_size)
        self._sessions = SftpPool(SftpConnector(config, settings), most, self._closed)
        self._checked = 0.0
        self._alone = asyncio.Lock()
        self._handles = Handles(self._sessions.make_room)
        self._interruptions = Interruptions(config.id)

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        return (await self.read_ranges(replica, [(offset, size)]))[0]

    async def read_ranges(self, replica: Replica, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Requests all ranges at once, as one call (origin.ReadsRanges)."""

        async def read(session: SftpSession) -> list[bytes]:
            return await self._read(session, replica, ranges)

        return await self._perform(replica.path, read)

    async def identify_folder(self) -> FolderIdentity:
        """Names the folder by the server's host key and the real path (origin.KnowsItsFolder)."""
        return await self._perform("", self._identify)

    async def _identify(self, session: SftpSession) -> FolderIdentity:
        path, about = decode_path(await session.realpath(self._root)), await session.stat(self._root)
        return await asyncio.to_thread(_identity_of, session.host_key, self._host, path, about.mtime)

    async def stat(self, path: str) -> Stat:
        async def stat(session: SftpSession) -> Stat:
            full = self._full(path)
            about = await session.stat(full)
            if await is_folder_there(session, full, about) or not (is_file(about) or is_unknown(about)):
                raise ReplicaFailed(self.id, path, ReplicaFault.MISSING, "it is not a file")
            return Stat(path, *version_of(about))

        return await self._perform(path, stat)

    def scan(self, under: str = "") -> AsyncIterator[Stat]:
        return self.scan_observed(StrictObserver(self.id), under)

    async def scan_observed(self, observer: ScanObserver, under: str = "") -> AsyncIterator[Stat]:
        """Scans, and reports what can't be listed (origin.ObservesScans). Notices that another root replaced this one
        during the scan only if a folder is missing then."""
        start = await self._perform(under, lambda session: self._begin(session, under))
        if isinstance(start, Stat):
            yield start
            return
        walk, place = start
        failures = FolderFailures(observer, self._check_root_again)
        linked = deque[SftpFolder]()

        async def list(place: SftpFolder) -> Listed | None:
            return await self._list(walk, place, failures)

        async with FolderQueue(list, [place]).closing() as folders:
            while (listed := await folders.next()) is not None or linked:
                if listed is None:
                    folders.add([linked.popleft()])
                    continue
                found = listed[1] or Listed()
                for problem in found.problems:
                    observer.report(problem)
                for file in found.files:
                    yield file
                folders.add(each for each in found.folders if _is_wanted(walk, each, observer))
                linked += (each for each in found.linked if _is_wanted(walk, each, observer))
                if len(folders) + len(linked) > MAX_FOLDERS:
                    detail = f"{self._shown} has more folders than can be listed"
                    raise OriginFailed(self.id, OriginFault.IO, detail)
        await self._check_root_again()

    async def health(self) -> HealthStatus:
        """Also closes files if nothing was read since the last check, so that the server's disk can be unmounted."""
        await self._perform("", self._check_root, waits=False)
        since, self._checked = self._checked, asyncio.get_running_loop().time()
        for session in self._sessions.living:
            session.rest(since)
        return HealthStatus.HEALTHY

    async def watch(self, path: str, callback: WatchCallback) -> WatchHandle | None:
        return None

    def drop_connections(self) -> None:
        """Ends all connections (origin.DropsConnections)."""
        self._interruptions.record()
        self._sessions.drop()

    async def aclose(self) -> None:
        await self._sessions.aclose()

    async def _perform(
        self, path: str, call: Callable[[SftpSession], Awaitable[T]], *, waits: bool = True, patient: bool = False
    ) -> T:
        """Runs a call in time, and translates its failures.

        waits: for a free slot, when many calls are under way. patient: the call limits its own requests.
        """
        check_inside(self.id, path)
        with self._interruptions.named():
            secs = await self._sessions.ready()
            try:
                async with asyncio.timeout(None if patient else secs):
                    if not waits:
                        return await self._translated(path, call)
                    async with self._turns:
                        return await self._translated(path, call)
            except TimeoutError as error:
                detail = f"no answer from {self._shown} within {secs:g} s"
                raise OriginFailed(self.id, OriginFault.TIMEOUT, detail) from error

    async def _translated(self, path: str, call: Callable[[SftpSession], Awaitable[T]]) -> T:
        session = await self._sessions.take()
        async with session.call():
            try:
                return await call(session)
            except (MusicFSError, TimeoutError):
                raise
            except Exception as error:
                raise await self._failure(session, path, error) from error

    async def _failure(self, session: SftpSession, path: str, error: Exception) -> MusicFSError:
        """Translates `error` into a failure of the origin, or only of the file at `path`."""
        from asyncssh import SFTPFailure, SFTPNoSuchFile, SFTPPermissionDenied

        faults: dict[type[Exception], ReplicaFault] = {
            SFTPNoSuchFile: ReplicaFault.MISSING, SFTPPermissionDenied: ReplicaFault.DENIED,
            SFTPFailure: ReplicaFault.IO,
        }  # fmt: skip
        fault = faults.get(type(error))
        if fault is None or not session.alive or (fault is ReplicaFault.IO and (not path or lacks_handles(error))):
            return self._origin_failure(session, error)
        try:
            await self._check_root(session)
        except OriginFailed as failed:
            return failed
        except TimeoutError:
            raise
        except Exception as worse:
            return self._origin_failure(session, worse)
        return ReplicaFailed(self.id, path, fault, said(error))

    def _origin_failure(self, session: SftpSession, error: Exception) -> OriginFailed:
        from asyncssh import Error, SFTPConnectionLost, SFTPError, SFTPNoConnection

        if self._sessions.closed:
            return self._closed()
        detail = f"{self._shown}: {said(error)}"
        if isinstance(error, (SFTPConnectionLost, SFTPNoConnection)) or not session.alive:
            session.abort()  # the SSH connection may outlive its SFTP server, and is useless then
            return OriginFailed(self.id, OriginFault.UNREACHABLE, detail)
        if isinstance(error, SFTPError):
            return OriginFailed(self.id, OriginFault.IO, detail)
        session.abort()
        if isinstance(error, (Error, OSError)):
            return OriginFailed(self.id, OriginFault.UNREACHABLE, detail)
        return OriginFailed(self.id, OriginFault.IO, f"{self._shown}: {type(error).__name__}: {said(error)}")

    def _closed(self) -> OriginFailed:
        return OriginFailed(self.id, OriginFault.UNREACHABLE, "it has been closed")

    # Calls

    async def _read(self, session: SftpSession, replica: Replica, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        from asyncssh import SFTPFailure

        path = self._full(replica.path)
        within = [(offset, size_within(replica, offset, size)) for offset, size in ranges]
        await self._handles.wait()
        try:
            return await self._read_from(session, path, replica, within)
        except SFTPFailure:
            # Unspecific: a folder in the place of the file causes it, a broken disk, and too many open files.
            self._check_version(replica, await session.stat(path))
        return await self._handles.shared_by(lambda: self._read_from(session, path, replica, within))

    async def _read_from(
        self, session: SftpSession, path: bytes, replica: Replica, ranges: Sequence[tuple[int, int]]
    ) -> list[bytes]:
        async with session.file(path, replica) as file:
            read, about = await session.read_ranges(file, ranges)
            self._check_version(replica, about)
            for data, (_, size) in zip(read, ranges, strict=True):
                check_length(replica, data, size)
            return read

    def _check_version(self, replica: Replica, about: SFTPAttrs) -> None:
        now = Stat(replica.path, *version_of(about)) if is_file(about) or is_unknown(about) else None
        check_version(replica, now, is_folder=is_folder(about))

    async def _begin(self, session: SftpSession, under: str) -> Stat | tuple[Walk, SftpFolder]:
        """Returns the file at `under`, or a walk from the folder there."""
        await self._check_root(session)
        about = await session.stat(self._full(under))
        if not await is_folder_there(session, self._full(under), about):
            return Stat(under, *version_of(about))
        walk = Walk(self._root, await session.realpath(self._root))
        return walk, walk.place(under, await session.realpath(self._full(under)))

    async def _list(self, walk: Walk, place: SftpFolder, failures: FolderFailures) -> Listed | None:
        """Lists a folder; None if `failures` has reported it."""

        async def attempt() -> Listed:
            try:
                return await self._list_once(walk, place, asks=True)
            except OriginFailed as failure:
                if failure.fault is not OriginFault.TIMEOUT:
                    raise
            # Many servers do one thing after the other: another folder may hang, or where a link in this one leads.
            async with self._alone:
                return await self._list_once(walk, place, asks=False)

        return await failures.list(place.path, attempt)

    async def _list_once(self, walk: Walk, place: SftpFolder, *, asks: bool) -> Listed:
        return await self._perform("", lambda session: self._listed(session, walk, place, asks), patient=True)

    async def _listed(self, session: SftpSession, walk: Walk, place: SftpFolder, asks: bool) -> Listed:
        from asyncssh import SFTPFailure, SFTPNoSuchFile, SFTPPermissionDenied

        await self._handles.wait()
        try:
            try:
                return await walk.list(session, place, asks=asks)
            except SFTPFailure:
                return await self._handles.shared_by(lambda: walk.list(session, place, asks=asks))
        except SFTPNoSuchFile:  # one folder, or all of them?
            await self._check_vanished(session, place)
            return Listed()
        except (SFTPPermissionDenied, SFTPFailure) as error:
            fault = OriginFault.DENIED if isinstance(error, SFTPPermissionDenied) else OriginFault.IO
            raise OriginFailed(self.id, fault, error.reason if place.path else self._unlisted(error)) from error

    def _unlisted(self, error: Exception) -> str:
        return f"the folder {self._shown!r} can't be listed: {said(error)}"

    async def _check_root_again(self) -> None:
        """Checks the root beside folders that hang, on a connection of which none makes use if need be."""
        async with self._alone:
            try:
                await self._perform("", self._check_root)
            except OriginFailed as failure:
                if failure.fault is not OriginFault.TIMEOUT:
                    raise
                await self._perform("", self._check_root)

    async def _check_vanished(self, session: SftpSession, place: SftpFolder) -> None:
        from asyncssh import SFTPNoSuchFile

        await self._check_root(session)
        try:
            await session.stat(self._full(place.path))
        except SFTPNoSuchFile:
            return
        raise OriginFailed(
            self.id, OriginFault.UNREACHABLE, f"the folder {place.path!r} vanished and came back while it was listed"
        )

    async def _check_root(self, session: SftpSession) -> None:
        """Raises OriginFailed when the root is away, or emptied since it was seen with files."""
        from asyncssh import SFTPFailure, SFTPNoSuchFile, SFTPPermissionDenied

        try:
            # Both at once, since each takes round trips.
            listing = asyncio.create_task(session.is_empty(self._root))
            listing.add_done_callback(retrieve)
            about = await session.stat(self._root)
            if not (is_folder(about) or is_unknown(about)):
                raise OriginFailed(self.id, OriginFault.UNREACHABLE, f"{self._shown} is not a folder")
            try:
                empty = await listing
            except SFTPFailure:
                empty = await self._handles.shared_by(lambda: session.is_empty(self._root))
        except SFTPNoSuchFile:
            detail = (
                f"there is no folder {self._shown}; is its disk mounted there? For some accounts, paths start elsewhere"
            )
            raise OriginFailed(self.id, OriginFault.UNREACHABLE, detail) from None
        except SFTPPermissionDenied:
            raise OriginFailed(self.id, OriginFault.DENIED, f"the folder {self._shown} may not be read") from None
        self._check_empty(empty)

    def _full(self, path: str) -> bytes:
        return below(self._root, path)


def _identity_of(host_key: bytes, host: str, path: str, mtime: int | None) -> FolderIdentity:
    """Names a folder. Blocks.

    Args:
        host_key: The server's public key.
        host: The server, as the configuration names it.
        path: Of the folder there, without links.
        mtime: The folder's time of change, in seconds since the epoch.
    """
    names = [folder_on_server(f"sftp:{host_key.decode()}", path), folder_at_host("sftp", host, path)]
    if is_this_machine(host_key):
        with contextlib.suppress(OSError):
            # The account may see another root than this process does: then the same path is another folder.
            if int(os.stat(path).st_mtime) == mtime:  # noqa: PTH116 (of what may be no UTF-8)
                names.append(folder_here(path))
    return merged(names)


def _is_wanted(walk: Walk, place: SftpFolder, observer: ScanObserver) -> bool:
    if not walk.is_new(place):
        return False  # it is listed under another name
    return observer.enters(place.path, place.mtime_ns)


def _missing(config: OriginConfig) -> str | None:
    return missing_extra(config, "asyncssh", "sftp")


KIND = OriginKind(
    OriginType.SFTP,
    SftpSettings,
    SftpOrigin,
    remote=True,
    schemes=("sftp",),
    from_url=from_url,
    missing=_missing,
    server=lambda settings: server_name(settings.get("host"), settings.get("port")),
)
