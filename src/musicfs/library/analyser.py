"""What one file is: its fingerprint and its tags, from as few of its bytes as that takes.

Parsing keeps a processor busy and reads what strangers made, so it happens in confined processes alone (parse_pool.py).
They get open descriptors of files on a disk of this machine; the bytes of other files come from their origin,
asynchronously, and are sent there.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from musicfs.catalog.rows import ScannedFile
from musicfs.errors import MusicFSError, ReplicaFailed, first_of
from musicfs.library.parse_process import Fault
from musicfs.library.placement import folder_of
from musicfs.model import DiskFolder, OriginId, Replica, Stat
from musicfs.origin import OnDisk, Origin, ReadsRanges
from musicfs.tags.fingerprint import fingerprint
from musicfs.tags.parse_messages import FileToParse
from musicfs.tags.parser import CPU_SECS, TOO_SLOW, Examined, FileOnDisk, Gathered, MissingBytes

if TYPE_CHECKING:
    from musicfs.federation.ratelimit import RateLimit

log = logging.getLogger(__name__)

_IN_HAND = 96
"""Files of one origin that are read, or wait for a parser: their bytes are in memory."""

Take = Callable[[Stat, "ScannedFile | None"], None]
"""Receives what a file is; None: it is gone or has changed since it was listed, and the next scan finds out."""


_Left = tuple[Stat, str, Fault | None]
"""A file, its role, and the fault to record."""


class ExaminesFiles(Protocol):
    """Parsers: see `parse_pool.Parsers`."""

    async def examine_files(
        self,
        folder: DiskFolder,
        files: Sequence[FileOnDisk],
        take: Callable[[FileOnDisk, Examined | Fault | None], None],
    ) -> None: ...

    async def examine(self, file: FileToParse) -> Examined | MissingBytes | Fault: ...


class Analyser:
    """Analyses files of any origin, many at a time.

    Args:
        parsers: The processes that parse.
        limits: The rate limits of origins that have one.
    """

    def __init__(self, parsers: ExaminesFiles, limits: Mapping[OriginId, RateLimit] | None = None) -> None:
        self._parsers = parsers
        self._limits = {} if limits is None else limits
        # For each origin: one whose reads hang must not hold up the others.
        self._in_hand: defaultdict[OriginId, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_IN_HAND))

    async def analyse_all(self, origin: Origin, files: Sequence[tuple[Stat, str]], take: Take) -> None:
        """Calls `take` with what each of the files is, in any order.

        Args:
            origin: Where the files are.
            files: The files with their roles.
            take: Receives the results.

        Raises:
            OriginFailed: The origin no longer answers.
            MusicFSError: No file can be parsed.
        """
        folder = await origin.folder_on_disk() if isinstance(origin, OnDisk) and origin.id not in self._limits else None
        through_origin: list[_Left] = [(stat, role, None) for stat, role in files]
        if folder is not None:
            through_origin = await self._analyse_on_disk(folder, files, take)

        async def analyse(stat: Stat, role: str, fault: Fault | None) -> None:
            async with self._in_hand[origin.id]:
                take(stat, await self.analyse(origin, stat, role, fault))

        try:
            async with asyncio.TaskGroup() as group:
                for stat, role, fault in through_origin:
                    group.create_task(analyse(stat, role, fault))
        except* Exception as failures:
            raise first_of(failures) from None

    async def _analyse_on_disk(self, folder: DiskFolder, files: Sequence[tuple[Stat, str]], take: Take) -> list[_Left]:
        """Returns the files that must be read through their origin, with their roles, and faults to record."""
        by_path = {stat.path: (stat, role) for stat, role in files}
        left: list[_Left] = []

        def sort(file: FileOnDisk, answer: Examined | Fault | None) -> None:
            stat, role = by_path[file.path]
            if isinstance(answer, Examined):
                take(stat, _found(stat, role, answer))
            else:
                left.append((stat, role, answer))

        on_disk = [
            FileOnDisk(stat.path, role, stat.size, stat.mtime_ns, stat.owner and stat.owner.uid) for stat, role in files
        ]
        await self._parsers.examine_files(folder, on_disk, sort)
        return left

    async def analyse(self, origin: Origin, stat: Stat, role: str, fault: Fault | None = None) -> ScannedFile | None:
        """What the file is, from ranges that the origin reads; None: it is gone or has changed since it was listed.

        fault: known already, so that the file is not parsed again.
        """
        replica = Replica.of(origin.id, stat)
        gathered = Gathered.nothing(stat.size)
        try:
            gathered.add(await self._read(origin, replica, gathered.wanted))
            answer = await self._examine(origin, replica, role, gathered) if fault is None else fault
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
        if isinstance(answer, Fault):
            answer = Examined(fingerprint(stat.size, gathered.ranges), None, answer.problem)
        return _found(stat, role, answer)

    async def _examine(self, origin: Origin, replica: Replica, role: str, gathered: Gathered) -> Examined | Fault:
        cpu_secs = CPU_SECS
        while True:
            file = FileToParse(replica.path, role, replica.size, gathered.ranges, cpu_secs)
            answer = await self._parsers.examine(file)
            if isinstance(answer, Examined | Fault):
                return answer
            cpu_secs -= answer.cpu_secs
            problem = gathered.want(answer.offset, answer.size) if cpu_secs > 0 else TOO_SLOW
            if problem is not None:
                return Fault(problem)
            gathered.add(await self._read(origin, replica, gathered.wanted))

    async def _read(self, origin: Origin, replica: Replica, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        if (limit := self._limits.get(origin.id)) is not None:
            await limit.take(sum(max(0, min(size, replica.size - offset)) for offset, size in ranges))
        if isinstance(origin, ReadsRanges) and len(ranges) > 1:
            return await origin.read_ranges(replica, ranges)
        return await asyncio.gather(*(origin.read(replica, offset, size) for offset, size in ranges))


def _found(stat: Stat, role: str, answer: Examined) -> ScannedFile:
    return ScannedFile(stat, folder_of(stat.path, role), role, answer.fingerprint, answer.tags, answer.problem)
