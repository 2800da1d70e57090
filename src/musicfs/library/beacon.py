"""A sign of life of the library worker in memory that its parent shares: it shows also where a process is stuck."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from typing import NamedTuple

from musicfs.model import decode_path, encode_path

_SIZE = 8192
_HEAD = struct.Struct("<QH")  # beats, bytes of the text
_MAX_TEXT = _SIZE - _HEAD.size


class Place(NamedTuple):
    """What a worker is at. Both are empty while it waits or does work that no file causes."""

    origin: str
    path: str


NOWHERE = Place("", "")


class SignOfLife:
    """What a worker says of its work, for a process that no one watches."""

    def beat(self) -> None:
        """Says that there is progress."""

    def enter(self, origin: str, path: str) -> None:
        """Says what work starts now."""

    def leave(self) -> None:
        """Says that the work has ended."""


class Beacon(SignOfLife):
    """A sign of life in shared memory. The worker writes, the parent reads."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._memory = mmap.mmap(fd, _SIZE)
        self._beats = 0

    @classmethod
    def make(cls) -> Beacon:
        fd = os.memfd_create("musicfs-beacon")
        os.ftruncate(fd, _SIZE)
        return cls(fd)

    @property
    def fd(self) -> int:
        return self._fd

    def beat(self) -> None:
        self._beats += 1
        self._memory[:8] = self._beats.to_bytes(8, "little")

    def enter(self, origin: str, path: str) -> None:
        text = encode_path(f"{origin}\0{path}")[:_MAX_TEXT]
        self._beats += 1
        self._memory[: _HEAD.size + len(text)] = _HEAD.pack(self._beats, len(text)) + text

    def leave(self) -> None:
        self._beats += 1
        self._memory[: _HEAD.size] = _HEAD.pack(self._beats, 0)

    def beats(self) -> int:
        return int.from_bytes(self._memory[:8], "little")

    def place(self) -> Place:
        _, length = _HEAD.unpack_from(self._memory)
        origin, _, path = decode_path(self._memory[_HEAD.size : _HEAD.size + min(length, _MAX_TEXT)]).partition("\0")
        return Place(origin, path)

    def close(self) -> None:
        self._memory.close()
        os.close(self._fd)


class Watchdog:
    """Notices that a worker makes no progress. Belongs to the parent's event loop.

    Args:
        stuck_secs: So long without a beat is too long.
        clock: In seconds; of the event loop.
    """

    def __init__(self, beacon: Beacon, stuck_secs: float, clock: Callable[[], float]) -> None:
        self.beacon = beacon
        self._stuck_secs = stuck_secs
        self._clock = clock
        self._beats = beacon.beats()
        self._since = self._asked = clock()

    def is_stuck(self, *, has_work: bool) -> bool:
        """Whether the worker has work and has made no progress for too long. It must be asked every few seconds.

        Time in which it was not asked does not count: this process was stopped then, and perhaps the worker too.
        """
        beats, now = self.beacon.beats(), self._clock()
        asked, self._asked = self._asked, now
        if beats != self._beats or not has_work or now - asked >= self._stuck_secs / 2:
            self._beats, self._since = beats, now
        return now - self._since >= self._stuck_secs
