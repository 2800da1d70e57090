"""An event loop whose clock jumps to the next timer when nothing is ready: exact delays, and no waiting."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of blocking until the next timer, moves `now` to it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("every task waits and no timer is set: this would hang forever")
        if not ready and timeout is not None and timeout > 0:
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at 0 s. Deterministic as long as nothing in it uses threads or real input and output."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def skip(self, secs: float) -> None:
        """Lets time pass while nothing runs, as when the process is stopped."""
        self._jumping.now += secs


def now_ms() -> float:
    """The running loop's time in milliseconds, rid of the last digits' floating-point noise."""
    return round(asyncio.get_running_loop().time() * 1000, 6)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs `main` in virtual time and returns its result; fails when a task outlives it."""
    reports: list[Mapping[str, Any]] = []

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        result = await main
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left running: {left}"
        return result

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        result = runner.run(watched())
    assert not reports, f"the event loop had to report: {reports}"
    return result


def virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Makes an ordinary test function of an asynchronous one, run by `run`."""

    @functools.wraps(test)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        return run(test(*args, **kwargs))

    return wrapper
