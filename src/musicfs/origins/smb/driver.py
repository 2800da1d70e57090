"""The driver for shares that are not mounted: the part that runs on the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import TypeVar, TypeVarTuple

from musicfs.config.models import OriginConfig
from musicfs.config.secret_variables import variable_of
from musicfs.config.secrets import find_secret
from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault, UserError
from musicfs.model import HealthStatus, OriginId, OriginType, Replica, Stat
from musicfs.origin import FolderIdentity, TellFolder, WatchCallback, list_all
from musicfs.origins.helpers import MAX_FOLDERS, MAX_NAMES, is_in_reach, is_skipped, is_usable
from musicfs.origins.smb.errors import Login
from musicfs.origins.smb.files import SmbFiles, SmbListing, is_addressable
from musicfs.origins.smb.session import Deadline, Share
from musicfs.origins.smb.settings import SmbSettings
from musicfs.origins.smb.wire import Identity
from musicfs.system.tasks import Tasks
from musicfs.system.threads import WorkersClosed, WorkersUnavailable, WorkerThreads

log = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


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

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        return await self._run(replica.path, SmbFiles.read, replica, offset, size)

    async def identify_folder(self) -> FolderIdentity:
        """Names the folder by the server's own id, the share and the prefix (origin.KnowsItsFolder)."""
        return await self._run("", SmbFiles.identify)

    async def stat(self, path: str) -> Stat:
        return await self._run(path, SmbFiles.stat, path)

    def scan(self, under: str = "") -> AsyncIterator[Stat]:
        return self._scan(under, list_all)

    def scan_folders(self, tell: TellFolder) -> AsyncIterator[Stat]:
        """Scans, but skips the folders that `tell` says (origin.SkipsFolders)."""
        return self._scan("", tell)

    async def _scan(self, under: str, tell: TellFolder) -> AsyncIterator[Stat]:
        root, file = await self._run(under, SmbFiles.begin, under)
        if file is not None:
            yield file
            return
        waiting: list[tuple[str, frozenset[Identity]]] = [(under, frozenset())]
        while waiting:
            path, above = waiting.pop()
            files, folder = await self._run("", _open_folder, path, root)
            if folder is None:
                continue
            below: list[str] = []
            more, listed = True, 0
            try:
                while more and folder.about.identity not in above:  # one that contains itself is an endless link
                    listed += len(folder.entries)
                    if listed > MAX_NAMES or len(below) + len(waiting) > MAX_FOLDERS:
                        detail = f"the folder {path!r} lists more names than any folder has"
                        raise OriginFailed(self.id, OriginFault.IO, detail)
                    for entry in folder.entries:
                        name = f"{path}/{entry.name}" if path else entry.name
                        if not is_usable(entry.name) or not is_in_reach(name):
                            continue
                        if not entry.is_folder:
                            yield Stat(name, entry.size, entry.mtime_ns)
                        elif not is_skipped(entry.name) and not tell(name, entry.mtime_ns):
                            below.append(name)
                    more = await self._on(files, SmbFiles.next_page, folder)
            finally:
                if more:
                    self._leave_later(files, folder)
            chain = above | {folder.about.identity} if folder.about.identity else above
            waiting += [(name, chain) for name in reversed(below)]
        await self._run("", SmbFiles.check_same, root)

    async def health(self) -> HealthStatus:
        await self._run("", SmbFiles.check_root)
        return HealthStatus.HEALTHY

    async def watch(self, path: str, callback: WatchCallback) -> None:
        return None

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
        deadline = Deadline(self._patience)
        try:
            async with asyncio.timeout(self._timeout):
                files = files or await self._connected()
                return await self._threads.run(call, files, *args, deadline)
        except TimeoutError:
            detail = f"no answer within {self._config.timeout_ms} ms"
            raise OriginFailed(self.id, OriginFault.TIMEOUT, detail) from None
        except WorkersUnavailable as error:
            raise OriginFailed(self.id, error.fault, str(error)) from None
        finally:
            deadline.cancelled = True

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


def _open_folder(
    files: SmbFiles, path: str, root: Identity | None, deadline: Deadline
) -> tuple[SmbFiles, SmbListing | None]:
    return files, files.open_folder(path, root, deadline)
