"""The scrub (`musicfs verify`): reads all replicas once and compares them block by block, to find rot early.

`VerifiedReads` checks the blocks, as in every read. The scrub decides what to read, and when.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.content.open_content import OpenContent
from musicfs.content.reader import Reader
from musicfs.content.records import blocks_of
from musicfs.errors import NoReplicaAvailable, OriginFailed, ReplicaFailed, UserError
from musicfs.events import EventBus, ScrubFinished, ScrubMismatch, ScrubProgress
from musicfs.federation.ratelimit import RateLimit
from musicfs.federation.registry import OriginRegistry
from musicfs.maintenance.scrub_store import ScrubFind, ScrubRun, ScrubStore, Unchecked
from musicfs.model import Content, HealthStatus, OriginId, Replica
from musicfs.system.sqlite import SqliteError, is_damage
from musicfs.system.tasks import retrieve

log = logging.getLogger(__name__)

DEFAULT_RATE = 10_000_000
"""Bytes per second: a tenth of what a NAS gives over a gigabit line."""

_PAGE = 200  # contents
_QUIET_SECS = 0.05
_REPORT_EVERY_SECS = 1.0
_SAVE_EVERY_SECS = 5.0


class ContentPager(Protocol):
    """Contents in the order of their fingerprints. Any thread may call both methods."""

    def after(self, fingerprint: bytes, limit: int) -> list[Content]:
        """Returns at most `limit` contents with a fingerprint above the given one."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ScrubQueries:
    """Queries of the catalogue. `totals` and `file` run in a thread.

    Args:
        totals: Returns the number of replicas at or below a path of the tree, and their bytes; None: no such path.
        pages: Returns the contents at or below a path, for one scrub.
        file: Returns the path at which the tree shows a content; None: it does not.
        replicas: Returns the replicas of a content, by its number.
    """

    totals: Callable[[str], tuple[int, int] | None]
    pages: Callable[[str], ContentPager]
    file: Callable[[int], str | None]
    replicas: Callable[[int], list[Replica]]


