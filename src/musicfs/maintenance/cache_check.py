"""Reading all of the cache once, to find what its disk has spoilt before somebody wants to hear it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from musicfs.cache.store import BlockStore, CacheFailed


@dataclass(frozen=True, slots=True)
class CacheCheckProgress:
    """Of the verification under way, else of the last: blocks are how many there were when it began; corrupt ones have
    been dropped. error: why it ended early. completed: how many verifications have ended since the start."""

    running: bool = False
    blocks: int = 0
    checked: int = 0
    corrupt: int = 0
    error: str | None = None
    completed: int = 0


class CacheCheck:
    """One at a time. Belongs to the event loop's thread."""

    def __init__(self, store: BlockStore) -> None:
        self.progress = CacheCheckProgress()
        self._store = store
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> int:
        """Begins one, unless one is under way; the number that `progress.completed` reaches by it."""
        if not self.progress.running:
            self.progress = CacheCheckProgress(running=True, completed=self.progress.completed)
            self._task = asyncio.create_task(self._run())
        return self.progress.completed + 1

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        error = None
        try:
            stats = await self._store.stats()
            self.progress = replace(self.progress, blocks=stats.blocks)
            last = 0
            while contents := await self._store.after(last):
                last = contents[-1].id
                for content in contents:
                    checked, corrupt = await self._store.verify(content.fingerprint, content.size)
                    now = self.progress
                    self.progress = replace(now, checked=now.checked + checked, corrupt=now.corrupt + corrupt)
        except CacheFailed as failed:
            error = str(failed)
        finally:
            self.progress = replace(self.progress, running=False, error=error, completed=self.progress.completed + 1)
