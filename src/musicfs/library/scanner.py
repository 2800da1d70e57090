"""Scans: bring the catalogue in line with what an origin holds, and the tree with the catalogue.

A scan reads only files that are new or changed, and commits in batches, so that the next scan continues where an
interrupted one stopped. It removes files only at the end of a listing that was complete, and only if that is plausible.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence, Set
from contextlib import aclosing
from dataclasses import dataclass

from musicfs.catalog.database import is_of_values
from musicfs.catalog.rows import ScannedFile
from musicfs.catalog.writer import Catalog
from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.events import Event, FilesChanged, ScanFinished
from musicfs.federation.places import refuse_own_mount
from musicfs.library.analyser import Analyser
from musicfs.library.beacon import SignOfLife
from musicfs.library.concurrent_batches import ConcurrentBatches
from musicfs.library.ignore_rules import IgnoreRules
from musicfs.library.listed_batches import BATCH, ListedBatches
from musicfs.library.removals import Removals
from musicfs.library.renderings import TextRenderer
from musicfs.library.reparsing import Reparsing
from musicfs.library.scan_observer import LibraryObserver, folder_of_marker
from musicfs.library.scan_reads import ScanReads
from musicfs.library.scan_state import ScanState, SeenReplicas
from musicfs.library.tree import TreeBuilder
from musicfs.library.tree_changes import TreeChanges
from musicfs.model import HealthStatus, OriginId, Stat
from musicfs.origin import ObservesScans, Origin, outermost
from musicfs.problems import Problem, Reason

log = logging.getLogger(__name__)

_PLACED_PER_FILE = 4
"""A commit waits for one new file for so many that the commit before had to place: what placing costs stays in
proportion to the new files, also in a folder of thousands, which every commit places as a whole."""
_SHOWN_SECS = 2.0
"""So long may files wait for a commit while the origin is slow."""
_LOOK_SECS = 0.5
_REST_PER_COMMIT = 10


@dataclass(frozen=True, slots=True)
class _Fresh:
    """Files to read, with their roles. changed: the paths of those that the catalogue has in another version."""

    files: list[tuple[Stat, str]]
    changed: set[str]


class Scanner:
    """Scans origins into one catalogue, side by side. Scans of one origin wait for each other.

    A commit has no await in it, so commits of several scans never mix.

    Args:
        catalog: Where the origins' files are recorded.
        builder: Brings the tree in line with the catalogue.
        analyser: Reads and parses new files.
        publish: Receives the scans' events.
        announce: Receives the tree's changes after each commit.
        keep_pace: Waits while the receivers of both are behind.
        marker: The name of a file that only this mount's own folders have; "" if there is no mount.
        texts: Shows playlists and the like with the tree's names; None: they are shown as they are.
        life: Is told which files are worked on.
    """

    def __init__(
        self,
        catalog: Catalog,
        builder: TreeBuilder,
        analyser: Analyser,
        publish: Callable[[Event], None],
        announce: Callable[[TreeChanges], None],
        keep_pace: Callable[[], Awaitable[None]],
        marker: str = "",
        life: SignOfLife | None = None,
        texts: TextRenderer | None = None,
    ) -> None:
        self._catalog = catalog
        self._builder = builder
        self._analyser = analyser
        self._publish = publish
        self._announce = announce
        self._keep_pace = keep_pace
        self._marker = marker
        self._texts = texts
        self._life = life or SignOfLife()
        self._removals = Removals(catalog, builder, publish, announce)
        self._reparsing = Reparsing(catalog, builder, analyser, announce)
        self._turns: defaultdict[OriginId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._missed: dict[OriginId, Set[str]] = {}
        self._logged: dict[OriginId, Mapping[Reason, int]] = {}

    async def scan(
        self,
        origin: Origin,
        under: Sequence[str] = ("",),
        *,
        quick: bool = False,
        ignore: Sequence[str] = (),
        careful: bool = False,
        skip: frozenset[str] = frozenset(),
        reparse: bool = False,
    ) -> ScanFinished:
        """Scans the origin and publishes how it went. The origin's failures end the scan and are in the result.

        Args:
            origin: What is scanned.
            under: The paths at and below which it is scanned; by default all of it.
            quick: Skip folders whose time says that they hold the same files, where the origin reports folders' times.
                Files that were rewritten in place are not found then.
            ignore: The origin's patterns of files and folders that are not shown (config.ignore).
            careful: Work file by file, because this process was stuck at one of them.
            skip: Files at which it was stuck.
            reparse: After a scan of everything, read some files again whose tags an earlier parser read.
        """
        under = outermost({folder_of_marker(path) for path in under})
        async with self._turns[origin.id]:
            catalog, id = self._catalog, origin.id
            scan = ScanState(
                origin, ScanReads(origin), under, quick, IgnoreRules(ignore), SeenReplicas(catalog.newest_replica()),
                catalog.folder_times(id), catalog.left_out_links(id), catalog.scan_problems(id),
                careful=careful, skip=skip,
            )  # fmt: skip
            try:
                if self._marker:
                    await refuse_own_mount(scan.reads, self._marker)
                for path in under:
                    await self._scan_under(scan, path)
                # Once for all paths: what a commit costs grows with the folder. And before the removals, so that
                # what was moved is at its new place before it leaves the old one.
                self._flush(scan)
                self._removals.remove_unseen(scan)
                self._record(scan)
            except (OriginFailed, ReplicaFailed) as failure:
                scan.error = str(failure)
                self._flush(scan)
                scan.times.forget(scan.unfinished)
            await self._render_texts(origin)
            if scan.is_of_everything:
                self._missed[origin.id] = scan.missed
            scan.log_problems(self._logged.get(origin.id, {}))
            self._logged[origin.id] = scan.left_out.counts
            result = scan.result()
            self._publish(result)
            if reparse and scan.is_of_everything and scan.error is None:
                await self._reparsing.run(origin)
            return result

    async def _render_texts(self, origin: Origin) -> None:
        if self._texts is None:
            return
        await self._texts.fetch(origin)
        with self._catalog.transaction():
            changes = self._builder.render(self._texts)
        if changes:
            self._announce(changes)

    async def reparse(self, origin: Origin) -> tuple[int, bool]:
        """Reads some files again whose tags an earlier parser read. Returns how many, and whether none are left."""
        return await self._reparsing.run(origin), self._reparsing.is_done(origin.id)

    def _record(self, scan: ScanState) -> None:
        """Records what was left out. Records folders' times after a scan of everything, unless files that are gone are
        kept: a folder that is skipped would hide them."""
        with self._catalog.transaction():
            scan.left_out.keep(scan.under)
            if scan.is_of_everything and not scan.quick:
                self._catalog.replace_counts(scan.origin.id, scan.selection.counts)
            if (scan.is_of_everything and not scan.quick) or scan.added or scan.changed or scan.removed:
                self._catalog.count_unplaced()
            if scan.held:
                scan.times.forget_all()
            elif scan.is_of_everything:
                scan.times.keep(scan.unfinished)
            else:
                scan.times.forget(scan.unfinished)

    def _listing(self, scan: ScanState, under: str, observer: LibraryObserver) -> AsyncIterator[Stat]:
        origin = scan.origin
        if isinstance(origin, ObservesScans):
            return origin.scan_observed(observer, under)
        return origin.scan(under)

    async def _scan_under(self, scan: ScanState, under: str) -> None:
        observer = LibraryObserver(scan, self._catalog, is_whole=not under, marker=self._marker)
        try:
            await observer.learn_markers(under)
            listed = ListedBatches(scan.origin.id, self._listing(scan, under, observer), observer)
            async with aclosing(listed.batches()) as batches:
                await self._take_all(scan, batches)
        except ReplicaFailed as failure:
            if not under:
                raise
            # Whether the origin still is there decides what that means.
            if await scan.reads.health() is HealthStatus.UNHEALTHY:
                raise OriginFailed(scan.origin.id, OriginFault.UNREACHABLE) from failure
            if failure.fault is not ReplicaFault.MISSING:
                reason = Reason.DENIED if failure.fault is ReplicaFault.DENIED else Reason.READ_ERROR
                observer.report(Problem(under, reason, str(failure)))

    async def _take_all(self, scan: ScanState, batches: AsyncIterator[list[Stat]]) -> None:
        """Reads what is new or changed. While files are read, others are listed, parsed and committed."""
        reading = ConcurrentBatches()
        try:
            async for batch in batches:
                await self._keep_pace()
                if batch:
                    fresh = _Fresh([], set())
                    self._pick(scan, batch, fresh)
                    if fresh.files:
                        reading.start(self._read(scan, fresh), len(fresh.files))
                await self._commit_while(scan, reading, BATCH)
            await self._commit_while(scan, reading, 0)
        except (OriginFailed, ReplicaFailed):
            await reading.finish()  # what was listed may still be read
            raise
        finally:
            await reading.aclose()

    async def _commit_while(self, scan: ScanState, reading: ConcurrentBatches, most: int) -> None:
        """Commits what is worth it, until at most so many files are under way."""
        while True:
            reading.clear_ended()
            if len(scan.pending) >= max(BATCH, scan.placed // _PLACED_PER_FILE) or self._is_due(scan):
                await asyncio.sleep(0)  # the next reads start before a commit keeps this thread
                self._flush(scan)
            if reading.files <= most:
                return
            await reading.wait(_LOOK_SECS)

    def _is_due(self, scan: ScanState) -> bool:
        """Whether a commit is due though there is little to commit: the origin is slow, and commits are not."""
        secs = max(_SHOWN_SECS, _REST_PER_COMMIT * scan.commit_secs)
        return bool(scan.pending) and time.monotonic() >= scan.committed_at + secs

    def _pick(self, scan: ScanState, batch: Sequence[Stat], fresh: _Fresh) -> None:
        """Adds what is new or changed among the batch to `fresh`. Records that all of it was seen, and its owners."""
        for some in [[stat] for stat in batch] if scan.careful else [batch]:
            self._life.enter(scan.origin.id, some[0].path)
            self._pick_some(scan, some, fresh)
            self._life.leave()
        self._publish(scan.progress())

    def _pick_some(self, scan: ScanState, batch: Sequence[Stat], fresh: _Fresh) -> None:
        for path in scan.skip & {stat.path for stat in batch} if scan.skip else ():
            scan.seen.add(self._catalog.replicas_under(scan.origin.id, path))
        batch = [stat for stat in batch if scan.keeps(stat)]
        roles = scan.selection.roles_of(batch)
        compared = self._catalog.compare(scan.origin.id, [stat for stat in batch if stat.path in roles])
        scan.seen.add(compared.known)
        if compared.owners:
            with self._catalog.transaction():
                changes = self._builder.update(*self._catalog.set_owners(compared.owners))
            self._announce(changes)
        for stat, is_changed in compared.fresh:
            fresh.files.append((stat, roles[stat.path]))
            scan.fresh += 1
            if is_changed:
                fresh.changed.add(stat.path)
        scan.listed += len(roles)

    async def _read(self, scan: ScanState, fresh: _Fresh) -> None:
        def take(stat: Stat, found: ScannedFile | None) -> None:
            if found is not None:
                scan.take(found, is_new=stat.path not in fresh.changed)
            elif (problem := scan.reads.take_problem(stat.path)) is not None:
                scan.fail(problem)
            else:
                scan.miss(stat.path, self._missed.get(scan.origin.id, frozenset()))
            self._publish(scan.progress())

        await self._analyser.analyse_all(scan.reads, fresh.files, take)

    def _flush(self, scan: ScanState) -> None:
        found, added = scan.take_pending()
        if not found:
            return
        scan.placed, started = 0, time.monotonic()
        stored = self._store(scan, found)
        scan.committed_at = time.monotonic()
        scan.commit_secs = scan.committed_at - started
        added = max(added - (len(found) - stored), 0)
        self._publish(FilesChanged(scan.origin.id, added, stored - added, 0))

    def _store(self, scan: ScanState, found: Sequence[ScannedFile]) -> int:
        """Stores the files, without those that the catalogue refuses. Returns how many were stored."""
        if scan.careful and len(found) > 1:
            return sum(self._store(scan, [one]) for one in found)
        origin = scan.origin
        self._life.enter(origin.id, found[0].stat.path)
        try:
            with self._catalog.transaction():
                changes = self._builder.update(*self._catalog.store(origin.id, found))
        except Exception as error:
            if not is_of_values(error):
                raise
            if len(found) > 1:
                half = len(found) // 2
                return self._store(scan, found[:half]) + self._store(scan, found[half:])
            log.debug("it could not be stored", exc_info=error)
            scan.fail(
                Problem(found[0].stat.path, Reason.BAD_NAME, f"it can't be stored: {type(error).__name__}: {error}")
            )
            return 0
        finally:
            self._life.leave()
        scan.placed += changes.placed
        self._announce(changes)
        return len(found)
