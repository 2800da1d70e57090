"""Parsing in processes of their own, which may die."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from musicfs.library.analysis import Parsers
from musicfs.library.examining import Examined
from musicfs.library.identity import fingerprint


def _die() -> None:
    os._exit(1)


class DeadlyPool(Executor):
    """Real processes, one of which dies of every file with a deadly name."""

    def __init__(self, size: int | None) -> None:
        self._pool = ProcessPoolExecutor(size or 2, mp_context=get_context("spawn"))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._pool.submit(_die) if args[0] == "deadly.flac" else self._pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


async def test_a_file_that_kills_its_parser_is_told_of_and_the_others_are_parsed() -> None:
    parsers = Parsers(DeadlyPool)
    data = b"not music"
    names = ["a.jpg", "b.jpg", "deadly.flac", "c.jpg", "d.jpg"]
    found = await asyncio.gather(
        *(parsers.examine(n, "audio" if "flac" in n else "sidecar", len(data), {0: data}, False) for n in names)
    )
    assert await parsers.examine("later.jpg", "sidecar", len(data), {0: data}, False) == found[0]
    parsers.close()
    identity = fingerprint(len(data), {0: data})
    assert found[0] == Examined(identity, None, None)
    assert [f == found[0] for f in found] == [True, True, False, True, True]
    assert isinstance(found[2], Examined)
    assert (found[2].fingerprint, found[2].tags) == (identity, None)
    assert found[2].problem
