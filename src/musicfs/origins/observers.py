"""Observers of scans, for callers that want all or nothing."""

from __future__ import annotations

from musicfs.errors import OriginFailed, OriginFault
from musicfs.model import OriginId
from musicfs.origins.ignored import is_skipped
from musicfs.problems import Problem, Reason

_FAULTS = {Reason.CLOSED_FOLDER: OriginFault.DENIED, Reason.SLOW_FOLDER: OriginFault.TIMEOUT}


class StrictObserver:
    """An origin.ScanObserver that skips what is never shown, and fails the scan for a folder that can't be listed.

    Drivers make `scan` of `scan_observed` with it. Its `report` raises OriginFailed, which a driver must let pass.
    """

    marker = ""

    def __init__(self, origin: OriginId) -> None:
        self._origin = origin

    def enters(self, folder: str, mtime_ns: int | None) -> bool:
        return not is_skipped(folder.rpartition("/")[2])

    def report(self, problem: Problem) -> None:
        if problem.reason.hides_below:
            detail = f"the folder {problem.path!r} can't be listed"
            fault = _FAULTS.get(problem.reason, OriginFault.IO)
            raise OriginFailed(self._origin, fault, f"{detail}: {problem.detail}" if problem.detail else detail)
