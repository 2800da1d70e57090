"""Stands between libnfs and a server, so that libnfs gets only well-formed replies (see replies.py).

libnfs makes its own connection and accepts no other. So this module replaces the socket behind its descriptor by one
end of a pair, and holds the other end together with the server's socket. Everything runs in the thread that drives
libnfs.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress

from musicfs.origins.nfs.replies import Replies
from musicfs.origins.nfs.rpc import MAX
from musicfs.origins.nfs.xdr import Malformed

_CALL = 4 << 10
_MAX_TURNS = 1000  # calls of libnfs in which it must take a reply that is ready


class Guard:
    """Replaces libnfs's connection at descriptor `fd`, which may still be connecting.

    Only `wait` blocks. Methods raise ConnectionError, whose errno says what happened.
    """

    def __init__(self, fd: int) -> None:
        self.replies = Replies()
        self._fd = fd
        self._server = socket.socket(fileno=os.dup(fd))
        self._server.setblocking(False)
        self._ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            os.dup2(theirs.fileno(), fd, inheritable=False)
        self._ours.setblocking(False)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX)  # as much of it as the system allows
        self._identity = _identity(fd)
        self._unsent = b""
        self._poll = select.poll()

    def close(self) -> None:
        """Closes our end and the server's socket; libnfs closes its own end."""
        self._server.close()
        self._ours.close()
        self.replies.close()

    def guards(self, fd: int) -> bool:
        """Whether `fd` is still the connection that this guard replaced; libnfs may have made another since."""
        return fd == self._fd and _identity(fd) == self._identity

    def idle(self) -> bool:
        """Whether the server has neither sent anything nor closed the connection. No call may be under way."""
        return not _ready(self._server, select.POLLIN, 0)

    def forward(self) -> None:
        """Sends to the server what libnfs has written."""
        with suppress(BlockingIOError):
            while data := self._ours.recv(_CALL):
                self.replies.record_calls(data)
                self._unsent += data
        self._send()

    def send(self, data: bytes) -> None:
        """Sends calls of our own, which `replies` expects."""
        self._unsent += data
        self._send()

    def wait(self, secs: float) -> bool:
        """Sends what is unsent, and waits for the server. Returns whether there is something to take or to send."""
        if self._unsent:
            self._send()
        self._poll.register(self._server, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        found = next((found for _, found in self._poll.poll(secs * 1000)), 0)
        if found & select.POLLERR and (number := self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            raise ConnectionError(number, os.strerror(number))
        if self._unsent:
            self._send()
        return bool(found)

    def take(self) -> list[memoryview]:
        """Returns the replies for libnfs that have arrived, complete and well-formed; they are valid until the next
        call."""
        try:
            size = self._server.recv_into(self.replies.space())
        except BlockingIOError:
            return []
        except OSError as error:
            raise ConnectionError(error.errno or errno.ECONNRESET, error.strerror) from error
        if not size:
            raise ConnectionError(errno.ECONNRESET, "the server closed the connection")
        try:
            return self.replies.received(size)
        except Malformed as malformed:
            raise ConnectionError(errno.EBADMSG, f"a reply of the server {malformed}") from None

    def hand_over(self, reply: memoryview, serve: Callable[[], None]) -> None:
        """Passes a reply on to libnfs. serve: lets libnfs take what it can; libnfs may open another connection then."""
        rest = reply
        while rest and self.guards(self._fd):
            with suppress(BlockingIOError):
                rest = rest[self._ours.send(rest) :]
            serve()
        turns = 0
        while self.guards(self._fd) and _ready(self._fd, select.POLLIN, 0):
            serve()
            turns += 1
            if turns > _MAX_TURNS:
                raise ConnectionError(errno.EBADMSG, "a reply of the server is not understood")

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._server.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.EINPROGRESS):
                raise ConnectionError(error.errno or errno.ECONNRESET, error.strerror) from error


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        about = os.fstat(fd)
    except OSError:
        return None
    return about.st_dev, about.st_ino


def _ready(end: socket.socket | int, events: int, secs: float) -> int:
    poll = select.poll()
    poll.register(end, events)
    return next((found for _, found in poll.poll(secs * 1000)), 0)
