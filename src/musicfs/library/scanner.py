"""Scans: bring the catalogue in line with what an origin holds, and the tree with the catalogue as it goes.

A scan reads only files that are new or changed, commits in batches, so that an interrupted one is taken up where it
stopped, and removes only at the end of a listing that was complete, and only what is plausibly gone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from musicfs.catalog.database import is_of_values
from musicfs.catalog.folder_times import FolderTimes
from musicfs.catalog.left_out import LeftOutLinks
from musicfs.catalog.rows import ScannedFile
from musicfs.catalog.writer import Catalog
from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.events import Event, FilesChanged, ScanFinished, ScanProgress
from musicfs.library.parse_pool import Analyser
from musicfs.library.tree import TreeBuilder, TreeChanges
from musicfs.model import HealthStatus, Stat
from musicfs.origin import LeavesOutLinks, Origin, SkipsFolders
from musicfs.tags.tags import role_of

log = logging.getLogger(__name__)

_BATCH = 500
_BATCH_SECS = 0.1
"""What a slow listing has told by then is looked at while it goes on."""
_FEW = 32
"""So many new files are parsed in a thread; for more of them it is worth while to start processes."""
# More than this share of an origin gone at once is more likely an accident than a wish.
_PLAUSIBLE_SHARE = 0.25
_ALWAYS_PLAUSIBLE = 3
_WINDOW_SECS = 3600.0


@dataclass(slots=True)
class _Progress:
    careful: bool
    listed: int = 0
    fresh: int = 0  # of these, new or changed
    read: int = 0
    unreadable: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    held: int = 0
    links_left_out: int = 0
    pending: list[ScannedFile] = field(default_factory=list)
    left_out: dict[str, tuple[int, str]] = field(default_factory=dict)  # number and an example, by what is wrong
    unfinished: set[str] = field(default_factory=set)  # folders with files that could not be looked at
    pending_added: int = 0

    def keeps(self, stat: Stat) -> bool:
        """Whether the file can be kept; if not, notes that it is left out."""
        problem = stat.problem()
        if problem is not None:
            number, example = self.left_out.get(problem, (0, stat.path))
            self.left_out[problem] = number + 1, example
        return problem is None


@dataclass(frozen=True, slots=True)
class _Fresh:
    """Files to read, with their roles. changed: the paths of those that the catalogue has in another version."""

    files: list[tuple[Stat, str]]
    changed: set[str]


class Scanner:
    """Scans origins into one catalogue.

    publish: takes the scans' events. announce: takes the tree's changes after each commit.
    keep_pace: waits while both have more to do than they get done.
    One scan runs at a time per catalogue: `scan` waits for its turn.
    """

    def __init__(
        self,
        catalog: Catalog,
        builder: TreeBuilder,
        analyser: Analyser,
        publish: Callable[[Event], None],
        announce: Callable[[TreeChanges], None],
        keep_pace: Callable[[], Awaitable[None]],
    ) -> None:
        self._catalog = catalog
        self._builder = builder
        self._analyser = analyser
        self._publish = publish
        self._announce = announce
        self._keep_pace = keep_pace
        self._turn = asyncio.Lock()

    async def scan(
        self, origin: Origin, under: Sequence[str] = ("",), *, quick: bool = False, careful: bool = False
    ) -> ScanFinished:
        """Scans the origin at and below the paths (all of it by default) and publishes how it went.

        quick: where the origin tells its folders' times, those whose time says that they hold the same files are not
        looked into, so that files that were rewritten in place are not noticed. careful: no file is parsed in this
        process, however few they are.
        Never raises for the origin's failures: they end the scan, remove nothing, and are in the result.
        """
        async with self._turn:
            progress = _Progress(careful)
            error = None
            self._catalog.begin_seen()
            times = self._catalog.folder_times(origin.id)
            links = self._catalog.left_out_links(origin.id)
            try:
                for path in under:
                    await self._look_under(origin, path, progress, times, links, quick)
                # Once for all paths: what a commit costs grows with the folder. And before the removals, so that
                # what was moved is at its new place before it leaves the old one.
                self._flush(origin, progress)
                self._remove_unseen(origin, under, progress, links)
                self._keep_times(times, under, progress)
            except (OriginFailed, ReplicaFailed) as failure:
                error = str(failure)
                self._flush(origin, progress)
                times.forget(progress.unfinished)
            _tell_left_out(origin, progress)
            result = ScanFinished(
                origin.id, progress.listed, progress.read, progress.unreadable,
                progress.added, progress.changed, progress.removed, progress.held, error, progress.links_left_out,
            )  # fmt: skip
            self._publish(result)
            return result

    def _keep_times(self, times: FolderTimes, under: Sequence[str], progress: _Progress) -> None:
        """Of a scan of everything; and not while files are kept that are gone, which a folder left out would hide."""
        with self._catalog.transaction():
            if progress.held:
                times.forget_all()
            elif "" in under:
                times.keep(progress.unfinished)
            else:
                times.forget(progress.unfinished)

    def _listing(
        self, origin: Origin, under: str, progress: _Progress, times: FolderTimes, links: LeftOutLinks, quick: bool
    ) -> AsyncIterator[Stat]:
        if isinstance(origin, LeavesOutLinks):
            return origin.scan_telling(links.tell, under)
        if under or not isinstance(origin, SkipsFolders):
            return origin.scan(under)

        def tell(folder: str, mtime_ns: int | None) -> bool:
            left_out = times.tell(folder, mtime_ns) and quick
            if left_out:
                progress.listed += self._catalog.mark_seen_in(origin.id, folder)
            return left_out

        return origin.scan_folders(tell)

    async def _look_under(
        self, origin: Origin, under: str, progress: _Progress, times: FolderTimes, links: LeftOutLinks, quick: bool
    ) -> None:
        try:
            async with aclosing(_batches(self._listing(origin, under, progress, times, links, quick))) as batches:
                await self._take_all(origin, batches, progress)
        except ReplicaFailed as failure:
            if failure.fault is not ReplicaFault.MISSING or not under:
                raise
            # The path is gone; whether the origin still is there decides what that means.
            if await origin.health() is HealthStatus.UNHEALTHY:
                raise OriginFailed(origin.id, OriginFault.UNREACHABLE) from failure

    async def _take_all(self, origin: Origin, batches: AsyncIterator[list[Stat]], progress: _Progress) -> None:
        """Reads what is new or changed; while one batch is read, the one before is committed and another is listed."""
        reading: deque[asyncio.Task[None]] = deque()
        fresh = _Fresh([], set())

        def begin() -> None:
            if fresh.files:
                reading.append(asyncio.create_task(self._read(origin, fresh, progress)))

        try:
            async for batch in batches:
                await self._keep_pace()
                self._pick(origin, batch, progress, fresh)
                if progress.fresh > _FEW:  # a few wait for the end: there may be no more
                    begin()
                    fresh = _Fresh([], set())
                while len(reading) > 1:
                    await self._finish(origin, reading, progress)
            begin()
            while reading:
                await self._finish(origin, reading, progress)
        except (OriginFailed, ReplicaFailed):
            await asyncio.gather(*reading, return_exceptions=True)  # what was listed may still be read
            raise
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    async def _finish(self, origin: Origin, reading: deque[asyncio.Task[None]], progress: _Progress) -> None:
        """Waits for the first batch, and commits once that is worth it."""
        await reading[0]
        reading.popleft()
        if len(progress.pending) >= _BATCH:
            await asyncio.sleep(0)  # the next one is begun before a commit keeps this thread
            self._flush(origin, progress)

    def _pick(self, origin: Origin, batch: Sequence[Stat], progress: _Progress, fresh: _Fresh) -> None:
        """Adds what is new or changed among the batch to `fresh`; notes that all of it was seen, and whose it is."""
        batch = [stat for stat in batch if progress.keeps(stat)]
        roles = {stat.path: role.value for stat in batch if (role := role_of(stat.path)) is not None}
        compared = self._catalog.compare(origin.id, [stat for stat in batch if stat.path in roles])
        if compared.owners:
            with self._catalog.transaction():
                changes = self._builder.update((), self._catalog.set_owners(compared.owners))
            self._announce(changes)
        for stat, changed in compared.fresh:
            fresh.files.append((stat, roles[stat.path]))
            progress.fresh += 1
            if changed:
                fresh.changed.add(stat.path)
        progress.listed += len(roles)
        self._publish_progress(origin, progress)

    async def _read(self, origin: Origin, fresh: _Fresh, progress: _Progress) -> None:
        def take(stat: Stat, found: ScannedFile | None) -> None:
            if found is None:
                progress.unfinished.add(stat.path.rpartition("/")[0])
                return
            added = stat.path not in fresh.changed
            progress.pending.append(found)
            progress.read += 1
            progress.unreadable += found.problem is not None
            progress.changed += not added
            progress.added += added
            progress.pending_added += added
            self._publish_progress(origin, progress)

        few = progress.fresh <= _FEW and not progress.careful
        await self._analyser.analyse_all(origin, fresh.files, take, few=few)

    def _publish_progress(self, origin: Origin, progress: _Progress) -> None:
        self._publish(ScanProgress(origin.id, progress.listed, progress.read, progress.unreadable))

    def _flush(self, origin: Origin, progress: _Progress) -> None:
        if not progress.pending:
            return
        found, progress.pending = progress.pending, []
        added, progress.pending_added = progress.pending_added, 0
        stored = self._store(origin, found)
        added -= len(found) - stored
        self._publish(FilesChanged(origin.id, max(added, 0), stored - max(added, 0), 0))

    def _store(self, origin: Origin, found: Sequence[ScannedFile]) -> int:
        """How many of them could be stored. One that can't be, for whatever reason, is left out, and no other."""
        try:
            with self._catalog.transaction():
                changes = self._builder.update(self._catalog.store(origin.id, found))
        except Exception as error:
            if not is_of_values(error):
                raise
            if len(found) > 1:
                half = len(found) // 2
                return self._store(origin, found[:half]) + self._store(origin, found[half:])
            log.warning(
                "the file %.200r at origin %s is left out: %s: %.200s",
                found[0].stat.path, origin.id, type(error).__name__, error, extra={"origin": origin.id},
            )  # fmt: skip
            log.debug("it could not be stored", exc_info=error)
            return 0
        self._announce(changes)
        return len(found)

    def _remove_unseen(self, origin: Origin, under: Sequence[str], progress: _Progress, links: LeftOutLinks) -> None:
        """Removes what was not listed, or holds it back if it is more than is likely to be meant.

        What is reached only through links that are left out goes in any case: it must not be shown.
        """
        id = origin.id
        unseen = sorted({number for path in under for number in self._catalog.unseen(id, path)})
        hidden = links.hidden(unseen)
        gone = [number for number in unseen if number not in hidden]
        # A file that has only moved is no loss, however many they are.
        lost = self._catalog.lost(id, gone)
        changes = TreeChanges()
        with self._catalog.transaction():
            if lost and not self._is_plausible(id, lost) and not self._catalog.accepts_removals(id):
                progress.held, gone = lost, []
            elif gone:
                self._catalog.count_removed(id, lost, _WINDOW_SECS)
            if going := [*gone, *hidden]:
                changes = self._builder.update(*self._catalog.remove_replicas(going))
                progress.removed += len(going)
            if ("" in under or progress.held) and self._catalog.set_held(id, progress.held) and progress.held:
                log.warning(
                    "%d files are gone from origin %s: they are kept in the tree until"
                    " `musicfs origin accept-removals %s` confirms it",
                    lost, id, id, extra={"origin": id},
                )  # fmt: skip
            progress.links_left_out = links.keep(under, len(hidden))
            if "" in under:
                self._catalog.scan_completed(id)
        if hidden:
            log.warning(
                "%d files of origin %s are no longer shown: they lie behind symbolic links, which its setting `links`"
                " leaves out",
                len(hidden), id, extra={"origin": id},
            )  # fmt: skip
        self._announce(changes)
        if going:
            self._publish(FilesChanged(id, 0, 0, len(going)))

    def _is_plausible(self, origin: str, lost: int) -> bool:
        """Whether somebody may well have deleted so many on purpose, with what went lately: a watch sees a big
        removal as many small ones."""
        before = self._catalog.removed_lately(origin, _WINDOW_SECS)
        have = self._catalog.count_replicas(origin)
        if lost == have > 1:
            return False
        return lost + before <= max(_ALWAYS_PLAUSIBLE, (have + before) * _PLAUSIBLE_SHARE)


def _tell_left_out(origin: Origin, progress: _Progress) -> None:
    for problem, (number, example) in progress.left_out.items():
        log.warning(
            "origin %s: %d files are left out because their %s; one is %.200r", origin.id, number, problem,
            example, extra={"origin": origin.id},
        )  # fmt: skip


async def _batches(stats: AsyncIterator[Stat]) -> AsyncGenerator[list[Stat], None]:
    """What is listed, some at a time, while the listing goes on."""
    queue: asyncio.Queue[list[Stat] | None] = asyncio.Queue()
    room = asyncio.Semaphore(1)

    async def put(batch: list[Stat]) -> None:
        await room.acquire()
        queue.put_nowait(batch)

    async def list_all() -> None:
        batch: list[Stat] = []
        since = time.monotonic()
        async for stat in stats:
            batch.append(stat)
            if len(batch) >= _BATCH or (time.monotonic() >= since + _BATCH_SECS and queue.empty()):
                await put(batch)
                batch = []
                since = time.monotonic()
        if batch:
            await put(batch)

    listing = asyncio.create_task(list_all())
    listing.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (batch := await queue.get()) is not None:
            room.release()
            yield batch
        await listing
    finally:
        listing.cancel()
        await asyncio.gather(listing, return_exceptions=True)
