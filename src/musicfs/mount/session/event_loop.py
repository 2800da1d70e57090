"""How requests reach the session without a tour through the event loop for each of them.

A descriptor that asyncio's loop watches costs an epoll_wait and two changes of task a request, more than the work
itself. Here the task that waits for requests waits in poll(2), on the FUSE descriptor and on the loop's own epoll
descriptor at once, and goes back to the loop only when the loop has something to do. That halves the time of a lookup
(measured by bench/).
"""

from __future__ import annotations

import asyncio
import math
import os
import select
import time

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


class RequestWaiter:
    """Waits for requests on behalf of the event loop that runs it.

    Args:
        loop: The loop that waits meanwhile.
        fd: The open /dev/fuse.
    """

    def __init__(self, loop: FuseEventLoop, fd: int) -> None:
        self._loop = loop
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(loop.idle_fd(), select.POLLIN)
        self._poll.register(fd, select.POLLIN)
        self._burst = 0
        # With one processor it would only keep the other side from running.
        self._spin_secs = _SPIN_SECS if len(os.sched_getaffinity(0)) > 1 else 0.0
        self._answered = False

    def wait(self) -> bool:
        """Waits for a request, or until the loop has work; whether a request is there, or the connection ended.

        After False the caller gives the loop a turn.
        """
        wait_ms = self._loop.idle_ms()
        request, loop_has_work = False, wait_ms == 0
        for ready, _ in self._next_events(wait_ms):
            if ready == self._fd:
                request = True
            else:
                loop_has_work = True
        if not request or (loop_has_work and self._burst >= _BURST):
            self._burst = 0
            return False
        self._answered = True
        self._burst += 1
        return True

    def _next_events(self, wait_ms: int) -> list[tuple[int, int]]:
        """As poll(2), but looks again and again for a moment before it sleeps.

        Who has just been answered mostly asks again at once, and waking a sleeping processor takes longer than the
        answer did. Halves the time of a listing (measured by bench/).
        """
        if wait_ms and self._answered:
            self._answered = False
            until = time.perf_counter() + self._spin_secs
            while time.perf_counter() < until:
                if events := self._poll.poll(0):
                    return events
        return self._poll.poll(wait_ms)
