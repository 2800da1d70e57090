"""Reads rows of the checksum file in a thread: its disk may hang, and the event loop must not."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial
from queue import Empty, SimpleQueue

from musicfs.content.check_rows import CheckRows, Row
from musicfs.content.checkstore import CheckStore
from musicfs.system.lru import Lru
from musicfs.system.sqlite import SqliteError

_WAIT_SECS = 1.0
"""Reads wait as long for the block cache, which is on the same disk."""
_SOON_SECS = 0.002
"""Less than this reads what the kernel has of the file in memory, and a turn of the event loop costs more."""
_MAX_WAITING = 64
_MAX_FINISHED = 1024
_PAGE = 200


class Load:
    """One row to be read, then its result. row: None: there is none. pending: is held until the load is done."""

    __slots__ = ("done", "error", "event", "fingerprint", "pending", "row")

    def __init__(self, fingerprint: bytes) -> None:
        self.fingerprint = fingerprint
        self.row: Row | None = None
        self.error: SqliteError | None = None
        self.event: asyncio.Event | None = None
        self.done = False
        self.pending = threading.Lock()
        self.pending.acquire()


class CheckLoads:
    """Loads rows: those that are asked for, and between them all others that fit in memory. All methods belong to the
    event loop's thread, and none blocks it for longer than 2 ms.

    rows: takes what need not be asked for any longer.
    """

    def __init__(self, store: CheckStore, rows: CheckRows) -> None:
        self._store = store
        self._rows = rows
        self._queue: SimpleQueue[Load | None] = SimpleQueue()
        self._loads: Lru[bytes, Load] = Lru(_MAX_FINISHED)
        self._thread: threading.Thread | None = None
        self._stuck: Load | None = None
        """The load that a caller has waited for in vain; those after it come later."""
        self._late: Load | None = None
        """The load that was not done within 2 ms."""

    def begin(self, fingerprint: bytes) -> None:
        """Asks for the row, unless it is asked for already, or too many wait for a disk that hangs."""
        if fingerprint in self._loads or self._queue.qsize() >= _MAX_WAITING:
            return
        load = Load(fingerprint)
        self._loads.put(fingerprint, load)
        self._queue.put(load)
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._work, args=(loop,), name="checksums", daemon=True)
            self._thread.start()

    def take(self, fingerprint: bytes) -> Load | None:
        """Returns the load and forgets it, if it is done, or is done within 2 ms while the disk is quick."""
        load = self._loads.get(fingerprint)
        if load is None or not (load.done or self._is_done_soon(load)):
            return None
        del self._loads[fingerprint]
        return load

    def _is_done_soon(self, load: Load) -> bool:
        if self._late is not None and not self._late.done:
            return False
        if load.pending.acquire(timeout=_SOON_SECS):
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
        after: bytes | None = b""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            while True:
                try:
                    load = self._queue.get(block=after is None)
                except Empty:
                    after = self._add_page(loop, after or b"")
                    continue
                if load is None:
                    return
                self._load(loop, load)

    def _load(self, loop: asyncio.AbstractEventLoop, load: Load) -> None:
        try:
            load.row = self._store.load(load.fingerprint)
        except SqliteError as error:
            load.error = error
        load.done = True
        load.pending.release()
        # Mostly no caller waits yet, and waking the loop would cost more than the row.
        if load.event is not None:
            loop.call_soon_threadsafe(load.event.set)

    def _add_page(self, loop: asyncio.AbstractEventLoop, after: bytes) -> bytes | None:
        """Adds the rows that follow this fingerprint; returns the one that the next follow, or None at the end."""
        try:
            page = self._store.page(after, _PAGE)
        except SqliteError:  # which the next load reports
            return None
        is_last = len(page) < _PAGE
        loop.call_soon_threadsafe(partial(self._rows.add, page, is_last=is_last))
        return None if is_last or self._rows.is_full else page[-1][0]
