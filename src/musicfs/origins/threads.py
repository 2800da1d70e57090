"""A bounded pool of threads for calls that may block for ever, such as a read from a hung network mount."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar, TypeVarTuple, cast

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class WorkersClosed(Exception):
    """The pool was closed before the call could finish."""


class _Job:
    __slots__ = ("abandoned", "args", "call", "future", "started")

    def __init__(self, call: Callable[..., object], args: tuple[Any, ...], future: asyncio.Future[Any]) -> None:
        self.call = call
        self.args = args
        self.future = future
        self.started = False
        self.abandoned = False


class WorkerThreads:
    """Runs blocking calls for one event loop, at most `size` at a time; the rest wait their turn.

    The threads are daemons, unlike those of concurrent.futures: one that hangs must not keep the process from
    exiting. All methods belong to the event loop's thread.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._jobs: set[_Job] = set()
        self._threads = 0
        self._blocked = 0
        self._closed = False

    @property
    def blocked(self) -> int:
        """Threads still held by calls whose callers have gone."""
        return self._blocked

    async def run(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """What `call(*args)` returns or raises.

        When the caller is cancelled, a call that has not started never does, and one that has is abandoned to
        its thread. Raises WorkersClosed after `close`.
        """
        if self._closed:
            raise WorkersClosed
        loop = asyncio.get_running_loop()
        job = _Job(call, args, loop.create_future())
        self._jobs.add(job)
        if self._threads < min(len(self._jobs), self._size):
            self._start_thread(loop)
        self._queue.put(job)
        try:
            return cast(T, await job.future)
        except asyncio.CancelledError:
            if job.started and job in self._jobs:
                job.abandoned = True
                self._blocked += 1
            raise

    def close(self) -> None:
        """Fails the calls under way and lets the threads end as they come free. Never waits for them."""
        self._closed = True
        for job in self._jobs:
            if not job.future.done():
                job.future.set_exception(WorkersClosed())
        for _ in range(self._threads):
            self._queue.put(None)

    def _start_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        self._threads += 1
        name = f"{self._name}-{self._threads}"
        threading.Thread(target=self._work, args=(loop,), name=name, daemon=True).start()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while (job := self._queue.get()) is not None:
            result, error = self._perform(job)
            try:
                loop.call_soon_threadsafe(self._deliver, job, result, error)
            except RuntimeError:  # the loop has been closed: nobody waits any more
                return
            del job, result, error  # an idle thread keeps nothing alive

    def _perform(self, job: _Job) -> tuple[object, BaseException | None]:
        job.started = True
        if job.future.done():
            return None, None
        try:
            return job.call(*job.args), None
        except BaseException as error:
            return None, error

    def _deliver(self, job: _Job, result: object, error: BaseException | None) -> None:
        self._jobs.discard(job)
        if job.abandoned:
            self._blocked -= 1
        if job.future.done():
            return
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)
