"""Traces reads through a real mount: the modules that a read enters, and how often it moves from one to another.

Usage: python -m bench.read_path [--list]. Three reads of one block are traced on the event loop's thread: a miss,
which an origin answers, a hit in memory, and a hit on disk after a restart. A move is a call (or the return to a
coroutine) in another module than the one before; what happens after the answer is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType

import musicfs
from musicfs.app.app import open_driver, running
from musicfs.app.components import Components
from musicfs.config.models import Config, OriginConfig
from musicfs.model import HealthStatus, OriginId, OriginType, Replica, Stat
from musicfs.origin import Origin, WatchCallback, WatchHandle

_PACKAGE = Path(musicfs.__file__).parent
_BLOCK = 256 << 10
_READ = 128 << 10
_SETTLED_SECS = 0.2
"""Until the thread that loads records has loaded all of them, which is no part of a read."""


class _Far:
    """A local origin that can't be read at once, as if it were remote."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self.id: OriginId = origin.id
        self.kind: OriginType = origin.kind

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        return await self._origin.read(replica, offset, size)

    async def stat(self, path: str) -> Stat:
        return await self._origin.stat(path)

    def scan(self, under: str = "") -> AsyncIterator[Stat]:
        return self._origin.scan(under)

    async def health(self) -> HealthStatus:
        return await self._origin.health()

    async def watch(self, path: str, callback: WatchCallback) -> WatchHandle | None:
        return None

    async def aclose(self) -> None:
        await self._origin.aclose()


class Trace:
    """The modules that are entered, in order."""

    def __init__(self) -> None:
        self.modules: list[str] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(str(_PACKAGE)):
            self.modules.append(str(Path(file).relative_to(_PACKAGE).with_suffix("")).replace("/", "."))

    @property
    def moves(self) -> int:
        return sum(a != b for a, b in zip(self.modules, self.modules[1:], strict=False))


@asynccontextmanager
async def _parts(base: Path) -> AsyncIterator[Components]:
    settings = {"path": str(base / "music")}
    origin = OriginConfig.model_validate({"id": "far", "origin_type": "local", "cache": True, "settings": settings})
    config = Config(cache_dir=base / "cache", origins=(origin,))
    async with running(config, lambda config, populated: _Far(open_driver(config, populated))) as parts:
        await parts.registry.monitor.check_now(origin.id)  # as in a running mount, whose probes start with it
        yield parts


async def _traced(parts: Components, ino: int, read: Callable[[int], Awaitable[bytes | memoryview]]) -> Trace:
    handle, trace = parts.filesystem.open(ino), Trace()
    await asyncio.sleep(_SETTLED_SECS)
    with trace.running():
        data = await read(handle)
    assert len(data) == _READ
    parts.filesystem.release(handle)
    return trace


def _reading(parts: Components) -> Callable[[int], Awaitable[bytes | memoryview]]:
    async def read(handle: int) -> bytes | memoryview:
        data = parts.filesystem.read_now(handle, _BLOCK, _READ)
        return data if data is not None else await parts.filesystem.read(handle, _BLOCK, _READ)

    return read


async def trace_reads(base: Path) -> dict[str, Trace]:
    """By the kind of read."""
    (base / "music" / "Album").mkdir(parents=True)
    (base / "music" / "Album" / "song.wav").write_bytes(bytes(3 * _BLOCK))
    traces = {}
    async with _parts(base) as parts:
        await parts.library.scan(OriginId("far"))
        ino = _only_file(parts)
        traces["a miss"] = await _traced(parts, ino, _reading(parts))
        traces["a hit in memory"] = await _traced(parts, ino, _reading(parts))
    async with _parts(base) as parts:
        traces["a hit on disk"] = await _traced(parts, _only_file(parts), _reading(parts))
    return traces


def _only_file(parts: Components) -> int:
    rows = parts.tree.children(1, 0, 10)
    while rows[0][2] is None:
        rows = parts.tree.children(rows[0][0], 0, 10)
    return rows[0][0]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.read_path", description=__doc__)
    parser.add_argument("--list", action="store_true", help="how often each module is entered")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        traces = asyncio.run(trace_reads(Path(folder)))
    for name, trace in traces.items():
        print(f"{name}: {len(set(trace.modules))} modules, {trace.moves} moves, {len(trace.modules)} calls")
        if options.list:
            for module, times in Counter(trace.modules).most_common():
                print(f"  {times:4} {module}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
