"""Traces reads through a real mount: the modules that a read enters, and how often it moves from one to another.

Usage: python -m bench.read_path [--list]. Reads of one block each are traced on the event loop's thread: a miss, which
an origin answers, a hit in memory, a later miss of the same open file, and, after a restart, a hit on disk and a later
one. The first read of a file also loads what is recorded of it; the later ones find that in memory. A move is a call
(or the return to a coroutine) in another module than the one before; what happens after the answer is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
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
"""Until what runs in the background has ended: the loading of records at the first opening, writing to the cache."""


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


class _OpenFile:
    """The only file of a mount, opened, with all that its opening started ended."""

    def __init__(self, parts: Components) -> None:
        self._filesystem = parts.filesystem
        self._handle = parts.filesystem.open(_only_file(parts))

    async def traced(self, block: int) -> Trace:
        """Reads the start of a block as the mount does."""
        await asyncio.sleep(_SETTLED_SECS)
        trace, at = Trace(), block * _BLOCK
        with trace.running():
            data = self._filesystem.read_now(self._handle, at, _READ)
            if data is None:
                data = await self._filesystem.read(self._handle, at, _READ)
        assert len(data) == _READ
        return trace


async def trace_reads(base: Path) -> dict[str, Trace]:
    """By the kind of read."""
    (base / "music" / "Album").mkdir(parents=True)
    (base / "music" / "Album" / "song.wav").write_bytes(bytes(3 * _BLOCK))
    traces = {}
    async with _parts(base) as parts:
        await parts.library.scan(OriginId("far"))
        file = _OpenFile(parts)
        # Backwards, so that nothing is read ahead.
        traces["a miss"] = await file.traced(2)
        traces["a hit in memory"] = await file.traced(2)
        await file.traced(1)  # ranks the origins again, now that one has a latency
        traces["a later miss"] = await file.traced(0)
    async with _parts(base) as parts:
        file = _OpenFile(parts)
        traces["a hit on disk"] = await file.traced(2)
        traces["a later hit on disk"] = await file.traced(0)
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
