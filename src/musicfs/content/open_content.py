"""A content that is open for reading, and what is known of it meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from musicfs.content.records import Record
from musicfs.federation.registry import ReadNow
from musicfs.model import Content, OriginId, Replica


def _nothing() -> None:
    return None


@dataclass(slots=True, eq=False, weakref_slot=True)
class OpenContent:
    """A content that a file handle is pinned to, and the replicas that may serve it (replica_lookup.py replaces them).

    unproven: replicas that have not shown yet that they are the same content; they serve once they have (circles.py).
    guarded: replicas at untrusted origins, which serve only the blocks that a trusted one has shown.
    undecided: whether no copy has given it a byte yet, and not all of them are proven.
    sources: the origins that could serve it before its present replicas. witness: what its copies showed, if known.
    admitted: whether `Circles` has taken it up.
    is_lost: whether it has given bytes of copies that turned out to be another content; it gives no more.
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
    unproven: Sequence[Replica] = ()
    guarded: Sequence[Replica] = ()
    undecided: bool = False
    sources: frozenset[OriginId] = frozenset()
    witness: bytes | None = None
    admitted: bool = False
    is_lost: bool = False

    def take(self, replicas: Sequence[Replica]) -> None:
        """Lets these replicas serve from now on."""
        self.replicas = replicas
        self.routed = self.routed_at = None
