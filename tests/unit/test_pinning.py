"""What pins take on disk, and what pinning costs the mount's event loop."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

import pytest

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.cache.index import all_on_disk, on_disk
from musicfs.cache.store import BlockStore
from musicfs.content.reader import Reader
from musicfs.errors import UserError
from musicfs.events import EventBus
from musicfs.maintenance.pins import Pins
from musicfs.model import Content, Fingerprint

TERABYTE = 10**12


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 10**7 + 1])
def test_a_content_takes_what_its_blocks_take(size: int) -> None:
    assert all_on_disk(size) == sum(on_disk(size, number) for number in range(-(-size // BLOCK_SIZE)))


async def test_pinning_too_much_is_refused_at_once_however_much_it_is(tmp_path: Path) -> None:
    bus = EventBus()
    store = BlockStore(tmp_path, 10**9, bus)
    await store.start()
    content = Content(1, Fingerprint(bytes(32)), 8 * TERABYTE)
    unused = cast(Reader, None)
    pins = Pins(
        tmp_path / "pins.sqlite", store, unused, bus,
        lambda paths, known: ({path: [content] for path in paths}, {}), lambda number: [], lambda replicas: True,
    )  # fmt: skip
    try:
        await pins.start()
        began = time.thread_time()
        with pytest.raises(UserError, match=r"With this, 8,000,000\.0 MB would be pinned"):
            await pins.add(["Music"])
        assert time.thread_time() - began < 1
    finally:
        await store.aclose()
