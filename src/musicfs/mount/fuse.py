"""The life of one mount: mounted, served, unmounted; and what the kernel must forget of it when the tree changes."""

from __future__ import annotations

import logging
from pathlib import Path

from musicfs.errors import UserError
from musicfs.library.tree_changes import TreeChanges
from musicfs.mount import mount_points
from musicfs.mount.filesystem import Filesystem
from musicfs.mount.kernel_read_ahead import KernelReadAhead
from musicfs.mount.operations import Operations
from musicfs.mount.passthrough import Passthrough
from musicfs.mount.readers import Readers
from musicfs.mount.session import mounting
from musicfs.mount.session.channel import Payload
from musicfs.mount.session.forgetter import Forgetter, Stale
from musicfs.mount.session.session import FuseSession

log = logging.getLogger(__name__)

_NAME = "musicfs"


class FuseMount:
    """One mounted filesystem: `mount`, `serve` until it is unmounted or `stop` is called, `unmount`.

    Args:
        filesystem: What it shows.
        mount_point: An empty folder.
        allow_other: Whether other users see it; the filesystem has owners then, and the kernel enforces what they may
            read.
        file_mode: See `Readers`.
        passthrough: Whether the kernel may read files itself, of origins that allow it.
    """

    def __init__(
        self,
        filesystem: Filesystem,
        mount_point: Path,
        *,
        allow_other: bool,
        file_mode: int,
        passthrough: bool = False,
    ) -> None:
        self._filesystem = filesystem
        self._passthrough = passthrough
        self._mount_point = mount_point
        self._operations = Operations(filesystem, Readers(file_mode) if allow_other else None, self._store)
        self._allow_other = allow_other
        self._session: FuseSession | None = None
        self._forgetter: Forgetter | None = None
        self._device: str | None = None
        self._read_ahead: KernelReadAhead | None = None

    def mount(self) -> None:
        """Makes the filesystem appear.

        Raises:
            UserError: The system refuses.
        """
        try:
            fd = mounting.mount(self._mount_point, _NAME, allow_other=self._allow_other)
            session = FuseSession(fd, self._operations.by_opcode(), passthrough=self._passthrough)
            session.negotiate()
        except OSError as error:
            hint = " --allow-other needs `user_allow_other` in /etc/fuse.conf." if self._allow_other else ""
            raise UserError(
                f"Can't mount on {self._mount_point}: the system refused ({error.strerror}).{hint}"
            ) from error
        self._session = session
        if session.passes_through:
            self._operations.passthrough = Passthrough(self._filesystem.backing, session.channel)
        elif self._passthrough:
            log.warning("the kernel can't read files past MusicFS (Linux 6.9 can): `passthrough` has no effect")
        self._forgetter = Forgetter(session.channel)
        here = mount_points.mounted(self._mount_point)  # not by stat(2): we would have to answer that ourselves
        if here is not None:
            self._device = here.device
            self._read_ahead = KernelReadAhead(here.device)
            self._read_ahead.open()
            self._operations.on_open = self._read_ahead.choose

    def _store(self, ino: int, data: Payload) -> None:
        """Gives the kernel the bytes of a file, before it asks for them."""
        if self._session is not None:
            self._session.channel.store(ino, data)

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
        gone = session.channel.has_ended() and not self._is_there()
        if self._read_ahead is not None:
            self._read_ahead.close()
        # First: what looks at the mount while it is taken away must not wait for an answer.
        session.close()
        if not gone:
            try:
                mounting.unmount(self._mount_point, lazy=True)
            except OSError as error:
                log.warning("can't unmount %s: %s", self._mount_point, error)

    def _is_there(self) -> bool:
        """Whether the mount itself is still there: after an abort, it is a mount without a connection."""
        here = mount_points.mounted(self._mount_point)
        return here is not None and here.device == self._device

    def forget(self, changes: TreeChanges) -> None:
        """Makes the kernel forget what it has cached of what changed. Returns at once."""
        self._operations.forget_listings()
        if self._forgetter is not None:
            names = [(parent, name.encode()) for parent, name in changes.entries]
            folders = [(parent, ino) for ino, parent in changes.directories.items()]
            self._forgetter.forget(Stale(folders, changes.attributes, names))


__all__ = ["FuseMount"]
