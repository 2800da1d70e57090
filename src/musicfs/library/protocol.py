"""What the library worker (worker.py) and its parent (client.py) say to each other, pickled over a socket pair.

Besides these, the worker sends events for the bus, and `TreeChanges` after each commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from musicfs.config.models import OriginConfig
from musicfs.events import ScanFinished
from musicfs.logs import LogSettings
from musicfs.model import OriginId


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message: where the catalogue is, which origins there are, and how names are made."""

    catalog: Path
    template: str
    origins: tuple[OriginConfig, ...]
    unreachable: frozenset[OriginId]
    metadata_cache_mb: int
    log: LogSettings


@dataclass(frozen=True, slots=True)
class Scan:
    """quick, careful: see Scanner.scan."""

    origin: OriginId
    under: tuple[str, ...] = ("",)
    quick: bool = False
    careful: bool = False


@dataclass(frozen=True, slots=True)
class SetReachable:
    """Tells whether an origin answers, so that tracks with several contents show one that can be had."""

    origin: OriginId
    reachable: bool


@dataclass(frozen=True, slots=True)
class AcceptRemovals:
    """The user confirms that what is gone from the origin is to go from the tree: at its next complete scan."""

    origin: OriginId


@dataclass(frozen=True, slots=True)
class Configure:
    """The configured origins from now on. Scans of those that are gone, or are elsewhere now, are given up."""

    origins: tuple[OriginConfig, ...]
    unreachable: frozenset[OriginId]


Command = Scan | SetReachable | AcceptRemovals | Configure


@dataclass(frozen=True, slots=True)
class Request:
    number: int
    command: Command


@dataclass(frozen=True, slots=True)
class Reply:
    """error is a sentence, or None when the command was carried out."""

    number: int
    result: ScanFinished | None
    error: str | None
