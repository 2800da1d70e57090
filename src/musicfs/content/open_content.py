"""A content that is open for reading, and what is known of it meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from musicfs.content.checksums import Record
from musicfs.federation.registry import ReadNow
from musicfs.model import Content, Replica


def _nothing() -> None:
    return None


@dataclass(slots=True, eq=False)
class OpenContent:
    """A content that a file handle is pinned to, and the replicas that may serve it (replica_lookup.py replaces them).

    following: opens the content that is likely to be read next; returns None where there is none.
    record: None until it is read from disk. While that fails, bytes are not checked and must not be kept.
    awaits_record: a read could have been answered at once, had the record been here.
    checked: a byte for each block, 1 if this handle may read it from the replica `checked_of` without a check.
    routed: how the best replica is read without waiting, as of the registry's generations `routed_at`.
    may_reuse: whether what is cached of an earlier version of the file may save fetching; False once that was denied.
    """

    content: Content
    replicas: Sequence[Replica]
    following: Callable[[], OpenContent | None] = _nothing
    record: Record | None = None
    awaits_record: bool = False
    checked: bytearray = b""  # type: ignore[assignment]
    checked_of: Replica | None = None
    routed: tuple[ReadNow, Replica] | None = None
    routed_at: tuple[int, int, int] | None = None
    may_reuse: bool = True
