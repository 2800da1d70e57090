"""Files whose times, sizes or names neither the catalogue nor the kernel can hold: no other file suffers for them."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicfs.catalog import queries, redundancy
from musicfs.catalog.folder_times import FolderTimes
from musicfs.model import OriginId, Replica, Stat, decode_path, encode_path, ns_of, stored_ns
from musicfs.origin import ReadsNow
from musicfs.origins.s3.listing import parse_page, time_of
from tests.support.commands import make_album
from tests.support.library import CountingOrigin, ScannedLibrary, scanned_library

MIN, MAX = -(2**63), 2**63 - 1


@pytest.fixture
def library(tmp_path: Path) -> Iterator[ScannedLibrary]:
    with scanned_library(tmp_path / "library", template="$path") as made:
        yield made


@pytest.fixture
def music(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    make_album(folder / "Album")
    return folder


class Odd(CountingOrigin):
    """Lists files beside those that are there, as a server or a plugin may."""

    odd: tuple[Stat, ...] = ()

    async def scan(self, under: str = "") -> AsyncIterator[Stat]:
        for stat in self.odd:
            yield stat
        async for stat in self._origin.scan(under):
            yield stat


def odd(library: ScannedLibrary, music: Path, *stats: Stat) -> Odd:
    library.configure({"a": music})
    origin = Odd(library.origins["a"])
    origin.odd = stats
    library.origins = {"a": origin}  # type: ignore[dict-item]
    return origin


@pytest.mark.parametrize(
    ("given_ns", "kept"),
    [
        (0, 0), (-1, -1), (MAX, MAX), (MIN, MIN), (MAX + 1, MAX), (MIN - 1, MIN), (10**30, MAX),
        (-(10**30), MIN), (float("nan"), 0), (float("inf"), MAX), (float("-inf"), MIN), (1.5e9, 1_500_000_000),
        (2.0**63, MAX),
    ],
)  # fmt: skip
def test_a_time_is_kept_as_the_nearest_of_64_bits(given_ns: float, kept: int) -> None:
    assert stored_ns(given_ns) == kept
    stat = Stat("a.flac", 1, given_ns)  # type: ignore[arg-type]
    assert (stat.mtime_ns, type(stat.mtime_ns)) == (kept, int)


@given(st.integers() | st.floats())
def test_whatever_a_time_is_it_can_be_kept_and_is_then_kept_as_it_is(ns: float) -> None:
    kept = stored_ns(ns)
    assert MIN <= kept <= MAX
    assert stored_ns(kept) == kept


@given(st.datetimes(timezones=st.none() | st.timezones()))
def test_every_date_has_a_time(when: datetime) -> None:
    assert MIN <= ns_of(when) <= MAX


@given(st.binary())
def test_whatever_bytes_a_path_has_come_back_from_its_text(path: bytes) -> None:
    assert encode_path(decode_path(path)) == path


def test_a_date_without_a_zone_is_in_utc() -> None:
    assert ns_of(datetime(1970, 1, 2)) == ns_of(datetime(1970, 1, 2, tzinfo=UTC)) == 86_400 * 10**9
    assert ns_of(datetime(1970, 1, 1, 1, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=1)))) == 0
    assert ns_of(datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC)) == -(10**9)


@pytest.mark.parametrize(
    ("date", "header", "kept"),
    [
        ("0001-01-01T00:00:00+14:00", "Mon, 01 Jan 1600 00:00:00 +1400", MIN),
        ("9999-12-31T23:59:59-12:00", "Fri, 31 Dec 9999 23:59:59 -1200", MAX),
        ("2001-02-03T04:05:06", "Sat, 03 Feb 2001 04:05:06 -0000", 981_173_106 * 10**9),
        ("2001-02-03T04:05:06.789Z", "Sat, 03 Feb 2001 04:05:06 GMT", 981_173_106 * 10**9),
    ],
)
def test_a_bucket_may_date_its_files_as_it_likes(date: str, header: str, kept: int) -> None:
    file = f"<Contents><Key>a.flac</Key><LastModified>{date}</LastModified><Size>1</Size></Contents>"
    page = parse_page(f"<ListBucketResult>{file}</ListBucketResult>".encode())
    assert [stat.mtime_ns for stat in page.entries if isinstance(stat, Stat)] == [kept]
    assert time_of(header) == kept


async def test_a_file_on_a_disk_from_another_age_is_shown_and_read(library: ScannedLibrary, music: Path) -> None:
    file = music / "Album" / "1.flac"
    ns = 13_569_465_600 * 10**9  # of the year 2400
    os.utime(file, ns=(ns, ns))
    assert file.stat().st_mtime_ns == ns
    library.configure({"a": music})
    (done,) = await library.scan()
    assert (done.error, done.added, done.unreadable) == (None, 3, 0)
    path = str(file.relative_to(music))
    opened = library.view_now().open_file(library.nodes()[path])
    assert opened is not None
    (replica,) = opened[1]
    origin = library.origins["a"]
    assert await origin.read(replica, 0, 4) == b"fLaC"
    assert isinstance(origin, ReadsNow)
    now = origin.read_now(replica, 0, 4)
    assert now is None or bytes(now) == b"fLaC"
    assert (await library.scan())[0].read == 0


BAD: dict[str, Callable[[], Stat]] = {
    "a negative size": lambda: Stat("odd.flac", -5, 0),
    "a size above 64 bits": lambda: Stat("odd.flac", 2**63, 0),
    "a size that is no number": lambda: Stat("odd.flac", "5", 0),  # type: ignore[arg-type]
    "a name that is no Unicode": lambda: Stat("odd\ud800.flac", 5, 0),
    "a name with a NUL": lambda: Stat("odd\0.flac", 5, 0),
    "a long name": lambda: Stat("o" * 251 + ".flac", 5, 0),
    "a long name of a folder": lambda: Stat("cd" + " " * 15_000 + "/odd.flac", 5, 0),
    "a long path": lambda: Stat("odd/" * 1100 + "odd.flac", 5, 0),
    "a path out of the origin": lambda: Stat("../odd.flac", 5, 0),
    "an absolute path": lambda: Stat("/odd.flac", 5, 0),
}


@pytest.mark.parametrize("bad", BAD)
async def test_a_file_that_can_not_be_kept_is_left_out_and_reported_once(
    library: ScannedLibrary, music: Path, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    odd(library, music, BAD[bad](), BAD[bad]())
    with caplog.at_level(logging.WARNING):
        (done,) = await library.scan()
    assert (done.error, done.listed, done.added) == (None, 3, 3)
    assert len(library.paths()) == 3
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("origin a: 1 problems of the kind bad-")
    assert (done.problems, done.folders_unlisted) == (1, 0)
    assert len(told) < 400


async def test_a_file_whose_row_can_not_be_written_is_left_out_and_no_other(
    library: ScannedLibrary, music: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite takes no lone surrogate for text: here from an ETag, which is whatever bytes a server sends."""
    tampered = Stat("cover.jpg", 0, 0, "\udcff")
    origin = odd(library, music, tampered)

    async def read(replica: Replica, offset: int, size: int) -> bytes:
        return b"" if replica.path == "cover.jpg" else await CountingOrigin.read(origin, replica, offset, size)

    origin.read = read  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        (done,) = await library.scan()
    assert done.error is None
    assert len(library.paths()) >= 3
    assert ["it can't be stored: UnicodeEncodeError" in record.getMessage() for record in caplog.records] == [True]


