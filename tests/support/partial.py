"""Feeds work on a partly known file the bytes that it asks for, and counts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from musicfs.tags.range_file import NeedRange, RangeFile

T = TypeVar("T")


def answered(work: Callable[[RangeFile], T], content: bytes, name: str = "") -> tuple[T, list[tuple[int, int]]]:
    """The result of `work` on a file that holds `content`, and the (offset, size) that it asked for, in order.

    Fails when a question leaves the file, or begins or ends with bytes that are here already.
    """
    ranges: dict[int, bytes] = {}
    asked: list[tuple[int, int]] = []
    while True:
        try:
            return work(RangeFile(len(content), ranges, name)), asked
        except NeedRange as caught:
            need = caught
        start, end = need.offset, need.offset + need.size
        assert 0 <= start < end <= len(content)
        assert not any(o <= at < o + size for o, size in asked for at in (start, end - 1)), "asked twice"
        asked.append((start, need.size))
        ranges[start] = content[start:end]
