"""What a first scan of an origin takes: how many requests and bytes, from a listing alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from musicfs.library.ignore_rules import IgnoreRules, Verdict
from musicfs.library.selection import Selection
from musicfs.model import OriginId, Stat
from musicfs.origin import ObservesScans, Origin, PlansRequests
from musicfs.problems import Problem
from musicfs.tags.fingerprint import sample_ranges

_BATCH = 500


@dataclass(slots=True)
class ScanEstimate:
    """What a scan would read if nothing of the origin were known.

    files, size: how many files the library would hold, and their bytes in all. requests, read_bytes: what reading their
    samples takes. A track whose tags are larger than the samples takes some more.
    """

    origin: OriginId
    files: int = 0
    size: int = 0
    requests: int = 0
    read_bytes: int = 0

    def add(self, origin: Origin, stat: Stat) -> None:
        """Adds a file of the library."""
        ranges: Sequence[tuple[int, int]] = sample_ranges(stat.size)
        if isinstance(origin, PlansRequests):
            ranges = origin.plan_requests(ranges)
        self.files += 1
        self.size += stat.size
        self.requests += len(ranges)
        self.read_bytes += sum(size for _, size in ranges)


class _Observer:
    """The origin.ScanObserver of a listing for an estimate: it leaves out what a scan would leave out for its name."""

    marker = ""

    def __init__(self, rules: IgnoreRules) -> None:
        self._rules = rules

    def enters(self, folder: str, mtime_ns: int | None) -> bool:
        return self._rules.of_folder(folder) is Verdict.SHOWN

    def report(self, problem: Problem) -> None: ...


async def estimate_scan(origin: Origin, ignore: Sequence[str] = ()) -> ScanEstimate:
    """Lists the origin, and reads nothing. What a folder's own marker file rules out is counted, too.

    Args:
        origin: What is listed.
        ignore: Its patterns of files and folders that are not shown.

    Raises:
        OriginFailed: It can't be listed.
    """
    rules = IgnoreRules(ignore)
    selection, estimate = Selection(rules), ScanEstimate(origin.id)
    batch: list[Stat] = []
    async for stat in _listed(origin, rules):
        batch.append(stat)
        if len(batch) == _BATCH:
            _add_chosen(estimate, origin, selection, batch)
            batch = []
    _add_chosen(estimate, origin, selection, batch)
    return estimate


def _listed(origin: Origin, rules: IgnoreRules) -> AsyncIterator[Stat]:
    return origin.scan_observed(_Observer(rules)) if isinstance(origin, ObservesScans) else origin.scan()


def _add_chosen(estimate: ScanEstimate, origin: Origin, selection: Selection, batch: Sequence[Stat]) -> None:
    roles = selection.roles_of([stat for stat in batch if stat.problem() is None])
    for stat in batch:
        if stat.path in roles:
            estimate.add(origin, stat)
