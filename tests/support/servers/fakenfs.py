"""An NFS server, version 3, in this process: it answers honestly, but for the procedures that a test has lie.

ONC RPC over TCP (RFC 5531) and NFS (RFC 1813), by `struct` alone. One port serves both programs. Its tree: the root
holds "a.flac" of ten bytes and the folder "sub", which holds "b.flac".
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from tests.support.servers.process import HOST

NULL, GETATTR, LOOKUP, ACCESS, READ, READDIR, READDIRPLUS, FSINFO = 0, 1, 3, 4, 6, 16, 17, 19
MOUNT = 1001
"""The procedure MNT of the mount program."""
REGULAR, FOLDER, BLOCK, LINK, PIPE = 1, 2, 3, 5, 7
TIME = 1_700_000_000
CONTENT = b"0123456789"
ROOT, A, SUB, B = b"root", b"fileA", b"subfolder", b"fileB"

Answer = Callable[[bytes], bytes]
"""Takes the arguments of a call, gives its result."""


def word(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def long(*values: int) -> bytes:
    return struct.pack(f">{len(values)}Q", *values)


def opaque(data: bytes, length: int | None = None) -> bytes:
    """length: what it is said to be, if not the truth."""
    return word(len(data) if length is None else length) + data + bytes(-len(data) % 4)


def attributes(kind: int = REGULAR, size: int = len(CONTENT), time: int = TIME, fileid: int = 7) -> bytes:
    mode, links = (0o755, 2) if kind == FOLDER else (0o644, 1)
    head = word(kind, mode, links, 0, 0) + long(size, size) + word(0, 0) + long(1, fileid)
    return head + word(time & 0xFFFFFFFF, 0) * 3


def maybe(about: bytes | None) -> bytes:
    return word(0) if about is None else word(1) + about


def entry(
    name: bytes, handle: bytes | None = A, about: bytes | None = None, cookie: int = 1, length: int | None = None
) -> bytes:
    shown = maybe(attributes() if about is None else about) if about != b"" else word(0)
    known = word(0) if handle is None else word(1) + opaque(handle)
    return word(1) + long(cookie) + opaque(name, length) + long(cookie) + shown + known


def page(*entries: bytes, end: bool = True, verifier: bytes = b"verifier") -> bytes:
    return word(0) + maybe(attributes(FOLDER)) + verifier + b"".join(entries) + word(0, int(end))


def reply(xid: bytes, result: bytes) -> bytes:
    """An accepted reply, without its record mark."""
    return xid + word(1, 0, 0, 0, 0) + result


def record(data: bytes) -> bytes:
    return word(0x80000000 | len(data)) + data


class FakeNfs:
    """answers: of the procedures that lie. wrap: makes the bytes that are sent of the call's number, its procedure and
    the honest reply; None ends the connection."""

    def __init__(
        self,
        answers: Mapping[int, Answer] | None = None,
        wrap: Callable[[bytes, int, bytes], bytes | None] | None = None,
    ) -> None:
        self.answers: dict[int, Answer] = {
            NULL: lambda _: b"", MOUNT: lambda _: word(0) + opaque(ROOT) + word(1, 1),
            FSINFO: lambda _: word(0) + maybe(None) + word(65536, 65536, 4096, 65536, 65536, 4096, 65536)
            + long(2**40) + word(0, 1, 0x1B),
            GETATTR: lambda call: word(0) + _about(_handle(call)), LOOKUP: _look_up,
            ACCESS: lambda call: word(0) + maybe(_about(_handle(call))) + word(0x3F),
            READ: _read, READDIRPLUS: _list, READDIR: lambda _: word(10004), **(answers or {}),
        }  # fmt: skip
        self.calls = 0
        self._wrap = wrap or (lambda _xid, _procedure, honest: record(honest))
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = [self._listener]

    def __enter__(self) -> FakeNfs:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._ends:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._ends.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, struct.error, EOFError), connection:
            stream = connection.makefile("rb")
            while head := stream.read(4):
                call = stream.read(int.from_bytes(head, "big") & 0x7FFFFFFF)
                self.calls += 1
                program, procedure = struct.unpack_from(">4x4x4xI4xI", call)
                arguments = call[24:]
                for _ in range(2):  # who asks, and a verifier
                    arguments = arguments[8 + -(-int.from_bytes(arguments[4:8], "big") // 4) * 4 :]
                number = procedure + (1000 if program == 100005 and procedure else 0)
                answer = self.answers[number](arguments) if number in self.answers else word(10004)
                sent = self._wrap(call[:4], number, reply(call[:4], answer))
                if sent is None:
                    return
                connection.sendall(sent)


def _handle(call: bytes) -> bytes:
    return call[4 : 4 + int.from_bytes(call[:4], "big")]


def _about(handle: bytes) -> bytes:
    folder = handle in (ROOT, SUB)
    return attributes(FOLDER if folder else REGULAR, 4096 if folder else len(CONTENT), fileid=hash(handle) & 0xFFFF)


def _look_up(call: bytes) -> bytes:
    folder = _handle(call)
    rest = call[4 + -(-len(folder) // 4) * 4 :]
    found = {b"a.flac": A, b"sub": SUB, b"b.flac": B, b".": ROOT}.get(_handle(rest))
    if found is None:
        return word(2) + maybe(_about(folder))
    return word(0) + opaque(found) + maybe(_about(found)) + maybe(_about(folder))


def _read(call: bytes) -> bytes:
    offset, size = struct.unpack_from(">QI", call, 4 + -(-len(_handle(call)) // 4) * 4)
    return read_result(CONTENT[offset : offset + size], end=offset + size >= len(CONTENT))


def read_result(data: bytes, *, count: int | None = None, length: int | None = None, end: bool = True) -> bytes:
    return word(0) + maybe(attributes()) + word(len(data) if count is None else count, int(end)) + opaque(data, length)


def _list(call: bytes) -> bytes:
    folder, names = _handle(call), [(b"b.flac", B)]
    if folder == ROOT:
        names = [(b"a.flac", A), (b"sub", SUB)]
    return page(*(entry(name, handle, _about(handle), number) for number, (name, handle) in enumerate(names, 1)))
