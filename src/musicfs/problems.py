"""What a scan could not show, and why: the reasons, as drivers, scans, the catalogue and the user name them."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Reason(Enum):
    """Why a file or folder is not shown, or is shown without its tags. The values are names for scripts."""

    # Folders. Nothing below them is known, so nothing below them is removed.
    CLOSED_FOLDER = "closed-folder"
    BROKEN_FOLDER = "broken-folder"
    SLOW_FOLDER = "slow-folder"
    DEEP_FOLDER = "deep-folder"
    BIG_FOLDER = "big-folder"
    OWN_MOUNT = "own-mount"
    # Entries of a folder that was listed.
    LINK_OUTSIDE = "link-outside"
    LINK_BROKEN = "link-broken"
    UNKNOWN_TYPE = "unknown-type"
    BAD_NAME = "bad-name"
    BAD_SIZE = "bad-size"
    HIDDEN = "hidden"
    UNKNOWN_KIND = "unknown-kind"
    UNPLACED = "unplaced"
    # Files that were listed.
    DENIED = "denied"
    READ_ERROR = "read-error"
    ARCHIVED = "archived"
    KEEPS_CHANGING = "keeps-changing"
    # Files that are shown under their own names, without tags.
    DAMAGED = "damaged"
    TOO_COSTLY = "too-costly"
    TAGS_UNKNOWN = "tags-unknown"
    # Playlists and cue sheets.
    UNRESOLVED_ENTRIES = "unresolved-entries"

    @property
    def hides_below(self) -> bool:
        """Whether what lies below the path is unknown, so that a scan must not remove any of it."""
        return self in _FOLDERS

    @property
    def is_note(self) -> bool:
        """Whether it is no reason to worry: most libraries have such files, and no one misses them in the tree."""
        return self in _NOTES

    def says(self, number: int) -> str:
        """Returns how many files or folders have this problem, for the user: "3 files may not be read"."""
        noun, what = _TEXTS[self]
        plural = noun if number == 1 else "entries" if noun == "entry" else f"{noun}s"
        return f"{number:,} {plural} {what}"

    @property
    def is_shown(self) -> bool:
        """Whether the file is in the tree all the same."""
        return self in _SHOWN


_FOLDERS = frozenset((
    Reason.CLOSED_FOLDER, Reason.BROKEN_FOLDER, Reason.SLOW_FOLDER, Reason.DEEP_FOLDER, Reason.BIG_FOLDER,
))  # fmt: skip
_SHOWN = frozenset((Reason.DAMAGED, Reason.TOO_COSTLY, Reason.TAGS_UNKNOWN, Reason.UNRESOLVED_ENTRIES))

_NOTES = frozenset((Reason.HIDDEN, Reason.UNKNOWN_KIND, Reason.UNPLACED))
_TEXTS = {
    Reason.CLOSED_FOLDER: ("folder", "may not be entered"),
    Reason.BROKEN_FOLDER: ("folder", "can't be listed"),
    Reason.SLOW_FOLDER: ("folder", "did not answer in time"),
    Reason.DEEP_FOLDER: ("folder", "can't be reached: the path is too long"),
    Reason.BIG_FOLDER: ("folder", "can't be listed whole: too many names"),
    Reason.OWN_MOUNT: ("folder", "must not be entered: a mount of MusicFS"),
    Reason.LINK_OUTSIDE: ("link", "may not be followed: the setting `links` forbids it"),
    Reason.LINK_BROKEN: ("link", "can't be followed"),
    Reason.UNKNOWN_TYPE: ("entry", "could not be identified as a file or a folder"),
    Reason.BAD_NAME: ("file", "can't be shown under such a name"),
    Reason.BAD_SIZE: ("file", "can't be shown with such a size"),
    Reason.HIDDEN: ("hidden music file", "left out"),
    Reason.UNKNOWN_KIND: ("file", "of an unknown kind left out"),
    Reason.UNPLACED: ("file", "left out: beside no music, or beside a better picture"),
    Reason.DENIED: ("file", "may not be read"),
    Reason.READ_ERROR: ("file", "can't be read"),
    Reason.ARCHIVED: ("file", "can't be read: archived"),
    Reason.KEEPS_CHANGING: ("file", "could not be read: changed during each scan"),
    Reason.DAMAGED: ("file", "could not be parsed: shown without tags"),
    Reason.TOO_COSTLY: ("file", "would cost too much to parse: shown without tags"),
    Reason.TAGS_UNKNOWN: ("file", "shown by name: MusicFS does not read such tags"),
    Reason.UNRESOLVED_ENTRIES: ("playlist or cue sheet", "with names of files that are not there"),
}
"""What is counted, and what is the matter with it: neither depends on the number."""

MAX_DETAIL = 200
"""Characters of a problem's detail that are kept: a server may say anything."""


class Problem(NamedTuple):
    """One file or folder at an origin that is not shown as it should be.

    path: relative to the origin's root. detail: what the system or the server said, e.g. "Permission denied"; "" if
    the reason says all.
    """

    path: str
    reason: Reason
    detail: str = ""
