"""How the library worker and its parent exchange messages: pickled, each after its length, over a socket pair.

Neither side ever waits in a call: the link keeps what the socket does not take at once, and sends it when the event
loop reports room.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import struct
from collections import deque
from collections.abc import Callable
from socket import socket
from typing import Any

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("!Q")
_AT_ONCE = 256 << 10
"""At most so many bytes are sent or received in one turn of the event loop."""
_MUCH = 1 << 20
"""`drained` waits while more bytes than this are unsent."""


class Link:
    """One end of the socket pair. All methods belong to the event loop's thread.

    Args:
        end: The socket.
        receive: Called with each message, in the order of sending.
        ended: Called once when the other end is closed or its process is gone, even in the middle of a message; not
            after `close`.
    """

    def __init__(self, end: socket, receive: Callable[[Any], object], ended: Callable[[], object]) -> None:
        self._end = end
        self._receive = receive
        self._ended = ended
        self._loop: asyncio.AbstractEventLoop | None = None
        self._received = bytearray()
        self._to_send: deque[memoryview] = deque()
        self._unsent = 0
        self._taken_at = 0.0
        self._is_waiting = False
        self._has_room = asyncio.Event()
        self._closed = False

    @property
    def unsent(self) -> int:
        """How many bytes the socket has not taken yet."""
        return self._unsent

    @property
    def stalled_secs(self) -> float:
        """For how many seconds the socket has taken nothing although there is something to send."""
        return self._loop.time() - self._taken_at if self._unsent and self._loop is not None else 0.0

    def start(self) -> None:
        """Starts to receive."""
        self._end.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._end, self._readable)

    def send(self, message: object) -> None:
        """Sends the message after those before it. Does nothing if the link has ended. Never waits."""
        if self._closed or self._loop is None:
            return
        data = pickle.dumps(message)
        if not self._unsent:
            self._taken_at = self._loop.time()
        self._to_send += (memoryview(_LENGTH.pack(len(data))), memoryview(data))
        self._unsent += _LENGTH.size + len(data)
        if not self._is_waiting:
            self._writable()

    async def drained(self) -> None:
        """Waits until at most a mebibyte is unsent, or the link has ended."""
        while self._unsent > _MUCH and not self._closed:
            self._has_room.clear()
            await self._has_room.wait()

    def close(self) -> None:
        """Ends the link at once; what is unsent is lost."""
        if self._closed:
            return
        self._closed = True
        if self._loop is not None:
            self._loop.remove_reader(self._end)
            self._loop.remove_writer(self._end)
        self._end.close()
        self._forget_unsent()

    def _forget_unsent(self) -> None:
        self._to_send.clear()
        self._unsent = 0
        self._has_room.set()

    def _writable(self) -> None:
        room, now = _AT_ONCE, asyncio.get_running_loop().time()
        try:
            while self._to_send and room > 0:
                sent = self._end.send(self._to_send[0][:room])
                room -= sent
                self._taken_at = now
                self._unsent -= sent
                self._to_send[0] = self._to_send[0][sent:]
                if not self._to_send[0]:
                    self._to_send.popleft()
        except BlockingIOError:
            pass
        except OSError:  # the other end is gone: reading finds that out, after what it has sent
            self._forget_unsent()
        if self._unsent <= _MUCH:
            self._has_room.set()
        self._wait_for_room(bool(self._to_send))

    def _wait_for_room(self, wanted: bool) -> None:
        if wanted == self._is_waiting or self._loop is None:
            return
        self._is_waiting = wanted
        if wanted:
            self._loop.add_writer(self._end, self._writable)
        else:
            self._loop.remove_writer(self._end)

    def _readable(self) -> None:
        try:
            data = self._end.recv(_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        while not self._closed and (message := self._take()) is not None:
            self._pass_on(message)
        if not data and not self._closed:
            self._end_here()

    def _take(self) -> bytearray | None:
        """The next message that is here as a whole, still pickled; None: there is none."""
        if len(self._received) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._received)[0]
        if len(self._received) < end:
            return None
        message = self._received[_LENGTH.size : end]
        del self._received[:end]
        return message

    def _pass_on(self, message: bytearray) -> None:
        try:
            self._receive(pickle.loads(message))
        except Exception:  # the messages after it must not wait for it
            log.exception("a message of the library could not be processed")

    def _end_here(self) -> None:
        self.close()
        self._ended()
