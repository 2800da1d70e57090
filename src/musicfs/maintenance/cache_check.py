"""The cache check: reads every cached block once, to find damage before a user plays the file."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from musicfs.cache.store import BlockStore, CacheFailed
from musicfs.system.tasks import Tasks

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CacheCheckProgress:
    """The progress of the check under way, else of the last one.

    Args:
        blocks: The blocks that the cache had when the check started.
        checked: The blocks that are checked so far.
        corrupt: The damaged blocks among them. They are dropped.
        error: Why the check ended early; None otherwise.
        completed: The checks that have ended since the mount started.
    """

    running: bool = False
    blocks: int = 0
    checked: int = 0
    corrupt: int = 0
    error: str | None = None
    completed: int = 0


class CacheCheck:
    """Checks the cache, one check at a time. Belongs to the event loop's thread."""

    def __init__(self, store: BlockStore) -> None:
        self.progress = CacheCheckProgress()
        self._store = store
        self._tasks = Tasks(log)

    def ask(self) -> int:
        """Starts a check unless one is under way; returns the number that `progress.completed` reaches when it ends."""
        if not self.progress.running:
            self.progress = CacheCheckProgress(running=True, completed=self.progress.completed)
            self._tasks.spawn(self._run(), "the check of the cache")
        return self.progress.completed + 1

    async def aclose(self) -> None:
        await self._tasks.aclose()

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
