"""The library as the rest of the program sees it: sends commands to the worker process, puts its events on the bus."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from musicfs import logs
from musicfs.errors import MusicFSError
from musicfs.events import Event, EventBus, ScanFinished
from musicfs.library.beacon import Beacon, Watchdog
from musicfs.library.link import Link
from musicfs.library.protocol import (
    AcceptRemovals,
    Command,
    Configure,
    Dismiss,
    FinishIndex,
    Reparse,
    Reparsed,
    Reply,
    Request,
    Scan,
    SetReachable,
    Setup,
)
from musicfs.library.tree_changes import TreeChanges
from musicfs.model import OriginId
from musicfs.problems import Reason
from musicfs.system import processes

if TYPE_CHECKING:
    from musicfs.config.models import Config, OriginConfig

log = logging.getLogger(__name__)

_IDLE_SECS = 30.0
_ATTEMPTS = 3
_ENDING_SECS = 3.0
_KILLING_SECS = 1.0
_MAX_UNSENT = 16 << 20
"""Bytes of commands that wait for a worker: one that takes none of them for a while is replaced."""
_STALLED_SECS = 10.0
STUCK_SECS = 60.0
"""A worker that has work and shows no progress for so long is replaced."""
_CHECK_SECS = 2.0
_SMALLEST_ROOM = 256 << 10
"""With less room on its disk, in bytes, the catalogue can't be opened for writing."""


class _Pending:
    def __init__(self, command: Command, answer: asyncio.Future[Reply]) -> None:
        self.command = command
        self.answer = answer
        self.attempts = 0


