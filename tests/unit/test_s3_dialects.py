"""S3 servers that are not quite Amazon's: their music is there all the same, or it is said why not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.library import scan_reads
from musicfs.model import HealthStatus, OriginId, Replica, Stat
from musicfs.origins.s3 import driver
from musicfs.origins.s3.driver import S3Origin
from musicfs.origins.s3.spans import GAP, spans_of
from musicfs.problems import Reason
from musicfs.testing.observed_contract import RecordingObserver, observed
from tests.support.audio import make_album
from tests.support.library import scanned_library
from tests.support.servers.odds3 import OddBucket, odd_s3

FILES = {
    "Ada + Bob/Duo/01.flac": b"12345",
    "Ada+Bob/Trio/01.flac": b"23456",
    "Ada/100% Hits/01.flac": b"34567",
    "Ada/Cold/01.flac": b"45678",
}


@asynccontextmanager
async def serving(bucket: OddBucket, **settings: object) -> AsyncIterator[S3Origin]:
    async with odd_s3(bucket) as table:
        origin = S3Origin(OriginConfig.model_validate({**table, **settings}))
        try:
            yield origin
        finally:
            await origin.aclose()


async def contents(origin: S3Origin, found: dict[str, Stat]) -> set[bytes]:
    """Reads every file, whole and as parts."""
    data = set()
    for stat in found.values():
        file, parts = Replica.of(OriginId("cloud"), stat), list[bytes]()
        data.add(whole := await origin.read(file, 0, stat.size))
        assert await origin.read(file, 1, 3) == whole[1:4]
        await origin.read_parts(file, 0, [2, 3], lambda _, part, parts=parts: parts.append(part))  # type: ignore[misc]
        assert b"".join(parts) in data
        assert (await origin.stat(stat.path)).etag == stat.etag
    return data


@pytest.mark.parametrize(
    "bucket",
    [
        OddBucket(FILES),
        OddBucket(FILES, safe="/+"),
        OddBucket(FILES, announces=False),
        OddBucket(FILES, safe="/ +%", announces=False),
        OddBucket(FILES, conditions=False),
        OddBucket(FILES, weak=True),
        OddBucket(FILES, weak=True, conditions=False),
        OddBucket(FILES, old=1),
        OddBucket(FILES, range_status=200),
    ],
    ids=["amazon", "plus", "unsaid", "plain", "if-match", "weak", "weak if-match", "old", "rclone"],
)
async def test_every_dialect_gives_every_file(bucket: OddBucket) -> None:
    async with serving(bucket) as origin:
        observer = RecordingObserver()
        found = await observed(origin, observer)
        assert await contents(origin, found) == set(FILES.values())
        assert observer.problems == []
        assert await origin.health() is HealthStatus.HEALTHY


async def test_a_condition_that_failed_once_is_not_sent_again() -> None:
    bucket = OddBucket(FILES, conditions=False)
    async with serving(bucket) as origin:
        found = list((await observed(origin, RecordingObserver())).values())
        for stat in found:
            await origin.read(Replica.of(OriginId("cloud"), stat), 0, 5)
        assert sum("If-Match" in request.headers for request in bucket.requests) == 1


async def test_ranges_that_lie_close_together_are_one_request() -> None:
    track = bytes(range(250)) * 8000
    bucket = OddBucket({"track.flac": track, "other.flac": b""})
    async with serving(bucket) as origin:
        stat = (await observed(origin, RecordingObserver()))["track.flac"]
        bucket.requests.clear()
        file = Replica.of(OriginId("cloud"), stat)
        wanted = [(0, 65536), (100_000, 5), (65536 + GAP, 10), (len(track) - 500, 900), (len(track) - 600, 10)]
        assert await origin.read_ranges(file, wanted) == [track[at : at + size] for at, size in wanted]
        assert len(bucket.requests) == 2
        bucket.files = {"other.flac": b""}
        with pytest.raises(ReplicaFailed):
            await origin.read_ranges(file, wanted)


def test_ranges_with_much_between_them_are_read_apart() -> None:
    assert spans_of([(GAP + 6, 1), (0, 5)]) == [(0, 5), (GAP + 6, 1)]
    assert spans_of([(GAP + 5, 1), (0, 5)]) == [(0, GAP + 6)]
    assert spans_of([(0, 100), (10, 20), (500, 0)]) == [(0, 500)]


async def test_another_version_is_refused_with_and_without_conditions() -> None:
    for conditions in (True, False):
        async with serving(OddBucket(FILES, conditions=conditions)) as origin:
            stat = (await observed(origin, RecordingObserver()))["Ada/Cold/01.flac"]
            other = Replica(OriginId("cloud"), stat.path, stat.size, stat.mtime_ns, "another")
            with pytest.raises(ReplicaFailed) as failed:
                await origin.read(other, 0, 5)
            assert failed.value.fault is ReplicaFault.CHANGED


async def test_what_lies_in_an_archive_is_reported_and_not_asked_for() -> None:
    cold = "Ada/Cold/01.flac"
    bucket = OddBucket(FILES, cold=frozenset((cold,)))
    async with serving(bucket) as origin:
        observer = RecordingObserver()
        found = await observed(origin, observer)
        assert len(found) == 3
        assert observer.reasons == {cold: Reason.ARCHIVED}
        with pytest.raises(ReplicaFailed, match="restore it") as failed:
            await origin.read(Replica(OriginId("cloud"), cold, 5, 0), 0, 5)
        assert failed.value.fault is ReplicaFault.ARCHIVED


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_page_of_a_busy_server_is_asked_for_again(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_WAITS", (0.01, 0.02, 0.04))
    bucket = OddBucket(FILES, busy=3, busy_status=status, old=1)
    async with serving(bucket) as origin:
        assert len(await observed(origin, RecordingObserver())) == len(FILES)
        bucket.busy = 9
        with pytest.raises(OriginFailed, match="SlowDown") as failed:
            await observed(origin, RecordingObserver())
        assert failed.value.busy_secs == 0


async def test_a_scan_goes_on_past_requests_that_a_busy_server_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every third one is, of whatever kind; the files are read and parsed."""
    monkeypatch.setattr(driver, "_WAITS", (0.01,) * 5)
    monkeypatch.setattr(scan_reads, "_WAITS", (0.01,) * 5)
    make_album(tmp_path / "album", "Ada", "Hits", 4, seed=1, seconds=0.1)
    files = {f"album/{file.name}": file.read_bytes() for file in (tmp_path / "album").rglob("*.*")}
    bucket = OddBucket(files, busy_every=3)
    async with serving(bucket) as origin:
        with scanned_library(tmp_path / "library") as library:
            library.adopt(origin)
            (scan,) = await library.scan()
            assert (scan.error, scan.added, scan.problems) == (None, len(files), 0)
            # What went into the archive since is still known: its bytes may be elsewhere, or come back.
            bucket.cold = frozenset(files)
            (scan,) = await library.scan()
            assert (scan.error, scan.removed, scan.problems) == (None, 0, len(files))


