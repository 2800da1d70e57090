"""In how many places the music lives, as the API tells it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from shutil import copytree

from musicfs.control.latency_history import LatencyHistory
from musicfs.model import OriginId
from tests.support.audio import make_album
from tests.support.control import local_origin, running_app

PART = "Artist/Part (1999) [FLAC]"


async def test_tracks_are_counted_by_the_places_that_have_them() -> None:
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as name:
        folder = Path(name)
        make_album(folder / "a", "Artist", "Both", 2)
        make_album(folder / "a", "Artist", "Part", 1, seed=7)
        copytree(folder / "a", folder / "b")
        make_album(folder / "b", "Artist", "Part", 3, seed=7)
        origins = [local_origin(id, folder / id, number) for number, id in enumerate("ab")]
        async with running_app(folder, *origins) as running:
            await running.scanned()
            told = await running.get("/redundancy")
            assert [(each["places"], each["tracks"]) for each in told["places"]] == [(1, 2), (2, 3)]
            assert told["albums_in_one"] == 1
            size = sum(path.stat().st_size for path in (folder / "b/Artist/Part").iterdir() if path.name[:2] > "01")
            assert told["albums"] == [{"path": PART, "tracks": 3, "in_one": 2, "bytes": size, "origins": ["b"]}]
            copytree(folder / "b", folder / "a", dirs_exist_ok=True)
            await running.scanned()
            told = await running.get("/redundancy")
            assert [(each["places"], each["tracks"]) for each in told["places"]] == [(2, 5)]
            assert (told["albums_in_one"], told["albums"]) == (0, [])


async def test_how_long_reads_took_is_kept() -> None:
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "a").mkdir()
        async with running_app(folder, local_origin("a", folder / "a", 0)) as running:
            latencies = LatencyHistory(running.parts.registry)
            latencies.take()
            running.parts.registry.router.record_latency(OriginId("a"), 12.0)
            latencies.take()
            assert [(each.p50_ms, each.p99_ms) for each in latencies.of(OriginId("a"))] == [(None, None), (12.0, 12.0)]
            (folder / "a").rename(folder / "gone")
            await running.post("/origins/a/check")
            latencies.take()
            assert latencies.of(OriginId("a"))[-1].p50_ms is None
