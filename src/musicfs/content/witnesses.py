"""What a copy of a content shows of itself at a secret place: its witness.

A fingerprint samples places that are known to all, so another origin could hold a file that agrees there and nowhere
else. The witness is the hash of a piece between the samples, at a place that follows from a secret of this catalogue
and differs from content to content. Two copies with the same fingerprint and the same witness serve for each other.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence

from blake3 import blake3

from musicfs.model import Content, OriginId, Replica, encode_path
from musicfs.tags.fingerprint import EDGE, SMALL

PIECE = 64 * 1024
SECRET_SIZE = 32
KEY_SIZE = HASH_SIZE = 16


def is_covered(content: Content) -> bool:
    """Whether the fingerprint covers all bytes, so that no witness is needed."""
    return content.size <= SMALL


def witness_offset(secret: bytes, content: Content) -> int:
    """Returns where the witness of a content begins, in bytes; it has `PIECE` bytes, outside of head and tail.

    Args:
        secret: `SECRET_SIZE` random bytes, which stay on this machine.
        content: One that the fingerprint does not cover.
    """
    place = hmac.digest(secret, content.fingerprint + content.size.to_bytes(8, "little"), "sha256")
    return EDGE + int.from_bytes(place, "little") % (content.size - 2 * EDGE - PIECE + 1)


def witness_hash(piece: bytes) -> bytes:
    """Returns the hash of a piece: `HASH_SIZE` bytes."""
    return blake3(piece).digest(HASH_SIZE)


def copy_key(replica: Replica) -> bytes:
    """Returns `KEY_SIZE` bytes that stand for this version of this file at this origin."""
    fields = (replica.origin.encode(), encode_path(replica.path), f"{replica.size} {replica.mtime_ns}".encode())
    hasher = blake3(b"\0".join(fields))
    if replica.etag is not None:
        hasher.update(b"\0" + replica.etag.encode("utf-8", "surrogateescape"))
    return hasher.digest(KEY_SIZE)


def pack(shown: Mapping[bytes, bytes]) -> bytes:
    """Returns the witnesses of a content's copies, by `copy_key`, as they are stored."""
    return b"".join(key + value for key, value in shown.items())


def unpack(stored: bytes) -> dict[bytes, bytes]:
    """The inverse of `pack`. What is not whole is left out."""
    size = KEY_SIZE + HASH_SIZE
    return {
        stored[at : at + KEY_SIZE]: stored[at + KEY_SIZE : at + size] for at in range(0, len(stored) - size + 1, size)
    }


def choose_group(
    groups: Mapping[bytes, Sequence[Replica]], priorities: Mapping[OriginId, int], trusted: Mapping[OriginId, bool]
) -> bytes:
    """Chooses which of several differing groups of copies goes on serving, and returns its witness.

    The one with copies at most trusted origins; of equals, the one with the best priority among these.

    Args:
        groups: Copies by the witness that they showed; at least one, and none is empty.
        priorities: Of their origins; lower is better.
        trusted: Whether each of their origins is trusted.
    """

    def rank(witness: bytes) -> tuple[int, int, list[int]]:
        origins = {replica.origin for replica in groups[witness]}
        believed = {origin for origin in origins if trusted[origin]}
        return -len(believed), -len(origins) if not believed else 0, sorted(map(priorities.__getitem__, origins))

    return min(groups, key=rank)
