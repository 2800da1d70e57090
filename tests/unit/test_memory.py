"""A mount at rest keeps little memory: what a walk or a song has filled is returned."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from musicfs.app import background
from musicfs.catalog.database import prepare_catalog
from musicfs.catalog.view import TreeView
from musicfs.mount.stats import RequestStats
from tests.support.virtualtime import virtual_time


class Parts:
    """Counts what `return_memory` does with the parts of a mount."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts = RequestStats()
        self.busy = False
        self.calls: list[str] = []
        monkeypatch.setattr(background, "give_memory_back", lambda: self.calls.append("trimmed"))
        monkeypatch.setattr("asyncio.to_thread", self._at_once)

    async def _at_once(self, call: Any) -> None:
        call()

    def release_memory(self) -> None:
        self.calls.append("released")

    def start(self) -> asyncio.Task[None]:
        parts: Any = self
        filesystem: Any = SimpleNamespace(counts=self.counts)
        return asyncio.create_task(background.return_memory(filesystem, parts, parts))


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@virtual_time
async def test_memory_is_returned_once_after_the_start_and_once_after_the_last_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts(monkeypatch)
    task = parts.start()
    await asyncio.sleep(305)
    assert parts.calls == ["released", "trimmed"]
    parts.counts.readdir += 1
    await asyncio.sleep(300)
    assert parts.calls == ["released", "trimmed"] * 2
    await stop(task)


@virtual_time
async def test_between_requests_it_is_returned_once_a_minute_but_not_while_a_block_is_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts(monkeypatch)
    task = parts.start()
    for _ in range(61):
        parts.counts.read += 1
        await asyncio.sleep(5)
    assert parts.calls == ["trimmed"] * 5
    parts.busy = True
    await asyncio.sleep(300)
    assert parts.calls == ["trimmed"] * 5
    await stop(task)


def test_a_view_that_has_released_its_memory_answers_as_before(tmp_path: Path) -> None:
    prepare_catalog(tmp_path / "catalog.sqlite")
    view = TreeView.open(tmp_path / "catalog.sqlite")
    before = view.inode(1), view.totals()
    view.release_memory()
    assert (view.inode(1), view.totals()) == before
    view.close()
