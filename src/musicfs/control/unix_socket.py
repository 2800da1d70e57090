"""The control socket. It exists before its server, which takes a while to load: early requests wait for it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from pathlib import Path

from musicfs.system.ownership import make_private

log = logging.getLogger(__name__)


class ControlSocket:
    """A Unix socket at `path` that only this user can connect to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode = 0

    def open(self) -> socket.socket | None:
        """Returns the listening socket; None, with a line in the log, when it can't be made: music plays without it."""
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
        # A file there is left over: this process has just mounted on the socket's mount point.
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
        """Removes the socket, unless another mount has replaced it."""
        if self._inode:
            with contextlib.suppress(OSError):
                if self.path.stat().st_ino == self._inode:
                    self.path.unlink()
