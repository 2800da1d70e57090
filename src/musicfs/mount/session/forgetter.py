"""Makes the kernel forget what it has cached, from a thread of its own where the kernel may wait for us."""

from __future__ import annotations

import errno
import logging
import queue
import threading
from collections.abc import Iterable

from musicfs.mount.session.channel import Channel

log = logging.getLogger(__name__)

_ENDING_SECS = 0.05


class Forgetter:
    """Passes on what the kernel must forget.

    Args:
        channel: The connection. It must not be closed before `end` has returned True.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._names: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="forgetter", daemon=True)
        self._ending = False

    def forget_attributes(self, inodes: Iterable[int]) -> None:
        for ino in inodes:
            try:
                self._channel.invalidate_attributes(ino)
            except OSError as error:
                if error.errno != errno.ENOENT:  # the kernel has never heard of it
                    log.debug("can't make the kernel forget inode %d: %s", ino, error)

    def forget_names(self, names: Iterable[tuple[int, bytes]]) -> None:
        """Returns at once.

        Args:
            names: The inode numbers of parents, and names in them.
        """
        for name in names:
            self._names.put(name)
        if not self._thread.is_alive() and not self._ending and not self._names.empty():
            self._thread.start()

    def _run(self) -> None:
        while (item := self._names.get()) is not None and not self._ending:
            parent, name = item
            try:
                self._channel.invalidate_entry(parent, name)
            except OSError as error:
                # Most names the kernel has never heard of; and once the connection has ended it hears of none.
                if error.errno != errno.ENOENT and not self._ending:
                    log.debug("can't make the kernel forget %r in %d: %s", name, parent, error)

    def end(self) -> bool:
        """Ends the thread; whether it has ended. It may wait for the kernel, which waits for an answer of ours."""
        self._ending = True
        self._names.put(None)
        if self._thread.is_alive():
            self._thread.join(_ENDING_SECS)
        return not self._thread.is_alive()
