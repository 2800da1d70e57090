"""Keeps the catalogue in line with one origin: a first scan, then one for every change that is seen or suspected."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence

from musicfs.errors import MusicFSError, OriginFailed
from musicfs.events import Event, HealthChanged, ReplicaSuspect, ScanFinished
from musicfs.library.client import Library
from musicfs.model import HealthStatus
from musicfs.origin import Origin, WatchesInPart, WatchHandle, outermost

log = logging.getLogger(__name__)

_EVERYTHING = ""
# A file that keeps failing is not scanned again and again.
_SUSPECT_PAUSE_SECS = 5.0
_MAX_PATHS = 500
_AGAIN_SECS = 5.0
_FAILED_PAUSE_SECS = 30.0
_WATCH_SECS = 60.0
"""A watch that can't be started for so long, such as of a mount that hangs, is not waited for."""


def collapse(paths: set[str]) -> tuple[str, ...]:
    """The outermost of the paths; everything, if there are too many."""
    return (_EVERYTHING,) if len(paths) > _MAX_PATHS else tuple(outermost(paths))


class LibraryWatcher:
    """Decides when one origin is scanned, and what of it.

    Args:
        origin: What is scanned.
        library: Carries out the scans.
        register_watch: Takes the handle of a watch, which is closed with the origin.
        poll_interval_secs: Time between scans while nothing reports changes.
        full_poll_interval_secs: Time between those of them that skip no folder.

    Attributes:
        started: How many scans have started.
        ended: How many scans have ended.
        last: How the last scan that ended went.
        error: Why it did not complete; None: it did.
    """

    def __init__(
        self,
        origin: Origin,
        library: Library,
        register_watch: Callable[[WatchHandle], None],
        poll_interval_secs: float,
        full_poll_interval_secs: float,
    ) -> None:
        self.started = self.ended = 0
        self.last: ScanFinished | None = None
        self.error: str | None = None
        self._origin = origin
        self._library = library
        self._register_watch = register_watch
        self._poll_interval_secs = poll_interval_secs
        self._full_poll_interval_secs = full_poll_interval_secs
        self._full_poll_at = 0.0
        self._paths: set[str] = {_EVERYTHING}
        self._wake = asyncio.Event()
        self._wake.set()
        self._progress = asyncio.Event()
        self._watch: WatchHandle | None = None
        self._suspects: dict[str, float] = {}
        self._broken_off = 0
        """How many scans in a row ended early."""
        self._failing = False
        self._started_at = 0.0

    @property
    def running_secs(self) -> float:
        """For how long the scan under way has been running; 0: none is."""
        return asyncio.get_running_loop().time() - self._started_at if self.started > self.ended else 0.0

    def ask(self, *paths: str) -> int:
        """Requests a scan of these paths soon; without paths: of everything. It is done once `ended` is the result."""
        self._paths.update(paths or (_EVERYTHING,))
        self._wake.set()
        return self.started + 1  # the scan under way, if there is one, took its paths before

    async def scan_now(self, *paths: str) -> None:
        """Requests a scan of these paths, and returns when it has ended, however it went."""
        number = self.ask(*paths)
        while self.ended < number:
            await self._progress.wait()

    def notice(self, event: Event) -> None:
        """Receives the events of the bus: a suspect file, or an origin that answers again, is a reason to scan."""
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
        """Scans when there is a reason to, forever. The application's task group owns it."""
        try:
            while True:
                await self._scan(polled=await self._wait())
        finally:
            self._drop_watch()

    async def _wait(self) -> bool:
        """Waits until there is something to scan. Returns whether the only reason is that time has passed."""
        # Where nothing reports changes, a poll finds them.
        patience = self._poll_interval_secs if self._unwatched() else None
        if self._broken_off:
            patience = min(_AGAIN_SECS * 2.0 ** min(self._broken_off - 1, 9), self._poll_interval_secs)
        try:
            async with asyncio.timeout(patience):
                await self._wake.wait()
        except TimeoutError:
            if self._broken_off and self._paths:
                return False
            self._paths.update(self._unwatched() or (_EVERYTHING,))
            return True
        self._wake.clear()
        return False

    def _unwatched(self) -> Collection[str]:
        """The paths that nothing watches."""
        if self._watch is None:
            return (_EVERYTHING,)
        return self._watch.unwatched() if isinstance(self._watch, WatchesInPart) else ()

    async def _scan(self, *, polled: bool) -> None:
        now = asyncio.get_running_loop().time()
        quick = polled and now < self._full_poll_at
        paths, self._paths = collapse(self._paths), set()
        self.started += 1
        self._started_at = now
        if self._watch is None:
            await self._start_watch()  # before the scan, so that nothing changes unseen in between
        try:
            result = await self._library.scan(self._origin.id, paths, quick=quick)
        except MusicFSError as error:
            self._log_once("the scan of origin %s could not run: %s", error)
            self._end(None, str(error))
            await asyncio.sleep(_FAILED_PAUSE_SECS)
            self.ask()
            return
        self._end(result, result.error)
        if result.error is not None:
            self._broken_off += 1
            self._paths.update(paths)
            self._log_once("the scan of origin %s ended early, nothing is removed: %s", result.error)
            return
        self._broken_off = 0
        if self._failing:
            self._failing = False
            log.info("origin %s can be scanned again", self._origin.id, extra={"origin": self._origin.id})
        if _EVERYTHING in paths and not quick:
            self._full_poll_at = now + self._full_poll_interval_secs

    def _end(self, result: ScanFinished | None, error: str | None) -> None:
        self.ended, self.last, self.error = self.started, result, error
        self._progress.set()
        self._progress = asyncio.Event()

    async def _start_watch(self) -> None:
        try:
            async with asyncio.timeout(_WATCH_SECS):
                self._watch = await self._origin.watch("", self._seen)
        except (OriginFailed, TimeoutError) as error:
            log.debug("origin %s can't be watched now: %s", self._origin.id, error, extra={"origin": self._origin.id})
        if self._watch is not None:
            self._register_watch(self._watch)

    def _log_once(self, sentence: str, reason: object) -> None:
        """Logs one warning for an origin that is away, however long and however its failures are worded."""
        level = logging.DEBUG if self._failing else logging.WARNING
        self._failing = True
        log.log(level, sentence, self._origin.id, reason, extra={"origin": self._origin.id})

    def _seen(self, paths: Sequence[str]) -> None:
        self.ask(*paths)

    def _drop_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None
