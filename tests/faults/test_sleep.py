"""A machine that sleeps in mid-song, before real servers that have forgotten its connections when it wakes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio

from musicfs.events import FailedOver, HealthChanged, HedgeWon
from musicfs.model import HealthStatus, OriginId
from musicfs.system.wakes import Wakes
from tests.support.everykind import BLOCKS, DATA, HALF, REMOTE, EveryKind, Listener
from tests.support.servers.swift import Swift

Record = Callable[[str, object], None]
AWAKE_SECS = 2.0
AN_HOUR = 3600.0

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def servers(swift: Swift, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EveryKind]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        with EveryKind(tmp_path_factory.mktemp("kinds"), swift) as kinds:
            yield kinds


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kinds(servers: EveryKind) -> AsyncIterator[EveryKind]:
    await servers.open()
    yield servers
    await servers.aclose()


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "with-another"])
@pytest.mark.parametrize("kind", REMOTE)
async def test_music_plays_on_within_two_seconds_of_waking(
    kinds: EveryKind, kind: str, alone: bool, record_property: Record
) -> None:
    source = kinds[kind]
    others = [] if alone else [kinds["smb" if kind == "nfs" else "nfs"]]
    listener = Listener(source, *others)
    suspended = 0.0
    wakes = Wakes(lambda: suspended)
    for hears in (listener.registry.drop_connections, listener.executor.interrupt, listener.monitor.interrupt):
        wakes.listen(hears)
    listener.monitor.start()
    wakes.start()
    try:
        head = await listener.play(0, HALF)
        listener.gaps.clear()
        for place in (source, *others):
            assert place.proxy is not None
            place.proxy.abandon()
        suspended += AN_HOUR
        woke = time.monotonic()
        assert head + await listener.play(HALF, BLOCKS) == DATA
        record_property("longest wait after waking in ms", round(1000 * max(listener.gaps)))
        assert time.monotonic() - woke < AWAKE_SECS + 1  # the rest of the song, too
        assert max(listener.gaps) < AWAKE_SECS
        moved = [event for event in listener.events if isinstance(event, FailedOver | HedgeWon)]
        assert len(moved) <= 1
        ill = [event for event in listener.events if isinstance(event, HealthChanged)]
        assert not [event for event in ill if event.after is HealthStatus.UNHEALTHY]
        async with asyncio.timeout(AWAKE_SECS):
            while listener.monitor.state(OriginId(kind)).status is not HealthStatus.HEALTHY:
                await asyncio.sleep(0.01)
    finally:
        wakes.stop()
        await listener.aclose()
        for place in (source, *others):
            assert place.proxy is not None
            place.proxy.cut()
    await source.works()
