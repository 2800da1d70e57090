"""The calls of an origin that a sleep of the machine interrupts: what becomes of them says nothing about the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from musicfs.errors import OriginFailed, OriginFault
from musicfs.model import OriginId


class Interruptions:
    """Counts how often the connections of an origin were dropped, and names that as the cause of what then fails."""

    def __init__(self, origin: OriginId) -> None:
        self._origin = origin
        self._count = 0

    def record(self) -> None:
        """The connections are dropped now."""
        self._count += 1

    @contextmanager
    def named(self) -> Iterator[None]:
        """Surrounds a call. Raises OriginFailed with `interrupted` where the call fails after its connections were
        dropped."""
        count = self._count
        try:
            yield
        except OriginFailed as failure:
            if self._count == count:
                raise
            detail = "the machine slept, and the connections ended"
            raise OriginFailed(self._origin, OriginFault.UNREACHABLE, detail, interrupted=True) from failure
