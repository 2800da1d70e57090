"""Cuts a body that arrives in pieces of any size into the requested parts."""

from __future__ import annotations

from collections.abc import Sequence

from musicfs.origin import HandOut


class Parts:
    """Hands out each part, by its number, once it is complete. sizes: of the parts, in bytes; none is 0."""

    def __init__(self, sizes: Sequence[int], hand_out: HandOut) -> None:
        self._sizes = sizes
        self._hand_out = hand_out
        self._number = 0
        self._pieces: list[bytes | memoryview] = []
        self._lacking = sizes[0]

    @property
    def complete(self) -> bool:
        return self._number == len(self._sizes)

    def take(self, piece: bytes) -> None:
        """Adds the next bytes; bytes beyond the last part are left out."""
        rest: bytes | memoryview = piece
        while rest and not self.complete:
            if len(rest) > self._lacking and isinstance(rest, bytes):
                rest = memoryview(rest)
            taken, rest = rest[: self._lacking], rest[self._lacking :]
            self._pieces.append(taken)
            self._lacking -= len(taken)
            if not self._lacking:
                self._end_part()

    def _end_part(self) -> None:
        number, data = self._number, b"".join(self._pieces)
        self._pieces.clear()
        self._number += 1
        if not self.complete:
            self._lacking = self._sizes[self._number]
        self._hand_out(number, data)
