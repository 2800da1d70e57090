"""Origins come and go while an application runs: real folders, a real library, no mount."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from musicfs.app.app import begin, open_driver
from musicfs.app.app import running as running_parts
from musicfs.app.components import Components
from musicfs.catalog.database import ROOT_INO
from musicfs.config.models import Config, HealthConfig, OriginConfig, RetryConfig
from musicfs.errors import MusicFSError
from musicfs.events import EventsDropped, OriginRegistered, OriginUnregistered
from musicfs.model import OriginId
from musicfs.origin import Origin
from tests.support.audio import make_album

A, B = OriginId("a"), OriginId("b")
PATIENCE = 60.0


class Running:
    def __init__(self, parts: Components, closed: list[str]) -> None:
        self.parts = parts
        self.closed = closed

    def inodes(self) -> dict[str, int]:
        """The inode number of each file that is shown, by its path."""
        found: dict[str, int] = {}
        folders = [(ROOT_INO, "")]
        while folders:
            folder, path = folders.pop()
            for ino, name, content, *_ in self.parts.tree.children(folder, 0, 1000):
                if content is None:
                    folders.append((ino, f"{path}{name}/"))
                else:
                    found[path + name] = ino
        return found

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.01)

    async def scanned(self, *ids: OriginId) -> None:
        def done() -> bool:
            watchers = [self.parts.membership.watcher(id) for id in ids]
            return all(watcher is not None and watcher.last is not None for watcher in watchers)

        await self.until(done)

    async def apply(self, *origins: OriginConfig) -> None:
        await self.parts.applier.apply(self.parts.config.value.model_copy(update={"origins": origins}))


def local(id: str, path: Path, priority: int = 1, enabled: bool = True) -> OriginConfig:
    told = {"id": id, "origin_type": "local", "path": path, "priority": priority, "enabled": enabled}
    return OriginConfig.model_validate(told)


@asynccontextmanager
async def running(folder: Path, *origins: OriginConfig) -> AsyncIterator[Running]:
    def open_origin(config: OriginConfig, populated: bool) -> Origin:
        origin = open_driver(config, populated)
        close: Callable[[], Awaitable[None]] = origin.aclose

        async def aclose() -> None:
            closed.append(config.id)
            await close()

        origin.aclose = aclose  # type: ignore[method-assign]
        return origin

    closed: list[str] = []
    async with running_parts(Config(cache_dir=folder / "cache", origins=origins), open_origin) as parts:
        begin(parts)
        yield Running(parts, closed)


@pytest.fixture
def a(tmp_path: Path) -> Path:
    make_album(tmp_path / "a", "Artist", "Album", 3)
    return tmp_path / "a"


@pytest.fixture
def b(tmp_path: Path) -> Path:
    """The same album, and one that only this has."""
    make_album(tmp_path / "b", "Artist", "Album", 3)
    make_album(tmp_path / "b", "Other", "Record", 2)
    return tmp_path / "b"


def watches() -> int:
    """The folders that this process watches."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            if str(descriptor.readlink()) == "anon_inode:inotify":
                found += Path("/proc/self/fdinfo", descriptor.name).read_text().count("inotify wd:")
        except FileNotFoundError:
            pass
    return found


async def test_an_origin_joins_leaves_and_comes_back_and_disturbs_nobody(tmp_path: Path, a: Path, b: Path) -> None:
    async with running(tmp_path, local("a", a)) as here:
        await here.scanned(A)
        alone = here.inodes()
        watched = watches()
        await here.apply(local("a", a), local("b", b, 2))
        await here.scanned(A, B)
        both = here.inodes()
        assert len(both) == 5
        assert alone.items() <= both.items()
        await here.apply(local("a", a))
        assert here.inodes() == alone
        assert here.closed == ["b"]
        assert watches() == watched
        await here.apply(local("a", a), local("b", b, 2))
        again = here.inodes()
        assert again.keys() == both.keys()
        assert alone.items() <= again.items()


async def test_a_disabled_origin_is_one_that_left(tmp_path: Path, a: Path, b: Path) -> None:
    async with running(tmp_path, local("a", a), local("b", b)) as here:
        await here.scanned(A, B)
        await here.apply(local("a", a), local("b", b, enabled=False))
        assert len(here.inodes()) == 3
        assert here.parts.registry.get(B) is None
        await here.apply(local("a", a), local("b", b))
        assert len(here.inodes()) == 5


