"""Contents for tests of the cache on disk."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.cache.disk import FOLDER, NewBlock
from musicfs.content.checkstore import CheckStore
from musicfs.model import Content, Fingerprint


def content_of(number: int, size: int) -> Content:
    return Content(number, Fingerprint(random.Random(f"id {number}").randbytes(32)), size)


@cache
def bytes_of(content: Content, number: int) -> bytes:
    """The block `number` of a made-up content."""
    size = min(BLOCK_SIZE, content.size - number * BLOCK_SIZE)
    return random.Random(f"{content.id} {number}").randbytes(size)


def blocks_of(content: Content) -> list[NewBlock]:
    """All of them."""
    return [NewBlock(content, n, bytes_of(content, n)) for n in range(-(-content.size // BLOCK_SIZE))]


def disk_usage(cache: Path) -> int:
    """Bytes that the files of the cache take, as du counts them."""
    return sum(512 * file.stat().st_blocks for file in (cache / FOLDER).iterdir())


class HangingDisk:
    """Makes these methods of the checksums' file hang until `answer` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *methods: str) -> None:
        self.answer, self.asked = threading.Event(), threading.Event()
        for name in methods:
            monkeypatch.setattr(CheckStore, name, self._hanging(getattr(CheckStore, name)))

    def _hanging(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def hang(*args: Any) -> Any:
            self.asked.set()
            self.answer.wait()
            return method(*args)

        return hang
