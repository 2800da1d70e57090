"""What one file is: its fingerprint and its tags, from as few of its bytes as that takes.

Parsing and hashing keep a processor busy and would block an event loop, so they run in processes of their own
(tags/parser.py). These read files on a disk of this machine themselves, some at a time; the bytes of other files come
from their origin, asynchronously, and are sent there.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

from musicfs.catalog.rows import ScannedFile
from musicfs.errors import MusicFSError, ReplicaFailed, first_of
from musicfs.library.placement import folder_of
from musicfs.model import DiskFolder, OriginId, Replica, Stat
from musicfs.origin import OnDisk, Origin, ReadsRanges
from musicfs.tags.fingerprint import fingerprint
from musicfs.tags.parser import Examined, FileOnDisk, Gathered, MissingBytes, examine, examine_files, start_process

if TYPE_CHECKING:
    from musicfs.federation.ratelimit import RateLimit

log = logging.getLogger(__name__)

_Arguments = tuple[str, str, int, Mapping[int, bytes], bool]

_IN_FLIGHT = 16
_TOGETHER = 125
"""So many files on a disk go to a process at once: they take less than the start of a second process. It is a quarter
of the scanner's batch, since there are at most four processes."""

Take = Callable[[Stat, "ScannedFile | None"], None]
"""Receives what a file is; None: it is gone or has changed since it was listed, and the next scan finds out."""


def make_pool(size: int | None = None) -> Executor:
    """Makes a pool of processes for `examine`, at low priority, which start at first use. The caller shuts it down."""
    return ProcessPoolExecutor(
        max_workers=size or max(1, min(4, os.cpu_count() or 1)),
        mp_context=get_context("spawn"),
        initializer=start_process,
        initargs=(os.getpid(),),
    )


class Parsers:
    """The parse processes, replaced when one of them dies: of too little memory, or of a file that kills it.

    Args:
        make: Makes a pool of so many processes; None: of as many as there are processors.
    """

    def __init__(self, make: Callable[[int | None], Executor] = make_pool) -> None:
        self._make = make
        self._pool = make(None)
        self._alone = asyncio.Lock()

    async def examine_files(self, folder: DiskFolder, files: Sequence[FileOnDisk]) -> list[Examined | None]:
        """Calls `examine_files` in a process. If that dies, the result is None for each file."""
        pool = self._pool
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, examine_files, folder, files)
        except BrokenExecutor:
            self._replace(pool)
            return [None] * len(files)

    async def examine(self, *args: *_Arguments) -> Examined | MissingBytes:
        """Calls `examine` in a process. A file that kills it has a problem instead of tags."""
        pool = self._pool
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, examine, *args)
        except BrokenExecutor:
            # All calls under way have failed with the one that killed it: each is tried again alone.
            self._replace(pool)
            async with self._alone:
                return await self._examine_alone(*args)

    def _replace(self, broken: Executor) -> None:
        if self._pool is broken:
            log.warning("a process that reads tags died; its work is done again")
            self._pool = self._make(None)

    async def _examine_alone(self, *args: *_Arguments) -> Examined | MissingBytes:
        pool = self._make(1)
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, examine, *args)
        except BrokenExecutor:
            _, _, size, ranges, _ = args
            return Examined(fingerprint(size, ranges), None, "the process that read its tags died")
        finally:
            pool.shutdown(wait=False)

    def close(self) -> None:
        """Ends the processes. Waits for the calls under way."""
        self._pool.shutdown(cancel_futures=True)


class Analyser:
    """Analyses files of any origin, many at a time.

    Args:
        parsers: The processes that parse.
        limits: The rate limits of origins that have one.
    """

    def __init__(self, parsers: Parsers, limits: Mapping[OriginId, RateLimit] | None = None) -> None:
        self._parsers = parsers
        self._limits = {} if limits is None else limits
        self._slots = asyncio.Semaphore(_IN_FLIGHT)

    async def analyse_all(self, origin: Origin, files: Sequence[tuple[Stat, str]], take: Take, *, few: bool) -> None:
        """Calls `take` with what each of the files is, in any order.

        Args:
            origin: Where the files are.
            files: The files with their roles.
            take: Receives the results.
            few: There are not many files, so a thread is done sooner than a process that must start first.

        Raises:
            OriginFailed: The origin no longer answers.
        """
        folder = await origin.folder_on_disk() if isinstance(origin, OnDisk) and origin.id not in self._limits else None

        async def analyse(stat: Stat, role: str) -> None:
            async with self._slots:
                take(stat, await self.analyse(origin, stat, role, few=few))

        async def analyse_on_disk(folder: DiskFolder, some: Sequence[tuple[Stat, str]]) -> None:
            on_disk = [
                FileOnDisk(stat.path, role, stat.size, stat.mtime_ns, stat.owner and stat.owner.uid)
                for stat, role in some
            ]
            answers: Sequence[Examined | None]
            try:
                if few:
                    answers = await asyncio.to_thread(examine_files, folder, on_disk)
                else:
                    answers = await self._parsers.examine_files(folder, on_disk)
            except Exception as error:  # caused by one of them: each is examined alone
                log.debug("some files could not be examined together", exc_info=error)
                answers = [None] * len(some)
            for (stat, role), answer in zip(some, answers, strict=True):
                if answer is None:
                    await analyse(stat, role)
                else:
                    take(stat, _found(stat, role, answer))

        try:
            async with asyncio.TaskGroup() as group:
                if folder is not None:
                    for start in range(0, len(files), _TOGETHER):
                        group.create_task(analyse_on_disk(folder, files[start : start + _TOGETHER]))
                else:
                    for stat, role in files:
                        group.create_task(analyse(stat, role))
        except* Exception as failures:
            raise first_of(failures) from None

    async def analyse(self, origin: Origin, stat: Stat, role: str, *, few: bool = False) -> ScannedFile | None:
        """What the file is, from ranges that the origin reads; None: it is gone or has changed since it was listed."""
        replica = Replica.of(origin.id, stat)
        gathered = Gathered.nothing(stat.size)
        try:
            while True:
                gathered.add(await self._read(origin, replica, gathered.wanted))
                arguments = (stat.path, role, stat.size, gathered.ranges, gathered.give_up)
                if few:
                    answer = await asyncio.to_thread(examine, *arguments)
                else:
                    answer = await self._parsers.examine(*arguments)
                if isinstance(answer, Examined):
                    return _found(stat, role, answer)
                gathered.wanted = [(answer.offset, answer.size)]
        except ReplicaFailed:
            return None
        except MusicFSError:
            raise
        except Exception as error:
            # Whatever one file causes must not end the scan of all the others.
            log.warning(
                "the file %.200r at origin %s is left out: %s: %.200s",
                stat.path, origin.id, type(error).__name__, error, extra={"origin": origin.id},
            )  # fmt: skip
            log.debug("it could not be examined", exc_info=error)
            return None

    async def _read(self, origin: Origin, replica: Replica, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        if (limit := self._limits.get(origin.id)) is not None:
            await limit.take(sum(max(0, min(size, replica.size - offset)) for offset, size in ranges))
        if isinstance(origin, ReadsRanges) and len(ranges) > 1:
            return await origin.read_ranges(replica, ranges)
        return await asyncio.gather(*(origin.read(replica, offset, size) for offset, size in ranges))


def _found(stat: Stat, role: str, answer: Examined) -> ScannedFile:
    return ScannedFile(stat, folder_of(stat.path, role), role, answer.fingerprint, answer.tags, answer.problem)
