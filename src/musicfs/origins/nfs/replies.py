"""Checks whether each reply of an NFS server is well-formed, before libnfs sees it.

libnfs believes the lengths in a reply, also those that lead out of it, and works inside our process: a server could
crash it. So this module walks through each reply, by the formats of RFC 5531 (RPC), RFC 1813 (NFS and its mount
protocol) and RFC 1833 (rpcbind). Replies to the calls of rpc.py are read here, and libnfs never sees them. Nothing
here touches the network.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from musicfs.origins.nfs.rpc import MAX, NFS, NfsCall
from musicfs.origins.nfs.xdr import Cursor, Malformed

_RPCBIND, _MOUNT = 100000, 100005
_MARK = 0x80000000
_PIECE = 272 << 10
"""Initial size of the buffer, in bytes: a read of 256 KiB with its headers."""
_MAX_FRAGMENTS = 1000  # of one record
_ATTRIBUTES = 84  # bytes of fattr3
_MAX_LINK = 4096
_MAX_FLAVOURS = 64
READDIRPLUS = 17
_SMALL_PAGE = 50
"""A page with fewer names counts as this many: so no server can send such pages for long."""


class Procedure(NamedTuple):
    program: int
    procedure: int


class Replies:
    """The replies on one connection: puts them together from what arrives, and checks them against the calls.

    names: entries of listings since the caller last set it to 0. records: complete ones so far. answers: to the calls
    that `expect` was given, by their numbers, until the caller takes them out; a refusal is an OSError.
    """

    def __init__(self) -> None:
        self.names = 0
        self.records = 0
        self.answers: dict[bytes, Any] = {}
        self._asked: dict[bytes, Procedure] = {}
        self._expected: dict[bytes, NfsCall[Any]] = {}
        self._outgoing = bytearray()
        self._buffer = memoryview(bytearray(_PIECE))  # kept: a new one for each piece would cost more than its copy
        self._start = self._end = 0
        self._wanted = 0  # bytes of the record that has not come whole
        self._record = bytearray()
        self._fragments = 0

    def record_calls(self, data: bytes) -> None:
        """Takes what libnfs sends: records of one fragment each."""
        self._outgoing += data
        while len(self._outgoing) >= 4:
            size = int.from_bytes(self._outgoing[:4], "big") & ~_MARK
            if len(self._outgoing) < 4 + size:
                return
            call = bytes(self._outgoing[4 : 4 + size])
            del self._outgoing[: 4 + size]
            program, procedure = (int.from_bytes(call[at : at + 4], "big") for at in (12, 20))
            self._asked[call[:4]] = Procedure(program, procedure)

    def expect(self, call: NfsCall[Any]) -> bytes:
        """Registers a call of rpc.py. Returns the number to send it with, which no other call has now."""
        while True:
            number = random.randbytes(4)
            if number not in self._asked and number not in self._expected:
                self._expected[number] = call
                return number

    def awaited(self) -> bool:
        """Whether a reply that `expect` announced is still missing."""
        return bool(self._expected)

    def space(self) -> memoryview:
        """Returns the memory for what arrives next, never empty. What `received` returned is no longer valid then."""
        if self._start:
            rest = self._end - self._start
            self._buffer[:rest] = self._buffer[self._start : self._end]
            self._start, self._end = 0, rest
        if self._wanted > len(self._buffer):
            larger = memoryview(bytearray(self._wanted))
            larger[: self._end] = self._buffer[: self._end]
            self._buffer = larger
        return self._buffer[self._end :]

    def close(self) -> None:
        """Frees the memory. Call nothing else afterwards."""
        self._buffer = memoryview(b"")

    def received(self, size: int) -> list[memoryview]:
        """Takes `size` bytes, which are now at the beginning of `space`.

        Returns:
            The records for libnfs that are complete by now, each as one fragment, until the next call of `space`.

        Raises:
            Malformed: a reply breaks the protocol. The connection is then of no use.
        """
        self._end += size
        found = []
        while self._end - self._start >= 4:
            head = int.from_bytes(self._buffer[self._start : self._start + 4], "big")
            whole = self._start + 4 + (head & ~_MARK)
            if whole - self._start - 4 + len(self._record) > MAX:
                raise Malformed("is too large")
            self._wanted = whole - self._start
            if self._end < whole:
                break
            fragment = self._buffer[self._start : whole]
            self._start = whole
            record = self._joined(fragment, last=bool(head & _MARK))
            if record is not None and self._is_for_libnfs(record):
                found.append(record)
        return found

    def _joined(self, fragment: memoryview, last: bool) -> memoryview | None:
        """Adds a fragment, which has its head. Returns the record if the fragment is its last, else None."""
        if last and not self._record:  # as nearly all come
            return fragment
        self._record += fragment[4:]
        self._fragments += 1
        if self._fragments > _MAX_FRAGMENTS:
            raise Malformed("comes in too many pieces")
        if not last:
            return None
        whole = (_MARK | len(self._record)).to_bytes(4, "big") + self._record
        self._record.clear()
        self._fragments = 0
        return memoryview(whole)

    def _is_for_libnfs(self, record: memoryview) -> bool:
        """Checks the record, which has a head. Keeps the answer if it is one to a call of rpc.py, and returns False."""
        self.records += 1
        number = bytes(record[4:8])
        if (ours := self._expected.pop(number, None)) is not None:
            reply = Cursor(record, 8)
            self.answers[number] = _refusal(reply) or ours.parse(reply)
            return False
        call = self._asked.pop(number, None)
        if call is None:
            raise Malformed("answers no question")
        self.names += _checked(call, record)
        return True


def _refusal(reply: Cursor) -> OSError | None:
    """Reads what comes before a result. Returns None if a result follows. Raises Malformed."""
    if reply.word() != 1:
        raise Malformed("is none")
    refused = reply.word()
    if refused > 1:
        raise Malformed("neither accepts nor refuses")
    if refused:
        reply.skip(8 if reply.word() == 0 else 4)
        return OSError(errno.EACCES, os.strerror(errno.EACCES))
    reply.skip(4)
    reply.skip_opaque(400)
    accepted = reply.word()
    if accepted:
        reply.skip(8 if accepted == 2 else 0)
        return ConnectionError(errno.ECONNRESET, "the server does not serve the call")
    return None


def _checked(call: Procedure, record: memoryview) -> int:
    """Checks a reply, which follows a head of 4 bytes. Returns how many names it lists. Raises Malformed."""
    reply = Cursor(record, 8)
    if _refusal(reply) is not None:
        return 0
    result = _RESULTS.get(call)
    if result is None:
        raise Malformed("is to an unknown question")
    return result(reply) or 0


def _nfs(granted: Callable[[Cursor], int | None], refused: bool = True) -> Callable[[Cursor], int | None]:
    """Makes a check of a result of NFS. refused: a refusal has attributes, too."""

    def check(reply: Cursor) -> int | None:
        if reply.word():
            if refused:
                reply.skip_attributes()
            return None
        return granted(reply)

    return check


def _fixed(size: int) -> Callable[[Cursor], None]:
    return lambda reply: reply.skip(size)


def _after_attributes(size: int) -> Callable[[Cursor], None]:
    def check(reply: Cursor) -> None:
        reply.skip_attributes()
        reply.skip(size)

    return check


def _looked_up(reply: Cursor) -> None:
    reply.skip_handle()
    reply.skip_attributes()
    reply.skip_attributes()


def _link(reply: Cursor) -> None:
    reply.skip_attributes()
    reply.skip_opaque(_MAX_LINK)


def _data(reply: Cursor) -> None:
    reply.skip_attributes()
    reply.skip(8)
    reply.skip_opaque(MAX)


def _mounted(reply: Cursor) -> None:
    reply.skip_handle()
    if (flavours := reply.word()) > _MAX_FLAVOURS:
        raise Malformed(f"has {flavours} flavours of authentication")
    reply.skip(4 * flavours)


def _listed(reply: Cursor, more: bool) -> int:
    """Checks a listing. more: READDIRPLUS, with attributes and handles."""
    reply.skip_attributes()
    reply.skip(8)
    count = 0
    while reply.flag():
        count += 1
        reply.skip(8)
        reply.skip_opaque(MAX)  # a name that is too long costs only itself
        reply.skip(8)
        if more:
            reply.skip_attributes()
            if reply.flag():
                reply.skip_handle()
    reply.flag()
    return max(count, _SMALL_PAGE)


_RESULTS: dict[Procedure, Callable[[Cursor], int | None]] = {
    Procedure(NFS, 0): _fixed(0), Procedure(_MOUNT, 0): _fixed(0), Procedure(_RPCBIND, 0): _fixed(0),
    Procedure(NFS, 1): _nfs(_fixed(_ATTRIBUTES), refused=False),
    Procedure(NFS, 3): _nfs(_looked_up), Procedure(NFS, 4): _nfs(_after_attributes(4)), Procedure(NFS, 5): _nfs(_link),
    Procedure(NFS, 6): _nfs(_data), Procedure(NFS, 16): _nfs(lambda reply: _listed(reply, False)),
    Procedure(NFS, READDIRPLUS): _nfs(lambda reply: _listed(reply, True)),
    Procedure(NFS, 18): _nfs(_after_attributes(52)), Procedure(NFS, 19): _nfs(_after_attributes(48)),
    Procedure(NFS, 20): _nfs(_after_attributes(24)),
    Procedure(_MOUNT, 1): _nfs(_mounted, refused=False), Procedure(_MOUNT, 3): _fixed(0),
    Procedure(_RPCBIND, 3): _fixed(4),
}  # fmt: skip
