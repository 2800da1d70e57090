"""How requests reach the sessions without a tour through the event loop for each of them.

A descriptor that asyncio's loop watches costs an epoll_wait and two changes of task a request, more than the work
itself. Here one task waits in poll(2), on the FUSE descriptors and on the loop's own epoll descriptor at once, and goes
back to the loop only when the loop has something to do. That halves the time of a lookup (measured by bench/).
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import select
import time
from collections import deque
from typing import Protocol

from musicfs.mount.session.channel import Channel, ConnectionEnded

log = logging.getLogger(__name__)

# After so many requests in a row the loop gets a turn if it has work.
_BURST = 16
_NEVER = -1
# How long to look for the next request after one was answered, before going to sleep.
_SPIN_SECS = 100e-6
# A request that comes so soon after going to sleep was waiting for that, most likely.
_PROMPT_SECS = 60e-6
# After how many requests to find out again whether to spin.
_YIELDS = 64
# To yield takes longer if a program that computes gets its turn. How long to go to sleep at once after that.
_TURN_SECS = 500e-6
_CROWDED_SECS = 0.1
_RETRY_SECS = 0.1


class Connected(Protocol):
    """Whose requests a `RequestLoop` takes."""

    channel: Channel

    def take(self, request: bytes) -> None:
        """Answers a request, or begins to; raises ConnectionEnded."""

    def stop(self) -> None:
        """Is called when there will be no further request."""


class FuseEventLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, telling when it would have nothing to do.

    Attributes:
        requests: Takes the requests of all sessions that the loop serves.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests = RequestLoop(self)

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

    def is_ready(self) -> bool:
        """Whether callbacks wait to be called."""
        return bool(self._ready)  # type: ignore[attr-defined]


class RequestLoop:
    """Passes requests to their sessions as they come, and gives the event loop its turns.

    Args:
        loop: The loop that runs it.
    """

    def __init__(self, loop: FuseEventLoop) -> None:
        self._loop = loop
        self._sessions: deque[Connected] = deque()
        self._paused: dict[Connected, asyncio.TimerHandle] = {}
        self._task: asyncio.Task[None] | None = None
        self._io = select.poll()
        self._io.register(loop.idle_fd(), select.POLLIN)
        self._all = select.poll()
        self._all.register(loop.idle_fd(), select.POLLIN)
        self._yields = 0
        self._spun_in_vain = False
        self._crowded_until = 0.0
        # With one processor it would only keep the other side from running.
        self._spin_secs = _SPIN_SECS if len(os.sched_getaffinity(0)) > 1 else 0.0

    def add(self, session: Connected) -> None:
        """Takes the session's requests from now on."""
        self._sessions.append(session)
        self._all.register(session.channel.fd, select.POLLIN)
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._run())

    def remove(self, session: Connected) -> None:
        """Takes no more of them. The session's channel must still be open."""
        if session in self._sessions:
            self._sessions.remove(session)
            self._all.unregister(session.channel.fd)
        else:
            self._paused.pop(session).cancel()

    def _pause(self, session: Connected) -> None:
        """Takes no request of the session for a moment."""
        self.remove(session)
        self._paused[session] = self._loop.call_later(_RETRY_SECS, self._resume, session)

    def _resume(self, session: Connected) -> None:
        del self._paused[session]
        self.add(session)

    async def _run(self) -> None:
        while self._sessions:
            self._serve()
            await asyncio.sleep(0)
            self._sessions.rotate()

    def _serve(self) -> None:
        """Answers requests until the loop has work."""
        while not self._has_work():
            if not self._answer_some():
                self._sleep()

    def _has_work(self) -> bool:
        return self._loop.idle_ms() == 0 or bool(self._io.poll(0))

    def _answer_some(self) -> int:
        """Answers requests for as long as one follows upon the other. Returns how many."""
        for number in range(_BURST):
            if not (self._answer_one() or (number and self._spin())):
                return number
        return _BURST

    def _answer_one(self) -> bool:
        """Answers a request; whether there was one."""
        for session in self._sessions:
            try:
                if (request := session.channel.receive()) is None:
                    continue
                session.take(request)
            except ConnectionEnded:
                session.stop()
            except OSError as error:
                log.warning("no request can be read: %s", error)
                self._pause(session)
            return True
        return False

    def _sleep(self) -> None:
        """Waits for a request or for the loop's work."""
        started = time.perf_counter()
        self._all.poll(self._loop.idle_ms())
        if self._spun_in_vain and time.perf_counter() - started < _PROMPT_SECS:
            self._yields = _YIELDS
        self._spun_in_vain = False

    def _spin(self) -> bool:
        """Looks for the next request for a moment.

        A caller that has just been answered mostly asks again at once, and waking a sleeping processor takes longer
        than the answer did. But if the kernel lets the caller continue on this very processor, looking only keeps it
        from asking, and it asks as soon as we sleep. Then it goes first for a while: a listing takes half as long
        again otherwise (measured by bench/).
        """
        started = time.perf_counter()
        if self._yields:
            if started < self._crowded_until:
                return False
            self._yields -= 1
            if self._yield(started):
                return True
        until = started + self._spin_secs
        while time.perf_counter() < until and not self._loop.is_ready():
            if self._answer_one():
                self._yields = 0  # the caller is on another processor
                return True
        self._spun_in_vain = True
        return False

    def _yield(self, started: float) -> bool:
        """Lets the caller go first. Returns whether it asked for something, which is answered."""
        os.sched_yield()
        if time.perf_counter() - started > _TURN_SECS:
            # It was a program that computes. One that wakes up gets its turn sooner than one that yields.
            self._crowded_until = started + _CROWDED_SECS
        return self._answer_one()
