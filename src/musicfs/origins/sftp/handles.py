"""Shares a server's few handles for open files and listings among calls."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSES = (0.02, 0.1)
"""Seconds between the attempts to open something at a server that may have no handles left."""


class Handles:
    """The handles that a server has for one origin.

    Args:
        make_room: Closes files that no call uses.
    """

    def __init__(self, make_room: Callable[[], Awaitable[object]]) -> None:
        self._make_room = make_room
        self._scarce = asyncio.Lock()

    async def shared_by(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeats a call that failed perhaps because the server has no handles left: one such call at a time, and after
        files that are not in use were closed. Calls beside it close theirs as they end."""
        from asyncssh import SFTPFailure

        async with self._scarce:
            for pause in _PAUSES:
                await self._make_room()
                try:
                    return await call()
                except SFTPFailure:
                    await asyncio.sleep(pause)
            return await call()

    async def wait(self) -> None:
        """Waits while another call has no handle: the handles that become free are for it."""
        if self._scarce.locked():
            async with self._scarce:
                pass


def lacks_handles(error: Exception) -> bool:
    """Whether the server has too many files open, as far as it says so."""
    return re.search("too many|handle|resource", str(error), re.IGNORECASE) is not None
