"""Listings of folders. They need no handles: the folder and a position in it say where an answer goes on."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from musicfs.mount.entries import EntryPacker, dirent, direntplus_without_entry
from musicfs.mount.filesystem import Filesystem, Row
from musicfs.mount.session import protocol as fuse
from musicfs.mount.session.session import MAX_ANSWER, MAX_OFFSET, FuseError

_MOST_KEPT = 64
_LEAST_NAME = 8  # bytes of a name in a record, with its padding


class ListingPages:
    """Reads rows of listings, and keeps those that an answer has no room for until the next one.

    Args:
        children: Returns at most so many rows of a folder at positions above one, in their order.
    """

    def __init__(self, children: Callable[[int, int, int], Sequence[Row]]) -> None:
        self._children = children
        self._kept: dict[tuple[int, int], tuple[list[Row], bool]] = {}

    def read(self, folder: int, after: int, most: int) -> tuple[list[Row], bool]:
        """Returns rows at positions above `after`, and whether no row follows them. Without rows the listing ends."""
        rows, complete = self._kept.pop((folder, after), ([], False))
        if len(rows) < most and not complete:
            count = most - len(rows)
            more = self._children(folder, rows[-1][5] if rows else after, count)
            rows, complete = [*rows, *more], len(more) < count
        return rows, complete

    def keep(self, folder: int, rows: list[Row], used: int, complete: bool) -> None:
        """Keeps what follows the first `used` rows of what `read` returned."""
        if used and (used < len(rows) or complete):
            if len(self._kept) >= _MOST_KEPT:  # of listings that were not read to their ends
                del self._kept[next(iter(self._kept))]
            self._kept[folder, rows[used - 1][5]] = rows[used:], complete

    def forget(self) -> None:
        """Keeps nothing, after the tree has changed."""
        self._kept.clear()


class Listings:
    """Answers READDIR and READDIRPLUS.

    Offsets 1 and 2 are those behind "." and "..", an entry's is its position in the tree plus 2.
    """

    def __init__(self, filesystem: Filesystem, entries: EntryPacker) -> None:
        self._fs = filesystem
        self._entries = entries
        self._pages = ListingPages(filesystem.children)

    def readdir(self, folder: int, request: bytes) -> bytes:
        return self._answer(folder, request, dirent, self._entries.dirent, fuse.DIRENT.size)

    def readdirplus(self, folder: int, request: bytes) -> bytes:
        return self._answer(
            folder, request, direntplus_without_entry, self._entries.direntplus, fuse.DIRENTPLUS.size
        )  # fmt: skip

    def forget(self) -> None:
        self._pages.forget()

    def _answer(
        self,
        folder: int,
        request: bytes,
        link: Callable[[int, bytes, int], bytes],
        pack: Callable[[Sequence[Row], int, list[bytes]], int],
        size: int,
    ) -> bytes:
        """Returns the records that fit.

        Args:
            folder: Its inode number.
            request: A `fuse_read_in`.
            link: Makes the record of "." or "..", of which the kernel takes the inode number alone.
            pack: Makes the records of rows.
            size: That of a record without its name.
        """
        _, offset, room, _ = fuse.READ_IN.unpack_from(request, fuse.BODY)
        if room > MAX_ANSWER or offset > MAX_OFFSET:
            raise FuseError(errno.EINVAL)
        records: list[bytes] = []
        if offset < 2:
            records = [link(folder, b".", 1), link(self._fs.parent(folder), b"..", 2)][offset:]
            room -= sum(map(len, records))
        rows, complete = self._pages.read(folder, max(0, offset - 2), room // (size + _LEAST_NAME) + 1)
        if rows:
            self._pages.keep(folder, rows, pack(rows, room, records), complete)
        return b"".join(records)
