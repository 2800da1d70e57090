"""Pins: music that is fetched in the background, stays in the cache on this machine's disk, and is never evicted.

A pin is a path, and the contents that the path had when it was last read. So files that a scan adds below the path join
the pin, and files that move elsewhere in the tree stay pinned while a file has these bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVarTuple

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.cache.index import all_on_disk
from musicfs.cache.store import BlockStore, CacheFailed
from musicfs.content.open_content import OpenContent
from musicfs.content.reader import Reader
from musicfs.errors import NoReplicaAvailable, UserError
from musicfs.events import CacheResumed, Event, EventBus, HealthChanged, PinCompleted, PinProgress
from musicfs.maintenance.pin_store import PinStore
from musicfs.model import Content, Fingerprint, Replica
from musicfs.system.sqlite import SqliteError

log = logging.getLogger(__name__)

Ts = TypeVarTuple("Ts")

Find = Callable[[Sequence[str], Sequence[Fingerprint]], tuple[dict[str, list[Content]], dict[Fingerprint, Content]]]
"""Returns the contents below paths of the tree, and those of the fingerprints that files have. Runs in a thread."""

_AT_ONCE = 4  # blocks
_QUIET_SECS = 0.05
_TRY_AGAIN_SECS = (1.0, 60.0)  # first, and at most
_LOOK_AGAIN_SECS = 300.0  # for blocks that the cache has lost by damage


@dataclass(frozen=True, slots=True)
class PinView:
    """One pin.

    Args:
        path: Relative to the mount point.
        tracks: The number of its tracks.
        complete: How many of them the cache has as a whole.
        bytes: The size of its tracks.
        cached_bytes: How many of these bytes the cache has.
    """

    path: str
    tracks: int
    complete: int
    bytes: int
    cached_bytes: int


class Pins:
    """The pins of a mount. All methods belong to the event loop's thread.

    Args:
        file: The path of their database.
        store: The cache that keeps them.
        reader: Fetches their blocks.
        bus: Gets their events.
        find: Finds contents in the catalogue.
        replicas: Returns the replicas of a content, by its number in the catalogue.
        available: Whether any of the replicas is at an origin that is not unhealthy.
    """

    def __init__(
        self,
        file: Path,
        store: BlockStore,
        reader: Reader,
        bus: EventBus,
        find: Find,
        replicas: Callable[[int], list[Replica]],
        available: Callable[[Sequence[Replica]], bool],
    ) -> None:
        self._list = PinStore(file)
        self._store = store
        self._reader = reader
        self._bus = bus
        self._find = find
        self._replicas = replicas
        self._available = available
        self._pins: dict[str, dict[Fingerprint, Content]] = {}
        self._unfinished: set[str] = set()
        self._changing = asyncio.Lock()
        self._wake = asyncio.Event()
        self._stale = True
        self._unknown = ""
        """Why the pins are not known; "" when they are."""

    async def start(self) -> None:
        """Reads the pins. A failure of the disk is logged, and `run` tries again: music plays without pins."""
        try:
            self._pins = await asyncio.to_thread(self._list.load)
        except SqliteError as error:
            if not self._unknown:
                log.warning("The list of pins can't be read (%s): pinned music is not fetched until it can.", error)
            self._unknown = str(error)
        else:
            self._unknown = ""

    def wake(self, *, stale: bool = False) -> None:
        """Ends the pause before the next attempt to fetch. stale: whether the tree or the cache has changed."""
        self._stale = self._stale or stale
        self._wake.set()

    def notice(self, event: Event) -> None:
        """For `EventBus.listen`: an origin or the cache may work again."""
        if isinstance(event, HealthChanged | CacheResumed):
            self.wake(stale=isinstance(event, CacheResumed))

    async def add(self, paths: Sequence[str]) -> None:
        """Pins what is at or below these paths. Raises `UserError` for an unknown path or a cache too small."""
        async with self._changing:
            await self._ensure_known()
            below, _ = await asyncio.to_thread(self._find, paths, [])
            for path in paths:
                if path not in below:
                    raise UserError(f"There is no {path} in the mount; `ls` shows what there is.")
            new = {path: {c.fingerprint: c for c in below[path]} for path in paths}
            wanted = _taken(self._pins | new)
            limit = self._store.disk.limit
            if wanted > limit:
                raise UserError(
                    f"With this, {_mb(wanted)} would be pinned, {_mb(wanted - limit)} more than the {_mb(limit)} of"
                    " content_cache_gb: unpin something, or make the cache larger."
                )
            for path, contents in new.items():
                await self._write(self._list.save, path, contents.values())
                self._pins[path] = contents
                self._unfinished.add(path)
            await self._pin_in_store()
        self.wake()

    async def remove(self, paths: Sequence[str]) -> None:
        """Unpins these paths; their blocks stay until the space is needed. Raises `UserError` if one is not pinned."""
        async with self._changing:
            await self._ensure_known()
            for path in paths:
                if path not in self._pins:
                    raise UserError(f"{path or 'The whole mount'} is not pinned; `musicfs pins` lists the pins.")
            for path in dict.fromkeys(paths):
                await self._write(self._list.remove, path)
                del self._pins[path]
                self._unfinished.discard(path)
            await self._pin_in_store()

    async def _ensure_known(self) -> None:
        if self._unknown:
            await self.start()
        if self._unknown:
            raise UserError(f"The list of pins can't be read ({self._unknown}); check the disk of the cache folder.")

    async def _write(self, call: Callable[[*Ts], None], *args: *Ts) -> None:
        try:
            await asyncio.to_thread(call, *args)
        except SqliteError as error:
            raise UserError(
                f"The list of pins can't be written ({error}); check the disk of the cache folder."
            ) from error

    async def views(self) -> list[PinView]:
        """Returns all pins, oldest first. Raises `CacheFailed`, and `UserError` while the pins are not known."""
        await self._ensure_known()
        pins = {path: list(contents.values()) for path, contents in self._pins.items()}
        return [await self._view(path, contents) for path, contents in pins.items()]

    async def run(self) -> None:
        """Fetches missing blocks. Never ends."""
        wait = _TRY_AGAIN_SECS[0]
        while True:
            self._wake.clear()
            try:
                if self._unknown:
                    await self.start()
                if self._stale and not self._unknown:
                    await self._refresh()
                done = await self._fetch_all() and not self._unknown
            except (CacheFailed, SqliteError):
                done = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_SECS if done else wait):
                    await self._wake.wait()
                    wait = _TRY_AGAIN_SECS[0]
                    continue
            wait = _TRY_AGAIN_SECS[0] if done else min(2 * wait, _TRY_AGAIN_SECS[1])

    async def _refresh(self) -> None:
        """Updates each pin: to what is below its path now, and to what has moved elsewhere in the tree."""
        async with self._changing:
            self._stale = False
            try:
                remembered = list({each for contents in self._pins.values() for each in contents})
                below, known = await asyncio.to_thread(self._find, list(self._pins), remembered)
                for path, before in self._pins.items():
                    now = {each: known[each] for each in before if each in known}
                    now |= {content.fingerprint: content for content in below.get(path, [])}
                    if not now:  # its origin may be disabled, or the catalogue new
                        continue
                    if now.keys() != before.keys():
                        await asyncio.to_thread(self._list.save, path, now.values())
                        self._unfinished.add(path)
                    self._pins[path] = now
                await self._pin_in_store()
            except BaseException:
                self._stale = True
                raise

    async def _pin_in_store(self) -> None:
        """Pins in the cache what the pins contain, and unpins the rest."""
        wanted = {fingerprint: each for contents in self._pins.values() for fingerprint, each in contents.items()}
        pinned = self._store.pinned
        for fingerprint in wanted.keys() - pinned:
            await self._store.pin(wanted[fingerprint])
        for fingerprint in pinned - wanted.keys():
            await self._store.unpin(Content(0, fingerprint, 0))

    async def _fetch_all(self) -> bool:
        """Fetches what fits; returns whether all of it is cached."""
        done, room = True, self._store.disk.limit
        seen: set[Fingerprint] = set()
        for path in list(self._pins):
            for content in list(self._pins.get(path, {}).values()):
                if self._stale:
                    return False
                if path not in self._pins:
                    break
                if content.fingerprint in seen:
                    continue
                seen.add(content.fingerprint)
                room -= all_on_disk(content.size)
                if room < 0:
                    log.warning("What is pinned no longer fits into the cache: raise content_cache_gb, or unpin some.")
                    return done
                missing = await self._store.missing(content)
                if missing:
                    self._unfinished.add(path)
                    done = await self._fetch(path, content, missing) and done
            await self._report_completed(path)
        return done

    async def _fetch(self, path: str, content: Content, missing: list[int]) -> bool:
        replicas = self._replicas(content.id)
        if not self._available(replicas):
            return False
        opened = OpenContent(content, replicas)
        for first in range(0, len(missing), _AT_ONCE):
            while self._reader.busy:  # noqa: ASYNC110 (reads are too many to set an event for each)
                await asyncio.sleep(_QUIET_SECS)
            if path not in self._pins:
                return True
            fetches = [self._reader.keep(opened, number) for number in missing[first : first + _AT_ONCE]]
            for result in await asyncio.gather(*fetches, return_exceptions=True):
                if isinstance(result, NoReplicaAvailable):
                    return False
                if result is not None:
                    raise result
            await self._store.written()
        if path in self._pins:
            view = await self._view(path, list(self._pins[path].values()))
            self._bus.publish(PinProgress(path, view.tracks, view.complete, view.bytes, view.cached_bytes))
        return not await self._store.missing(content)

    async def _report_completed(self, path: str) -> None:
        if path not in self._unfinished or path not in self._pins:
            return
        view = await self._view(path, list(self._pins[path].values()))
        if view.complete == view.tracks:
            self._unfinished.discard(path)
            self._bus.publish(PinCompleted(path, view.tracks, view.bytes))

    async def _view(self, path: str, contents: list[Content]) -> PinView:
        here = await self._store.blocks_of(contents)
        cached = [min(content.size, blocks * BLOCK_SIZE) for content, blocks in zip(contents, here, strict=True)]
        complete = sum(each == content.size for content, each in zip(contents, cached, strict=True))
        return PinView(path, len(contents), complete, sum(content.size for content in contents), sum(cached))


def _taken(pins: dict[str, dict[Fingerprint, Content]]) -> int:
    """Returns the size of all pins on disk, each content counted once."""
    every: Iterable[Content] = {f: each for contents in pins.values() for f, each in contents.items()}.values()
    return sum(all_on_disk(content.size) for content in every)


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
