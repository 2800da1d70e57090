"""What a scan hears of its origin's folders and problems: which folders it enters, and what it must not remove."""

from __future__ import annotations

from pathlib import PurePosixPath

from musicfs.catalog.writer import Catalog
from musicfs.errors import ReplicaFailed
from musicfs.library.ignore_rules import MARKERS, MAX_MARKER, Verdict
from musicfs.library.scan_state import ScanState
from musicfs.model import Replica, Stat
from musicfs.problems import Problem, Reason

_WHOLE = ".nomedia"
"""A marker file that rules out all of its folder, whatever is in the file."""
_UNKNOWN = frozenset((Reason.DENIED, Reason.READ_ERROR, Reason.UNKNOWN_TYPE, Reason.ARCHIVED))
"""Reasons of entries that can't be looked at or read now. They may be what they were, so they keep what is known."""


class LibraryObserver:
    """The origin.ScanObserver of one scan at and below one path.

    Attributes:
        heard: How many folders it was asked about, and how many problems were new.

    Args:
        scan: Learns what was seen and what is left out.
        catalog: Knows what folders held at the last scan.
        is_whole: The scan is of the whole origin, so folders' times count.
        marker: The name of a file that only this mount's own folders have.
    """

    def __init__(self, scan: ScanState, catalog: Catalog, *, is_whole: bool, marker: str = "") -> None:
        self.marker = marker
        self._scan = scan
        self._catalog = catalog
        self._is_whole = is_whole
        self._has_times = False
        self.heard = 0

    def enters(self, folder: str, mtime_ns: int | None) -> bool:
        """Returns whether the scan wants the folder: it is not ignored, and may have changed."""
        self.heard += 1
        verdict = self._scan.rules.of_folder(folder)
        if verdict is not Verdict.SHOWN:
            return verdict is Verdict.HIDDEN and self._scan.rules.enters_hidden(folder)
        if not self._is_whole or not (self._has_times or mtime_ns is not None):
            return True
        self._has_times = True
        known = self._scan.times.add(folder, mtime_ns) and self._scan.quick
        if known:
            self._scan.listed += self._keep(folder)
            self._scan.left_out.spare(folder)
        return not known

    def report(self, problem: Problem) -> None:
        """Records the problem, and keeps what is known at and below a path that could not be seen."""
        scan, path = self._scan, problem.path
        if problem.reason is Reason.LINK_OUTSIDE:
            scan.links.add(path)
        if problem.reason.hides_below or problem.reason in _UNKNOWN:
            scan.unfinished.update((path, path.rpartition("/")[0]))
            self._keep(path)
        self.heard += scan.add_problem(problem)

    async def mark(self, stat: Stat) -> None:
        """Reads a marker file, and applies it from now on. One that can't be read ignores nothing."""
        folder, _, name = stat.path.rpartition("/")
        if name not in MARKERS:
            return
        text = None
        if stat.size and name != _WHOLE:
            size = min(stat.size, MAX_MARKER)
            try:
                text = (await self._scan.reads.read(Replica.of(self._scan.origin.id, stat), 0, size)).decode(
                    "utf-8", "replace"
                )
            except ReplicaFailed:
                return
        self._scan.rules.mark(folder, text)

    async def learn_markers(self, under: str) -> None:
        """Reads the marker files of the folders above a path, which its listing does not contain."""
        if not under:
            return
        for folder in ("", *(str(above) for above in reversed(PurePosixPath(under).parents[:-1]))):
            for name in MARKERS:
                try:
                    stat = await self._scan.reads.stat(f"{folder}/{name}" if folder else name)
                except ReplicaFailed:
                    continue
                await self.mark(stat)

    def _keep(self, path: str) -> int:
        """Counts what the catalogue has at and below the path as seen. Returns how much of it was not."""
        return self._scan.seen.add(self._catalog.replicas_under(self._scan.origin.id, path))


def folder_of_marker(path: str) -> str:
    """Returns the folder of a marker file, which decides about all of it; any other path as it is."""
    folder, _, name = path.rpartition("/")
    return folder if name in MARKERS else path
