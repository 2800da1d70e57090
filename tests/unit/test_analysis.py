"""Parsing in processes of their own, which may die."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from musicfs.catalog.rows import ScannedFile
from musicfs.config.models import OriginConfig
from musicfs.library.parse_pool import Analyser, Parsers, make_pool
from musicfs.model import OriginId, OriginType
from musicfs.origins.local.driver import LocalOrigin
from musicfs.tags.fingerprint import fingerprint
from musicfs.tags.parser import Examined


def _die() -> None:
    os._exit(1)


class DeadlyPool(Executor):
    """Real processes, one of which dies of every file with a deadly name."""

    def __init__(self, size: int | None) -> None:
        self._pool = ProcessPoolExecutor(size or 2, mp_context=get_context("spawn"))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        deadly = args[0] == "deadly.flac" or any(getattr(file, "path", "") == "deadly.flac" for file in args[1])
        return self._pool.submit(_die) if deadly else self._pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


def _dumpable() -> int:
    return int(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))  # PR_GET_DUMPABLE


def test_no_other_program_of_the_user_reads_passwords_out_of_a_parse_process() -> None:
    """Its environment is that of the mount."""
    with make_pool(1) as pool:
        assert pool.submit(_dumpable).result(60) == 0


async def test_a_file_that_kills_its_parser_is_reported_and_the_others_are_parsed() -> None:
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


async def test_a_file_on_a_disk_that_kills_its_parser_is_told_of_and_the_others_are_parsed(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.jpg").write_bytes(bytes([number]))
    (tmp_path / "deadly.flac").write_bytes(b"not music")
    parsers = Parsers(DeadlyPool)
    origin = LocalOrigin(OriginConfig(id=OriginId("a"), origin_type=OriginType.LOCAL, settings={"path": tmp_path}))
    files = [(stat, "audio" if "flac" in stat.path else "sidecar") async for stat in origin.scan()]
    found: dict[str, ScannedFile | None] = {}
    await Analyser(parsers).analyse_all(origin, files, lambda stat, what: found.update({stat.path: what}), few=False)
    parsers.close()
    await origin.aclose()
    assert len(found) == 41
    problems = {path: what.problem for path, what in found.items() if what is not None}
    assert [path for path, problem in problems.items() if problem] == ["deadly.flac"]
    assert len(problems) == 41
