"""What one scan knows while it runs: what it has seen and read so far, and what it leaves out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from musicfs.catalog.folder_times import FolderTimes
from musicfs.catalog.left_out import LeftOutLinks
from musicfs.catalog.rows import ScannedFile
from musicfs.events import ScanFinished, ScanProgress
from musicfs.model import Stat
from musicfs.origin import Origin

log = logging.getLogger(__name__)


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
    """One scan of `origin` at and below the paths `under`. quick, careful: see Scanner.scan."""

    origin: Origin
    under: Sequence[str]
    quick: bool
    careful: bool
    seen: SeenReplicas
    times: FolderTimes
    links: LeftOutLinks
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
    unfinished: set[str] = field(default_factory=set)
    """Folders with files that could not be read."""
    _unusable: dict[str, tuple[int, str]] = field(default_factory=dict)
    """How many files have each problem, with the path of one of them."""

    @property
    def is_of_everything(self) -> bool:
        return "" in self.under

    def keeps(self, stat: Stat) -> bool:
        """Whether the catalogue can hold the file. Counts a file that it can't hold."""
        problem = stat.problem()
        if problem is not None:
            number, example = self._unusable.get(problem, (0, stat.path))
            self._unusable[problem] = number + 1, example
        return problem is None

    def take(self, found: ScannedFile, *, is_new: bool) -> None:
        """Adds what was read of one file. is_new: the catalogue has it in no other version."""
        self.pending.append(found)
        self.read += 1
        self.unreadable += found.problem is not None
        self.changed += not is_new
        self.added += is_new
        self.pending_added += is_new

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
        )  # fmt: skip

    def log_unusable(self) -> None:
        """Logs one line for each problem that makes the catalogue leave files out."""
        for problem, (number, example) in self._unusable.items():
            log.warning(
                "origin %s: %d files are left out because their %s; one is %.200r", self.origin.id, number, problem,
                example, extra={"origin": self.origin.id},
            )  # fmt: skip
