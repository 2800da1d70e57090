"""Keeps the catalogue up with one origin: a first scan, then one for every change that is seen or suspected."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from musicfs.errors import MusicFSError, OriginFailed
from musicfs.events import Event, HealthChanged, ReplicaSuspect, ScanFinished
from musicfs.library.service import Library
from musicfs.model import HealthStatus
from musicfs.origins.base import Origin, WatchHandle, outermost

log = logging.getLogger(__name__)

_EVERYTHING = ""
# A file that goes on failing is not scanned again and again.
_SUSPECT_PAUSE_SECS = 5.0
_MOST_PATHS = 500
_FAILED_PAUSE_SECS = 30.0


def collapse(paths: set[str]) -> tuple[str, ...]:
    """The outermost of the paths; too many are better told as everything."""
    return (_EVERYTHING,) if len(paths) > _MOST_PATHS else tuple(outermost(paths))


class LibraryWatcher:
    """Decides when one origin is scanned, and what of it.

    register_watch: takes the handle of a watch, to be closed with the origin.
    begun, ended: how many scans have. last: how the last that ended went; error: why it did not complete.
    """

    def __init__(
        self,
        origin: Origin,
        library: Library,
        register_watch: Callable[[WatchHandle], None],
        poll_interval_secs: float,
    ) -> None:
        self.begun = self.ended = 0
        self.last: ScanFinished | None = None
        self.error: str | None = None
        self._origin = origin
        self._library = library
        self._register_watch = register_watch
        self._poll_interval_secs = poll_interval_secs
        self._paths: set[str] = {_EVERYTHING}
        self._wake = asyncio.Event()
        self._wake.set()
        self._watch: WatchHandle | None = None
        self._suspects: dict[str, float] = {}

    def ask(self, *paths: str) -> int:
        """Has these paths scanned soon; none: everything. By the time `ended` reaches the result, they are."""
        self._paths.update(paths or (_EVERYTHING,))
        self._wake.set()
        return self.begun + 1  # the scan under way, if there is one, took its paths before

    def notice(self, event: Event) -> None:
        """Takes the events of the bus: a file that looks wrong, or an origin that is back, is a reason to scan."""
        match event:
            case ReplicaSuspect(origin, path, _) if origin == self._origin.id:
                now = asyncio.get_running_loop().time()
                if now >= self._suspects.get(path, 0.0):
                    self._suspects = {p: until for p, until in self._suspects.items() if until > now}
                    self._suspects[path] = now + _SUSPECT_PAUSE_SECS
                    self.ask(path)
            case HealthChanged(origin, HealthStatus.UNHEALTHY, _, _) if origin == self._origin.id:
                self._drop_watch()  # it may be of a folder that has been mounted over since
                self.ask()

    async def run(self) -> None:
        """Scans when there is a reason to, for ever. Owned by the application's task group."""
        try:
            while True:
                await self._wait()
                await self._scan()
        finally:
            self._drop_watch()

    async def _wait(self) -> None:
        # Where nothing reports changes, looking for them now and then has to do.
        patience = None if self._watch is not None else self._poll_interval_secs
        try:
            async with asyncio.timeout(patience):
                await self._wake.wait()
        except TimeoutError:
            self._paths.add(_EVERYTHING)
        self._wake.clear()

    async def _scan(self) -> None:
        paths, self._paths = collapse(self._paths), set()
        self.begun += 1
        if self._watch is None:
            await self._begin_watch()  # before the scan, so that nothing changes unseen in between
        try:
            result = await self._library.scan(self._origin.id, paths)
        except MusicFSError as error:
            log.error("the scan of origin %s could not run: %s", self._origin.id, error)  # noqa: TRY400
            self.ended, self.last, self.error = self.begun, None, str(error)
            await asyncio.sleep(_FAILED_PAUSE_SECS)
            self.ask()
            return
        self.ended, self.last, self.error = self.begun, result, result.error
        if result.error is not None:
            log.warning("the scan of origin %s ended early, nothing is removed: %s", self._origin.id, result.error)

    async def _begin_watch(self) -> None:
        try:
            self._watch = await self._origin.watch("", self._seen)
        except OriginFailed as error:
            log.debug("origin %s can't be watched now: %s", self._origin.id, error)
        if self._watch is not None:
            self._register_watch(self._watch)

    def _seen(self, paths: Sequence[str]) -> None:
        self.ask(*paths)

    def _drop_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None
