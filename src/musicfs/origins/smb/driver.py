"""The driver for shares that are not mounted: the part that runs on the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar, TypeVarTuple

from musicfs.config.models import OriginConfig
from musicfs.config.secret_variables import variable_of
from musicfs.config.secrets import find_secret
from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault, UserError
from musicfs.model import HealthStatus, OriginId, OriginType, Replica, Stat
from musicfs.origin import FolderIdentity, ScanObserver, WatchCallback
from musicfs.origins.folder_queue import FolderQueue
from musicfs.origins.helpers import (
    MAX_FOLDER_SECS,
    MAX_FOLDERS,
    MAX_NAMES,
    FolderFailures,
    StrictObserver,
    name_problem,
)
from musicfs.origins.interruptions import Interruptions
from musicfs.origins.smb.errors import Login
from musicfs.origins.smb.files import SmbFiles, SmbListing, is_addressable
from musicfs.origins.smb.session import Deadline, Share
from musicfs.origins.smb.settings import SmbSettings
from musicfs.origins.smb.wire import Identity, SmbEntry
from musicfs.problems import Problem, Reason
from musicfs.system.tasks import Tasks
from musicfs.system.threads import WorkersClosed, WorkersUnavailable, WorkerThreads

log = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _FolderToList(NamedTuple):
    """A folder to list. above: the identities of the folders that lead to it."""

    path: str
    above: frozenset[Identity]


class _ListedFolder(NamedTuple):
    """What was listed of a folder."""

    entries: list[SmbEntry]
    identity: Identity | None


class SmbOrigin:
    """Reads a share; origin.Origin is the contract. Blocking calls run in the origin's own threads, over one
    connection.

    After a connection has ended, the next call makes a new one, once for all callers that wait for it.
    """

    def __init__(self, config: OriginConfig, *, populated: bool = False) -> None:
        self.id: OriginId = config.id
        self.kind: OriginType = config.origin_type
        self._config = config
        self._settings = SmbSettings.model_validate(dict(config.settings))
        self._prefix = self._settings.prefix.strip("/")
        self._populated = populated
        self._timeout = config.timeout_ms / 1000
        self._threads = WorkerThreads(f"origin-{config.id}", config.pool_size)
        self._files: SmbFiles | None = None
        self._connecting: asyncio.Task[SmbFiles] | None = None
        self._leaving = Tasks(log, quiet=(Exception,))
        self._closed = False
        self._interruptions = Interruptions(config.id)

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        return await self._run(replica.path, SmbFiles.read, replica, offset, size)

    async def read_ranges(self, replica: Replica, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Requests the ranges together, in one call of a thread (origin.ReadsRanges)."""
        return await self._run(replica.path, SmbFiles.read_ranges, replica, ranges)

    async def identify_folder(self) -> FolderIdentity:
        """Names the folder by the server's own id, the share and the prefix (origin.KnowsItsFolder)."""
        return await self._run("", SmbFiles.identify)

    async def stat(self, path: str) -> Stat:
        return await self._run(path, SmbFiles.stat, path)

    def scan(self, under: str = "") -> AsyncIterator[Stat]:
        return self.scan_observed(StrictObserver(self.id), under)

    async def scan_observed(self, observer: ScanObserver, under: str = "") -> AsyncIterator[Stat]:
        """Scans, and reports what can't be listed (origin.ObservesScans)."""
        try:
            root, file = await self._run(under, SmbFiles.begin, under)
        except ReplicaFailed as failure:
            if failure.fault is not ReplicaFault.DENIED:
                raise
            observer.report(Problem(under, Reason.CLOSED_FOLDER, failure.detail))  # or a file: no one knows
            return
        if file is not None:
            yield file
            return
        failures = FolderFailures(observer, lambda: self._run("", SmbFiles.check_same, root))
        begin = partial(self._list, root, observer, failures)
        async with FolderQueue(begin, [_FolderToList(under, frozenset())]).closing() as folders:
            while (listed := await folders.next()) is not None:
                (path, above), found = listed
                below: list[tuple[str, int]] = []
                for entry in found.entries:
                    problem = _problem_of(path, entry)
                    name = f"{path}/{entry.name}" if path else entry.name
                    if problem is not None:
                        observer.report(problem)
                    elif entry.is_folder:
                        below.append((name, entry.mtime_ns))
                    else:
                        yield Stat(name, entry.size, entry.mtime_ns)
                chain = above | {found.identity} if found.identity else above
                folders.add(_FolderToList(name, chain) for name, mtime_ns in below if observer.enters(name, mtime_ns))
                if len(folders) > MAX_FOLDERS:
                    raise OriginFailed(self.id, OriginFault.IO, "it has more folders than can be listed")
        await self._run("", SmbFiles.check_same, root)

    async def _list(
        self, root: Identity | None, observer: ScanObserver, failures: FolderFailures, folder: _FolderToList
    ) -> _ListedFolder:
        """Lists a folder. If that fails half way, it is reported, and what was listed before counts."""
        entries: list[SmbEntry] = []
        identity = await failures.list(folder.path, partial(self._list_pages, root, observer, folder, entries))
        return _ListedFolder(entries, identity)

    async def _list_pages(
        self, root: Identity | None, observer: ScanObserver, folder: _FolderToList, entries: list[SmbEntry]
    ) -> Identity | None:
        """Fills `entries` with those of a folder, without those for itself and for the folder above. Returns its
        identity, unless it has gone or contains itself."""
        entries.clear()
        files, listing = await self._run("", _open_folder, folder.path, root)
        if isinstance(listing, Problem):
            observer.report(listing)
        if not isinstance(listing, SmbListing):
            return None
        more, until = True, asyncio.get_running_loop().time() + MAX_FOLDER_SECS
        try:
            if listing.about.identity in folder.above:  # an endless link
                return None
            while more:
                entries += [entry for entry in listing.entries if entry.name not in (".", "..")]
                if len(entries) > MAX_NAMES:
                    observer.report(Problem(folder.path, Reason.BIG_FOLDER, f"it has more than {MAX_NAMES} names"))
                    break
                if asyncio.get_running_loop().time() > until:
                    detail = f"it takes longer than {MAX_FOLDER_SECS:g} s"
                    observer.report(Problem(folder.path, Reason.SLOW_FOLDER, detail))
                    break
                more = await self._on(files, SmbFiles.next_page, listing)
        finally:
            if more:
                self._leave_later(files, listing)
        return listing.about.identity

    async def health(self) -> HealthStatus:
        await self._run("", SmbFiles.check_root)
        return HealthStatus.HEALTHY

    async def watch(self, path: str, callback: WatchCallback) -> None:
        return None

    def drop_connections(self) -> None:
        """Ends the connection (origin.DropsConnections)."""
        self._interruptions.record()
        if self._files is not None:
            self._files.close()

    async def aclose(self) -> None:
        self._closed = True
        self._threads.close()
        if self._files is not None:
            self._files.close()

    # Running what blocks

    async def _run(self, path: str, call: Callable[[SmbFiles, *Ts, Deadline], T], *args: *Ts) -> T:
        """Runs a blocking call over the connection, and makes the connection first if necessary."""
        if not is_addressable(path):
            raise ReplicaFailed(self.id, path, ReplicaFault.MISSING, "no file of a share can have this path")
        return await self._on(None, call, *args)

    async def _on(self, files: SmbFiles | None, call: Callable[[SmbFiles, *Ts, Deadline], T], *args: *Ts) -> T:
        """Runs a blocking call over `files`, or over the present connection."""
        with self._interruptions.named():
            files = files or await self._connection()
            deadline = Deadline(self._patience)
            try:
                async with asyncio.timeout(self._timeout):
                    return await self._threads.run(call, files, *args, deadline)
            except TimeoutError:
                detail = f"no answer within {self._config.timeout_ms} ms"
                raise OriginFailed(self.id, OriginFault.TIMEOUT, detail) from None
            except WorkersUnavailable as error:
                raise OriginFailed(self.id, error.fault, str(error)) from None
            finally:
                deadline.cancelled = True

    async def _connection(self) -> SmbFiles:
        """Waits for the login, which ends by itself, for longer than a call may take."""
        try:
            return await self._connected()
        except WorkersUnavailable as error:
            raise OriginFailed(self.id, error.fault, str(error)) from None

    @property
    def _patience(self) -> float:
        """Seconds for a thread: less than for its caller, which gets the reason then and finds the thread free
        again."""
        return self._timeout - min(0.1, self._timeout / 10)

    async def _connected(self) -> SmbFiles:
        files = self._files
        if files is not None and files.alive:
            return files
        if self._closed:
            raise WorkersClosed
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._threads.run(self._connect), name=f"connecting {self.id}")
            self._connecting.add_done_callback(self._has_connected)
        return await asyncio.shield(self._connecting)

    def _has_connected(self, task: asyncio.Task[SmbFiles]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # callers that still wait have it

    def _connect(self) -> SmbFiles:
        """Makes a connection. Runs in a thread."""
        login = self._login()
        before = self._files
        if before is not None:
            before.close()
        share = Share(login, self._patience, self._config.pool_size)
        populated = before.populated if before is not None else self._populated
        # Set before it is connected, so that closing the origin also ends this attempt.
        self._files = files = SmbFiles(self.id, share, self._prefix, populated)
        if self._closed:
            files.close()
        try:
            files.connect()
        except OriginFailed as failed:
            if failed.fault is OriginFault.DENIED and login.user is not None and login.password is None:
                detail = f"{failed}; no password is known for {login.user!r}: set {variable_of(self.id, 'password')}"
                raise OriginFailed(self.id, OriginFault.DENIED, detail) from failed
            raise
        return files

    def _login(self) -> Login:
        settings = self._settings
        try:
            password = find_secret(self._config, "password")
        except UserError as error:
            raise OriginFailed(self.id, OriginFault.DENIED, str(error)) from error
        user = f"{settings.domain}\\{settings.user}" if settings.domain else settings.user
        return Login(settings.host or "", settings.port, settings.share or "", user, password)

    def _leave_later(self, files: SmbFiles, folder: SmbListing) -> None:
        """Closes the folder of a scan that was left half way, without waiting."""
        self._leaving.spawn(self._on(files, SmbFiles.close_folder, folder), f"leaving a scan of {self.id}")


def _problem_of(folder: str, entry: SmbEntry) -> Problem | None:
    """Returns why an entry is not shown, if it is not."""
    problem = name_problem(folder, entry.name, is_folder=entry.is_folder)
    if problem is not None or entry.left_out is None:
        return problem
    return Problem(f"{folder}/{entry.name}" if folder else entry.name, *entry.left_out)


def _open_folder(
    files: SmbFiles, path: str, root: Identity | None, deadline: Deadline
) -> tuple[SmbFiles, SmbListing | Problem | None]:
    return files, files.open_folder(path, root, deadline)
