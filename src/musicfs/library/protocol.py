"""Messages between the library worker (worker.py) and its parent (client.py), pickled over a socket pair.

The worker also sends events for the bus, and `TreeChanges` after each commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from musicfs.config.models import OriginConfig
from musicfs.events import ScanFinished
from musicfs.logs import LogSettings
from musicfs.model import OriginId
from musicfs.problems import Reason


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message: where the catalogue is, which origins there are, and how names are made.

    unreachable: the origins that do not answer now. metadata_cache_mb: the memory for the catalogue's pages, in MiB.
    marker: the name of a file by which an origin is recognised that shows the mount itself; "" for none.
    """

    catalog: Path
    template: str
    origins: tuple[OriginConfig, ...]
    unreachable: frozenset[OriginId]
    metadata_cache_mb: int
    log: LogSettings
    marker: str = ""


@dataclass(frozen=True, slots=True)
class Scan:
    """Scans an origin at and below the paths. quick, careful, skip: see Scanner.scan."""

    origin: OriginId
    under: tuple[str, ...] = ("",)
    quick: bool = False
    careful: bool = False
    skip: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SetReachable:
    """Says whether an origin answers, so that tracks with several contents show one that can be read."""

    origin: OriginId
    reachable: bool


@dataclass(frozen=True, slots=True)
class AcceptRemovals:
    """The user's confirmation: the origin's next complete scan removes from the tree what is gone."""

    origin: OriginId


@dataclass(frozen=True, slots=True)
class Configure:
    """The configured origins from now on. Ends scans of origins that are gone, or that have other settings now."""

    origins: tuple[OriginConfig, ...]
    unreachable: frozenset[OriginId]


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Dismisses problems of an origin, or takes that back. path, reason: only those at and below the path, and of the
    reason; "" and None: all."""

    origin: OriginId
    path: str
    reason: Reason | None
    dismissed: bool


@dataclass(frozen=True, slots=True)
class Reparse:
    """Reads some of the origin's files again whose tags an earlier version's parser read."""

    origin: OriginId


@dataclass(frozen=True, slots=True)
class Reparsed:
    """What a `Reparse` did. read: how many files. is_done: no more are left, except those that can't be read now."""

    read: int
    is_done: bool


@dataclass(frozen=True, slots=True)
class FinishIndex:
    """Waits until the search index has everything that the catalogue has now, or can't be written."""


Command = Scan | SetReachable | AcceptRemovals | Configure | Dismiss | Reparse | FinishIndex


@dataclass(frozen=True, slots=True)
class Request:
    """A command, with the number that its reply repeats."""

    number: int
    command: Command


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to the request of this number. result: of a scan, or how many problems have changed. error: a
    sentence; None: it was carried out."""

    number: int
    result: ScanFinished | Reparsed | int | None
    error: str | None
