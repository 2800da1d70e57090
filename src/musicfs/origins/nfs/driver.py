"""The driver for exports that are not mounted: the part that runs on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TypeVar, TypeVarTuple

from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed, OriginFault
from musicfs.model import HealthStatus, OriginId, OriginType, Replica, Stat
from musicfs.origin import FolderIdentity, ScanObserver, WatchCallback
from musicfs.origins.bounds import MAX_FOLDERS
from musicfs.origins.folder_queue import FolderQueue
from musicfs.origins.helpers import FolderFailures, StrictObserver, check_inside
from musicfs.origins.interruptions import Interruptions
from musicfs.origins.nfs.connection import Export, Patience
from musicfs.origins.nfs.files import NfsFiles, NfsListing
from musicfs.origins.nfs.pool import NfsSession
from musicfs.origins.nfs.settings import NfsSettings
from musicfs.system.tasks import SharedCall
from musicfs.system.threads import WorkersUnavailable, WorkerThreads

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class NfsOrigin:
    """Reads an export; origin.Origin is the contract. Blocking calls run in the origin's own threads, on a connection
    each."""

    def __init__(self, config: OriginConfig, *, populated: bool = False) -> None:
        settings = NfsSettings.model_validate(dict(config.settings))
        self.id: OriginId = config.id
        self.kind: OriginType = config.origin_type
        self._timeout = config.timeout_ms / 1000
        self._threads = WorkerThreads(f"origin-{config.id}", config.pool_size)
        export = Export(settings.host or "", settings.export or "", settings.port, settings.mount_port)
        self._files = NfsFiles(config.id, export, populated)
        self._waiting: set[Patience] = set()
        self._connecting = SharedCall(self._connected)
        self._checking = SharedCall(partial(self._run, "", self._files.check_root))
        self._interruptions = Interruptions(config.id)

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        return await self._run(replica.path, self._files.read, replica, offset, size)

    async def read_ranges(self, replica: Replica, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Requests all ranges at once, in one call of a thread (origin.ReadsRanges)."""
        return await self._run(replica.path, self._files.read_ranges, replica, ranges, renewed=True)

    async def identify_folder(self) -> FolderIdentity:
        """Names the export by its handle, and by its path on the server (origin.KnowsItsFolder)."""
        return await self._run("", self._files.identify)

    async def stat(self, path: str) -> Stat:
        return await self._run(path, self._files.stat, path)

    def scan(self, under: str = "") -> AsyncIterator[Stat]:
        return self.scan_observed(StrictObserver(self.id), under)

    async def scan_observed(self, observer: ScanObserver, under: str = "") -> AsyncIterator[Stat]:
        """Scans, and reports what can't be listed (origin.ObservesScans)."""
        root, file = await self._run(under, self._files.begin, under, renewed=True)
        if file is not None:
            yield file
            return
        failures = FolderFailures(observer, lambda: self._run("", self._files.check_same, root))

        async def list(folder: str) -> NfsListing | None:
            return await failures.list(folder, partial(self._run, "", self._files.list, root, folder, renewed=True))

        async with FolderQueue(list, [under]).closing() as folders:
            while (listed := await folders.next()) is not None:
                if (found := listed[1]) is None:
                    continue
                for problem in found.problems:
                    observer.report(problem)
                for each in found.files:
                    yield each
                folders.add(path for path, mtime_ns in found.folders if observer.enters(path, mtime_ns))
                if len(folders) > MAX_FOLDERS:
                    raise OriginFailed(self.id, OriginFault.IO, "it has more folders than can be listed")
        await self._run("", self._files.check_same, root)

    async def health(self) -> HealthStatus:
        # On a slow link it takes longer than a probe waits: the next probe gets the answer then.
        await self._checking()
        return HealthStatus.HEALTHY

    async def watch(self, path: str, callback: WatchCallback) -> None:
        """Returns None: version 3 of NFS reports no changes."""

    def drop_connections(self) -> None:
        """Ends all connections (origin.DropsConnections)."""
        self._interruptions.record()
        for patience in self._waiting:
            patience.ended = True
        self._files.drop()

    async def aclose(self) -> None:
        self._threads.close()
        self._files.close()

    async def _run(self, path: str, call: Callable[[NfsSession, *Ts], T], *args: *Ts, renewed: bool = False) -> T:
        """Runs a blocking call in a thread. renewed: the call may last as long as answers keep coming."""
        check_inside(self.id, path)
        if not self._files.connected:
            await self._connecting()
        patience = Patience(self._timeout, renewed=renewed)
        self._waiting.add(patience)
        with self._interruptions.named():
            try:
                async with asyncio.timeout(None if renewed else self._timeout):
                    return await self._threads.run(self._files.call, patience, path, call, *args)
            except TimeoutError:
                raise OriginFailed(self.id, OriginFault.TIMEOUT, f"no answer within {self._timeout:g} s") from None
            except WorkersUnavailable as error:
                raise OriginFailed(self.id, error.fault, str(error)) from None
            finally:
                patience.ended = True
                self._waiting.discard(patience)

    async def _connected(self) -> None:
        """Makes a connection."""
        patience = Patience(self._timeout).of_login()
        self._waiting.add(patience)
        with self._interruptions.named():
            try:
                await self._threads.run(self._files.connect, patience)
            except TimeoutError:
                raise OriginFailed(self.id, OriginFault.TIMEOUT, f"no answer within {self._timeout:g} s") from None
            except WorkersUnavailable as error:
                raise OriginFailed(self.id, error.fault, str(error)) from None
            finally:
                patience.ended = True
                self._waiting.discard(patience)
