"""Notices that the machine has slept, or that this process was stopped for a while.

Of what was waited for in that time nothing is known: connections may be dead without a word, and a timeout says
nothing about a server.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from math import inf

log = logging.getLogger(__name__)

TICK_SECS = 0.5
SUSPENDED_SECS = 1.0
"""A machine that was suspended for so long has slept."""
STOPPED_SECS = 4.0
"""A tick that comes so late does so because the process was stopped; a busy machine delays one for less."""


def suspended_secs() -> float:
    """Returns for how many seconds the machine has been suspended since it started: only one clock counts them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class Wakes:
    """Calls its listeners after each sleep, within half a second. Belongs to the event loop's thread.

    The loop's clock goes on while the process is stopped, and stands still while the machine is suspended: the first
    shows in a late tick, the second in the difference of two clocks. Of the timers that are due after a stop, the tick
    is among the first, and what those timers end goes on later: all that sees a timeout knows of the sleep.

    last: when the latest sleep was noticed, in seconds of the loop's clock; -inf: never.
    """

    def __init__(self, suspended: Callable[[], float] = suspended_secs) -> None:
        self.last = -inf
        self._suspended = suspended
        self._suspended_before = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Adds what is called after each sleep, in the order of adding. It must not raise."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Starts to look. Needs a running loop."""
        self._suspended_before = self._suspended()
        self._set_timer(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + TICK_SECS
        self._timer = loop.call_later(TICK_SECS, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now, total = loop.time(), self._suspended()
        suspended, self._suspended_before = total - self._suspended_before, total
        stopped = now - self._due
        self._set_timer(loop)
        if suspended >= SUSPENDED_SECS or stopped >= STOPPED_SECS:
            self.last = now
            log.info("awake after %.0f s of sleep: connections are made again", max(suspended, stopped))
            for listener in self._listeners:
                listener()
