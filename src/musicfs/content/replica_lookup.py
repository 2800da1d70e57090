"""Finds the present replicas of an open content once those that it was opened with have failed.

A file may have another modification time with the same bytes (touch, daylight saving time on FAT, a restored backup),
another name, or a copy that came later. Such a file serves only after its fingerprint has been computed again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import PurePosixPath

from musicfs.content.open_content import OpenContent
from musicfs.errors import NoReplicaAvailable, ReplicaFailed, ReplicaFault
from musicfs.federation.failover import FailoverExecutor
from musicfs.federation.fetch import Demand
from musicfs.model import Content, Fingerprint, OriginId, Replica
from musicfs.origin import OnDisk
from musicfs.system.lru import Lru
from musicfs.system.tasks import Tasks
from musicfs.tags.fingerprint import fingerprint, sample_ranges

log = logging.getLogger(__name__)

_STALE = (ReplicaFault.CHANGED, ReplicaFault.MISSING)
_PAUSE_SECS = 5.0
"""How long a search that found nothing is not repeated for the same replicas."""
_MAX_REMEMBERED = 1024


class ReplicaLookup:
    """Renews the replicas of open contents. Belongs to the event loop's thread. Costs nothing until a read fails.

    Args:
        failover: Reads the samples of changed files.
        find: Returns the replicas that the catalogue has of a content by now.
        scan: Scans a path at an origin, and returns when that has ended.
        take: Gives a content its new replicas.
    """

    def __init__(
        self,
        failover: FailoverExecutor,
        find: Callable[[Fingerprint], Sequence[Replica]],
        scan: Callable[[OriginId, str], Awaitable[None]],
        take: Callable[[OpenContent, Sequence[Replica]], None] = OpenContent.take,
    ) -> None:
        self._failover = failover
        self._registry = failover.registry
        self._find = find
        self._scan = scan
        self._take = take
        self._searches: dict[Fingerprint, asyncio.Task[None]] = {}
        self._tasks = Tasks(log)
        self._same: Lru[Fingerprint, dict[tuple[OriginId, str], Replica]] = Lru(_MAX_REMEMBERED)
        """Versions of files whose fingerprint was computed again, and is the content's."""
        self._other: Lru[tuple[Fingerprint, Replica], bool] = Lru(_MAX_REMEMBERED)
        """Versions of files that do not hold the content any longer."""
        self._in_vain: Lru[tuple[Fingerprint, frozenset[Replica]], float] = Lru(_MAX_REMEMBERED)
        """Until when a search is not repeated, in seconds of the event loop's clock."""

    async def renew(
        self,
        opened: OpenContent,
        tried: Sequence[Replica],
        error: NoReplicaAvailable,
        stale: set[Replica],
        deadline: float,
    ) -> bool:
        """Looks for replicas that the content was not opened with, and lets it use them.

        All that read the content share one search.

        Args:
            opened: The content.
            tried: Its replicas when the read failed.
            error: How it failed.
            stale: Those that the same read has found changed or gone before; this adds more to it.
            deadline: When this returns at the latest, in seconds of the event loop's clock.

        Returns:
            Whether there are any by now.
        """
        stale.update(_stale(tried, error))
        if opened.replicas is not tried:  # another read of the same file has found some
            return True
        if self._take_over(opened, stale):
            return True
        key, time = (opened.content.fingerprint, frozenset(stale)), asyncio.get_running_loop().time
        if not stale or time() < self._in_vain.get(key, 0.0):
            return False
        # A search that is under way may have looked at an origin before the file changed there once more.
        for _ in range(2 if opened.content.fingerprint in self._searches else 1):
            await asyncio.wait({self._search(opened.content, stale)}, timeout=max(0.0, deadline - time()))
            if opened.replicas is not tried or self._take_over(opened, stale):
                return True
        self._in_vain.put(key, time() + _PAUSE_SECS)
        return False

    async def aclose(self) -> None:
        await self._tasks.aclose(timeout=1.0)

    def _take_over(self, opened: OpenContent, stale: Collection[Replica]) -> bool:
        """Gives the content the replicas that are known by now; returns whether any of them is new to it."""
        known = {(each.origin, each.path): each for each in self._find(opened.content.fingerprint)}
        for file, replica in (self._same.get(opened.content.fingerprint) or {}).items():
            if file not in known or known[file] in stale:
                known[file] = replica
        present = [each for each in known.values() if each not in stale]
        before = [*opened.replicas, *opened.unproven, *opened.guarded]
        new = [each for each in present if each not in before and not self._registry.is_quarantined(each)]
        if not new:
            return False
        older = [each for each in before if each not in stale and (each.origin, each.path) not in known]
        self._take(opened, [*new, *(each for each in present if each not in new), *older])
        return True

    def _search(self, content: Content, stale: Collection[Replica]) -> asyncio.Task[None]:
        """Returns the search for the content that is under way, or starts one."""
        key = content.fingerprint
        task = self._searches.get(key)
        if task is None:
            task = self._searches[key] = self._tasks.spawn(
                self._look_at_all(content, {(each.origin, each.path): each for each in stale}.values()),
                "a search for replicas",
            )
            task.add_done_callback(lambda _: self._searches.pop(key, None))
        return task

    async def _look_at_all(self, content: Content, files: Collection[Replica]) -> None:
        """Looks at the files again. Ends with the first that still holds the content, or at the time of a read."""
        deadline = self._failover.deadline()
        looks = [self._tasks.spawn(self._look_at(content, replica, deadline), "a look at a file") for replica in files]
        try:
            async with asyncio.timeout_at(deadline):
                for look in asyncio.as_completed(looks):
                    if await look:
                        return
        except TimeoutError:
            return
        finally:
            for each in looks:
                each.cancel()

    async def _look_at(self, content: Content, replica: Replica, deadline: float) -> bool:
        """Looks at one file. Where it no longer holds the content, scans the folders above it: it, or one of them, may
        have another name."""
        try:
            if await self._is_same(content, replica, deadline):
                return True
        except Exception as error:
            log.debug("%s can't be looked at: %r", replica.path, error, extra={"origin": replica.origin})
        for folder in self._folders(replica):
            await self._scan(replica.origin, folder)
            if any(each != replica for each in self._find(content.fingerprint)):
                return True
        return False

    def _folders(self, replica: Replica) -> list[str]:
        """Returns the two folders above the file; the root only of a disk, since listing all of a server takes long."""
        above = [str(folder) for folder in PurePosixPath(replica.path).parents[:2]]
        folders = [folder for folder in above if folder != "."]
        return [*folders, ""] if "." in above and isinstance(self._registry.get(replica.origin), OnDisk) else folders

    async def _is_same(self, content: Content, replica: Replica, deadline: float) -> bool:
        """Whether the file of the replica holds the content now; remembers its present version in either case."""
        origin, key = self._registry.get(replica.origin), content.fingerprint
        if origin is None:
            return False
        now = Replica.of(origin.id, await origin.stat(replica.path))
        if now.size != content.size or (key, now) in self._other:
            return False
        demand = Demand(urgent=True)
        samples = await asyncio.gather(
            *(
                self._failover.fetch([now], offset, size, deadline=deadline, demand=demand)
                for offset, size in sample_ranges(now.size)
            )
        )
        ranges = {offset: got.data for (offset, _), got in zip(sample_ranges(now.size), samples, strict=True)}
        if fingerprint(now.size, ranges) != key:
            self._other.put((key, now), True)
            return False
        self._same.put(key, {**(self._same.get(key) or {}), (now.origin, now.path): now})
        return True


def _stale(replicas: Sequence[Replica], error: NoReplicaAvailable) -> list[Replica]:
    """Returns the replicas whose files have changed or gone."""
    failed = {
        (each.origin, each.path) for each in error.causes if isinstance(each, ReplicaFailed) and each.fault in _STALE
    }
    return [replica for replica in replicas if (replica.origin, replica.path) in failed]
