"""Maps the kernel's watches to folders, in little memory: a million tracks lie in a hundred thousand folders."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator

_NONE = 0xFFFF  # longer than any path can be


class WatchedFolders:
    """Paths by the numbers of their watches, which the kernel counts up from 1 and does not use again soon.

    The paths lie one after the other in one buffer. A dropped path keeps its space until the watch ends.
    """

    def __init__(self) -> None:
        self._text = bytearray()
        self._starts = array("Q")
        self._sizes = array("H")

    def __len__(self) -> int:
        """Returns how many numbers there were, dropped ones included."""
        return len(self._sizes)

    def __setitem__(self, number: int, path: str) -> None:
        if self.get(number) == path:  # all are added again after an overflow
            return
        missing = number + 1 - len(self._sizes)
        if missing > 0:
            self._starts.extend([0] * missing)
            self._sizes.extend([_NONE] * missing)
        text = os.fsencode(path)
        self._starts[number] = len(self._text)
        self._sizes[number] = len(text)
        self._text += text

    def get(self, number: int) -> str | None:
        """Returns the path, or None if there is no such watch."""
        if not 0 <= number < len(self._sizes) or self._sizes[number] == _NONE:
            return None
        start = self._starts[number]
        return os.fsdecode(bytes(self._text[start : start + self._sizes[number]]))

    def pop(self, number: int) -> str | None:
        """Returns the path as `get` does, and drops it."""
        path = self.get(number)
        if path is not None:
            self._sizes[number] = _NONE
        return path

    def items(self) -> Iterator[tuple[int, str]]:
        """Yields the watches; the caller may pop some meanwhile."""
        for number in range(len(self._sizes)):
            if (path := self.get(number)) is not None:
                yield number, path

    def update(self, other: WatchedFolders) -> None:
        """Adds the watches of the other table."""
        for number, path in other.items():
            self[number] = path
