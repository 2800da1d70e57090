"""Whether a reply of an NFS server is well-formed: checked before libnfs sees it.

libnfs believes the lengths in a reply, also those that lead out of it, and works inside our process: a server could
crash it. So each reply is walked through here, by the formats of RFC 5531 (RPC), RFC 1813 (NFS and its mount protocol)
and RFC 1833 (rpcbind). Nothing here touches the network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

_RPCBIND, NFS, _MOUNT = 100000, 100003, 100005
_MARK = 0x80000000
MAX = 2 << 20
"""Bytes of a record. No call asks for so much."""
_MAX_FRAGMENTS = 1000  # of one record
_ATTRIBUTES = 84  # bytes of fattr3
_MAX_HANDLE = 64
_MAX_LINK = 4096
_MAX_FLAVOURS = 64
READDIRPLUS = 17
_SMALL_PAGE = 50
"""Names that a page with fewer counts for: so no server sends such pages for long."""


class Malformed(Exception):
    """The server's reply is none. The message is a part of a sentence."""


class Procedure(NamedTuple):
    program: int
    procedure: int


class Replies:
    """The replies on one connection: put together from what arrives, and checked against the calls.

    names: entries of listings since the caller last set it to 0.
    """

    def __init__(self) -> None:
        self.names = 0
        self._asked: dict[bytes, Procedure] = {}
        self._outgoing = bytearray()
        self._incoming = bytearray()
        self._record = bytearray()
        self._fragments = 0

    def note_calls(self, data: bytes) -> None:
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

    def take(self, data: bytes | memoryview) -> list[bytes]:
        """The records that are complete by now, each as one fragment. Raises Malformed."""
        self._incoming += data
        found = []
        while len(self._incoming) >= 4:
            head = int.from_bytes(self._incoming[:4], "big")
            size = head & ~_MARK
            if size + len(self._record) > MAX:
                raise Malformed("is too large")
            if len(self._incoming) < 4 + size:
                break
            if head & _MARK and not self._record:  # as nearly all come
                with memoryview(self._incoming) as incoming:
                    whole = bytes(incoming[: 4 + size])
                found.append(self._known(whole))
                del self._incoming[: 4 + size]
                continue
            self._record += self._incoming[4 : 4 + size]
            del self._incoming[: 4 + size]
            self._fragments += 1
            if self._fragments > _MAX_FRAGMENTS:
                raise Malformed("comes in too many pieces")
            if head & _MARK:
                found.append(self._complete())
        return found

    def _complete(self) -> bytes:
        whole = (_MARK | len(self._record)).to_bytes(4, "big") + self._record
        self._record.clear()
        self._fragments = 0
        return self._known(whole)

    def _known(self, whole: bytes) -> bytes:
        """The reply, with its head, if it is well-formed."""
        call = self._asked.pop(whole[4:8], None)
        if call is None:
            raise Malformed("answers no question")
        self.names += _checked(call, whole)
        return whole


class _Cursor:
    """Walks through the words of a reply. Raises Malformed beyond its end."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def skip(self, size: int) -> None:
        self._at += size
        if self._at > len(self._data):
            raise Malformed("ends too early")

    def word(self) -> int:
        self.skip(4)
        return int.from_bytes(self._data[self._at - 4 : self._at], "big")

    def flag(self) -> bool:
        value = self.word()
        if value > 1:
            raise Malformed("has a number where yes or no belongs")
        return value == 1

    def opaque(self, most: int) -> None:
        size = self.word()
        if size > most:
            raise Malformed(f"has {size} bytes where {most} are allowed")
        self.skip(-(-size // 4) * 4)

    def attributes(self) -> None:
        """post_op_attr"""
        if self.flag():
            self.skip(_ATTRIBUTES)

    def handle(self) -> None:
        self.opaque(_MAX_HANDLE)


def _checked(call: Procedure, record: bytes) -> int:
    """The names in the reply, which is well-formed, and follows a head of 4 bytes. Raises Malformed."""
    reply = _Cursor(record, 8)
    if reply.word() != 1:
        raise Malformed("is none")
    refused = reply.word()
    if refused > 1:
        raise Malformed("neither accepts nor refuses")
    if refused:
        reply.skip(8 if reply.word() == 0 else 4)
        return 0
    reply.skip(4)
    reply.opaque(400)
    accepted = reply.word()
    if accepted:
        reply.skip(8 if accepted == 2 else 0)
        return 0
    result = _RESULTS.get(call)
    if result is None:
        raise Malformed("is to an unknown question")
    return result(reply) or 0


def _nfs(granted: Callable[[_Cursor], int | None], refused: bool = True) -> Callable[[_Cursor], int | None]:
    """refused: a refusal has attributes, too."""

    def check(reply: _Cursor) -> int | None:
        if reply.word():
            if refused:
                reply.attributes()
            return None
        return granted(reply)

    return check


def _fixed(size: int) -> Callable[[_Cursor], None]:
    return lambda reply: reply.skip(size)


def _after_attributes(size: int) -> Callable[[_Cursor], None]:
    def check(reply: _Cursor) -> None:
        reply.attributes()
        reply.skip(size)

    return check


def _looked_up(reply: _Cursor) -> None:
    reply.handle()
    reply.attributes()
    reply.attributes()


def _link(reply: _Cursor) -> None:
    reply.attributes()
    reply.opaque(_MAX_LINK)


def _data(reply: _Cursor) -> None:
    reply.attributes()
    reply.skip(8)
    reply.opaque(MAX)


def _mounted(reply: _Cursor) -> None:
    reply.handle()
    if (flavours := reply.word()) > _MAX_FLAVOURS:
        raise Malformed(f"knows {flavours} ways to say who asks")
    reply.skip(4 * flavours)


def _listed(reply: _Cursor, more: bool) -> int:
    """more: with attributes and handles, READDIRPLUS."""
    reply.attributes()
    reply.skip(8)
    count = 0
    while reply.flag():
        count += 1
        reply.skip(8)
        reply.opaque(MAX)  # a name that is too long costs only itself
        reply.skip(8)
        if more:
            reply.attributes()
            if reply.flag():
                reply.handle()
    reply.flag()
    return max(count, _SMALL_PAGE)


_RESULTS: dict[Procedure, Callable[[_Cursor], int | None]] = {
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
