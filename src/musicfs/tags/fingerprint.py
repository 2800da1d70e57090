"""What makes two files the same content: their size, and a fingerprint of sampled bytes.

Failing over between files that only look alike would splice two encodings into one stream, so the identity is of
bytes, never of tags. Hashing every file whole would read the whole library once over the network, so a fingerprint
samples larger files:

- the head and the tail, 64 KiB each. The tag reader needs them anyway, so they cost nothing, and they are where
  two copies of one encoding differ when one of them was tagged again. A FLAC's head holds an MD5 of its audio.
- four pieces of 16 KiB, at fixed fractions of what lies between, each on a 16 KiB boundary so that none of them
  straddles a block of the cache. They differ between files that share head and tail: files padded to the same size,
  raw formats (WAV, AIFF) that start and end in silence, and a copy that was preallocated but not filled.

Two files of the same size whose samples are equal may still differ elsewhere: a flipped bit, or a hole. Other modules
find that: they check every block that they fetch, from any replica, against its recorded checksum, and quarantine a
replica that disagrees.
"""

from __future__ import annotations

from collections.abc import Mapping

from blake3 import blake3

from musicfs.model import Fingerprint
from musicfs.tags.range_file import RangeFile

SMALL = 256 * 1024
"""Files up to this many bytes are hashed whole."""
EDGE = 64 * 1024
PIECE = 16 * 1024
PIECES = 4

_CONTEXT = "musicfs content v1: size, then the bytes of sample_ranges"
"""Changes whenever the samples do, so that fingerprints of two kinds never compare equal."""


def sample_ranges(size: int) -> tuple[tuple[int, int], ...]:
    """The (offset, length) pairs of the samples of a file of `size` bytes: sorted, disjoint, within the file."""
    if size <= SMALL:
        return ((0, size),) if size else ()
    between = size - 2 * EDGE
    pieces = tuple(
        ((EDGE + between * number // (PIECES + 1)) // PIECE * PIECE, PIECE) for number in range(1, PIECES + 1)
    )
    return ((0, EDGE), *pieces, (size - EDGE, EDGE))


def fingerprint(size: int, ranges: Mapping[int, bytes]) -> Fingerprint:
    """The fingerprint of a file.

    Args:
        size: Of the file, in bytes.
        ranges: The bytes that are here: offset -> bytes. They may hold more than the samples, overlap, and split them.

    Raises:
        NeedRange: The first sample that is not here in full.
    """
    file = RangeFile(size, ranges, ahead=0)
    hasher = blake3(derive_key_context=_CONTEXT)
    hasher.update(size.to_bytes(8, "little"))
    for offset, length in sample_ranges(size):
        hasher.update(file.read_at(offset, length))
    return Fingerprint(hasher.digest())
