"""A scan of a folder of this machine: lists in worker threads, and goes on beside what can't be listed or hangs."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from musicfs.errors import OriginFailed, OriginFault
from musicfs.model import OriginId, Stat
from musicfs.origin import ScanObserver
from musicfs.origins.bounds import MAX_FOLDERS, is_in_reach
from musicfs.origins.listing import DENIED, FolderListing, Lister, fault_of, folder_problem
from musicfs.problems import Problem, Reason
from musicfs.system.threads import WorkerThreads

T = TypeVar("T")

STUCK_SECS = 15.0
"""A call that has returned nothing for so long hangs. A disk that was asleep takes some ten seconds."""
_TOGETHER = 32  # folders that one call lists: a call in a thread costs as much as a folder
_LISTED_AT_ONCE = 250  # files
_LISTED_SECS = 0.05
_MAX_STUCK = 8
"""Each place that hangs holds a thread for as long as it does. With more of them the origin is not usable."""


CheckSame = Callable[[Lister], None]


class Stuck(Exception):
    """A call has made no progress for STUCK_SECS; its thread is left to it."""


class StuckPlaces:
    """The paths at which threads of an origin hang now. A later scan does not try these again."""

    def __init__(self) -> None:
        self._calls: dict[str, ListingCall | FirstLook] = {}

    def add(self, path: str, call: ListingCall | FirstLook) -> None:
        self._calls[path] = call

    def holds(self, path: str) -> bool:
        """Whether the path is one of them, or lies below one."""
        return any(path == place or path.startswith(f"{place}/") for place in self.now())

    def now(self) -> frozenset[str]:
        self._calls = {path: call for path, call in self._calls.items() if not call.ended}
        return frozenset(self._calls)


class FirstLook:
    """What a scan does first at its path, in a thread. ended: whether the thread has come back."""

    def __init__(self, look: Callable[[], Stat | Lister | None]) -> None:
        self._look = look
        self.ended = False

    def __call__(self) -> Stat | Lister | None:
        try:
            return self._look()
        finally:
            self.ended = True


class ListingCall:
    """Lists some folders, in a thread. Its results can be taken also while it hangs.

    Attributes:
        listed: What was found, in the order of the folders.
        ended: Whether the thread has come back.
    """

    def __init__(self, lister: Lister, folders: list[str], check_same: CheckSame) -> None:
        self.lister = lister
        self.folders = folders
        self._check_same = check_same
        self.listed: list[FolderListing] = []
        self.ended = False

    def __call__(self) -> None:
        try:
            self._list_some()
        finally:
            self.ended = True

    def _list_some(self) -> None:
        files, until = 0, time.monotonic() + _LISTED_SECS
        for folder in self.folders:
            try:
                found = self.lister.list(folder)
            except OSError as error:
                if not folder:
                    raise
                found = FolderListing(problems=[folder_problem(folder, error)], vanished=error.errno not in DENIED)
            if found.vanished:  # one folder, or all of them?
                self._check_same(self.lister)
            self.listed.append(found)
            files += len(found.files)
            if files >= _LISTED_AT_ONCE or time.monotonic() >= until:
                return


class FolderScan:
    """One scan at and below a folder.

    Args:
        origin: For errors.
        lister: A fresh one.
        threads: Where folders are listed.
        check_same: Raises OriginFailed unless the root is still the one that the lister began with. Blocks.
        stuck: Places where threads of the origin hang, also for later scans.
        observer: Is asked before each folder, and hears what is left out.
    """

    def __init__(
        self,
        origin: OriginId,
        lister: Lister,
        threads: WorkerThreads,
        check_same: CheckSame,
        stuck: StuckPlaces,
        observer: ScanObserver,
    ) -> None:
        self._origin = origin
        self._lister = lister
        self._threads = threads
        self._check_same = check_same
        self._stuck = stuck
        self._observer = observer
        self._waiting: list[str] = []
        self._linked: deque[str] = deque()
        self._entered: deque[str] = deque()
        """Folders that the observer enters, and that are not listed yet."""

    async def files(self, under: str) -> AsyncIterator[Stat]:
        """Yields the files below the folder `under`."""
        self._leave_out(under)
        self._entered.append(under)
        while self._entered or self._enter_some():
            for found in await self._list():
                for problem in found.problems:
                    self._observer.report(problem)
                for file in found.files:
                    yield file
                self._waiting += reversed(found.folders)
                self._linked += found.linked
            if len(self._waiting) + len(self._linked) > MAX_FOLDERS:
                raise OriginFailed(self._origin, OriginFault.IO, f"more than {MAX_FOLDERS} folders wait to be listed")
        await self._check_root()

    def _enter_some(self) -> bool:
        """Takes folders that the observer enters, after the files of the folders above them were yielded."""
        while len(self._entered) < _TOGETHER and (self._waiting or (self._linked and not self._entered)):
            folder = self._waiting.pop() if self._waiting else self._linked.popleft()
            if not self._observer.enters(folder, None):
                continue
            if is_in_reach(folder):
                self._entered.append(folder)
            else:
                self._observer.report(Problem(folder, Reason.DEEP_FOLDER, "its path is too long or too deep"))
        return bool(self._entered)

    async def _list(self) -> list[FolderListing]:
        """Lists some of the folders that were entered."""
        call = ListingCall(self._lister, list(self._entered), self._check_same)
        try:
            await patiently(self._threads, call, lambda: call.lister.steps)
        except Stuck:
            listed = list(call.listed)
            self._lister = self._go_round(call, len(listed))
            await self._check_root()
        except OSError as error:
            raise OriginFailed(
                self._origin, fault_of(error), f"the folder can't be listed: {error.strerror}"
            ) from error
        else:
            listed = call.listed
        for _ in listed:
            self._entered.popleft()
        return listed

    async def _check_root(self) -> None:
        try:
            await patiently(self._threads, lambda: self._check_same(self._lister), lambda: 0)
        except Stuck:
            raise no_answer(self._origin) from None

    def _go_round(self, call: ListingCall, listed: int) -> Lister:
        """Reports the folder or entry at which a thread hangs. Returns a lister that leaves it out.

        listed: How many of the call's folders have been listed.
        """
        folder, entry = call.folders[listed], call.lister.entry
        self._stuck.add(entry or folder, call)
        if not entry:
            del self._entered[listed]
        left = self._stuck.now()
        if not (entry or folder) or len(left) > _MAX_STUCK:
            raise no_answer(self._origin)
        self._observer.report(Problem(entry or folder, Reason.SLOW_FOLDER, f"no answer within {STUCK_SECS:.0f} s"))
        return call.lister.without(left)

    def _leave_out(self, under: str) -> None:
        """Leaves out the places below `under` that hang since an earlier scan."""
        places = self._stuck.now()
        for place in sorted(places):
            if not under or place.startswith(f"{under}/"):
                self._observer.report(Problem(place, Reason.SLOW_FOLDER, "it has not answered since an earlier scan"))
        if places:
            self._lister = self._lister.without(places)


async def patiently(threads: WorkerThreads, call: Callable[[], T], progress: Callable[[], int]) -> T:
    """Returns what the call returns in a thread. Raises Stuck when it makes no progress for STUCK_SECS."""
    job = asyncio.ensure_future(threads.run(call))
    try:
        while True:
            before = progress()
            await asyncio.wait({job}, timeout=STUCK_SECS)
            if job.done():
                return job.result()
            if progress() == before:
                raise Stuck
    finally:
        job.cancel()


def no_answer(origin: OriginId) -> OriginFailed:
    return OriginFailed(origin, OriginFault.TIMEOUT, f"no answer within {STUCK_SECS:.0f} s")
