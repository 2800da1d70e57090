"""The process that writes the catalogue: scans origins, parses files, builds the tree.

It is a process of its own because parsing keeps an interpreter busy, and the mount's interpreter must answer the
kernel in microseconds. It is the only writer, so no one ever waits for a lock. Its parent (client.py) starts it with
one end of a socket pair; it ends when the other end closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from socket import socket

from musicfs import logs
from musicfs.catalog.search_index import SEARCH
from musicfs.catalog.writer import Catalog
from musicfs.config.kinds import open_origin
from musicfs.config.models import OriginConfig
from musicfs.errors import MusicFSError, first_of
from musicfs.events import Event, ScanFinished, ScanProgress
from musicfs.federation.ratelimit import RateLimit
from musicfs.library.analyser import Analyser
from musicfs.library.beacon import Beacon, SignOfLife
from musicfs.library.link import Link
from musicfs.library.parse_pool import Parsers
from musicfs.library.placement import naming_of
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
from musicfs.library.renderings import TextRenderer
from musicfs.library.scanner import Scanner
from musicfs.library.search_indexer import SearchIndexer
from musicfs.library.tree import TreeBuilder
from musicfs.library.tree_changes import TreeChanges
from musicfs.model import OriginId
from musicfs.origin import DropsConnections, Origin
from musicfs.system import hardening
from musicfs.system.sqlite import SqliteError, is_lock
from musicfs.system.tasks import Tasks
from musicfs.system.wakes import Wakes
from musicfs.tags.templates import Template

log = logging.getLogger(__name__)

_AT_ONCE = 2000  # names in one message
_PROGRESS_EVERY_SECS = 0.25
_BEAT_SECS = 1.0
_CLOSING_SECS = 1.0


class Worker:
    """Carries out commands on one catalogue. Commands may overlap; scans of one origin wait for each other."""

    def __init__(self, setup: Setup, catalog: Catalog, link: Link, parsers: Parsers, beacon: SignOfLife) -> None:
        self._setup = setup
        self._link = link
        self._catalog = catalog
        template = Template.parse(setup.template)
        self._builder = TreeBuilder(self._catalog, template, beacon.beat)
        self._limits: dict[OriginId, RateLimit] = {}
        analyser = Analyser(parsers, self._limits)
        self._indexer = SearchIndexer(catalog, setup.catalog.with_name(SEARCH))
        self._texts = TextRenderer(self._catalog, is_on=not template.uses("path"))
        self._scanner = Scanner(
            self._catalog, self._builder, analyser, self._publish, self._announce, link.drained, setup.marker, beacon,
            self._texts,
        )  # fmt: skip
        self._origins: dict[OriginId, Origin] = {}
        self._scans: set[tuple[OriginId, asyncio.Task[ScanFinished]]] = set()
        self._progress_at: dict[OriginId, float] = {}

    def _publish(self, event: Event) -> None:
        if isinstance(event, ScanProgress):
            now = time.monotonic()
            if now < self._progress_at.get(event.origin, 0.0) + _PROGRESS_EVERY_SECS or self._link.unsent:
                return
            self._progress_at[event.origin] = now
        self._link.send(event)

    def _announce(self, changes: TreeChanges) -> None:
        """Sends the changes in messages that take the parent a few milliseconds each."""
        self._indexer.changed()
        entries, attributes = list(changes.entries), list(changes.attributes)
        directories = list(changes.directories.items())
        # Sent even if nothing changed in the tree: readers see the commit only once they know of it.
        pieces = max(1, -(-max(len(entries), len(attributes)) // _AT_ONCE))
        for piece in range(pieces):
            some = slice(piece, None, pieces)
            self._link.send(TreeChanges(set(entries[some]), dict(directories[some]), set(attributes[some])))

    def prepare(self) -> None:
        """Makes the catalogue and the tree agree with the configuration."""
        priorities = {config.id: config.priority for config in self._setup.origins if config.enabled}
        with self._catalog.transaction():
            touched = self._catalog.configure_origins({str(id): priority for id, priority in priorities.items()})
            folders = self._catalog.folders_of(touched)
            naming = naming_of(self._setup.template)
            is_renamed = self._catalog.get_meta("template") != naming
            if is_renamed:
                folders = self._catalog.all_folders()
                self._builder.count_spellings()
                self._catalog.set_meta("template", naming)
            reached = [self._catalog.set_reachable(id, id not in self._setup.unreachable) for id in priorities]
            changes = self._builder.update(folders, self._catalog.entries.dirs_with_variants() if any(reached) else ())
            self._catalog.count_unplaced()
            rendered = self._builder.render(self._texts, everything=is_renamed)
        self._announce(changes)
        self._announce(rendered)

    async def carry_out(self, request: Request) -> None:
        result = None
        error = None
        try:
            result = await self._run(request.command)
        except MusicFSError as failure:
            error = str(failure)
        except SqliteError as failure:
            error = _unwritable(failure)
        except Exception as failure:
            log.exception("the library worker could not carry out %r", request.command)
            first = first_of(failure)
            error = f"{type(first).__name__}: {first}"
        self._link.send(Reply(request.number, result, error))

    async def _run(self, command: Command) -> ScanFinished | Reparsed | int | None:
        match command:
            case Scan():
                return await self._scan(command)
            case SetReachable(origin, reachable):
                with self._catalog.transaction():
                    changed = self._catalog.set_reachable(origin, reachable)
                    dirs = self._catalog.entries.dirs_with_variants() if changed else set()
                    changes = self._builder.update((), dirs)
                    rendered = self._builder.render(self._texts)
                self._announce(changes)
                self._announce(rendered)
            case AcceptRemovals(origin):
                with self._catalog.transaction():
                    self._catalog.set_accept_removals(origin, True)
            case Dismiss(origin, path, reason, dismissed):
                with self._catalog.transaction():
                    return self._catalog.dismiss(origin, path, reason, dismissed=dismissed)
            case Reparse(origin):
                return Reparsed(*await self._scanner.reparse(self._origin(origin)))
            case FinishIndex():
                await self._indexer.finish()
            case Configure(origins, unreachable):
                await self._configure(origins, unreachable)
        return None

    async def _scan(self, asked: Scan) -> ScanFinished:
        id = asked.origin
        origin = self._origin(id)
        config = next(config for config in self._setup.origins if config.id == id)
        scan = self._scanner.scan(
            origin,
            asked.under,
            quick=asked.quick,
            ignore=config.ignore,
            careful=asked.careful,
            skip=asked.skip,
            reparse=not config.metered and not asked.careful,
        )
        task = asyncio.create_task(scan)
        self._scans.add((id, task))
        try:
            return await task
        except asyncio.CancelledError:
            own = asyncio.current_task()
            if own is not None and own.cancelling():
                raise
            raise MusicFSError(f"origin {id!r} was removed or replaced while it was scanned") from None
        finally:
            self._scans.discard((id, task))

    async def _configure(self, origins: Sequence[OriginConfig], unreachable: frozenset[OriginId]) -> None:
        wanted = {config.id: config for config in origins if config.enabled}
        before = {config.id: config for config in self._setup.origins if config.enabled}
        leaving = {id for id, config in before.items() if id not in wanted or not config.same_driver(wanted[id])}
        self._setup = replace(self._setup, origins=tuple(origins), unreachable=unreachable)
        cancelled = {task for id, task in self._scans if id in leaving}
        for task in cancelled:
            task.cancel()
        if cancelled:
            await asyncio.wait(cancelled, timeout=_CLOSING_SECS)
        self.prepare()
        for id in leaving & self._origins.keys():
            await self._close(self._origins.pop(id))

    def _origin(self, origin: OriginId) -> Origin:
        if origin not in self._origins:
            config = next((c for c in self._setup.origins if c.id == origin), None)
            if config is None:
                raise MusicFSError(f"there is no origin {origin!r}")
            populated = self._catalog.count_replicas(origin) > 0
            self._origins[origin] = open_origin(config, populated=populated)
            self._limits.pop(origin, None)
            if (limit := RateLimit.of(config)) is not None:
                self._limits[origin] = limit
        return self._origins[origin]

    def drop_connections(self) -> None:
        """Makes all origins connect again, because the machine has slept."""
        for origin in self._origins.values():
            if isinstance(origin, DropsConnections):
                origin.drop_connections()

    def start(self) -> None:
        """Starts what runs in the background."""
        self._indexer.start()

    async def aclose(self) -> None:
        for origin in self._origins.values():
            await self._close(origin)
        await self._indexer.aclose()
        self._catalog.close()

    async def _close(self, origin: Origin) -> None:
        try:
            async with asyncio.timeout(_CLOSING_SECS):
                await origin.aclose()
        except (MusicFSError, TimeoutError):
            log.warning("origin %s did not close properly; it is left open", origin.id, extra={"origin": origin.id})


def _beat(beacon: Beacon) -> None:
    """Shows, every second, that the event loop runs."""
    beacon.beat()
    asyncio.get_running_loop().call_later(_BEAT_SECS, _beat, beacon)


def _prepared(setup: Setup, link: Link, parsers: Parsers, beacon: Beacon) -> Worker:
    """Returns the worker. Ends the process, with a reason in the log, when the catalogue can't be opened or written."""
    try:
        catalog = Catalog.open(setup.catalog, setup.metadata_cache_mb)
        catalog.on_progress(beacon.beat)
        worker = Worker(setup, catalog, link, parsers, beacon)
        worker.prepare()
    except SqliteError as failure:
        log.critical("%s", _unwritable(failure))
        parsers.close()
        raise SystemExit(1) from None
    return worker


