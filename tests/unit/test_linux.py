"""The calls of the Linux kernel and the C library that the standard library lacks."""

from __future__ import annotations

import gc

import psutil

from musicfs.system.linux import give_memory_back

_PIECE = 100_000  # small enough that the C library keeps it
_PIECES = 1_000


def test_what_was_freed_between_what_is_in_use_goes_back_to_the_system() -> None:
    resident = psutil.Process().memory_info
    pieces = [bytearray(b"x") * _PIECE for _ in range(_PIECES)]
    kept = pieces[-1]
    full = resident().rss
    del pieces
    gc.collect()
    give_memory_back()
    assert full - resident().rss > _PIECE * _PIECES * 0.8
    assert len(kept) == _PIECE
