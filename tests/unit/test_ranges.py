"""A file that is only partly here behaves as the file, or asks for what is missing."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from musicfs.tags.range_file import (
    AHEAD,
    MAX_AHEAD,
    MAX_AT_ONCE,
    MAX_IN_ALL,
    MAX_READS,
    NeedRange,
    RangeFile,
    TagsTooLarge,
)
from tests.support.partial import answered

CONTENT = random.Random(7).randbytes(3_000_000)


def question(size: int, ranges: dict[int, bytes], offset: int, length: int, ahead: int = AHEAD) -> tuple[int, int]:
    with pytest.raises(NeedRange) as caught:
        RangeFile(size, ranges, ahead=ahead).read_at(offset, length)
    return caught.value.offset, caught.value.size


def test_the_question_is_no_exception_that_a_parser_would_swallow() -> None:
    assert not issubclass(NeedRange, Exception)


def test_a_short_read_at_the_start_asks_for_the_head() -> None:
    assert question(3_000_000, {}, 0, 4) == (0, AHEAD)


def test_a_short_read_at_the_end_asks_for_the_tail_at_once() -> None:
    assert question(3_000_000, {}, 2_999_872, 128) == (3_000_000 - AHEAD, AHEAD)


def test_a_small_file_is_asked_for_whole() -> None:
    assert question(1000, {}, 500, 1) == (0, 1000)


def test_what_is_here_is_not_asked_for_again() -> None:
    ranges = {0: bytes(AHEAD), 100_000: bytes(1000)}
    assert question(3_000_000, ranges, AHEAD - 10, 20) == (AHEAD, 100_000 - AHEAD)
    assert question(3_000_000, ranges, AHEAD, 40_000)[0] == AHEAD


def test_a_sequential_reader_asks_for_more_and_more() -> None:
    sizes = [size for _, size in answered(lambda file: [file.read(1000) for _ in range(3000)], CONTENT)[1]]
    assert sizes == sorted(sizes[:-1]) + sizes[-1:]
    assert len(sizes) < 9
    assert max(sizes) <= MAX_AHEAD


def test_without_looking_ahead_the_question_is_exact() -> None:
    assert question(3_000_000, {1000: bytes(10)}, 1000, 100, ahead=0) == (1010, 90)
    assert question(3_000_000, {1050: bytes(50)}, 1000, 100, ahead=0) == (1000, 50)


def test_it_seeks_as_a_file_does() -> None:
    file = RangeFile(10, {0: b"0123456789"}, "x.flac")
    assert (file.seek(-3, io.SEEK_END), file.read(), file.read(1), file.tell()) == (7, b"789", b"", 10)
    assert (file.seek(2), file.seek(3, io.SEEK_CUR), file.read(2), file.tell()) == (2, 5, b"56", 7)
    assert (file.seek(50), file.read(5), file.tell()) == (50, b"", 50)
    assert file.name == "x.flac"
    assert not file.writable()
    with pytest.raises(OSError, match="before the start"):
        file.seek(-1)


def test_absurd_reads_fail_as_a_broken_disk_would() -> None:
    """Garbage lengths must cost neither memory nor transfers."""
    with pytest.raises(OSError, match="makes no sense"):
        RangeFile(10**12, {}).read_at(0, MAX_AT_ONCE + 1)


def test_no_more_of_a_file_is_read_than_tags_are_worth() -> None:
    """Looking ahead is what is given up first."""
    known = MAX_IN_ALL - 1000
    assert question(10**12, {0: bytes(known)}, 10**11, 1000) == (10**11, 1000)
    assert not issubclass(TagsTooLarge, Exception), "a parser would swallow it"
    with pytest.raises(TagsTooLarge):
        RangeFile(10**12, {0: bytes(known)}).read_at(10**11, 1001)


def test_endless_reading_ends() -> None:
    file = RangeFile(10, {0: bytes(10)})
    for _ in range(MAX_READS):
        file.read_at(0, 1)
    with pytest.raises(OSError, match="too many"):
        file.read_at(0, 1)


@given(
    st.integers(0, 300_000).flatmap(
        lambda size: st.tuples(st.just(size), st.lists(st.tuples(st.integers(0, 310_000), st.integers(0, 100_000))))
    )
)
@example((300_000, [(20_480, 10), (0, 100_000)]))  # what is here lies in between
@example((300_000, [(110_000, 10), (180_000, 10), (50_000, 100_000), (0, 100_000)]))
def test_every_read_returns_the_files_own_bytes(case: tuple[int, list[tuple[int, int]]]) -> None:
    size, reads = case
    content = CONTENT[:size]
    got, asked = answered(lambda file: [file.read_at(offset, length) for offset, length in reads], content)
    assert got == [content[offset : offset + length] for offset, length in reads]
    assert len(asked) <= len(reads)


@given(
    st.lists(st.tuples(st.integers(0, 300_000), st.integers(0, 100_000)), max_size=12),
    st.lists(st.tuples(st.integers(0, 300_000), st.integers(0, 100_000)), max_size=4),
)
def test_a_file_that_can_be_fetched_from_reads_the_same_bytes_and_none_of_them_twice(
    reads: list[tuple[int, int]], known: list[tuple[int, int]]
) -> None:
    content = CONTENT[:300_000]
    fetched: list[tuple[int, int]] = []

    def fetch(offset: int, size: int) -> bytes:
        fetched.append((offset, size))
        return content[offset : offset + size]

    file = RangeFile(len(content), {at: content[at : at + size] for at, size in known}, fetch=fetch)
    for offset, length in reads:
        assert file.read_at(offset, length) == content[offset : offset + length]
        assert file.known <= len(content)
    assert len(fetched) <= len(reads)
    _, asked = answered(lambda other: [other.read_at(*read) for read in reads], content)
    if not known:
        assert fetched == asked, "as if it had been asked for"


@given(
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 500)), max_size=8),
    st.integers(0, 2000),
    st.integers(0, 2000),
)
def test_ranges_may_overlap_and_overshoot(known: list[tuple[int, int]], offset: int, length: int) -> None:
    content = CONTENT[:2000]
    ranges = {start: content[start : start + size] + b"beyond" * (start + size > 2000) for start, size in known}
    here = {at for start, data in ranges.items() for at in range(start, min(start + len(data), 2000))}
    wanted = range(offset, min(offset + length, 2000))
    file = RangeFile(2000, ranges, ahead=0)
    if here.issuperset(wanted):
        assert file.read_at(offset, length) == content[offset : offset + length]
    else:
        with pytest.raises(NeedRange) as caught:
            file.read_at(offset, length)
        missing = set(wanted) - here
        assert missing <= set(range(caught.value.offset, caught.value.offset + caught.value.size)) <= set(wanted)
