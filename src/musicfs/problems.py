"""What a scan could not show, and why: the reasons, as drivers, scans, the catalogue and the user name them."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Reason(Enum):
    """Why a file or folder is not shown, or is shown without its tags. The values are names for scripts.

    A member's `sentence` completes "3 files ..." or "1 folder ..." for the user.
    """

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
    def is_shown(self) -> bool:
        """Whether the file is in the tree all the same."""
        return self in _SHOWN


_FOLDERS = frozenset((
    Reason.CLOSED_FOLDER, Reason.BROKEN_FOLDER, Reason.SLOW_FOLDER, Reason.DEEP_FOLDER, Reason.BIG_FOLDER,
))  # fmt: skip
_SHOWN = frozenset((Reason.DAMAGED, Reason.TOO_COSTLY, Reason.TAGS_UNKNOWN, Reason.UNRESOLVED_ENTRIES))

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
