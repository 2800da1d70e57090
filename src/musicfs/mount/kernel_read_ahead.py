"""How far the kernel reads ahead in the files of a mount. A file takes that from its device when it is opened."""

from __future__ import annotations

import logging
import os

log = logging.getLogger(__name__)

_NEAR_KB = 256
"""A block of cache/block_checksums.py. Of 128, 256, 512 and 1024 it was the fastest by a seventh to a third, for one
reader and for eight: so much is yet in the processor's own cache on its way."""
_FAR_KB = 128
"""The kernel's default. Twice as much doubles what is fetched in vain of a file whose beginning alone is read, and what
is ahead of a reader in sequence is on its way in any case."""


class KernelReadAhead:
    """The read-ahead of one mount, which only root may change; without that, it stays as it is.

    Args:
        device: Of the mount, as `major:minor`.
    """

    def __init__(self, device: str) -> None:
        self._path = f"/sys/class/bdi/{device}/read_ahead_kb"
        self._fd = -1
        self._kilobytes = 0

    def open(self) -> None:
        """Starts to change it, where that is allowed."""
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            log.debug("the read-ahead stays as it is: %s", error)

    def choose(self, near: bool) -> None:
        """Sets it for the file that is opened next. near: whether a disk of this machine serves the file."""
        kilobytes = _NEAR_KB if near else _FAR_KB
        if kilobytes == self._kilobytes or self._fd < 0:
            return
        self._kilobytes = kilobytes
        try:
            os.pwrite(self._fd, str(kilobytes).encode(), 0)
        except OSError as error:
            log.debug("the read-ahead stays as it is: %s", error)
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