async def test_a_prefix_with_nothing_below_it_is_named() -> None:
    async with serving(OddBucket(FILES), prefix="Adda") as origin:
        for attempt in (origin.health(), observed(origin, RecordingObserver())):
            with pytest.raises(OriginFailed, match="nothing below the prefix 'Adda/' in the bucket 'music'") as failed:
                await attempt
            assert failed.value.fault is OriginFault.UNREACHABLE


async def test_a_bucket_that_is_open_to_all_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it get one that is in the environment, which such a server may refuse."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "foreign")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "foreign")
    bucket = OddBucket(FILES)
    async with serving(bucket, anonymous=True, access_key_id=None, secret_access_key=None) as origin:
        assert len(await observed(origin, RecordingObserver())) == len(FILES)
        assert not any("Authorization" in request.headers for request in bucket.requests)


async def test_a_line_end_at_an_access_key_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", " secret\r\n")
    async with serving(OddBucket(FILES), access_key_id=None, secret_access_key=None) as origin:
        assert await origin.health() is HealthStatus.HEALTHY


@pytest.mark.parametrize("bypassed", [False, True])
async def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch, bypassed: bool) -> None:
    proxy = OddBucket(FILES)
    async with odd_s3(proxy) as table:
        monkeypatch.setenv("http_proxy", str(table["endpoint"]))
        monkeypatch.setenv("no_proxy", ".example,127.0.0.1" if bypassed else "")
        bucket = OddBucket({})
        async with serving(bucket) as origin:
            assert len(await observed(origin, RecordingObserver())) == (0 if bypassed else len(FILES))
        assert (len(proxy.requests) > 0, len(bucket.requests) > 0) == (not bypassed, bypassed)
