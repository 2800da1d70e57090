"""A TCP connection for smbprotocol on which nothing waits forever."""

from __future__ import annotations

import select
import socket
import threading
import time
from contextlib import suppress

from smbprotocol.structure import Structure

_MAX = 2 << 20  # bytes of one packet; no request asks for so much
_HEADER = 64
_ENCRYPTED = b"\xfdSMB"
_ECHO = b"\x0d\0"  # in a header: the command whose answer contains nothing
_LOGIN_SECS = 30.0
_MAX_TOGETHER = 16  # answers in one packet; we send at most four requests in one


class Transport:
    """Replaces the library's own transport, which has no time limit for sending, can't use descriptors above 1023,
    loses its place in the stream when it is idle in mid-packet, and holds small requests back (Nagle's algorithm).

    `recv` belongs to the one thread that receives; everything else may be called from any thread.
    """

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self.connected = False
        self.deadline: float | None = time.monotonic() + timeout
        """While set, the connection ends at this time: for calls of the library without a timeout. Each answer puts it
        off, as a login takes seven round trips, but for 30 s at most."""
        self._latest = time.monotonic() + max(timeout, _LOGIN_SECS)
        self.heard = 0.0
        """When bytes last arrived."""
        self.sealed = False
        """Once set, what the server sends must be encrypted. smbprotocol accepts answers that are neither encrypted nor
        signed."""
        self._host = host
        self._port = port
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._ended = False
        self._sending = threading.Lock()
        self._receiving = threading.RLock()

    def connect(self) -> None:
        """Raises OSError."""
        made = socket.create_connection((self._host, self._port), self._timeout)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.heard = time.monotonic()
        self._socket = made
        self.connected = not self._ended
        if self._ended:
            made.close()
            raise ConnectionAbortedError("closed while it was connecting")

    def close(self) -> None:
        """Ends the connection and wakes all threads that wait for it. Does not wait for the server."""
        self._ended = True
        self.connected = False
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            with self._receiving, self._sending:  # both end at once now; a descriptor in use must not be reused
                self._socket.close()

    def send(self, message: bytes | Structure) -> None:
        """Sends a message. After an OSError the connection is useless, because half of the message may have left."""
        data = message if isinstance(message, bytes) else message.pack()  # an encrypted message
        with self._sending:
            if self._socket is None or self._ended:
                raise ConnectionAbortedError("the connection is closed")
            self._socket.sendall(len(data).to_bytes(4, "big") + data)

    def recv(self, timeout: float) -> bytes:
        """Returns the next packet; b"" once the connection has ended. Raises TimeoutError after `timeout` idle
        seconds."""
        with self._receiving:
            length = self._receive(4, timeout)
            size = int.from_bytes(length, "big")
            if size > _MAX:
                raise ConnectionError(f"a packet of {size} bytes was announced")
            packet = self._receive(size, None) if length else b""
            if packet:
                self._check(packet)
            return packet

    def _check(self, packet: bytes) -> None:
        """Raises ConnectionError for a packet that no honest server sends."""
        if packet[:4] == _ENCRYPTED:
            return
        if self.sealed and packet[12:14] != _ECHO:
            raise ConnectionError("the server did not encrypt its answer")
        at = count = 0
        while step := int.from_bytes(packet[at + 20 : at + 24], "little"):
            at += step
            count += 1
            if step < _HEADER or count > _MAX_TOGETHER:
                raise ConnectionError("the parts of the server's answer overlap, or are too many")

    def _receive(self, count: int, idle: float | None) -> bytes:
        data = bytearray(count)
        done = 0
        while done < count:
            if not self._readable(idle):
                continue
            try:
                got = self._socket.recv_into(memoryview(data)[done:]) if self._socket and not self._ended else 0
            except OSError:
                got = 0
            if not got:
                self.close()
                return b""
            done += got
            self.heard = time.monotonic()
            if self.deadline is not None:
                self.deadline = min(self.heard + self._timeout, self._latest)
        return bytes(data)

    def _readable(self, idle: float | None) -> bool:
        """Waits until there is something to receive, or the connection has ended. False: call it again."""
        if self._socket is None or self._ended:
            return True
        waits = [seconds for seconds in (idle, self._left()) if seconds is not None]
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if poll.poll(max(0.0, min(waits)) * 1000 if waits else None):
            return True
        left = self._left()
        if left is not None and left <= 0:
            self.close()
            return True
        if idle is not None and (left is None or idle < left):
            raise TimeoutError(f"idle for {idle:.0f} s")
        return False

    def _left(self) -> float | None:
        return None if self.deadline is None else self.deadline - time.monotonic()
