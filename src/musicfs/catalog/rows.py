"""The catalogue's rows as plain values, for modules without SQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from musicfs.model import Fingerprint, Owner, Stat


class FolderFile(NamedTuple):
    """One replica of an album folder. tags: JSON; None: it has none."""

    replica: int
    origin: str
    path: str
    role: str
    content: int
    tags: str | None


BY_TAGS = "tags:"
"""Starts the key of an entry that stands for all copies of its content, wherever they are."""


FOLLOWS = "of:"
"""Starts the key of an entry that gets the name of a track, such as its lyrics."""

BESIDE = "beside:"
"""Starts the key of an entry of another file that lies beside music, such as a cover."""

_TRAITS = "\x01"
_NUMBER_OF_TRAITS = 4


def make_key(kind: str, parts: Iterable[str], traits: Iterable[str]) -> str:
    """The key of an entry.

    Args:
        kind: How it begins.
        parts: What entries of the same track have in common.
        traits: What may tell them apart: MusicBrainz ids and the length in seconds, or the content that it follows.
    """
    # Without lone surrogates, which SQLite can't hold: names that are not UTF-8 have some.
    track = "\0".join(parts).replace(_TRAITS, " ").encode("utf-8", "backslashreplace").decode()
    return kind + track + _TRAITS + ",".join(traits)


class TreeEntry(NamedTuple):
    """Where one replica asks to appear in the tree; see `entries` in schema.sql."""

    replica: int
    dir: str
    name: str
    disc_name: str
    discs: bool
    key: str
    content: int

    @property
    def track(self) -> str:
        """What entries of one track have in common, within one directory: the key without its traits."""
        return self.key.partition(_TRAITS)[0]

    @property
    def ids(self) -> tuple[str, str, str]:
        """The MusicBrainz ids of its release, recording and track, which tell music apart; "": it has none."""
        release, recording, track, _ = self._traits()
        return release, recording, track

    @property
    def seconds(self) -> float:
        """How long the music is; 0: not known."""
        return float(self._traits()[-1] or 0)

    @property
    def leader(self) -> int | None:
        """The content of the track whose name this file follows, with another ending; None: it follows none."""
        return int(self.key.partition(_TRAITS)[2]) if self.key.startswith(FOLLOWS) else None

    def _traits(self) -> tuple[str, ...]:
        traits = tuple(self.key.partition(_TRAITS)[2].split(","))
        return traits if len(traits) == _NUMBER_OF_TRAITS else ("",) * _NUMBER_OF_TRAITS

    @property
    def album(self) -> str:
        """The folded title of the track's album; "": its tags do not say."""
        return self.track.split("\0")[1] if self.is_by_tags else ""

    @property
    def is_music(self) -> bool:
        """Whether the file is a track and not what lies beside one. In a tree by $path, each file is taken for one."""
        return not self.key.startswith((FOLLOWS, BESIDE))

    @property
    def is_by_tags(self) -> bool:
        """Whether this entry stands for all copies of its content."""
        return self.key.startswith(BY_TAGS)


class PlacedTrack(NamedTuple):
    """A track at its origin and in the tree. folder: that it lies in there. dir: of the tree. album: as in an entry."""

    folder: str
    dir: str
    album: str


class Copy(NamedTuple):
    """One replica of a content, as choosing its place and ranking variants need it."""

    content: int
    origin: str
    path: str
    replica: int
    reachable: bool
    priority: int


class Copies(NamedTuple):
    """What the copies of one content that have one owner share. mtime_ns: the oldest; size in bytes."""

    size: int
    mtime_ns: int
    owner: Owner | None


NO_OWNER = (None, None, None)
"""The columns uid, gid and mode of a row without an `Owner`."""

ALSO_WITHOUT_OWNER = 0o1000
"""In the mode of an inode: it also has a copy at an origin without owners."""


class Attributes(NamedTuple):
    """What an inode shows. size in bytes; mtime_ns since the epoch; uid, gid, mode: see ownership.sql."""

    size: int
    mtime_ns: int
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None


class NamedFile(NamedTuple):
    """One name of a file in a directory of the tree."""

    name: str
    shown: bool
    ino: int
    content: int
    attributes: Attributes


class FreshFile(NamedTuple):
    """A file that the catalogue does not have in this version. is_changed: it has another version."""

    stat: Stat
    is_changed: bool


class OwnerChange(NamedTuple):
    """The new owner of the replica with this number."""

    replica: int
    owner: Owner | None


class Compared(NamedTuple):
    """How an origin's files differ from the catalogue. known: the numbers of the replicas that it has of them."""

    fresh: list[FreshFile]
    known: list[int]
    owners: list[OwnerChange]


class Touched(NamedTuple):
    """What a change of replicas touches.

    folders: album folders to place. dirs: directories of the tree to resolve. contents: what has other copies, or
    copies with other owners, than before.
    """

    folders: set[bytes]
    dirs: set[str]
    contents: set[int]


class StaleFile(NamedTuple):
    """A file whose content has tags of an earlier parser."""

    content: int
    stat: Stat


class ScannedFile(NamedTuple):
    """What a scan learned of one file."""

    stat: Stat
    folder: str
    role: str
    fingerprint: Fingerprint
    tags: str | None
    problem: str | None