async def test_an_open_file_reads_on_from_the_replica_that_is_left(tmp_path: Path, a: Path, b: Path) -> None:
    async with running(tmp_path, local("a", a), local("b", b, 2)) as here:
        await here.scanned(A, B)
        filesystem = here.parts.filesystem
        shared = next(ino for path, ino in here.inodes().items() if "Album" in path)
        handle = filesystem.open(shared)
        whole = await filesystem.read(handle, 0, 1 << 20)
        await here.apply(local("b", b, 2))
        assert await filesystem.read(handle, 1, 1 << 20) == whole[1:]
        assert here.parts.registry.get(A) is None


async def test_an_open_file_reads_on_once_its_only_origin_is_back(tmp_path: Path, a: Path, b: Path) -> None:
    async with running(tmp_path, local("a", a), local("b", b, 2)) as here:
        await here.scanned(A, B)
        here.parts.failover.configure(RetryConfig(delays_ms=(), deadline_ms=200))
        filesystem = here.parts.filesystem
        handle = filesystem.open(next(ino for path, ino in here.inodes().items() if "Record" in path))
        await here.apply(local("a", a))
        with pytest.raises(MusicFSError):
            await filesystem.read(handle, 0, 100)
        await here.apply(local("a", a), local("b", b, 2))
        assert await filesystem.read(handle, 0, 4) == b"fLaC"


async def test_a_priority_changes_without_a_new_driver_or_a_scan(tmp_path: Path, a: Path, b: Path) -> None:
    async with running(tmp_path, local("a", a, 1), local("b", b, 2)) as here:
        await here.scanned(A, B)
        before, watcher = here.inodes(), here.parts.membership.watcher(A)
        await here.apply(local("a", a, 9), local("b", b, 2))
        assert here.parts.registry.router.get_priority(A) == 9
        assert here.inodes() == before
        assert (here.closed, here.parts.membership.watcher(A)) == ([], watcher)


async def test_an_origin_that_is_elsewhere_now_is_replaced(tmp_path: Path, a: Path, b: Path) -> None:
    """And keeps what both places have."""
    async with running(tmp_path, local("a", a)) as here:
        await here.scanned(A)
        before = here.inodes()
        events = here.parts.bus.subscribe()
        await here.apply(local("a", b))
        await here.scanned(A)
        assert before.keys() < here.inodes().keys()
        assert here.closed == ["a"]
        stream = aiter(events)
        assert [await anext(stream), await anext(stream)] == [OriginUnregistered(A), OriginRegistered(A, 1)]
        assert not isinstance(await anext(stream), EventsDropped)
        events.close()


async def test_nothing_changes_when_one_of_the_changes_cannot_be_made(tmp_path: Path, a: Path, b: Path) -> None:
    async with running(tmp_path, local("a", a)) as here:
        await here.scanned(A)
        unknown = OriginConfig.model_validate({"id": "x", "origin_type": "gopher", "path": "/"})
        with pytest.raises(MusicFSError):
            await here.apply(local("b", b), unknown)
        assert [origin.id for origin in here.parts.registry.list()] == ["a"]
        assert [config.id for config in here.parts.config.origins] == ["a"]
        assert len(here.inodes()) == 3


async def test_an_origin_may_leave_in_the_middle_of_its_scan(tmp_path: Path, a: Path) -> None:
    make_album(tmp_path / "big", "Long", "Player", 1)
    one = next((tmp_path / "big").rglob("*.flac"))
    for number in range(2000):
        os.link(one, one.with_name(f"{number:04}.flac"))
    async with running(tmp_path, local("a", a)) as here:
        await here.scanned(A)
        before = here.inodes()
        await here.apply(local("a", a), local("b", tmp_path / "big", 2))
        scan = asyncio.create_task(here.parts.library.scan(B))
        await asyncio.sleep(0)
        await here.apply(local("a", a))
        with pytest.raises(MusicFSError, match="removed or replaced while it was scanned"):
            await scan
        assert here.inodes() == before
        assert (await here.parts.library.scan(A)).error is None


async def test_health_and_retry_settings_are_taken_over(tmp_path: Path, a: Path) -> None:
    async with running(tmp_path, local("a", a)) as here:
        health, retry = HealthConfig(per_origin_thresholds={"local": 7}), RetryConfig(deadline_ms=1234)  # type: ignore[dict-item]
        await here.parts.applier.apply(here.parts.config.value.model_copy(update={"health": health, "retry": retry}))
        assert (here.parts.config.value.health, here.parts.config.value.retry) == (health, retry)
        await here.scanned(A)
        a.rename(tmp_path / "away")
        state = await here.parts.registry.monitor.check_now(A)
        assert (state.status.value, state.consecutive_failures) == ("degraded", 1)
