"""What no origin shows, of whatever kind: folders that servers keep for themselves, conflict copies, hidden names."""

from __future__ import annotations

import re
from fnmatch import translate

IGNORED = (
    # Deleted files
    "#recycle", "@Recycle", "$RECYCLE.BIN", ".recycle", ".Recycle.Bin", ".Trash*", "Network Trash Folder",
    "files_trashbin",
    # Snapshots and earlier versions
    "@Recently-Snapshot", "#snapshot", "~snapshot", ".snapshot", ".snapshots", "@snapshots", ".snap", ".zfs",
    "@GMT-*", ".stversions", "files_versions", "Backups.backupdb",
    # What systems and servers keep for themselves
    "lost+found", "System Volume Information", "@eaDir", "@tmp", "@__thumb", ".@__thumb", ".streams", ".stfolder",
    "__MACOSX", ".AppleDouble", ".TemporaryItems", "Temporary Items", ".DocumentRevisions-V100", ".Spotlight-V100",
    ".fseventsd", ".git", "._*", "*@SynoEAStream", "*@SynoResource",
    # What other programs have not finished
    "_UNPACK_*", "_FAILED_*", ".sync", ".dropbox.cache", "~syncthing~*", ".syncthing.*",
    # Copies that a synchronisation makes
    "*.sync-conflict-*", "*(*conflicted copy*", "*(*case conflict*", "*(*sync conflict*", "*(SFConflict *",
    "*_conflict-20[0-9][0-9]*", "*-[0-9][0-9][0-9][0-9][0-9][0-9]-20[0-9][0-9]_Conflict.*",
)  # fmt: skip
"""Names of files and folders at any depth, as shell patterns; upper and lower case are the same."""

_EXACT = frozenset(name.lower() for name in IGNORED if "*" not in name)
_LIKE = re.compile("|".join(translate(name.lower()) for name in IGNORED if "*" in name))


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is on the list."""
    lower = name.lower()
    if lower in _EXACT:
        return True
    # A scan asks for every file, and hardly any needs the expression.
    may = lower.startswith((".", "~", "@", "_")) or "conflict" in lower or "@syno" in lower
    return may and _LIKE.match(lower) is not None


def is_hidden(name: str) -> bool:
    """Whether a name is hidden. Two dots hide nothing: `...And Justice for All` is an album."""
    return name.startswith(".") and not name.startswith("..")


def is_skipped(folder: str) -> bool:
    """Whether a folder of this name is ignored or hidden, so that its files are not shown."""
    return is_hidden(folder) or is_ignored(folder)
