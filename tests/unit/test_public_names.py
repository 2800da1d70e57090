"""`import musicfs` is a library too: what it offers federates folders without a mount."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from random import Random

import pytest

import musicfs
from musicfs import (
    Config,
    FailoverExecutor,
    HealthConfig,
    HealthMonitor,
    OriginConfig,
    OriginRegistry,
    OriginType,
    RetryConfig,
    Router,
)
from musicfs.config.kinds import open_origin
from musicfs.events import Event, EventBus, FailedOver
from musicfs.model import OriginId, Replica

NAMES = [
    "OriginRegistry",
    "Router",
    "LatencyStats",
    "HealthMonitor",
    "HealthSnapshot",
    "OriginHealthState",
    "FailoverExecutor",
    "RetryConfig",
    "Config",
    "OriginConfig",
    "OriginType",
    "HealthConfig",
    "CacheConfig",
    "Origin",
    "WatchHandle",
]


def test_the_names_are_offered() -> None:
    assert sorted(musicfs.__all__) == sorted(NAMES)
    for name in NAMES:
        assert getattr(musicfs, name).__name__ == name
    assert set(NAMES) <= set(dir(musicfs))


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'musicfs' has no attribute 'Nonsense'"):
        musicfs.Nonsense  # noqa: B018


def _disk(folder: Path) -> OriginConfig:
    return OriginConfig(id=OriginId(folder.name), origin_type=OriginType.LOCAL, settings={"path": folder})


async def test_two_folders_serve_one_file_without_a_mount(tmp_path: Path) -> None:
    """The whole of it, as an application would write it."""
    near, far = tmp_path / "near", tmp_path / "far"
    for folder in (near, far):
        folder.mkdir()
        (folder / "song.flac").write_bytes(b"the same bytes")
    config = Config(cache_dir=tmp_path, origins=(_disk(near), _disk(far)), retry=RetryConfig(delays_ms=()))

    events: list[Event] = []
    bus = EventBus()
    bus.listen(events.append)
    router = Router()
    monitor = HealthMonitor(HealthConfig(), bus, Random(), router.record_latency)
    registry = OriginRegistry(router, monitor, bus)
    failover = FailoverExecutor(registry, config.retry, bus)
    replicas = []
    for priority, origin_config in enumerate(config.origins):
        origin = open_origin(origin_config, populated=True)
        registry.register(origin, priority)
        replicas.append(Replica.of(origin.id, await origin.stat("song.flac")))
    try:
        assert (await failover.fetch(replicas, 0, 8)).data == b"the same"
        (near / "song.flac").write_bytes(b"another song")
        assert (await failover.fetch(replicas, 0, 8)).data == b"the same"
    finally:
        await failover.aclose()
        await monitor.aclose()
        await registry.aclose()
    [failed_over] = [event for event in events if isinstance(event, FailedOver)]
    assert (failed_over.source, failed_over.target) == ("near", "far")


@pytest.mark.parametrize(
    ("former", "homes"),
    [
        ("musicfs.origins.base", ["musicfs.origin", "musicfs.config.kinds"]),
        ("musicfs.origins.threads", ["musicfs.system.threads"]),
        ("musicfs.secrets", ["musicfs.config.secrets"]),
    ],
)
def test_former_names_that_plugins_import_are_the_same_objects(former: str, homes: list[str]) -> None:
    module = import_module(former)
    for name in module.__all__:
        value = getattr(module, name)
        assert any(vars(import_module(home)).get(name) is value for home in homes), name


def test_plugins_find_the_configuration_of_an_origin_where_they_did() -> None:
    assert import_module("musicfs.config").OriginConfig is OriginConfig
