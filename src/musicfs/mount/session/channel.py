"""One FUSE connection: what is read from /dev/fuse and written to it."""

from __future__ import annotations

import errno
import fcntl
import os
import select

from musicfs.mount.session.protocol import (
    BACKING_ID,
    BACKING_MAP,
    FUSE_DEV_IOC_BACKING_CLOSE,
    FUSE_DEV_IOC_BACKING_OPEN,
    FUSE_MIN_READ_BUFFER,
    FUSE_NOTIFY_INVAL_ENTRY,
    FUSE_NOTIFY_INVAL_INODE,
    FUSE_NOTIFY_STORE,
    NOTIFY_INVAL_ENTRY_OUT,
    NOTIFY_INVAL_INODE_OUT,
    NOTIFY_STORE_OUT,
    OUT_HEADER,
)

Payload = bytes | memoryview
"""What follows the header of an answer."""

_ENDED = frozenset((errno.ENODEV, errno.ECONNABORTED, errno.EBADF))
_HEADER_SIZE = OUT_HEADER.size


class ConnectionEnded(Exception):
    """The filesystem is unmounted, or the connection aborted."""


class Channel:
    """Passes requests in, and answers and notifications out. Several threads may notify.

    Args:
        fd: The open /dev/fuse, which this object closes.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        # A caller that is killed withdraws its request, also between the poll(2) that announced it and the read(2).
        os.set_blocking(fd, False)

    def receive(self) -> bytes | None:
        """Returns the next request; None if there is none, or if it was withdrawn while it was read.

        Raises:
            ConnectionEnded: There will be none.
            OSError: The system has no memory for it, say.
        """
        try:
            # Enough for every request that a read-only filesystem answers otherwise than by an error: `max_write` is
            # small, and the kernel itself refuses what does not fit.
            return os.read(self.fd, FUSE_MIN_READ_BUFFER)
        except OSError as error:
            if error.errno in _ENDED:
                raise ConnectionEnded from error
            if error.errno in (errno.ENOENT, errno.EAGAIN, errno.EINTR):
                return None
            raise

    def reply(self, unique: int, payload: Payload) -> bool:
        """Answers a request; whether the answer arrived. It does not if the request was withdrawn.

        Raises:
            ConnectionEnded: No one waits for answers any more.
            OSError: The kernel does not accept this answer, and waits for another one.
        """
        size = _HEADER_SIZE + len(payload)
        try:
            written = os.writev(self.fd, (OUT_HEADER.pack(size, 0, unique), payload))
        except OSError as error:
            return _withdrawn(error)
        if written != size:
            raise OSError(errno.EIO, f"the kernel took {written} of {size} bytes")
        return True

    def refuse(self, unique: int, number: int) -> bool:
        """Answers a request with an error. Returns and raises as `reply` does."""
        try:
            os.write(self.fd, OUT_HEADER.pack(_HEADER_SIZE, -number, unique))
        except OSError as error:
            return _withdrawn(error)
        return True

    def invalidate_attributes(self, ino: int) -> None:
        """Makes the kernel forget the attributes of an inode, without waiting for anything.

        Raises:
            OSError: ENOENT: It has never heard of it.
        """
        self._notify(FUSE_NOTIFY_INVAL_INODE, NOTIFY_INVAL_INODE_OUT.pack(ino, -1, 0))

    def invalidate_data(self, ino: int) -> None:
        """Makes the kernel forget attributes and pages. It waits for pages that are being read, so by us.

        Raises:
            OSError: ENOENT: It has never heard of the inode.
        """
        self._notify(FUSE_NOTIFY_INVAL_INODE, NOTIFY_INVAL_INODE_OUT.pack(ino, 0, 0))

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """Makes the kernel forget a name. It waits for the lock of the parent, so for requests that we answer.

        Raises:
            OSError: ENOENT: It has never heard of the name.
        """
        self._notify(FUSE_NOTIFY_INVAL_ENTRY, NOTIFY_INVAL_ENTRY_OUT.pack(parent, len(name), 0) + name + b"\0")

    def store(self, ino: int, data: Payload) -> None:
        """Gives the kernel the whole of a file before it is asked for. It waits for pages that are being read: no read
        of the file may be under way.

        Raises:
            OSError: ENOENT: It has never heard of the inode.
        """
        header = OUT_HEADER.pack(_HEADER_SIZE + NOTIFY_STORE_OUT.size + len(data), FUSE_NOTIFY_STORE, 0)
        os.writev(self.fd, (header, NOTIFY_STORE_OUT.pack(ino, 0, len(data), 0), data))

    def register(self, fd: int) -> int:
        """Registers an open file that the kernel may read itself. Returns its number.

        Raises:
            OSError: EPERM: Only root may. ENOTTY: The kernel is too old. ELOOP: Its filesystem is stacked on another.
        """
        # Of a buffer that it may change, `ioctl` returns the number that the kernel returned.
        return int(fcntl.ioctl(self.fd, FUSE_DEV_IOC_BACKING_OPEN, bytearray(BACKING_MAP.pack(fd, 0, 0))))

    def unregister(self, number: int) -> None:
        """Ends the registration of a file; it stays open where it is open. Raises OSError."""
        fcntl.ioctl(self.fd, FUSE_DEV_IOC_BACKING_CLOSE, BACKING_ID.pack(number))

    def _notify(self, code: int, payload: bytes) -> None:
        os.write(self.fd, OUT_HEADER.pack(_HEADER_SIZE + len(payload), code, 0) + payload)

    def is_ready(self, wait_secs: float = 0) -> bool:
        """Whether a request is there, or the connection has ended."""
        return bool(self._events(wait_secs))

    def has_ended(self) -> bool:
        """Whether it is unmounted or aborted."""
        return bool(self._events() & select.POLLERR)

    def _events(self, wait_secs: float = 0) -> int:
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        found = poll.poll(wait_secs * 1000)
        return found[0][1] if found else 0

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def _withdrawn(error: OSError) -> bool:
    """Returns False if the request that was answered is gone; raises otherwise."""
    if error.errno in _ENDED:
        raise ConnectionEnded from error
    if error.errno == errno.ENOENT:
        return False
    raise error
