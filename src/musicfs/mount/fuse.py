"""The life of one mount: mounted, served, unmounted; and what the kernel must forget of it when the tree changes."""

from __future__ import annotations

import logging
from pathlib import Path

from musicfs.errors import UserError
from musicfs.library.tree_changes import TreeChanges
from musicfs.mount import mount_points
from musicfs.mount.filesystem import Filesystem
from musicfs.mount.operations import Operations
from musicfs.mount.readers import Readers
from musicfs.mount.session import mounting
from musicfs.mount.session.forgetter import Forgetter, Stale
from musicfs.mount.session.session import FuseSession

log = logging.getLogger(__name__)

# A block of cache/block_checksums.py. Of 128, 256, 512 and 1024 it was the fastest by a seventh to a third, for one
# reader and for eight: so much is yet in the processor's own cache on its way. And of a file's beginning less is
# fetched in vain.
_READ_AHEAD_KB = 256
_NAME = "musicfs"


class FuseMount:
    """One mounted filesystem: `mount`, `serve` until it is unmounted or `stop` is called, `unmount`.

    Args:
        filesystem: What it shows.
        mount_point: An empty folder.
        allow_other: Whether other users see it; the filesystem has owners then, and the kernel enforces what they may
            read.
        file_mode: See `Readers`.
    """

    def __init__(self, filesystem: Filesystem, mount_point: Path, *, allow_other: bool, file_mode: int) -> None:
        self._mount_point = mount_point
        self._operations = Operations(filesystem, Readers(file_mode) if allow_other else None)
        self._allow_other = allow_other
        self._session: FuseSession | None = None
        self._forgetter: Forgetter | None = None

    def mount(self) -> None:
        """Makes the filesystem appear.

        Raises:
            UserError: The system refuses.
        """
        try:
            fd = mounting.mount(self._mount_point, _NAME, allow_other=self._allow_other)
            session = FuseSession(fd, self._operations.by_opcode())
            session.negotiate()
        except OSError as error:
            hint = " --allow-other needs `user_allow_other` in /etc/fuse.conf." if self._allow_other else ""
            raise UserError(
                f"Can't mount on {self._mount_point}: the system refused ({error.strerror}).{hint}"
            ) from error
        self._session = session
        self._forgetter = Forgetter(session.channel)
        self._raise_read_ahead()

    def _raise_read_ahead(self) -> None:
        """Lets the kernel ask for 256 KiB at a time, which only root may say; without it reads are 128 KiB each."""
        here = mount_points.mounted(self._mount_point)  # not by stat(2): we would have to answer that ourselves
        try:
            if here is not None:
                Path(f"/sys/class/bdi/{here.device}/read_ahead_kb").write_text(str(_READ_AHEAD_KB))
        except OSError as error:
            log.debug("the read-ahead stays as it is: %s", error)

    async def serve(self) -> None:
        """Answers requests until the filesystem is unmounted, by `stop` or from outside."""
        assert self._session is not None
        await self._session.serve()

    def stop(self) -> None:
        """Makes `serve` return once the requests under way are answered."""
        if self._session is not None:
            self._session.stop()

    def unmount(self) -> None:
        """Unmounts, unless that has happened from outside, and ends the connection."""
        session, forgetter = self._session, self._forgetter
        if session is None or forgetter is None:
            return
        self._session = self._forgetter = None
        while not forgetter.end():
            session.refuse_pending()
        gone = session.channel.has_ended()
        # First: what looks at the mount while it is taken away must not wait for an answer.
        session.close()
        if not gone:
            try:
                mounting.unmount(self._mount_point, lazy=True)
            except OSError as error:
                log.warning("can't unmount %s: %s", self._mount_point, error)

    def forget(self, changes: TreeChanges) -> None:
        """Makes the kernel forget what it has cached of what changed. Returns at once."""
        self._operations.forget_listings()
        if self._forgetter is not None:
            names = [(parent, name.encode()) for parent, name in changes.entries]
            folders = [(parent, ino) for ino, parent in changes.directories.items()]
            self._forgetter.forget(Stale(folders, changes.attributes, names))


__all__ = ["FuseMount"]
