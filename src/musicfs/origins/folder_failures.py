"""What a scan does about a folder that can't be listed: it goes on beside it, as long as the root answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from musicfs.errors import OriginFailed, OriginFault
from musicfs.model import OriginId
from musicfs.origin import ScanObserver
from musicfs.problems import Problem, Reason

T = TypeVar("T")

_REASONS = {OriginFault.DENIED: Reason.CLOSED_FOLDER, OriginFault.TIMEOUT: Reason.SLOW_FOLDER}
_MAX_SLOW = 20
"""Folders in a row that do not answer, each of which takes a whole timeout, until the origin counts as failed."""


class FolderTooBig(OriginFailed):
    """A folder has more names than MusicFS accepts, and nothing of it is listed."""

    def __init__(self, origin: OriginId, detail: str) -> None:
        super().__init__(origin, OriginFault.IO, detail)


class FolderFailures:
    """Lists the folders of one scan, and reports those whose listing fails while the root answers.

    Args:
        observer: hears of each of them.
        check_root: raises OriginFailed when the root is away, on a new connection if need be.
    """

    def __init__(self, observer: ScanObserver, check_root: Callable[[], Awaitable[object]]) -> None:
        self._observer = observer
        self._check_root = check_root
        self._slow = 0
        self._alone = asyncio.Lock()

    async def list(self, folder: str, attempt: Callable[[], Awaitable[T]]) -> T | None:
        """Returns what `attempt` does; None for a folder that is reported instead.

        A connection that was lost tells nothing about the folder, so it is listed a second time on the next one.

        Raises OriginFailed for the root, when the root does not answer either, and after too many folders in a row
        that took a timeout each.
        """
        try:
            try:
                found = await attempt()
            except OriginFailed as failure:
                if failure.fault not in (OriginFault.UNREACHABLE, OriginFault.REFUSED):
                    raise
                async with self._alone:  # of several folders, one may be what ends the connection
                    await self._check_root()
                    found = await attempt()
        except OriginFailed as failure:
            await self.take(folder, failure)
            return None
        self._slow = 0
        return found

    async def take(self, folder: str, failure: OriginFailed) -> None:
        """Reports the folder. Raises OriginFailed as `list` does, and when the machine has slept."""
        if isinstance(failure, FolderTooBig):
            self._observer.report(Problem(folder, Reason.BIG_FOLDER, failure.detail))
            return
        if not folder or failure.interrupted:
            raise failure
        await self._check_root()
        self._slow = self._slow + 1 if failure.fault is OriginFault.TIMEOUT else 0
        if self._slow > _MAX_SLOW:
            raise failure
        self._observer.report(Problem(folder, _REASONS.get(failure.fault, Reason.BROKEN_FOLDER), failure.detail))
