"""The owner and the read permissions that the mount shows for a file, where other users see the mount."""

from __future__ import annotations

import os

from musicfs.catalog.rows import ALSO_WITHOUT_OWNER

Shown = tuple[int, int, int]
"""st_uid, st_gid and the read bits of st_mode."""

_MAX_REMEMBERED = 4096


class Readers:
    """Turns the owner that the catalogue has of a file into the owner and mode that the kernel enforces.

    Args:
        file_mode: The mode of files whose origin has no owners, or that no scan has seen since MusicFS records owners.
            They belong to the mounting user.
    """

    def __init__(self, file_mode: int) -> None:
        self._uid = os.getuid()
        self._unowned = self._uid, os.getgid(), file_mode
        self._known: dict[tuple[int | None, ...], Shown] = {}

    def __call__(self, *owner: int | None) -> Shown:
        """Returns what the kernel enforces.

        Args:
            owner: uid, gid and mode as in a row of the tree (see ownership.sql); nothing if the file left the tree.
        """
        shown = self._known.get(owner)
        if shown is None:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            shown = self._known[owner] = self._shown(*owner)
        return shown

    def _shown(self, uid: int | None = None, gid: int | None = None, mode: int | None = 0) -> Shown:
        if mode is None:
            return self._unowned
        if mode & ALSO_WITHOUT_OWNER and _width(self._unowned[2]) > _width(mode):
            return self._unowned
        mode &= 0o444
        if uid is None or gid is None or (self._uid and not mode & 0o044):
            # The user who mounts reads it through MusicFS in any case, by any right, such as an ACL.
            return self._uid, self._unowned[1], 0o400
        return uid, gid, mode


def _width(mode: int) -> tuple[int, int]:
    """Returns a value that is larger if more users may read."""
    return mode & 0o004, mode & 0o040
