"""How requests reach pyfuse3's workers without a tour through the event loop for each of them.

As it comes, pyfuse3 under asyncio pays three epoll_wait and two epoll_ctl calls a request, more than the work itself.
Here the worker that waits for requests waits in poll(2), on the FUSE descriptor and on the event loop's own epoll
descriptor at once, and goes back to the loop only when the loop has something to do. That halves the time of a lookup
(measured by bench/). It replaces three names that pyfuse3.asyncio looks up at run time, and nothing else.

The workers share a lock: its holder waits for the next request. As it comes, each release wakes the next worker, and
every request costs a change of task. `Baton` wakes one only when the holder is about to wait for something else,
which the adapter announces by `pass_on`.
"""

from __future__ import annotations

import asyncio
import math
import os
import select
import time
from collections import deque

from musicfs.mount import trioless  # noqa: F401 — before pyfuse3

# isort: split
import pyfuse3.asyncio

# Requests served in a row while the loop has other work, before it gets a turn.
_BURST = 16
_NEVER = -1
# How long to look for the next request after one was answered, before going to sleep.
_SPIN_SECS = 100e-6


class FuseEventLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, telling when it would have nothing to do."""

    def idle_fd(self) -> int:
        """A descriptor that is readable when the loop has I/O to handle."""
        return int(self._selector.fileno())  # type: ignore[attr-defined]

    def idle_ms(self) -> int:
        """How long the loop could sleep, in milliseconds; 0 when callbacks are ready, -1: until there is I/O."""
        if self._ready:  # type: ignore[attr-defined]
            return 0
        if self._scheduled:  # type: ignore[attr-defined]
            due: float = self._scheduled[0].when()  # type: ignore[attr-defined]
            return max(0, math.ceil((due - self.time()) * 1000))
        return _NEVER


class Baton:
    """The workers' lock: the worker that holds it waits for the next request. Takes the place of asyncio.Lock."""

    def __init__(self, waiter: FuseWaiter) -> None:
        self._waiter = waiter
        self._held = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        while self._held:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self._held = True

    async def __aexit__(self, *_: object) -> None:
        self._held = False
        if self._waiter.ended:
            while self._waiting:
                self.pass_on()

    def pass_on(self) -> None:
        """Wakes one waiting worker: the caller is about to wait for something that is not a request."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return


class FuseWaiter:
    """Waits for FUSE requests on behalf of the event loop that runs it."""

    def __init__(self, loop: FuseEventLoop) -> None:
        self._loop = loop
        self._poll = select.poll()
        self._poll.register(loop.idle_fd(), select.POLLIN)
        self._fd = -1
        self._burst = 0
        # With one processor it would only keep the other side from running.
        self._spin_secs = _SPIN_SECS if len(os.sched_getaffinity(0)) > 1 else 0.0
        self._answered = False
        self.ended = False
        self.baton = Baton(self)

    def install(self) -> None:
        """Takes the place of pyfuse3.asyncio's own waiting. Once per process, before `pyfuse3.main`."""
        pyfuse3.asyncio.enable()
        names = vars(pyfuse3.asyncio)
        names["wait_readable"] = self.wait_readable
        names["notify_closing"] = self.notify_closing
        names["Lock"] = lambda: self.baton

    async def wait_readable(self, fd: int) -> None:
        """Returns when a request is there, or when the session has ended and reading will tell."""
        if fd != self._fd:
            self._fd = fd
            self._poll.register(fd, select.POLLIN)
        while not self.ended:
            wait_ms = self._loop.idle_ms()
            request = loop_has_work = False
            for ready, events in self._next_events(wait_ms):
                if ready != fd:
                    loop_has_work = True
                    continue
                request = True
                if events & ~select.POLLIN:
                    self.ended = True
            if request:
                self._answered = True
                self._burst += 1
                if self._burst < _BURST or not (loop_has_work or wait_ms == 0):
                    return
            self._burst = 0
            await asyncio.sleep(0)
            if request:
                return
        raise pyfuse3.asyncio.ClosedResourceError

    def _next_events(self, wait_ms: int) -> list[tuple[int, int]]:
        """As poll(2), but looks again and again for a moment before it sleeps: who has just been answered mostly asks
        again at once, and waking a sleeping processor takes longer than the answer did. Halves the time of a listing
        (measured by bench/)."""
        if wait_ms and self._answered:
            self._answered = False
            until = time.perf_counter() + self._spin_secs
            while time.perf_counter() < until:
                if events := self._poll.poll(0):
                    return events
        return self._poll.poll(wait_ms)

    def notify_closing(self, fd: int) -> None:
        self.ended = True
        self.baton.pass_on()
