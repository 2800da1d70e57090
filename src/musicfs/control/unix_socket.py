"""The control socket. It is there before its server, which takes a while to load: whoever asks early waits for it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from pathlib import Path

from musicfs.system.ownership import make_private

log = logging.getLogger(__name__)


class Endpoint:
    """A Unix socket at `path` that only this user can connect to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode = 0

    def open(self) -> socket.socket | None:
        """The socket, listening. None, and the log has the reason, if it can't be made: the mount plays music without
        it."""
        try:
            return self._listen()
        except OSError as error:
            log.error(  # noqa: TRY400 (a sentence, not a traceback)
                "The control socket %s can't be made (%s), so `musicfs status` won't find this mount.",
                self.path, error.strerror or error,
            )  # fmt: skip
            return None

    def _listen(self) -> socket.socket:
        make_private(self.path.parent)
        # What lies there is left over: whoever gets here has just mounted on this socket's mount point.
        self.path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(os.fspath(self.path))
            self.path.chmod(0o600)
            self._inode = self.path.stat().st_ino
            listening.listen()
        except OSError:
            listening.close()
            raise
        return listening

    def remove(self) -> None:
        """Unless another mount has put its own there."""
        if self._inode:
            with contextlib.suppress(OSError):
                if self.path.stat().st_ino == self._inode:
                    self.path.unlink()
