"""Open files that the kernel reads from their disk itself, past this process (FUSE_PASSTHROUGH, Linux 6.9).

The kernel opens an inode in one way at a time: a file that is open with cached pages can't be opened like this, and one
that is open like this is opened like this again, with the same registered file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from musicfs.mount.session.channel import Channel

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Backing:
    """A file that is registered with the kernel. handles: who has it open."""

    number: int
    handles: set[int] = field(default_factory=set)


class Passthrough:
    """Registers files with the kernel, for as long as they are open.

    Args:
        open: Returns a descriptor of the file that a handle stands for, which is closed here; None: it has none that
            may be passed.
        channel: The connection to the kernel.
    """

    def __init__(self, open: Callable[[int], int | None], channel: Channel) -> None:
        self._open = open
        self._channel = channel
        self._backings: dict[int, _Backing] = {}
        self._inodes: dict[int, int] = {}
        self._refused = False

    def begin(self, ino: int, handle: int, *, alone: bool) -> int | None:
        """Returns the number of the file that the kernel reads for the handle; None: it asks here for its bytes.

        Args:
            ino: The inode that is opened.
            handle: Its new handle.
            alone: Whether no other handle of it is open.
        """
        backing = self._backings.get(ino)
        if backing is None:
            number = self._register(handle) if alone and not self._refused else None
            if number is None:
                return None
            backing = self._backings[ino] = _Backing(number)
        backing.handles.add(handle)
        self._inodes[handle] = ino
        return backing.number

    def end(self, handle: int) -> None:
        """Takes the file from the kernel if this was its last handle."""
        ino = self._inodes.pop(handle, None)
        if ino is None:
            return
        backing = self._backings[ino]
        backing.handles.discard(handle)
        if not backing.handles:
            del self._backings[ino]
            try:
                self._channel.unregister(backing.number)
            except OSError as error:
                log.debug("a file stays registered with the kernel: %s", error)

    def _register(self, handle: int) -> int | None:
        fd = self._open(handle)
        if fd is None:
            return None
        try:
            return self._channel.register(fd)
        except OSError as error:
            self._refused = True
            log.warning(
                "the kernel refuses to read files past MusicFS (%s): `passthrough` has no effect", error.strerror
            )
            return None
        finally:
            os.close(fd)
