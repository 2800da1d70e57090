"""Two files are one content when their sizes and their sampled bytes are equal."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicfs.tags.fingerprint import EDGE, SMALL, fingerprint, sample_ranges
from musicfs.tags.range_file import NeedRange

LARGE = random.Random(1).randbytes(2_000_003)
SIZES = st.integers(0, 3 * SMALL) | st.integers(0, 2**50)


def sampled(content: bytes) -> dict[int, bytes]:
    return {offset: content[offset : offset + length] for offset, length in sample_ranges(len(content))}


@given(SIZES)
def test_samples_are_sorted_disjoint_and_within_the_file(size: int) -> None:
    samples = sample_ranges(size)
    end = 0
    for offset, length in samples:
        assert offset >= end
        assert length > 0
        end = offset + length
    assert end == size
    assert sum(length for _, length in samples) == size if size <= SMALL else len(samples) == 6


@given(st.integers(SMALL + 1, 2**50))
def test_head_and_tail_are_always_sampled_and_no_piece_straddles_a_block(size: int) -> None:
    first, *pieces, last = sample_ranges(size)
    assert (first, last) == ((0, EDGE), (size - EDGE, EDGE))
    assert all(offset % 4096 == 0 and offset // SMALL == (offset + length - 1) // SMALL for offset, length in pieces)


def test_no_bytes_have_a_fingerprint_too() -> None:
    assert sample_ranges(0) == ()
    assert len(fingerprint(0, {})) == 32


def test_a_fingerprint_never_changes_between_versions() -> None:
    """Catalogues persist them. If this fails, the context string needs a new version number."""
    assert fingerprint(3, {0: b"abc"}).hex() == "9521ac7da27b7e9e221015c7550d2ffe82da31d99ba63da56c53a0e179c47d15"
    assert (
        fingerprint(len(LARGE), sampled(LARGE)).hex()
        == "684acd80859306ffbfda716744517786f111f7cf2e7d769b2819d22e48693cd5"
    )


def test_more_bytes_than_the_samples_make_no_difference() -> None:
    whole = fingerprint(len(LARGE), {0: LARGE})
    halves = {0: LARGE[:1_000_000], 999_000: LARGE[999_000:]}
    assert whole == fingerprint(len(LARGE), sampled(LARGE)) == fingerprint(len(LARGE), halves)


@given(st.integers(0, 5), st.data())
def test_any_flipped_bit_of_a_sample_changes_the_fingerprint(sample: int, data: st.DataObject) -> None:
    offset, length = sample_ranges(len(LARGE))[sample]
    at = data.draw(st.integers(offset, offset + length - 1))
    changed = bytearray(LARGE)
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    assert fingerprint(len(LARGE), {0: bytes(changed)}) != fingerprint(len(LARGE), {0: LARGE})


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_small_files_are_told_apart_by_every_byte(one: bytes, other: bytes) -> None:
    same = fingerprint(len(one), {0: one}) == fingerprint(len(other), {0: other})
    assert same == (one == other)


def test_the_size_counts_where_the_samples_agree() -> None:
    zeros = [fingerprint(size, sampled(bytes(size))) for size in (SMALL + 1, SMALL + 2, 10 * SMALL)]
    assert len(set(zeros)) == 3


def test_missing_samples_are_asked_for_one_by_one_and_exactly() -> None:
    ranges: dict[int, bytes] = {}
    for offset, length in sample_ranges(len(LARGE)):
        with pytest.raises(NeedRange) as caught:
            fingerprint(len(LARGE), ranges)
        assert (caught.value.offset, caught.value.size) == (offset, length)
        ranges[offset] = LARGE[offset : offset + length]
    assert fingerprint(len(LARGE), ranges) == fingerprint(len(LARGE), {0: LARGE})


def test_a_range_that_is_too_short_is_not_enough() -> None:
    ranges = sampled(LARGE)
    ranges[0] = ranges[0][:-1]
    with pytest.raises(NeedRange) as caught:
        fingerprint(len(LARGE), ranges)
    assert (caught.value.offset, caught.value.size) == (EDGE - 1, 1)
