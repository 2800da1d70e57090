"""What one file is: its fingerprint and its tags, from as few of its bytes as that takes.

The bytes come from an origin, asynchronously; parsing and hashing them is work for a processor, and runs in processes
of their own (examining.py), for beside an event loop it would hold up everything else there.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

from musicfs.errors import ReplicaFailed
from musicfs.library.examining import Examined, Wanted, begin, examine
from musicfs.library.identity import fingerprint, sample_ranges
from musicfs.library.placing import folder_of
from musicfs.library.rows import Found
from musicfs.model import OriginId, Replica, Stat
from musicfs.origins.base import Origin

if TYPE_CHECKING:
    from musicfs.federation.bandwidth import Bandwidth

log = logging.getLogger(__name__)

_Arguments = tuple[str, str, int, Mapping[int, bytes], bool]

# A file whose tags ask for more than this is listed under its own name: no tag is worth its transfer.
_MOST_BYTES = 64 * 1024 * 1024
_MOST_ROUNDS = 64


def make_pool(size: int | None = None) -> Executor:
    """Processes for `examine`, at low priority, started when first used. To be shut down by who made it."""
    return ProcessPoolExecutor(
        max_workers=size or max(1, min(4, os.cpu_count() or 1)),
        mp_context=get_context("spawn"),
        initializer=begin,
        initargs=(os.getpid(),),
    )


class Parsers:
    """The worker processes, replaced when one of them dies: of too little memory, or of a file that kills it.

    make: makes a pool of so many processes, by default of as many as there are processors.
    """

    def __init__(self, make: Callable[[int | None], Executor] = make_pool) -> None:
        self._make = make
        self._pool = make(None)
        self._alone = asyncio.Lock()

    async def examine(self, *args: *_Arguments) -> Examined | Wanted:
        """As `examine` does, in a process."""
        pool = self._pool
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, examine, *args)
        except BrokenExecutor:
            # All that were under way have failed with the guilty one: each is tried again alone.
            if self._pool is pool:
                log.warning("a process that reads tags died; its work is done again")
                self._pool = self._make(None)
            async with self._alone:
                return await self._examine_alone(*args)

    async def _examine_alone(self, *args: *_Arguments) -> Examined | Wanted:
        pool = self._make(1)
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, examine, *args)
        except BrokenExecutor:
            _, _, size, ranges, _ = args
            return Examined(fingerprint(size, ranges), None, "the process that read its tags died")
        finally:
            pool.shutdown(wait=False)

    def close(self) -> None:
        """Ends the processes; waits for what they are doing."""
        self._pool.shutdown(cancel_futures=True)


class Analyser:
    """Analyses files of any origin, many at a time. limits: on what is read from some of them."""

    def __init__(self, parsers: Parsers, limits: Mapping[OriginId, Bandwidth] | None = None) -> None:
        self._parsers = parsers
        self._limits = {} if limits is None else limits

    async def analyse(self, origin: Origin, stat: Stat, role: str, *, few: bool = False) -> Found | None:
        """What the file is; None if it has gone or changed since it was listed: the next scan will tell.

        few: there are not many to do, so a thread will do it sooner than a process that has to start first.
        Raises `OriginFailed` when the origin stops answering.
        """
        replica = Replica.of(origin.id, stat)
        ranges: dict[int, bytes] = {}
        wanted: Sequence[tuple[int, int]] = sample_ranges(stat.size)
        rounds = 0
        try:
            while True:
                pieces = await asyncio.gather(*(self._read(origin, replica, offset, size) for offset, size in wanted))
                for (offset, _), data in zip(wanted, pieces, strict=True):
                    if len(data) > len(ranges.get(offset, b"")):
                        ranges[offset] = data
                rounds += 1
                give_up = rounds > _MOST_ROUNDS or sum(map(len, ranges.values())) > _MOST_BYTES
                arguments = (stat.path, role, stat.size, ranges, give_up)
                if few:
                    answer = await asyncio.to_thread(examine, *arguments)
                else:
                    answer = await self._parsers.examine(*arguments)
                if isinstance(answer, Examined):
                    break
                wanted = [(answer.offset, answer.size)]
        except ReplicaFailed:
            return None
        return Found(stat, folder_of(stat.path, role), role, answer.fingerprint, answer.tags, answer.problem)

    async def _read(self, origin: Origin, replica: Replica, offset: int, size: int) -> bytes:
        if (limit := self._limits.get(origin.id)) is not None:
            await limit.take(max(0, min(size, replica.size - offset)))
        return await origin.read(replica, offset, size)
