"""An origin as a scan reads it: a file that can't be read is its own problem until the origin shows that it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.library.flight_limit import FlightLimit
from musicfs.model import DiskFolder, HealthStatus, Replica, Stat
from musicfs.origin import OnDisk, Origin, ReadsRanges
from musicfs.problems import Problem, Reason
from musicfs.system.wakes import STOPPED_SECS

T = TypeVar("T")

_IN_A_ROW = 64
"""So many files that fail one after the other, and none that can be read between them, are the origin's fault."""
_READ_SECS = 30.0
"""A read of a scan is of some hundred kilobytes at most."""
_CHECK_SECS = 10.0
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between the calls of an origin that says that it has too much to do, unless it wants more of them."""
_ALONE = 2
"""Attempts alone."""
_FRESH_SECS = 1.0
"""The files that are read at once fail at once: one check of the origin counts for all of them."""

_REASONS = {
    ReplicaFault.DENIED: Reason.DENIED,
    ReplicaFault.IO: Reason.READ_ERROR,
    ReplicaFault.CORRUPT: Reason.READ_ERROR,
    ReplicaFault.ARCHIVED: Reason.ARCHIVED,
    ReplicaFault.CHANGED: Reason.KEEPS_CHANGING,
}


class ScanReads:
    """Reads as the origin does, as many files at once as its link takes, except that a failure that is not the whole
    origin's is a ReplicaFailed.

    It has the capabilities of the origin that a scan uses.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._problems: dict[str, Problem] = {}
        self._in_a_row: set[str] = set()
        self._under_way = self._begun = 0
        self._flight = FlightLimit()
        self._alone = asyncio.Lock()
        self._check = asyncio.Lock()
        self._checked_at = 0.0
        self.id, self.kind = origin.id, origin.kind
        self.scan, self.watch, self.aclose = origin.scan, origin.watch, origin.aclose
        # Attributes of the object, because a protocol's check does not see what `__getattr__` returns.
        if isinstance(origin, ReadsRanges):
            self.read_ranges = self._read_ranges
        if isinstance(origin, OnDisk):
            self.folder_on_disk = self._folder_on_disk

    async def stat(self, path: str) -> Stat:
        return await self._bounded(self._origin.stat(path))

    async def health(self) -> HealthStatus:
        return await self._bounded(self._origin.health())

    async def _folder_on_disk(self) -> DiskFolder | None:
        assert isinstance(self._origin, OnDisk)
        return await self._bounded(self._origin.folder_on_disk())

    async def _bounded(self, call: Awaitable[T]) -> T:
        """Raises OriginFailed when a call that takes moments is not answered for long."""
        try:
            async with asyncio.timeout(_CHECK_SECS):
                return await call
        except TimeoutError:
            raise self._no_answer(_CHECK_SECS) from None

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        return await self._tried(replica, lambda: self._origin.read(replica, offset, size))

    async def _read_ranges(self, replica: Replica, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        origin = self._origin
        assert isinstance(origin, ReadsRanges)
        return await self._tried(replica, lambda: origin.read_ranges(replica, ranges))

    async def _tried(self, replica: Replica, call: Callable[[], Awaitable[T]]) -> T:
        try:
            data = await self._beside_others(call)
        except (OriginFailed, ReplicaFailed) as failure:
            raise await self._blamed(replica, failure) from failure
        self._in_a_row.clear()
        return data

    async def _beside_others(self, call: Callable[[], Awaitable[T]]) -> T:
        """Calls, and again, alone, if no answer came while there were other calls.

        Many servers do one thing after the other, and one file that hangs or ends the connection takes the calls
        beside it along.
        """
        if self._alone.locked():
            async with self._alone:
                pass
        async with self._flight.read():
            self._under_way += 1
            self._begun += 1
            begun, is_alone = self._begun, self._under_way == 1
            try:
                return await self._answered(call)
            except OriginFailed as failure:
                if not _is_silence(failure) or (is_alone and self._begun == begun):
                    raise
                silence = failure
                self._flight.slow_down()
            finally:
                self._under_way -= 1
        async with self._alone:
            for _ in range(_ALONE):  # the first may still meet what the others left behind
                await self._check_origin()
                try:
                    return await self._answered(call)
                except OriginFailed as failure:
                    if not _is_silence(failure):
                        raise
                    silence = failure
        raise silence

    async def _answered(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await _patiently(call, _READ_SECS, self._flight.slow_down)
        except TimeoutError:
            raise self._no_answer(_READ_SECS) from None

    def take_problem(self, path: str) -> Problem | None:
        """Returns why the file could not be read, once; None: it is gone, or did not fail."""
        return self._problems.pop(path, None)

    async def _blamed(self, replica: Replica, failure: OriginFailed | ReplicaFailed) -> OriginFailed | ReplicaFailed:
        """Returns the failure of the file, or of the origin if that does not work."""
        path = replica.path
        if isinstance(failure, OriginFailed):
            self._in_a_row.add(path)
            if len(self._in_a_row) >= _IN_A_ROW:
                return failure
            try:
                await self._check_origin()
            except OriginFailed as whole:
                return whole
            failure = ReplicaFailed(replica.origin, path, ReplicaFault.IO, failure.detail)
        if (reason := _REASONS.get(failure.fault)) is not None:
            self._problems[path] = Problem(path, reason, failure.detail)
        return failure

    def _no_answer(self, secs: float) -> OriginFailed:
        return OriginFailed(self._origin.id, OriginFault.TIMEOUT, f"no answer within {secs:.0f} s")

    async def _check_origin(self) -> None:
        loop, id = asyncio.get_running_loop(), self.id
        async with self._check:
            if loop.time() < self._checked_at + _FRESH_SECS:
                return
            try:
                status = await _patiently(self._origin.health, _CHECK_SECS)
            except TimeoutError:
                raise self._no_answer(_CHECK_SECS) from None
            if status is HealthStatus.UNHEALTHY:
                raise OriginFailed(id, OriginFault.UNREACHABLE)
            self._checked_at = loop.time()


def _is_silence(failure: OriginFailed) -> bool:
    return failure.fault in (OriginFault.TIMEOUT, OriginFault.UNREACHABLE)


async def _patiently(call: Callable[[], Awaitable[T]], secs: float, on_busy: Callable[[], None] = lambda: None) -> T:
    """Calls, and again while the origin says that it has too much to do. secs: that one call may take. Raises
    TimeoutError, and as the call does."""
    for wait in _WAITS:
        try:
            return await _uninterrupted(call, secs)
        except OriginFailed as failure:
            if failure.busy_secs is None:
                raise
            on_busy()
            await asyncio.sleep(max(failure.busy_secs, wait))
    return await _uninterrupted(call, secs)


async def _uninterrupted(call: Callable[[], Awaitable[T]], secs: float) -> T:
    """Calls, and again after each sleep of the machine, or of this process alone, which shows in a late timeout."""
    time = asyncio.get_running_loop().time
    while True:
        began = time()
        try:
            async with asyncio.timeout(secs):
                return await call()
        except OriginFailed as failure:
            if not failure.interrupted:
                raise
        except TimeoutError:
            if time() - began < secs + STOPPED_SECS:
                raise
