"""What a parse process does: fingerprints and tags, from the bytes that it is given.

It imports little on purpose: each of the processes does so before its first file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from musicfs.library.identity import fingerprint
from musicfs.library.ranges import NeedRange, RangeFile
from musicfs.library.tags import Unreadable, read_tags
from musicfs.model import Fingerprint
from musicfs.origins.linux import end_with_parent


@dataclass(frozen=True, slots=True)
class Examined:
    """tags is JSON, or None with the reason in `problem`; a sidecar has neither."""

    fingerprint: Fingerprint
    tags: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """The bytes that are missing to go on."""

    offset: int
    size: int


def dump_tags(tags: Mapping[str, object]) -> str:
    """As the catalogue keeps them."""
    return json.dumps(tags, separators=(",", ":"))


def examine(name: str, role: str, size: int, ranges: Mapping[int, bytes], give_up: bool) -> Examined | Wanted:
    """Fingerprints a file and parses its tags from the ranges that are here (offset -> bytes)."""
    try:
        identity = fingerprint(size, ranges)
        if role != "audio":
            return Examined(identity, None, None)
        if give_up:
            return Examined(identity, None, "its tags are larger than can be read")
        try:
            tags = read_tags(RangeFile(size, ranges), name)
        except Unreadable as error:
            return Examined(identity, None, str(error))
        return Examined(identity, dump_tags(tags.to_json()), None)
    except NeedRange as need:
        return Wanted(need.offset, need.size)


def begin(owner: int) -> None:
    """At low priority, and no longer than the pool's owner lives: nobody tells the pool when that is killed."""
    os.nice(5)
    end_with_parent()
    if os.getppid() != owner:
        os._exit(0)
