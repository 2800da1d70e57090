"""What a scan hears of its origin's folders and problems: which folders it enters, and what it must not remove."""

from __future__ import annotations

from musicfs.catalog.writer import Catalog
from musicfs.library.scan_state import ScanState
from musicfs.origins.ignored import is_skipped
from musicfs.problems import Problem, Reason

_UNKNOWN = frozenset((Reason.DENIED, Reason.READ_ERROR, Reason.UNKNOWN_TYPE))
"""Reasons of entries that were not looked at. They may be what they were, so they keep what is known of them."""


class LibraryObserver:
    """The origin.ScanObserver of one scan at and below one path.

    Args:
        scan: Learns what was seen and what is left out.
        catalog: Knows what folders held at the last scan.
        is_whole: The scan is of the whole origin, so folders' times count.
    """

    def __init__(self, scan: ScanState, catalog: Catalog, *, is_whole: bool) -> None:
        self._scan = scan
        self._catalog = catalog
        self._is_whole = is_whole
        self._has_times = False

    def enters(self, folder: str, mtime_ns: int | None) -> bool:
        """Returns whether the scan wants the folder: it is not ignored, and may have changed."""
        if is_skipped(folder.rpartition("/")[2]):
            return False
        if not self._is_whole or not (self._has_times or mtime_ns is not None):
            return True
        self._has_times = True
        known = self._scan.times.add(folder, mtime_ns) and self._scan.quick
        if known:
            self._scan.listed += self._keep(folder)
        return not known

    def report(self, problem: Problem) -> None:
        """Records the problem, and keeps what is known at and below a path that could not be seen."""
        scan, path = self._scan, problem.path
        if problem.reason is Reason.LINK_OUTSIDE:
            scan.links.add(path)
        if problem.reason.hides_below or problem.reason in _UNKNOWN:
            scan.unfinished.update((path, path.rpartition("/")[0]))
            self._keep(path)
        scan.add_problem(problem)

    def _keep(self, path: str) -> int:
        """Counts what the catalogue has at and below the path as seen. Returns how much of it was not."""
        return self._scan.seen.add(self._catalog.replicas_under(self._scan.origin.id, path))
