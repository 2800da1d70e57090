"""What drivers share, and plugins may use."""

from __future__ import annotations

import pytest

from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import OriginId, Replica, Stat
from musicfs.origins.helpers import (
    EmptyRootCheck,
    check_inside,
    check_length,
    check_version,
    is_inside,
    read_exactly,
    size_within,
)

NAS = OriginId("nas")
FILE = Replica(NAS, "a/b.flac", 10, 5)


@pytest.mark.parametrize("path", ["", "a", "a/b", "a/..b", "...", "a\nb"])
def test_a_path_below_the_root_is_inside(path: str) -> None:
    assert is_inside(path)
    check_inside(NAS, path)


@pytest.mark.parametrize("path", ["/a", "..", "../a", "a/../../b", "a/..", "a\0b"])
def test_a_path_that_leads_out_is_a_missing_file(path: str) -> None:
    with pytest.raises(ReplicaFailed) as failed:
        check_inside(NAS, path)
    assert failed.value.fault is ReplicaFault.MISSING


@pytest.mark.parametrize(("offset", "size", "expected"), [(0, 4, 4), (8, 4, 2), (10, 4, 0), (99, 4, 0), (0, 0, 0)])
def test_a_range_is_cut_at_the_end_of_the_file(offset: int, size: int, expected: int) -> None:
    assert size_within(FILE, offset, size) == expected


def test_the_version_that_was_scanned_is_accepted() -> None:
    check_version(FILE, Stat("a/b.flac", 10, 5))
    tagged = Replica(NAS, "a", 10, 5, "one")
    check_version(tagged, Stat("a", 10, 6, "one"))  # a copy with the same ETag


@pytest.mark.parametrize("now", [None, Stat("a/b.flac", 11, 5), Stat("a/b.flac", 10, 6)])
def test_another_version_is_refused_as_changed(now: Stat | None) -> None:
    with pytest.raises(ReplicaFailed) as failed:
        check_version(FILE, now)
    assert (failed.value.fault, failed.value.path) == (ReplicaFault.CHANGED, "a/b.flac")


def test_a_size_that_the_same_etag_contradicts_is_refused() -> None:
    with pytest.raises(ReplicaFailed):
        check_version(Replica(NAS, "a", 10, 5, "one"), Stat("a", 11, 5, "one"))


def test_a_folder_in_the_place_of_a_file_is_a_missing_file() -> None:
    with pytest.raises(ReplicaFailed) as failed:
        check_version(FILE, None, is_folder=True)
    assert failed.value.fault is ReplicaFault.MISSING


@pytest.mark.parametrize("step", [1, 3, 100])
def test_short_reads_are_continued_until_all_is_there_or_the_file_ends(step: int) -> None:
    data = bytes(range(20))
    asked: list[tuple[int, int]] = []

    def read(offset: int, size: int) -> bytes:
        asked.append((offset, size))
        return data[offset : offset + min(size, step)]

    assert read_exactly(read, 2, 10) == data[2:12]
    assert read_exactly(read, 15, 10) == data[15:]
    asked.clear()
    assert read_exactly(read, 3, 0) == b""
    assert asked == [(3, 0)], "the driver checks the version also where nothing is wanted"


def test_too_few_bytes_blame_the_origin() -> None:
    check_length(FILE, b"123", 3)
    with pytest.raises(OriginFailed, match=r"'a/b\.flac' gave 3 bytes instead of 4") as failed:
        check_length(FILE, b"123", 4)
    assert failed.value.fault is OriginFault.IO


def test_an_empty_root_fails_once_it_has_held_files() -> None:
    check = EmptyRootCheck(NAS, False, "the folder /music is empty")
    check(True)
    check(False)
    with pytest.raises(OriginFailed, match="the folder /music is empty") as failed:
        check(True)
    assert failed.value.fault is OriginFault.UNREACHABLE
    check(False)


def test_an_empty_root_fails_at_once_where_the_catalogue_has_files() -> None:
    with pytest.raises(OriginFailed):
        EmptyRootCheck(NAS, True, "it is empty")(True)
