"""An origin that does what a test tells it to."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from math import inf

from musicfs.errors import MusicFSError, OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import HealthStatus, OriginId, OriginType, Replica, Stat
from musicfs.origin import WatchCallback, WatchHandle

DATA = bytes(range(256)) * 4
PATH = "album/song.flac"


@dataclass(frozen=True)
class Outcome:
    """What one call does: waits `after` seconds, then fails or answers. stubborn: it ignores cancellation."""

    after: float = 0.0
    error: BaseException | None = None
    fault: OriginFault | ReplicaFault | None = None
    short_by: int = 0
    wrong: bool = False
    stubborn: bool = False
    status: HealthStatus = HealthStatus.HEALTHY


GOOD = Outcome()
HANG = Outcome(after=inf)
STUBBORN = Outcome(after=inf, stubborn=True)
SHORT = Outcome(short_by=1)
WRONG = Outcome(wrong=True)
UNREACHABLE = Outcome(fault=OriginFault.UNREACHABLE)


def slow(seconds: float) -> Outcome:
    return Outcome(after=seconds)


def fails(fault: OriginFault | ReplicaFault, after: float = 0.0) -> Outcome:
    return Outcome(after, fault=fault)


@dataclass(frozen=True)
class Call:
    """One read, and the loop's time in ms at which it was asked for."""

    at_ms: float
    replica: Replica
    offset: int
    size: int


class FakeOrigin:
    """Holds one file, `data` at `path`. `reads` and `probes` are the next calls' outcomes; when they have run
    out, `read_outcome` and `probe_outcome` are those of every further call."""

    def __init__(
        self,
        id: str,
        kind: OriginType = OriginType.SFTP,
        *,
        data: bytes = DATA,
        path: str = PATH,
        reads: Sequence[Outcome] = (),
        read_outcome: Outcome = GOOD,
        probes: Sequence[Outcome] = (),
        probe_outcome: Outcome = GOOD,
        close_outcome: Outcome = GOOD,
        lie: int = 255,
    ) -> None:
        self.id = OriginId(id)
        self.kind = kind
        self.data = data
        self.replica = Replica(self.id, path, len(data), mtime_ns=1)
        self.reads = deque(reads)
        self.read_outcome = read_outcome
        self.probes = deque(probes)
        self.probe_outcome = probe_outcome
        self.close_outcome = close_outcome
        self.lie = lie
        self.calls: list[Call] = []
        self.probed_ms: list[float] = []
        self.cancelled = 0
        self.closed = False
        self._released = asyncio.Event()

    @property
    def called_ms(self) -> list[float]:
        return [call.at_ms for call in self.calls]

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        self.calls.append(Call(_now_ms(), replica, offset, size))
        outcome = self.reads.popleft() if self.reads else self.read_outcome
        await self._perform(outcome)
        data = self.data[offset : offset + size]
        if outcome.wrong:
            data = bytes(byte ^ self.lie for byte in data)
        return data[: len(data) - outcome.short_by]

    async def health(self) -> HealthStatus:
        self.probed_ms.append(_now_ms())
        outcome = self.probes.popleft() if self.probes else self.probe_outcome
        await self._perform(outcome)
        return outcome.status

    async def stat(self, path: str) -> Stat:
        return Stat(path, len(self.data), self.replica.mtime_ns)

    async def scan(self, under: str = "") -> AsyncIterator[Stat]:
        yield Stat(self.replica.path, len(self.data), self.replica.mtime_ns)

    async def watch(self, path: str, callback: WatchCallback) -> WatchHandle | None:
        return None

    async def aclose(self) -> None:
        """Calls in flight fail, as the protocol demands."""
        self.closed = True
        self.release()
        await self._perform(self.close_outcome)

    def release(self) -> None:
        """Ends every call that waits now, stubborn ones too: they fail."""
        self._released.set()
        self._released = asyncio.Event()

    async def _perform(self, outcome: Outcome) -> None:
        if outcome.after:
            await self._wait(outcome, self._released)
        if outcome.error is not None:
            raise outcome.error
        if outcome.fault is not None:
            raise self._failure(outcome.fault)

    async def _wait(self, outcome: Outcome, released: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(None if outcome.after == inf else outcome.after):
                await released.wait()
        except TimeoutError:
            return
        except asyncio.CancelledError:
            self.cancelled += 1
            if not outcome.stubborn:
                raise
            await self._wait(outcome, released)
        raise OriginFailed(self.id, OriginFault.UNREACHABLE, "closed")

    def _failure(self, fault: OriginFault | ReplicaFault) -> MusicFSError:
        if isinstance(fault, OriginFault):
            return OriginFailed(self.id, fault)
        return ReplicaFailed(self.id, self.replica.path, fault)


class FakeLocal(FakeOrigin):
    """Also reads without waiting. now_error: what that raises instead."""

    now_error: Exception | None = None
    now_misses = False
    now_calls = 0

    def read_now(self, replica: Replica, offset: int, size: int) -> bytes | memoryview | None:
        self.now_calls += 1
        if self.now_error is not None:
            raise self.now_error
        return None if self.now_misses else memoryview(self.data)[offset : offset + size]


class FakeWatch:
    """A watch handle that counts how often it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def _now_ms() -> float:
    return round(asyncio.get_running_loop().time() * 1000, 6)
