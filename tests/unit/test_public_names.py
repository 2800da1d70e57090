"""`import musicfs` is a library too: what it offers federates folders without a mount."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from random import Random

import pytest

import musicfs
from musicfs import (
    Config,
    Event,
    EventBus,
    FailoverExecutor,
    HealthConfig,
    HealthMonitor,
    OriginConfig,
    OriginId,
    OriginRegistry,
    OriginType,
    Replica,
    RetryConfig,
    Router,
    open_origin,
)
from musicfs.events import FailedOver

# Offered since the first version. More may be added; none may go.
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
    assert set(NAMES) <= set(musicfs.__all__) <= set(dir(musicfs))
    for name in musicfs.__all__:
        assert getattr(musicfs, name).__name__ == name


PUBLIC = {name: getattr(musicfs, name) for name in musicfs.__all__}


def _functions(value: object) -> Iterator[Callable[..., object]]:
    """The function, or the public ones of a class of ours and of those that it inherits from."""
    if inspect.isfunction(value):
        yield value
    bases = [base for base in value.__mro__ if base.__module__.startswith("musicfs")] if isinstance(value, type) else []
    for base in bases:
        for name, member in vars(base).items():
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_")):
                yield function


def _hints(value: object) -> Iterator[object]:
    """The types in the annotations of a public class or function."""
    annotated = [*_functions(value), *([value] if isinstance(value, type) else [])]
    for each in annotated:
        # PUBLIC: some modules import a class for type checkers alone.
        yield from typing.get_type_hints(each, None, PUBLIC).values()


def _ours(hint: object) -> Iterator[str]:
    """The names of our types in an annotation."""
    if isinstance(hint, list):
        parts: tuple[object, ...] = tuple(hint)
    else:
        parts = typing.get_args(hint)
        if isinstance(hint, type | typing.NewType) and str(hint.__module__).startswith("musicfs") and not parts:
            yield str(hint.__name__)
    for part in parts:
        yield from _ours(part)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_what_a_public_name_takes_and_returns_is_public(name: str) -> None:
    missing = {found for hint in _hints(PUBLIC[name]) for found in _ours(hint)} - PUBLIC.keys()
    assert missing == set(), f"add them to musicfs.__all__: {name} is of no use without them"


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
