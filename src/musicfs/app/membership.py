"""The origins that take part in a mount: each with its driver, its registration and its watcher."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from musicfs.app.background import Run
from musicfs.config.models import OriginConfig
from musicfs.errors import MusicFSError
from musicfs.events import Event, ScanFinished, ScanProgress
from musicfs.federation.ratelimit import RateLimit
from musicfs.federation.registry import OriginRegistry
from musicfs.library.client import Library
from musicfs.library.watcher import LibraryWatcher
from musicfs.model import OriginId
from musicfs.origin import Origin

log = logging.getLogger(__name__)

OpenOrigin = Callable[[OriginConfig, bool], Origin]


@dataclass(slots=True)
class _Member:
    """watching: the watcher's task; None before `begin`. scan: the last event of its scans."""

    config: OriginConfig
    watcher: LibraryWatcher
    watching: asyncio.Task[None] | None = None
    scan: ScanProgress | ScanFinished | None = None


class Membership:
    """Opens and registers origins, and unregisters them. Belongs to the event loop's thread.

    Args:
        open_origin: Makes a driver. Its second argument: whether the catalogue already has files of the origin.
        spawn: Starts work that never ends, in a task with a name. The task is cancelled when the origin leaves.
    """

    def __init__(
        self,
        registry: OriginRegistry,
        library: Library,
        open_origin: OpenOrigin,
        spawn: Callable[[Run, str], asyncio.Task[None]],
    ) -> None:
        self._registry = registry
        self._library = library
        self._open_origin = open_origin
        self._spawn = spawn
        self._members: dict[OriginId, _Member] = {}
        self._started = False

    def watcher(self, id: OriginId) -> LibraryWatcher | None:
        """The watcher that scans the origin; None for an origin that does not take part."""
        member = self._members.get(id)
        return None if member is None else member.watcher

    def last_scan_event(self, id: OriginId) -> ScanProgress | ScanFinished | None:
        """The latest event of the origin's scans; None before the first."""
        member = self._members.get(id)
        return None if member is None else member.scan

    def rescan(self, id: OriginId) -> int:
        """Requests a scan of the origin; returns the number that `LibraryWatcher.ended` reaches when it is done.

        Raises:
            KeyError: The origin does not take part.
        """
        return self._members[id].watcher.ask()

    async def scan_now(self, id: OriginId, path: str) -> None:
        """Scans a path of the origin, and returns when that has ended; at once if the origin does not take part."""
        if id in self._members:
            await self._members[id].watcher.scan_now(path)

    async def accept_removals(self, id: OriginId) -> int:
        """Requests a scan that may remove the files that are gone; returns its number, as `rescan`.

        Raises:
            KeyError: The origin does not take part.
            MusicFSError: The library fails.
        """
        watcher = self._members[id].watcher
        await self._library.accept_removals(id)
        return watcher.ask()

    def notice(self, event: Event) -> None:
        """For `EventBus.listen`."""
        for member in self._members.values():
            member.watcher.notice(event)
        if isinstance(event, ScanProgress | ScanFinished) and event.origin in self._members:
            self._members[event.origin].scan = event

    def open(self, configs: Sequence[OriginConfig], populated: Collection[OriginId]) -> None:
        """Opens and registers the enabled origins.

        An origin that can't be opened is logged: the others still play, and its files stay in the tree.

        Args:
            configs: The configured origins. Those that take part already are left alone.
            populated: The origins of which the catalogue has files.
        """
        for config in configs:
            if config.enabled and config.id not in self._members:
                try:
                    self._join(config, self._open_origin(config, config.id in populated))
                except MusicFSError as error:
                    log.error("%s", error, extra={"origin": config.id})  # noqa: TRY400 (a sentence, not a traceback)

    def begin(self) -> None:
        """Starts to scan and watch the origins that take part, and each one that joins later."""
        self._started = True
        for member in self._members.values():
            self._watch(member)

    async def change(
        self, before: Sequence[OriginConfig], after: Sequence[OriginConfig], populated: Collection[OriginId]
    ) -> None:
        """Goes from one list of configured origins to another. An origin that differs in more than its priority is
        replaced.

        Args:
            before: The configured origins until now.
            after: The configured origins from now on.
            populated: The origins of which the catalogue has files.

        Raises:
            MusicFSError: An origin that is new or different can't be opened. Nothing has changed.
        """
        wanted = {config.id: config for config in after if config.enabled}
        as_before = {config.id for config in before if config == wanted.get(config.id)}
        leaving = [id for id, m in self._members.items() if id not in wanted or not m.config.same_driver(wanted[id])]
        joining = [c for id, c in wanted.items() if id in leaving or id not in self._members]
        drivers = await self._open_all([c for c in joining if c.id not in as_before], populated)
        # Their files leave the tree first, so that no reader finds one that can't be read. This also ends their scans.
        await self._stop_watching(leaving)
        try:
            await self._library.configure(after)
        except MusicFSError as error:
            log.error("the library failed to change its origins: %s", error)  # noqa: TRY400
        await asyncio.gather(*(self._registry.unregister(id) for id in leaving))
        for id in leaving:
            del self._members[id]
        for id, member in self._members.items():
            if member.config.priority != wanted[id].priority:
                self._registry.set_priority(id, wanted[id].priority)
            member.config = wanted[id]
        for config, driver in drivers:
            self._join(config, driver)
        self.open([config for config in joining if config.id in as_before], populated)

    async def _open_all(
        self, configs: Sequence[OriginConfig], populated: Collection[OriginId]
    ) -> list[tuple[OriginConfig, Origin]]:
        opened: list[tuple[OriginConfig, Origin]] = []
        try:
            for config in configs:
                driver = self._open_origin(config, config.id in populated)
                opened.append((config, driver))
        except MusicFSError:
            for _, driver in opened:
                with contextlib.suppress(MusicFSError):
                    await driver.aclose()
            raise
        return opened

    def _join(self, config: OriginConfig, origin: Origin) -> None:
        self._registry.register(
            origin,
            config.priority,
            timeout_ms=config.timeout_ms,
            metered=config.metered,
            hedge=config.hedge,
            bandwidth=RateLimit.of(config),
            trusted=config.trusted,
        )
        register_watch = partial(self._registry.register_watch, origin.id)
        watcher = LibraryWatcher(
            origin, self._library, register_watch, config.poll_interval_secs, config.full_poll_interval_secs
        )
        self._members[origin.id] = member = _Member(config, watcher)
        if self._started:
            self._watch(member)

    def _watch(self, member: _Member) -> None:
        member.watching = self._spawn(member.watcher.run, f"the watcher of origin {member.config.id}")

    async def _stop_watching(self, ids: Collection[OriginId]) -> None:
        tasks = {task for id in ids if (task := self._members[id].watching) is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
