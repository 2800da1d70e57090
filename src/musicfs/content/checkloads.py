"""Reads rows of the checksum file in a thread: its disk may hang, and the event loop must not."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Collection, Sequence
from queue import SimpleQueue

from musicfs.content.checkstore import CheckStore, Row
from musicfs.system.lru import Lru
from musicfs.system.sqlite import SqliteError

_WAIT_SECS = 1.0
"""Reads wait as long for the block cache, which is on the same disk."""
_SOON_SECS = 0.002
"""Less than this reads what the kernel has of the file in memory, and a turn of the event loop costs more."""
_MAX_WAITING = 64
_MAX_FINISHED = 1024


class Load:
    """Rows to be read together, then those that there are, by fingerprint. pending: is held until the load is done."""

    __slots__ = ("done", "error", "event", "fingerprints", "pending", "rows")

    def __init__(self, fingerprints: Sequence[bytes]) -> None:
        self.fingerprints = fingerprints
        self.rows: dict[bytes, Row] = {}
        self.error: SqliteError | None = None
        self.event: asyncio.Event | None = None
        self.done = False
        self.pending = threading.Lock()
        self.pending.acquire()


class CheckLoads:
    """Loads rows that are likely to be needed soon, many at once. All methods belong to the event loop's thread, and
    none blocks it for longer than 2 ms."""

    def __init__(self, store: CheckStore) -> None:
        self._store = store
        self._queue: SimpleQueue[Load | None] = SimpleQueue()
        self._loads: Lru[bytes, Load] = Lru(_MAX_FINISHED)
        self._thread: threading.Thread | None = None
        self._stuck: Load | None = None
        """The load that a caller has waited for in vain; those after it come later."""
        self._late: Load | None = None
        """The load that was not done within 2 ms."""

    def begin(self, fingerprints: Collection[bytes]) -> None:
        """Asks for the rows that are not asked for already, unless too many wait for a disk that hangs."""
        wanted = [each for each in fingerprints if each not in self._loads]
        if not wanted or self._queue.qsize() >= _MAX_WAITING:
            return
        load = Load(wanted)
        for each in wanted:
            self._loads.put(each, load)
        self._queue.put(load)
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._work, args=(loop,), name="checksums", daemon=True)
            self._thread.start()

    def take(self, fingerprint: bytes) -> Load | None:
        """Returns the load of the row if it is done, or is done within 2 ms while the disk is quick; once."""
        load = self._loads.get(fingerprint)
        if load is None or not (load.done or self._is_done_soon(load)):
            return None
        del self._loads[fingerprint]
        return load

    def _is_done_soon(self, load: Load) -> bool:
        if self._late is not None and not self._late.done:
            return False
        if load.pending.acquire(timeout=_SOON_SECS):
            load.pending.release()
            return True
        self._late = load
        return False

    async def wait(self, fingerprint: bytes) -> bool:
        """Waits at most a second for the load; returns whether it is done.

        After one has waited in vain, no other caller waits before the disk has answered.
        """
        load = self._loads.get(fingerprint)
        if load is None:
            return False
        load.event = load.event or asyncio.Event()
        if load.done:  # checked after the event is there for the thread to see
            return True
        if self._stuck is not None and not self._stuck.done:
            return False
        try:
            async with asyncio.timeout(_WAIT_SECS):
                await load.event.wait()
        except TimeoutError:
            self._stuck = load
            return False
        return True

    def close(self) -> None:
        """Lets the thread end when it is free. Does not wait for it."""
        self._loads.clear()
        self._queue.put(None)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            while (load := self._queue.get()) is not None:
                self._load(loop, load)

    def _load(self, loop: asyncio.AbstractEventLoop, load: Load) -> None:
        try:
            load.rows = self._store.load(load.fingerprints)
        except SqliteError as error:
            load.error = error
        load.done = True
        load.pending.release()
        # Mostly no caller waits yet, and waking the loop would cost more than the rows.
        if load.event is not None:
            loop.call_soon_threadsafe(load.event.set)
