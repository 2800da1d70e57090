"""The checksums that blocks on the cache's disk are checked against when they are read.

A piece checksum is the XXH3 of a piece of 16 KiB: a read of 4 KiB verifies 16 KiB, which takes less than a microsecond.
It finds what disks, crashes and other programs do to the bytes. That they are the right bytes in the first place is
shown by the digest of the block, which is checked when it is fetched.
"""

from __future__ import annotations

from xxhash import xxh3_64_digest

BLOCK_SIZE = 256 * 1024
"""The unit of fetching and caching, in bytes; blocks lie on a fixed grid."""
PIECE_SIZE = 16 * 1024
PIECES = BLOCK_SIZE // PIECE_SIZE
CHECKSUM_SIZE = 8


block_checksum = xxh3_64_digest
"""Takes bytes of any length; returns the checksum of all of them at once."""


def piece_checksums(block: bytes) -> bytes:
    """Returns the checksums of all pieces of a block, one after the other. The last piece may be shorter."""
    view = memoryview(block)
    return b"".join(xxh3_64_digest(view[at : at + PIECE_SIZE]) for at in range(0, len(view), PIECE_SIZE))


def matches(view: memoryview, sums: bytes | bytearray, piece: int) -> bool:
    """Returns whether `view`, which starts with the piece number `piece`, has these sums (of all pieces from 0)."""
    position = piece * CHECKSUM_SIZE
    for at in range(0, len(view), PIECE_SIZE):
        if xxh3_64_digest(view[at : at + PIECE_SIZE]) != sums[position : position + CHECKSUM_SIZE]:
            return False
        position += CHECKSUM_SIZE
    return True
