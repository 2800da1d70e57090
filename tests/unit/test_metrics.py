"""The metrics count what happens, keep to Prometheus's conventions, and are what the dashboard asks for."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from musicfs.control.event_counts import EventCounts
from musicfs.control.metrics import Metrics
from musicfs.events import FailedOver, HealthChanged, HedgeWon, ReplicaQuarantined, ScanFinished, ScanProgress
from musicfs.model import HealthStatus, OriginId
from tests.support.commands import make_album
from tests.support.control import Running, local_origin, running_app

DASHBOARD = Path(__file__).parents[2] / "contrib/grafana/musicfs.json"
A, B = OriginId("a"), OriginId("b")


def _metrics(of: Running) -> Metrics:
    parts = of.parts
    counts = EventCounts()
    parts.bus.listen(counts.count)
    return Metrics(counts, parts.filesystem, parts.tree, parts.registry, parts.store, parts.catalog)


@pytest.fixture
async def one() -> AsyncIterator[Running]:
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as name:
        folder = Path(name)
        make_album(folder / "a" / "Album")
        async with running_app(folder, local_origin("a", folder / "a", 0)) as running:
            await running.scanned()
            yield running


async def _families(metrics: Metrics) -> dict[str, Metric]:
    text, content_type = await metrics.text()
    assert content_type.startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def _value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    for family in families.values():
        for each in family.samples:
            if each.name == sample and each.labels == labels:
                return each.value
    raise AssertionError(f"there is no {sample} {labels}")


async def _read_everything(running: Running) -> int:
    filesystem = running.parts.filesystem
    await running.post("/origins/a/check")
    read = 0
    for ino in [row[0] for row in _files(running, 1)]:
        handle = filesystem.open(ino)
        data = await filesystem.read(handle, 0, 1 << 20)
        again = filesystem.read_now(handle, 0, len(data))
        assert again == data
        read += 2 * len(data)
        filesystem.release(handle)
    return read


def _files(running: Running, ino: int) -> list[tuple[int, str]]:
    found = []
    for child, name, content, *_ in running.parts.tree.children(ino, 0, 100):
        found += [(child, name)] if content is not None else _files(running, child)
    return found


async def test_reads_events_and_sizes_are_counted(one: Running) -> None:
    metrics = _metrics(one)
    read = await _read_everything(one)
    publish = one.parts.bus.publish
    publish(FailedOver("x", A, B, "unreachable", 3.0))
    publish(FailedOver("y", A, B, "unreachable", 3.0))
    publish(HedgeWon("x", A, B, 3.0))
    publish(ReplicaQuarantined(A, "x", 0))
    publish(HealthChanged(A, HealthStatus.HEALTHY, HealthStatus.DEGRADED, "slow"))
    one.parts.registry.stats[A].hedged += 2
    found = await _families(metrics)
    assert _value(found, "musicfs_origin_reads_total", origin="a", way="fetched") >= 3
    assert _value(found, "musicfs_origin_reads_total", origin="a", way="immediate") >= 3
    assert _value(found, "musicfs_origin_read_bytes_total", origin="a") >= read
    assert _value(found, "musicfs_origin_read_duration_seconds_count", origin="a") >= 3
    assert _value(found, "musicfs_failovers_total", source="a", target="b") == 2
    assert _value(found, "musicfs_hedges_won_total", late="a", winner="b") == 1
    assert _value(found, "musicfs_origin_hedges_total", origin="a") == 2
    assert _value(found, "musicfs_replicas_quarantined_total", origin="a") == 1
    assert _value(found, "musicfs_health_changes_total", origin="a", state="degraded") == 1
    assert _value(found, "musicfs_origin_health", origin="a", state="healthy") == 1
    assert _value(found, "musicfs_origin_health", origin="a", state="unhealthy") == 0
    assert _value(found, "musicfs_origin_files", origin="a") == 3
    assert _value(found, "musicfs_tree_files") == 3
    assert _value(found, "musicfs_cache_limit_bytes") > 0
    assert _value(found, "process_resident_memory_bytes") > 0


def test_the_files_of_a_scan_are_counted_while_it_runs() -> None:
    counts = EventCounts()

    def scanned() -> dict[str, int]:
        return {what: number for (_, what), number in counts.scanned.items() if number}

    counts.count(ScanProgress(A, 100, 90, 1))
    counts.count(ScanProgress(A, 300, 250, 1))
    assert scanned() == {"listed": 300, "read": 250, "unreadable": 1}
    counts.count(ScanFinished(A, 310, 255, 2, 255, 0, 0, 0, None))
    assert scanned() == {"listed": 310, "read": 255, "unreadable": 2, "added": 255}
    counts.count(ScanFinished(A, 310, 0, 0, 0, 0, 0, 0, None))  # too short for any news before its end
    assert scanned()["listed"] == 620
    counts.count(ScanProgress(A, 200, 0, 0))  # its worker dies then, and it begins anew
    counts.count(ScanProgress(A, 50, 0, 0))
    assert scanned()["listed"] == 870
    assert dict(counts.scans) == {("a", "completed"): 2}


async def test_failed_reads_are_counted_by_their_fault(one: Running) -> None:
    metrics = _metrics(one)
    ino, _ = _files(one, 1)[0]
    (one.folder / "a").rename(one.folder / "gone")
    handle = one.parts.filesystem.open(ino)
    with pytest.raises(Exception, match=r"no replica|origin"):
        await one.parts.filesystem.read(handle, 0, 10)
    found = await _families(metrics)
    assert sum(sample.value for sample in found["musicfs_origin_read_errors"].samples) >= 1


async def test_names_and_types_keep_to_the_conventions(one: Running) -> None:
    """What `promtool check metrics` complains of."""
    await _read_everything(one)
    for name, family in (await _families(_metrics(one))).items():
        assert re.fullmatch(r"(musicfs|process)_[a-z0-9_]+", name)
        assert family.documentation
        assert family.type in ("gauge", "counter", "histogram")
        assert not re.search(r"_(ms|kb|mb|gb|minutes|hours|milliseconds|gauge|counter|histogram)\b|total_", name)
        assert not name.endswith(("_total", "_count", "_sum", "_bucket"))
        if family.type == "counter":
            assert all(sample.name == f"{name}_total" for sample in family.samples)
        for sample in family.samples:
            assert not {"instance", "job"} & sample.labels.keys()
            assert len(set(sample.labels)) <= 3


async def test_the_dashboard_asks_for_nothing_that_there_is_not(one: Running) -> None:
    board = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [variable["query"] for variable in board["templating"]["list"]]
    names = set(re.findall(r"\b((?:musicfs|process)_[a-z0-9_]+)", " ".join(queries)))
    text, _ = await _metrics(one).text()
    there: set[str] = set()
    for family in text_string_to_metric_families(text.decode()):
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        there |= {family.name + suffix for suffix in suffixes}
    assert len(names) > 15
    assert names <= there
    areas = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(areas)) == len(areas)


async def test_problems_are_counted_by_origin_and_reason(one: Running) -> None:
    assert "musicfs_problems" not in {
        sample.name for f in (await _families(_metrics(one))).values() for sample in f.samples
    }
    (one.folder / "a/Album/bad.flac").write_bytes(b"no music")
    await one.scanned()
    assert _value(await _families(_metrics(one)), "musicfs_problems", origin="a", reason="damaged") == 1