class Scrub:
    """Runs one scrub at a time, and continues it after a restart. Belongs to the event loop's thread.

    run: the scrub under way, else the last; None before the first. finds: by origin and path at the origin.
    unchecked: by origin and reason.
    """

    def __init__(
        self, file: Path, catalogue: ScrubQueries, reader: Reader, registry: OriginRegistry, bus: EventBus
    ) -> None:
        self.run: ScrubRun | None = None
        self.finds: dict[tuple[OriginId, str], ScrubFind] = {}
        self.unchecked: dict[tuple[OriginId, str], Unchecked] = {}
        self._list: ScrubStore | None = ScrubStore(file)
        self._catalogue = catalogue
        self._reader = reader
        self._registry = registry
        self._bus = bus
        self._bandwidth = RateLimit(DEFAULT_RATE)
        self._saved = 0  # finds
        self._restarted = False
        self._failing = False
        self._asking = asyncio.Lock()
        self._saving = asyncio.Lock()
        self._left_out: list[tuple[Replica, str]] = []
        self._next_save = self._next_report = 0.0
        self._wake = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads the progress of the last scrub. A file that can't be used is logged, and the scrub starts again."""
        assert self._list is not None
        try:
            kept = await asyncio.to_thread(self._list.load)
        except SqliteError as error:
            await self._do_without(self._list, error)
            return
        if kept is not None:
            self.run = kept.run
            self.finds = {(each.origin, each.path): each for each in kept.finds}
            self.unchecked = {(each.origin, each.reason): each for each in kept.unchecked}
            self._saved = len(self.finds)
            self._bandwidth = RateLimit(kept.run.rate)

    async def _do_without(self, kept: ScrubStore, error: SqliteError) -> None:
        """Replaces a damaged file. When only its disk fails, or it is locked, the file stays."""
        if is_damage(error):
            log.warning("The progress of `musicfs verify` can't be read (%s); it starts again.", error)
            await asyncio.to_thread(kept.remove)
        else:
            log.warning(
                "The progress of `musicfs verify` can't be read (%s): until the next mount it starts again, and saves"
                " nothing in %s.",
                error, kept.path,
            )  # fmt: skip
            self._list = None

    async def aclose(self) -> None:
        """Saves the progress."""
        if self.run is not None and self.run.state == "running":
            await self._save()

    @property
    def _running(self) -> bool:
        return self.run is not None and self.run.state == "running"

    async def ask(self, path: str, rate: int | None, *, metered: bool = False, anew: bool = False) -> ScrubRun:
        """Starts a scrub, or continues the one of this path that was stopped.

        Args:
            path: Relative to the mount point; the scrub compares what is at or below it.
            rate: Bytes per second; None: as before, or the default.
            metered: Whether to read origins whose reads cost money, too.
            anew: Whether to start from the beginning.

        Raises:
            UserError: There is no such path, or a scrub of another path runs.
        """
        async with self._asking:
            before = self.run
            if before is not None and before.state == "running" and before.path != path:
                what = before.path or "The whole mount"
                raise UserError(f"{what} is being verified; wait, or stop that with `musicfs verify --stop`.")
            if before is None or before.state == "done" or before.path != path or anew:
                run = await self._first(before, path, rate, metered=metered)
                self.finds, self.unchecked, self._saved, self._restarted = {}, {}, 0, True
            else:
                metered = metered or before.metered
                run = replace(before, rate=rate or before.rate, metered=metered, state="running")
            self.run = run
            self._bandwidth = RateLimit(run.rate)
            if self._work is not None:
                self._work.cancel()
            self._wake.set()
            await self._save()
            return run

    async def _first(self, before: ScrubRun | None, path: str, rate: int | None, *, metered: bool) -> ScrubRun:
        totals = await asyncio.to_thread(self._catalogue.totals, path)
        if totals is None:
            raise UserError(f"There is no {path} in the mount; `ls` shows what there is.")
        number = 1 if before is None else before.number + 1
        return ScrubRun(number, path, rate or DEFAULT_RATE, metered, "running", b"", *totals, 0, 0, time.time(), None)

    async def stop(self) -> None:
        """Stops the scrub under way, if there is one. `ask` continues it."""
        if self.run is not None and self.run.state == "running":
            self.run = replace(self.run, state="stopped")
            if self._work is not None:
                self._work.cancel()
            await self._save()

    async def work(self) -> None:
        """Runs the scrubs that `ask` starts. Never ends."""
        while True:
            await self._wake_up()
            self._work = asyncio.create_task(self._compare_all(), name="comparing")
            try:
                await asyncio.wait({self._work})
                if not self._work.cancelled():
                    self._work.result()
            finally:
                self._work.cancel()
                await asyncio.wait({self._work})
                self._work = None

    async def _wake_up(self) -> None:
        while not self._running:
            self._wake.clear()
            await self._wake.wait()

    async def _compare_all(self) -> None:
        assert self.run is not None
        path = self.run.path
        pages = self._catalogue.pages(path)
        try:
            while contents := await asyncio.to_thread(pages.after, self.run.position, _PAGE):
                for content in contents:
                    replicas = self._catalogue.replicas(content.id)
                    await self._compare(content, replicas)
                    self._advance(content, replicas)
                    await self._report_progress()
        finally:
            await asyncio.to_thread(pages.close)
        now = self.run
        self.run = replace(now, state="done", files=now.done_files, bytes=now.done_bytes, ended_at=time.time())
        unchecked = sum(each.files for each in self.unchecked.values())
        self._bus.publish(ScrubFinished(path, now.done_files, len(self.finds), unchecked))
        await self._save()

    def _advance(self, content: Content, replicas: Sequence[Replica]) -> None:
        """Records that the content is compared, in one step: an interrupted content starts again."""
        assert self.run is not None
        for replica, reason in self._left_out:
            key = replica.origin, reason
            known = self.unchecked.get(key) or Unchecked(*key, 0, 0)
            self.unchecked[key] = replace(known, files=known.files + 1, bytes=known.bytes + replica.size)
        files = self.run.done_files + len(replicas)
        size = self.run.done_bytes + sum(replica.size for replica in replicas)
        self.run = replace(self.run, done_files=files, done_bytes=size, position=content.fingerprint)

    async def _report_progress(self) -> None:
        now, run = time.monotonic(), self.run
        assert run is not None
        if now >= self._next_report:
            self._next_report = now + _REPORT_EVERY_SECS
            self._bus.publish(
                ScrubProgress(run.path, run.files, run.done_files, run.bytes, run.done_bytes, len(self.finds))
            )
        if now >= self._next_save or (self._saved < len(self.finds) and not self._failing):
            await self._save()

    async def _compare(self, content: Content, replicas: Sequence[Replica]) -> None:
        """Compares every block of every replica, one at a time, as far as they can be read."""
        opened = OpenContent(content, replicas)
        self._left_out = []
        self._registry.quarantined.review(replicas)
        reported: set[Replica] = set()
        reading = [replica for replica in replicas if self._may_read(replica)]
        await self._report_finds(content, replicas, reported)
        for index in range(blocks_of(content)):
            for replica in list(reading):
                if not await self._check_block(opened, index, replica):
                    reading.remove(replica)
                await self._report_finds(content, replicas, reported)

    async def _check_block(self, opened: OpenContent, index: int, replica: Replica) -> bool:
        """Reads and checks one block of the replica; returns False if the replica can't be read further."""
        if self._registry.is_quarantined(replica) or not self._is_there(replica):
            return False
        await self._bandwidth.take(min(BLOCK_SIZE, opened.content.size - index * BLOCK_SIZE))
        while self._reader.busy:  # noqa: ASYNC110 (reads are too many to set an event for each)
            await asyncio.sleep(_QUIET_SECS)
        try:
            await self._reader.compare(opened, index, replica)
        except NoReplicaAvailable as error:
            if not self._registry.is_quarantined(replica):
                cause = next((each for each in error.causes if isinstance(each, OriginFailed | ReplicaFailed)), None)
                self._leave_out(replica, cause.fault.value if cause is not None else "no answer")
            return False
        return True

    def _may_read(self, replica: Replica) -> bool:
        """Whether to read the replica. A quarantined one is a find already."""
        if self._registry.is_quarantined(replica):
            return False
        candidate = self._registry.route([replica])
        if candidate is None:
            self._leave_out(replica, "its origin takes no part")
        elif candidate.metered and self.run is not None and not self.run.metered:
            self._leave_out(replica, "metered")
        else:
            return self._is_there(replica)
        return False

    def _is_there(self, replica: Replica) -> bool:
        if self._registry.health().status(replica.origin) is HealthStatus.UNHEALTHY:
            self._leave_out(replica, "unhealthy")
            return False
        return True

    def _leave_out(self, replica: Replica, reason: str) -> None:
        self._left_out.append((replica, reason))

    async def _report_finds(self, content: Content, replicas: Sequence[Replica], reported: set[Replica]) -> None:
        """Reports those of the replicas that are quarantined, by this scrub or by another read."""
        held = self._registry.quarantined.held
        for replica in replicas:
            aside = held.get(replica)
            if aside is None or replica in reported:
                continue
            reported.add(replica)
            key = replica.origin, replica.path
            if key in self.finds:
                continue  # the scrub was interrupted in this file
            file = await asyncio.to_thread(self._catalogue.file, content.id)
            find = self.finds[key] = ScrubFind(*key, file, aside.block, aside.against)
            self._bus.publish(ScrubMismatch(find.origin, find.path, find.file, find.block, find.against))

    async def _save(self) -> None:
        """Saves the progress. When the disk fails, the scrub continues without saving."""
        self._next_save = time.monotonic() + _SAVE_EVERY_SECS
        async with self._saving:
            if self._list is None or self.run is None:
                return
            before, restarted = self._saved, self._restarted
            run, finds = self.run, list(self.finds.values())[before:]
            self._saved, self._restarted = len(self.finds), False
            unchecked = tuple(self.unchecked.values())
            saving = asyncio.ensure_future(
                asyncio.to_thread(self._list.save, run, finds, unchecked, restarted=restarted)
            )
            saving.add_done_callback(retrieve)
            try:
                await asyncio.shield(saving)
            except asyncio.CancelledError:
                await asyncio.wait({saving})  # the next save must come after this one
                raise
            except SqliteError as error:
                self._saved, self._restarted = min(self._saved, before), self._restarted or restarted
                self._report_failure(error)
            else:
                self._failing = False

    def _report_failure(self, error: SqliteError) -> None:
        """Logs a failed save. The next save tries again, unless the file is damaged; that waits for the next start."""
        if is_damage(error):
            self._list = None
            log.warning("The progress of `musicfs verify` can't be saved (%s); after a restart it starts again.", error)
        elif not self._failing:
            log.warning("The progress of `musicfs verify` can't be saved at the moment (%s).", error)
        self._failing = True
