"""What one scan knows while it runs: what it has seen and read so far, and what it leaves out."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from musicfs.catalog.folder_times import FolderTimes
from musicfs.catalog.left_out import LeftOutLinks
from musicfs.catalog.problems import ScanProblems
from musicfs.catalog.rows import ScannedFile
from musicfs.events import ScanFinished, ScanProgress
from musicfs.library.ignore_rules import IgnoreRules
from musicfs.library.scan_reads import ScanReads
from musicfs.library.selection import Selection
from musicfs.model import Stat, encode_path
from musicfs.origin import Origin
from musicfs.problems import MAX_DETAIL, Problem, Reason
from musicfs.tags.parser import reason_of
from musicfs.texts import said

log = logging.getLogger(__name__)

_MAX_MET = 20_000
_MAX_PATH = 4096  # characters


class SeenReplicas:
    """Which of the catalogue's replicas a scan has seen. Replicas that are added after its start count as seen.

    Args:
        newest: The highest number of a replica when the scan starts. Each takes one byte: a million replicas must not
            cost more than a megabyte.
    """

    def __init__(self, newest: int) -> None:
        self._seen = bytearray(newest + 1)

    def add(self, numbers: Iterable[int]) -> int:
        """Marks replicas as seen. Returns how many of them were not."""
        added = 0
        for number in numbers:
            if self._is_unseen(number):
                self._seen[number] = 1
                added += 1
        return added

    def unseen(self, numbers: Iterable[int]) -> list[int]:
        """Those of the replicas that the scan has not seen."""
        return [number for number in numbers if self._is_unseen(number)]

    def _is_unseen(self, number: int) -> bool:
        return number < len(self._seen) and not self._seen[number]


@dataclass(slots=True)
class ScanState:
    """One scan of `origin` at and below the paths `under`. quick, careful, skip: see Scanner.scan.

    reads: its files, as the scan reads them. rules: what of it is shown.
    """

    origin: Origin
    reads: ScanReads
    under: Sequence[str]
    quick: bool
    rules: IgnoreRules
    seen: SeenReplicas
    times: FolderTimes
    links: LeftOutLinks
    left_out: ScanProblems
    careful: bool = False
    skip: frozenset[str] = frozenset()
    error: str | None = None
    """Why the scan ended early."""

    listed: int = 0
    fresh: int = 0
    """Listed files that are new or changed."""
    read: int = 0
    unreadable: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    held: int = 0
    links_left_out: int = 0
    pending: list[ScannedFile] = field(default_factory=list)
    """What was read and is not in the catalogue yet."""
    pending_added: int = 0
    """Of these, how many are new."""
    placed: int = 0
    """How many files the last commit placed in the tree."""
    unfinished: set[str] = field(default_factory=set)
    """Folders with files that could not be read, or that could not be listed."""
    committed_at: float = field(default_factory=time.monotonic)
    """When the last commit ended. commit_secs: how long it took."""
    commit_secs: float = 0.0
    _met: set[str] = field(default_factory=set)
    """The paths of the first problems, to count each path once."""
    missed: set[str] = field(default_factory=set)
    """Listed files that were not there to be read."""
    problems: int = 0
    folders_unlisted: int = 0
    selection: Selection = field(init=False)

    def __post_init__(self) -> None:
        self.selection = Selection(self.rules)

    @property
    def is_of_everything(self) -> bool:
        return "" in self.under

    def keeps(self, stat: Stat) -> bool:
        """Whether the scan takes the file. Records why the catalogue can't hold it, or that it is skipped."""
        problem = stat.problem()
        if problem is None and stat.path in self.skip:
            problem = Problem(stat.path, Reason.TOO_COSTLY, "the library process was stuck at it")
        if problem is not None:
            self.add_problem(problem)
        return problem is None

    def add_problem(self, problem: Problem) -> bool:
        """Records what is not shown as it should be. Returns False if the path has a problem already."""
        path = recordable(problem.path)
        if path in self._met:
            return False
        if len(self._met) < _MAX_MET:
            self._met.add(path)
        self.left_out.add(Problem(path, problem.reason, said(problem.detail, MAX_DETAIL)))
        self.problems += problem.reason is not Reason.LINK_OUTSIDE  # these are counted by themselves
        self.folders_unlisted += problem.reason.hides_below
        return True

    def take(self, found: ScannedFile, *, is_new: bool) -> None:
        """Adds what was read of one file. is_new: the catalogue has it in no other version."""
        self.pending.append(found)
        self.read += 1
        if found.problem is not None:
            self.unreadable += 1
            self.add_problem(Problem(found.stat.path, reason_of(found.problem), found.problem))
        self.changed += not is_new
        self.added += is_new
        self.pending_added += is_new

    def fail(self, problem: Problem) -> None:
        """Records a file that could not be read. What is known of it stays, and the next scan tries again."""
        self.unreadable += 1
        self.unfinished.add(problem.path.rpartition("/")[0])
        self.add_problem(problem)

    def miss(self, path: str, before: Set[str]) -> None:
        """Records a file that was listed, and was not there to be read. before: those that the last scan missed.

        One scan may miss a file that was removed meanwhile. Two do because something is wrong with it.
        """
        if path in before:
            self.fail(Problem(path, Reason.READ_ERROR, "it is listed, and not there when it is read"))
        self.unfinished.add(path.rpartition("/")[0])
        if len(self.missed) < _MAX_MET:
            self.missed.add(path)

    def take_pending(self) -> tuple[list[ScannedFile], int]:
        """Empties `pending` and returns it, with the number of new files in it."""
        found, added = self.pending, self.pending_added
        self.pending, self.pending_added = [], 0
        return found, added

    def progress(self) -> ScanProgress:
        return ScanProgress(self.origin.id, self.listed, self.read, self.unreadable)

    def result(self) -> ScanFinished:
        return ScanFinished(
            self.origin.id, self.listed, self.read, self.unreadable,
            self.added, self.changed, self.removed, self.held, self.error, self.links_left_out,
            problems=self.problems, folders_unlisted=self.folders_unlisted,
        )  # fmt: skip

    def log_problems(self, before: Mapping[Reason, int]) -> None:
        """Logs one line for each reason to leave something out, unless the last scan left out as much.

        before: How often each reason was met then.
        """
        counts = self.left_out.counts
        for reason, example in self.left_out.examples.items():
            if counts[reason] != before.get(reason):
                log.warning(
                    "origin %s: %d problems of the kind %s; one is %.200r%s",
                    self.origin.id, counts[reason], reason.value, example.path,
                    f": {example.detail}" if example.detail else "", extra={"origin": self.origin.id},
                )  # fmt: skip


def recordable(path: str) -> str:
    """Returns a path in the form in which its problem is recorded, though it may be no path at all."""
    path = path[:_MAX_PATH]
    try:
        encode_path(path)
    except UnicodeEncodeError:
        return path.encode("utf-8", "replace").decode()
    return path