class Library:
    """Starts the worker when there is a command for it, ends it after half a minute without one, and starts it again
    if it dies.

    Args:
        config: The origins, the template and the memory of the catalogue.
        catalog: The catalogue's file.
        bus: Receives the worker's events.
        on_changes: Called on the event loop with what changed in the tree, after it was committed.
        marker: See `Places`.
    """

    def __init__(
        self,
        config: Config,
        catalog: Path,
        bus: EventBus,
        on_changes: Callable[[TreeChanges], None],
        marker: str = "",
    ) -> None:
        self._setup = Setup(
            catalog,
            config.tree.template,
            tuple(config.origins),
            frozenset(),
            config.cache.metadata_cache_mb,
            logs.current(),
            marker,
        )
        self._bus = bus
        self._on_changes = on_changes
        self._pending: dict[int, _Pending] = {}
        self._next = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._link: Link | None = None
        self._reaping: asyncio.Task[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._watchdog: Watchdog | None = None
        self._check: asyncio.TimerHandle | None = None
        self._careful: set[OriginId] = set()
        """Origins at whose scan a worker was stuck: the next one works file by file, to find out at which."""
        self._skip: defaultdict[OriginId, set[str]] = defaultdict(set)
        """Files at which a worker was stuck."""

    async def scan(self, origin: OriginId, under: Sequence[str] = ("",), *, quick: bool = False) -> ScanFinished:
        """Scans the origin at and below the paths. The origin's failures are in the result.

        Args:
            origin: What is scanned.
            under: Paths below its root; "" is all of it.
            quick: Skip folders whose time says that they hold the same files. Files that were rewritten in place are
                not found then.

        Raises:
            MusicFSError: The library itself fails.
        """
        reply = await self._ask(Scan(origin, tuple(under), quick))
        assert isinstance(reply.result, ScanFinished)
        return reply.result

    async def set_reachable(self, origin: OriginId, reachable: bool) -> None:
        """Records whether the origin answers. Tracks with several contents then show one that can be read."""
        unreachable = self._setup.unreachable - {origin} if reachable else self._setup.unreachable | {origin}
        self._setup = replace(self._setup, unreachable=unreachable)
        await self._ask(SetReachable(origin, reachable))

    async def accept_removals(self, origin: OriginId) -> None:
        await self._ask(AcceptRemovals(origin))

    async def finish_index(self) -> None:
        """Waits until searches find everything that has been scanned."""
        await self._ask(FinishIndex())

    async def dismiss(self, origin: OriginId, path: str, reason: Reason | None, *, dismissed: bool = True) -> int:
        """Dismisses problems at and below the path, of the reason (None: all), or takes that back.

        Returns:
            How many have changed.
        """
        reply = await self._ask(Dismiss(origin, path, reason, dismissed))
        assert isinstance(reply.result, int)
        return reply.result

    async def reparse(self, origin: OriginId) -> Reparsed:
        """Reads some of the origin's files again whose tags an earlier version's parser read, also where reads cost
        money."""
        reply = await self._ask(Reparse(origin))
        assert isinstance(reply.result, Reparsed)
        return reply.result

    async def configure(self, origins: Sequence[OriginConfig]) -> None:
        """Makes these the configured origins. The tree agrees with them when this returns.

        Scans of origins that are gone, or that have other settings now, end with an error and remove nothing.
        """
        before = {config.id: config for config in self._setup.origins if config.enabled}
        stay = {o.id for o in origins if o.enabled and o.id in before and o.same_driver(before[o.id])}
        self._setup = replace(self._setup, origins=tuple(origins), unreachable=self._setup.unreachable & stay)
        await self._ask(Configure(self._setup.origins, self._setup.unreachable))

    async def refresh(self) -> None:
        """Starts the worker, if it does not run: at its start it makes the catalogue agree with the configuration."""
        if self._link is None and self._reaping is None:
            self._start()

    async def aclose(self) -> None:
        """Ends the worker within four seconds. Commands under way fail."""
        process = self._process
        for pending in self._pending.values():
            pending.answer.cancel()
        self._pending.clear()
        self._stop()
        if self._reaping is not None:
            await asyncio.wait({self._reaping})
        if process is not None:
            await asyncio.to_thread(_reap, process)

    async def _ask(self, command: Command) -> Reply:
        self._next += 1
        number = self._next
        pending = _Pending(command, asyncio.get_running_loop().create_future())
        self._pending[number] = pending
        self._send(number, pending)
        try:
            reply = await pending.answer
        finally:
            self._pending.pop(number, None)
            self._rest()
        if reply.error is not None:
            raise MusicFSError(reply.error)
        return reply

    def _send(self, number: int, pending: _Pending) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._reaping is not None:
            return  # `_restart` sends it
        pending.attempts += 1
        if self._link is None:
            self._start()
        assert self._link is not None
        stalled = self._link.unsent > _MAX_UNSENT and self._link.stalled_secs > _STALLED_SECS
        command = pending.command
        if isinstance(command, Scan):
            origin = command.origin
            command = replace(command, careful=origin in self._careful, skip=frozenset(self._skip[origin]))
        self._link.send(Request(number, command))
        if stalled and self._process is not None:
            log.warning("the library worker no longer takes commands; it is ended")
            self._process.kill()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        beacon = Beacon.make()
        with theirs:
            self._process = subprocess.Popen(
                processes.python_command("musicfs.library", str(theirs.fileno()), str(beacon.fd)),
                pass_fds=[theirs.fileno(), beacon.fd],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=processes.WORKING_FOLDER,
                env=processes.environment(),
            )
        self._link = Link(ours, self._take, self._died)
        self._link.start()
        self._link.send(self._setup)
        self._watchdog = Watchdog(beacon, STUCK_SECS, asyncio.get_running_loop().time)
        self._watch()
        self._rest()

    def _watch(self) -> None:
        """Ends a worker that has work and makes no progress, and remembers at what."""
        if self._watchdog is None or self._process is None:
            return
        if self._watchdog.is_stuck(has_work=bool(self._pending)):
            place = self._watchdog.beacon.place()
            log.warning(
                "the library worker has made no progress for %.0f s%s; it is ended", STUCK_SECS,
                f" at {place.path[:200]!r} of origin {place.origin}" if place.origin else "",
            )  # fmt: skip
            self._blame(OriginId(place.origin), place.path)
            self._process.kill()
            return
        self._check = asyncio.get_running_loop().call_later(_CHECK_SECS, self._watch)

    def _blame(self, origin: OriginId, path: str) -> None:
        if not origin:
            return
        if origin not in self._careful:
            self._careful.add(origin)
        elif path not in self._skip[origin]:
            self._skip[origin].add(path)
            for pending in self._pending.values():  # what is found out is no failed attempt
                pending.attempts = 1

    def _stop(self) -> None:
        if self._check is not None:
            self._check.cancel()
            self._check = None
        if self._watchdog is not None:
            self._watchdog.beacon.close()
            self._watchdog = None
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._link is not None:
            self._link.close()
            self._link = None

    def _rest(self) -> None:
        """Ends the worker later, unless a command comes before."""
        if not self._pending and self._link is not None:
            if self._idle is not None:
                self._idle.cancel()
            self._idle = asyncio.get_running_loop().call_later(_IDLE_SECS, self._stop_idle)

    def _stop_idle(self) -> None:
        process = self._process
        self._stop()
        if process is not None:
            asyncio.get_running_loop().run_in_executor(None, _reap, process)

    def _take(self, message: Event | TreeChanges | Reply) -> None:
        if isinstance(message, Reply):
            pending = self._pending.get(message.number)
            if pending is not None and not pending.answer.done():
                pending.answer.set_result(message)
        elif isinstance(message, TreeChanges):
            self._on_changes(message)
        else:
            self._bus.publish(message)

    def _died(self) -> None:
        self._stop()
        process, self._process = self._process, None
        assert process is not None
        self._reaping = asyncio.create_task(self._restart(process), name="restarting the library worker")

    async def _restart(self, process: subprocess.Popen[bytes]) -> None:
        """Gives the pending commands to another worker once this one is gone: there must be only one writer."""
        try:
            code = await asyncio.to_thread(_reap, process)
        finally:
            self._reaping = None
        if not self._pending:
            return
        log.warning("the library worker ended unexpectedly (exit code %s); it is started again", code)
        why = await asyncio.to_thread(_why_it_keeps_ending, self._setup.catalog.parent)
        for number, pending in list(self._pending.items()):
            if pending.answer.done():
                continue
            if pending.attempts >= _ATTEMPTS:
                pending.answer.set_result(Reply(number, None, why))
            else:
                self._send(number, pending)


def _why_it_keeps_ending(folder: Path) -> str:
    """folder: of the catalogue. Blocks."""
    with contextlib.suppress(OSError):
        about = os.statvfs(folder)
        if about.f_bavail * about.f_frsize < _SMALLEST_ROOM:
            return f"the disk of {folder} is full, so the catalogue can't be written: free some space there"
    return "the library worker keeps ending; see the log"


def _reap(process: subprocess.Popen[bytes]) -> int | None:
    """Waits for the end of a process whose link has ended, and kills it when that takes long. Blocks.

    Returns:
        Its exit code; None: it hangs where not even a kill ends it.
    """
    try:
        return process.wait(_ENDING_SECS)
    except subprocess.TimeoutExpired:
        process.kill()
    try:
        return process.wait(_KILLING_SECS)
    except subprocess.TimeoutExpired:
        return None
