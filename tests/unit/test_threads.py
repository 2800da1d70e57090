"""A pool of threads that survives calls which never return."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator

import pytest

from musicfs.system.threads import WorkersClosed, WorkersHeld, WorkerThreads


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hanging calls wait for; opened at the end, so that no thread outlives its test."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def threads() -> Iterator[WorkerThreads]:
    threads = WorkerThreads("test", 2)
    yield threads
    threads.close()


async def hang(threads: WorkerThreads, gate: threading.Event) -> asyncio.Task[bool]:
    """A call that is surely running, and hangs until the gate opens."""
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def call() -> bool:
        loop.call_soon_threadsafe(started.set)
        return gate.wait()

    task = asyncio.create_task(threads.run(call))
    await started.wait()
    return task


async def test_gives_what_the_call_returns_or_raises(threads: WorkerThreads) -> None:
    assert await threads.run(divmod, 17, 5) == (3, 2)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 1, 0)


async def test_runs_in_other_threads_and_no_more_than_its_size(threads: WorkerThreads) -> None:
    names = await asyncio.gather(*(threads.run(lambda: threading.current_thread().name) for _ in range(50)))
    assert set(names) <= {"test-1", "test-2"}


async def test_starts_no_thread_before_it_is_needed(threads: WorkerThreads) -> None:
    for _ in range(5):
        assert await threads.run(lambda: threading.current_thread().name) == "test-1"


async def test_a_call_cancelled_before_it_started_never_starts(threads: WorkerThreads, gate: threading.Event) -> None:
    hanging = [await hang(threads, gate) for _ in range(2)]
    ran: list[int] = []
    waiting = asyncio.create_task(threads.run(ran.append, 1))
    await asyncio.sleep(0)
    waiting.cancel()
    after = asyncio.create_task(threads.run(ran.append, 2))
    gate.set()
    await asyncio.gather(*hanging, after)
    assert ran == [2]


async def test_an_abandoned_call_counts_as_blocked_until_it_returns(
    threads: WorkerThreads, gate: threading.Event
) -> None:
    task = await hang(threads, gate)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert threads.blocked == 1
    assert await threads.run(lambda: 5) == 5
    gate.set()
    while threads.blocked:
        await threads.run(lambda: None)


async def test_when_all_calls_were_abandoned_a_moment_ago_a_new_call_waits_for_a_thread(
    threads: WorkerThreads, gate: threading.Event
) -> None:
    """A slow disk answers after all; it is not to be thought of as one that hangs."""
    for _ in range(2):
        (await hang(threads, gate)).cancel()
    waiting = asyncio.create_task(threads.run(lambda: 5))
    await asyncio.sleep(0)
    assert threads.blocked == 2
    assert not waiting.done()
    gate.set()
    assert await waiting == 5


async def test_when_all_threads_hang_in_abandoned_calls_what_waits_and_what_comes_fails_until_one_is_free(
    gate: threading.Event,
) -> None:
    threads = WorkerThreads("test", 2, held_secs=0.05)
    hanging = [await hang(threads, gate) for _ in range(2)]
    waiting = [asyncio.create_task(threads.run(lambda: 5)) for _ in range(10)]
    await asyncio.sleep(0)
    for task in hanging:
        task.cancel()
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(failure) for failure in failures} == {WorkersHeld}
    with pytest.raises(WorkersHeld, match="held by calls that do not return"):
        await threads.run(lambda: 5)
    gate.set()
    while threads.blocked:
        await asyncio.sleep(0)
    assert await threads.run(lambda: 5) == 5
    threads.close()


async def test_cancelled_calls_do_not_pile_up_behind_threads_that_hang(
    threads: WorkerThreads, gate: threading.Event
) -> None:
    hanging = [await hang(threads, gate) for _ in range(2)]
    arguments = [threading.Event() for _ in range(500)]  # of a type that may be referenced weakly
    kept = weakref.WeakSet(arguments)
    waiting = [asyncio.create_task(threads.run(argument.is_set)) for argument in arguments]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    del waiting, task, arguments
    gc.collect()
    assert len(kept) <= 4
    gate.set()
    await asyncio.gather(*hanging)
    assert await threads.run(lambda: 5) == 5


async def test_calls_run_in_the_order_they_were_made(threads: WorkerThreads, gate: threading.Event) -> None:
    hanging = [await hang(threads, gate), await hang(threads, threading.Event())]
    ran: list[int] = []
    waiting = [asyncio.create_task(threads.run(ran.append, number)) for number in range(100)]
    gate.set()
    await asyncio.gather(*waiting)
    assert ran == list(range(100))
    hanging[1].cancel()


async def test_closing_fails_calls_under_way_without_waiting_for_them(
    threads: WorkerThreads, gate: threading.Event
) -> None:
    tasks = [await hang(threads, gate), asyncio.create_task(threads.run(lambda: True))]
    await asyncio.sleep(0)
    threads.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], WorkersClosed)
    with pytest.raises(WorkersClosed):
        await threads.run(lambda: True)


def test_a_hung_thread_does_not_keep_the_process_from_exiting() -> None:
    program = """
        import asyncio, threading
        from musicfs.system.threads import WorkerThreads

        async def main():
            try:
                await asyncio.wait_for(WorkerThreads("test", 1).run(threading.Event().wait), 0.01)
            except TimeoutError:
                print("gave up")

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("gave up\n", "")