def _unwritable(failure: SqliteError) -> str:
    if is_lock(failure):
        return "the catalogue is locked by another program, such as a backup of the cache folder: wait for its end"
    return f"the catalogue can't be written ({failure}); check the disk of the cache folder"


async def _serve(end: socket, parsers: Parsers, beacon: Beacon) -> None:
    _beat(beacon)
    inbox: asyncio.Queue[Setup | Request | None] = asyncio.Queue()
    link = Link(end, inbox.put_nowait, lambda: inbox.put_nowait(None))
    link.start()
    parsers.warm()  # it starts while the catalogue is opened
    setup = await inbox.get()
    if not isinstance(setup, Setup):
        return
    logs.begin(setup.log)
    worker = _prepared(setup, link, parsers, beacon)
    worker.start()
    tasks = Tasks(log)
    wakes = Wakes()
    wakes.listen(worker.drop_connections)
    wakes.start()
    try:
        while isinstance(request := await inbox.get(), Request):
            tasks.spawn(worker.carry_out(request), "a command of the library")
    finally:
        await tasks.aclose()
        parsers.close()
        await worker.aclose()


def main(argv: Sequence[str] = sys.argv) -> None:
    """Serves the socket whose descriptor is the first argument, until its other end is closed. The second argument is
    the descriptor of the beacon."""
    hardening.restrict_umask()
    hardening.hide_memory()
    # The terminal's Ctrl-C is for the parent, which ends this process by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end = socket(fileno=int(argv[1]))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        asyncio.run(_serve(end, Parsers(), Beacon(int(argv[2]))))
    # Not by the interpreter's exit, which a thread that a hung origin holds would keep from ending.
    sys.stderr.flush()
    os._exit(0)
