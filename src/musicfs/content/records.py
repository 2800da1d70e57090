"""What is known of the bytes of one content: a digest and a witness for each block, and what its copies have shown."""

from __future__ import annotations

from enum import Enum

from blake3 import blake3

from musicfs.cache.block_checksums import BLOCK_SIZE, CHECKSUM_SIZE, block_checksum
from musicfs.content.checkstore import Row
from musicfs.content.witnesses import pack, unpack
from musicfs.model import Content

DIGEST_SIZE = 16
NO_DIGEST = bytes(DIGEST_SIZE)
NO_WITNESS, CONFIRMED = 0, 255
"""In the place of the number of an origin."""


def digest_of(data: bytes | memoryview) -> bytes:
    """Returns the first 16 bytes of the BLAKE3 of the data."""
    return blake3(data).digest(DIGEST_SIZE)


def blocks_of(content: Content) -> int:
    return (content.size + BLOCK_SIZE - 1) // BLOCK_SIZE


class DigestMatch(Enum):
    """How a block's digest compares with the recorded one."""

    NEW = "nothing is recorded"
    SAME = "it is the recorded one"
    DOUBTFUL = "another one is recorded, with one origin as its only witness"
    WRONG = "another one is recorded and confirmed"


class Record:
    """What is known of one content's blocks.

    sums: the block checksums of all blocks that were ever read. digests: those of the same blocks, but zeros for blocks
    that came from local disks only, which computing them would slow down. witnesses: a byte for each block: none, the
    number of an origin, or confirmed. shown: the witnesses of copies, by `copy_key`. is_known: False: the record could
    not be read, so this says nothing, and what is put into it is not kept.
    """

    __slots__ = ("__weakref__", "digests", "fingerprint", "is_known", "shown", "sums", "witnesses")

    def __init__(
        self,
        fingerprint: bytes,
        digests: bytearray,
        sums: bytearray,
        witnesses: bytearray,
        shown: dict[bytes, bytes],
        is_known: bool = True,
    ) -> None:
        self.shown = shown
        self.is_known = is_known
        self.fingerprint = fingerprint
        self.digests = digests
        self.sums = sums
        self.witnesses = witnesses

    def row(self) -> Row:
        """Returns it as it is stored; what is recorded of no block takes no room."""
        shown = pack(self.shown)
        if not any(self.witnesses):
            return b"", b"", b"", shown
        return bytes(self.digests), bytes(self.sums), bytes(self.witnesses), shown

    def has_checksum(self, index: int, data: bytes | memoryview) -> bool:
        """Whether the checksum of the block, which has a recorded one, is the recorded one."""
        return block_checksum(data) == self.sums[index * CHECKSUM_SIZE : (index + 1) * CHECKSUM_SIZE]

    def digest(self, index: int) -> bytes | None:
        """The recorded digest of a block, if there is one."""
        digest = bytes(self.digests[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE])
        return None if digest == NO_DIGEST else digest

    def is_confirmed(self, index: int) -> bool:
        return self.witnesses[index] == CONFIRMED

    def compare(self, index: int, digest: bytes, data: bytes | memoryview) -> DigestMatch:
        """Compares a block with what is recorded of it.

        Args:
            index: the number of the block.
            digest: `digest_of` its bytes.
            data: its bytes.
        """
        witness = self.witnesses[index]
        if witness == NO_WITNESS:
            return DigestMatch.NEW
        recorded = self.digest(index)
        if recorded == digest or (recorded is None and self.has_checksum(index, data)):
            return DigestMatch.SAME
        return DigestMatch.WRONG if witness == CONFIRMED else DigestMatch.DOUBTFUL


def record_of(content: Content, row: Row | None, *, is_known: bool = True) -> Record:
    """Makes the record of a content.

    Args:
        content: the content.
        row: what is recorded; nothing is where it is None, or of another length than the content's.
        is_known: whether the row could be read.
    """
    count = blocks_of(content)
    sizes = (count * DIGEST_SIZE, count * CHECKSUM_SIZE, count)
    is_right = row is not None and tuple(map(len, row[:3])) == sizes
    digests, sums, witnesses = map(bytearray, row[:3] if row is not None and is_right else sizes)
    return Record(content.fingerprint, digests, sums, witnesses, unpack(row[3]) if row is not None else {}, is_known)