async def test_a_file_that_can_not_be_examined_for_whatever_reason_is_left_out_and_no_other(
    library: ScannedLibrary, music: Path, caplog: pytest.LogCaptureFixture
) -> None:
    origin = odd(library, music, Stat("odd.flac", 100_000, 0))

    async def read(replica: Replica, offset: int, size: int) -> bytes:
        if replica.path == "odd.flac":
            raise ValueError("nothing\nthat a driver should raise")
        return await CountingOrigin.read(origin, replica, offset, size)

    origin.read = read  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        (done,) = await library.scan()
    assert (done.error, done.added, len(library.paths())) == (None, 3, 3)
    assert "odd.flac" in caplog.text


async def test_sizes_that_are_too_much_together_break_no_count(library: ScannedLibrary, music: Path) -> None:
    origin = odd(library, music, *(Stat(f"{number}.flac", MAX, number) for number in range(3)))

    async def read(replica: Replica, offset: int, size: int) -> bytes:
        if replica.size == MAX:
            return replica.path.encode().ljust(size)
        return await CountingOrigin.read(origin, replica, offset, size)

    origin.read = read  # type: ignore[method-assign]
    assert (await library.scan())[0].error is None
    assert len(library.paths()) == 6
    assert library.view_now().totals().bytes > MAX
    catalog = Path(library.catalog._db.execute("PRAGMA database_list").fetchone()[2])
    assert redundancy.count(catalog).places[0].tracks == 6
    assert queries.count_replicas(catalog, "") is not None


async def test_a_folder_of_a_time_that_can_not_be_kept_is_listed_each_time(library: ScannedLibrary) -> None:
    library.configure({})
    with library.catalog.transaction():
        library.catalog.configure_origins({"a": 1})
    clock = iter(range(0, 1000, 100))
    for _ in range(3):
        with library.catalog.transaction():
            times = FolderTimes(library.catalog._db, 1, lambda: float(next(clock)))
            assert not times.add("far", 10**30)
            assert not times.add("nowhere", MAX)
            times.keep(())


def test_a_replica_is_still_the_version_whose_time_was_not_kept_exactly() -> None:
    replica = Replica.of(OriginId("a"), Stat("a.flac", 5, 10**30))
    assert replica.is_version(Stat("a.flac", 5, 10**30))
    assert not replica.is_version(Stat("a.flac", 5, 0))
