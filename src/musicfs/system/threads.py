"""A limited pool of threads for calls that may block forever, such as a read from a hung network mount."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar, TypeVarTuple, cast

from musicfs.errors import OriginFault

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_QUEUED = 2  # for each thread, so that it finds its next job at once


class WorkersUnavailable(Exception):
    """The pool can't take the call. fault: what that means for an origin whose calls it runs."""

    fault = OriginFault.UNREACHABLE


class WorkersClosed(WorkersUnavailable):
    """The pool was closed before the call could finish."""

    def __init__(self) -> None:
        super().__init__("it has been closed")


class WorkersHeld(WorkersUnavailable):
    """Every thread of the pool runs a call that does not return and that no caller waits for."""

    fault = OriginFault.TIMEOUT

    def __init__(self) -> None:
        super().__init__("all of its threads are held by calls that do not return")


class _Job:
    """A call. began: when a thread took it, by `time.monotonic`; None: no thread has. undo: takes a result that no
    caller takes."""

    __slots__ = ("args", "began", "call", "future", "undo")

    def __init__(
        self,
        call: Callable[..., object],
        args: tuple[Any, ...],
        future: asyncio.Future[Any],
        undo: Callable[[Any], object] | None,
    ) -> None:
        self.call = call
        self.args = args
        self.future = future
        self.undo = undo
        self.began: float | None = None

    def discard(self, result: object) -> None:
        if self.undo is not None:
            self.undo(result)


class WorkerThreads:
    """Runs blocking calls for one event loop, at most `size` at a time; the others wait.

    The threads are daemons, unlike those of concurrent.futures: one that hangs must not keep the process from
    exiting. All methods belong to the event loop's thread.

    held_secs: an abandoned call that has taken this long hangs. A shorter one may be the slower of two that raced.
    """

    def __init__(self, name: str, size: int, held_secs: float = 1.0) -> None:
        self._name = name
        self._size = size
        self._held_secs = held_secs
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        """What the threads take from: at most `_QUEUED` jobs for each thread, because a job can't leave the queue."""
        self._queued = 0
        """Jobs in the queue or in a thread."""
        self._waiting: OrderedDict[_Job, None] = OrderedDict()
        """Jobs that are not in the queue yet, the oldest first."""
        self._jobs: set[_Job] = set()
        self._abandoned: set[_Job] = set()
        self._threads = 0
        self._closed = False

    @property
    def blocked(self) -> int:
        """Threads that still run calls whose callers have gone."""
        return len(self._abandoned)

    async def run(self, call: Callable[[*Ts], T], *args: *Ts, undo: Callable[[T], object] | None = None) -> T:
        """Runs `call(*args)` in a thread, and returns or raises what the call does.

        When the caller is cancelled, a call that has not started never starts, and one that has is abandoned to its
        thread. undo: takes what the call returns if the caller has gone by then, in the event loop's thread, and frees
        what would leak.

        Raises WorkersClosed after `close`, and WorkersHeld when every thread is held by an abandoned call that has
        taken `held_secs`.
        """
        if self._closed:
            raise WorkersClosed
        if self._held_for() >= self._held_secs:
            raise WorkersHeld
        loop = asyncio.get_running_loop()
        job = _Job(call, args, loop.create_future(), undo)
        self._jobs.add(job)
        if self._threads < min(len(self._jobs), self._size):
            self._start_thread(loop)
        self._waiting[job] = None
        self._fill_queue()
        try:
            return cast(T, await job.future)
        except asyncio.CancelledError:
            self._abandon(job, loop)
            raise

    def close(self) -> None:
        """Fails the calls under way; each thread ends when its call returns. Never waits for them."""
        self._closed = True
        self._waiting.clear()
        for job in self._jobs:
            if not job.future.done():
                job.future.set_exception(WorkersClosed())
        for _ in range(self._threads):
            self._queue.put(None)

    def _fill_queue(self) -> None:
        while self._waiting and self._queued < self._threads * _QUEUED:
            job, _ = self._waiting.popitem(last=False)
            self._queued += 1
            self._queue.put(job)

    def _abandon(self, job: _Job, loop: asyncio.AbstractEventLoop) -> None:
        """Abandons a job whose caller has gone."""
        if job.future.done() and not job.future.cancelled() and job.future.exception() is None:
            job.discard(job.future.result())
        elif job.began is None:
            self._waiting.pop(job, None)
            self._jobs.discard(job)
        elif job in self._jobs:
            self._abandoned.add(job)
            if len(self._abandoned) >= self._size:
                loop.call_later(max(0.0, self._held_secs - self._held_for()), self._fail_waiting)

    def _held_for(self) -> float:
        """Returns for how many seconds every thread has run an abandoned call; 0 if one does not."""
        if len(self._abandoned) < self._size:
            return 0.0
        return time.monotonic() - max(job.began or 0.0 for job in self._abandoned)

    def _fail_waiting(self) -> None:
        """Fails the jobs that wait, if abandoned calls hold all threads: they could wait forever."""
        if self._closed or self._held_for() < self._held_secs:
            return
        self._waiting.clear()
        for job in self._jobs - self._abandoned:
            self._jobs.discard(job)
            if not job.future.done():
                job.future.set_exception(WorkersHeld())

    def _start_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        self._threads += 1
        name = f"{self._name}-{self._threads}"
        threading.Thread(target=self._work, args=(loop,), name=name, daemon=True).start()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while (job := self._queue.get()) is not None:
            result, error = self._perform(job)
            try:
                loop.call_soon_threadsafe(self._deliver, job, result, error)
            except RuntimeError:  # the loop is closed: no caller waits
                return
            del job, result, error  # an idle thread keeps nothing alive

    def _perform(self, job: _Job) -> tuple[object, BaseException | None]:
        job.began = time.monotonic()
        if job.future.done():
            return None, asyncio.CancelledError()
        try:
            return job.call(*job.args), None
        except BaseException as error:
            return None, error

    def _deliver(self, job: _Job, result: object, error: BaseException | None) -> None:
        self._queued -= 1
        self._jobs.discard(job)
        self._abandoned.discard(job)
        self._fill_queue()
        if job.future.done():
            if error is None:
                job.discard(result)
            return
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)
