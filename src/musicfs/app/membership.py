"""Which origins take part in a mount: each with its driver, its place in the registry, and what watches it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from musicfs.config.models import OriginConfig
from musicfs.errors import MusicFSError
from musicfs.events import Event
from musicfs.federation.ratelimit import RateLimit
from musicfs.federation.registry import OriginRegistry
from musicfs.library.client import Library
from musicfs.library.watcher import LibraryWatcher
from musicfs.model import OriginId
from musicfs.origin import Origin

log = logging.getLogger(__name__)

OpenOrigin = Callable[[OriginConfig, bool], Origin]
Run = Callable[[], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class _Member:
    """watching: the watcher's task; None before `begin`."""

    config: OriginConfig
    watcher: LibraryWatcher
    watching: asyncio.Task[None] | None = None


class Membership:
    """Opens origins and registers them, and does the opposite.

    open_origin: makes a driver; True: files of the origin are known already. spawn: runs what is to go on for ever, in
    a task that this ends when the origin leaves.
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
        self._begun = False

    def watcher(self, id: OriginId) -> LibraryWatcher | None:
        """Who scans the origin; None for one that does not take part."""
        member = self._members.get(id)
        return None if member is None else member.watcher

    def notice(self, event: Event) -> None:
        for member in self._members.values():
            member.watcher.notice(event)

    def open(self, configs: Sequence[OriginConfig], populated: Collection[OriginId]) -> None:
        """Has the enabled ones take part. One that can't be opened is logged: the others can still play, and what it
        holds stays in the tree."""
        for config in configs:
            if config.enabled and config.id not in self._members:
                try:
                    self._join(config, self._open_origin(config, config.id in populated))
                except MusicFSError as error:
                    log.error("%s", error, extra={"origin": config.id})  # noqa: TRY400 (a sentence, not a traceback)

    def begin(self) -> None:
        """Starts scanning and watching those that take part, and those that come later."""
        self._begun = True
        for member in self._members.values():
            self._watch(member)

    async def change(
        self, before: Sequence[OriginConfig], after: Sequence[OriginConfig], populated: Collection[OriginId]
    ) -> None:
        """Goes from one list of configured origins to another.

        Those that differ in more than their priority are replaced. Raises `MusicFSError`, and has changed nothing then,
        if one that is new or different can't be opened.
        """
        wanted = {config.id: config for config in after if config.enabled}
        as_before = {config.id for config in before if config == wanted.get(config.id)}
        leaving = [id for id, m in self._members.items() if id not in wanted or not m.config.same_driver(wanted[id])]
        joining = [c for id, c in wanted.items() if id in leaving or id not in self._members]
        drivers = await self._open_all([c for c in joining if c.id not in as_before], populated)
        # Their names go first, so that nobody finds one that can't be read; scans of them end by that, too.
        await self._stop_watching(leaving)
        try:
            await self._library.configure(after)
        except MusicFSError as error:
            log.error("the library could not take the change: %s", error)  # noqa: TRY400
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
        )
        register_watch = partial(self._registry.register_watch, origin.id)
        watcher = LibraryWatcher(
            origin, self._library, register_watch, config.poll_interval_secs, config.full_poll_interval_secs
        )
        self._members[origin.id] = member = _Member(config, watcher)
        if self._begun:
            self._watch(member)

    def _watch(self, member: _Member) -> None:
        member.watching = self._spawn(member.watcher.run, f"the watcher of origin {member.config.id}")

    async def _stop_watching(self, ids: Collection[OriginId]) -> None:
        tasks = {task for id in ids if (task := self._members[id].watching) is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
