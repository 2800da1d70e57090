"""Background tasks: kept until they end, told of when they die, ended with their owner."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from musicfs.system.tasks import Tasks

log = logging.getLogger(__name__)


async def fail(error: Exception) -> None:
    raise error


async def test_a_task_is_kept_until_it_ends_and_no_longer() -> None:
    tasks, go_on = Tasks(log), asyncio.Event()
    task = tasks.spawn(go_on.wait(), "waiting")
    gc.collect()
    assert list(tasks) == [task]
    assert task.get_name() == "waiting"
    go_on.set()
    await tasks.wait()
    await asyncio.sleep(0)
    assert len(tasks) == 0
    assert task.result() is True


async def test_what_dies_is_logged_by_name_but_for_what_is_told_elsewhere(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks(log, quiet=(OSError,))
    tasks.spawn(fail(ValueError("no")), "the first")
    tasks.spawn(fail(FileNotFoundError("no")), "the second")
    await tasks.wait()
    await asyncio.sleep(0)
    assert [record.message for record in caplog.records] == ["the first died"]


async def test_closing_cancels_and_awaits_all_and_is_bounded() -> None:
    tasks, ended, stubborn = Tasks(log), asyncio.Event(), asyncio.Event()

    async def end_slowly() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    async def go_on() -> None:
        while not stubborn.is_set():
            try:
                await stubborn.wait()
            except asyncio.CancelledError:
                continue

    tasks.spawn(end_slowly(), "slow")
    await asyncio.sleep(0)
    await tasks.aclose()
    assert ended.is_set()
    tasks.spawn(go_on(), "stubborn")
    await asyncio.sleep(0)
    await tasks.aclose(timeout=0.01)
    assert len(tasks) == 1
    stubborn.set()
    await tasks.wait()
