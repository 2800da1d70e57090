"""Calls of NFS version 3 (RFC 1813, section 3.3) that MusicFS encodes itself and sends beside those of libnfs.

They read a file as the protocol allows and the library's own calls do not: from a handle that is already known, with
the file's attributes out of the same reply as its bytes. The reply's bytes are copied once.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from musicfs.model import decode_path, encode_path
from musicfs.origins.bounds import is_usable
from musicfs.origins.nfs.xdr import Cursor, NfsAttributes, hyper, opaque, words

T = TypeVar("T")

NFS = 100003
"""The program's number."""
MAX = 2 << 20
"""Bytes of a record. No call asks for so much."""
_VERSION, _RPC_VERSION, _AUTH_SYS = 3, 2, 1
_LAST_FRAGMENT = 0x80000000

_ERRORS = {
    63: errno.ENAMETOOLONG,
    69: errno.EDQUOT,
    70: errno.ESTALE,
    71: errno.EREMOTE,
    10001: errno.ESTALE,
    10008: errno.EAGAIN,
}
"""The values of nfsstat3 that Linux has under other numbers. 10001 is NFS3ERR_BADHANDLE, 10008 NFS3ERR_JUKEBOX: the
file will be there later."""

_LAST_COMMON_ERROR = 31  # up to here the numbers are the same


class Piece(NamedTuple):
    """Bytes of a file. about: the file when they were read, None when the server leaves that out."""

    data: bytes
    about: NfsAttributes | None


@dataclass(frozen=True, slots=True)
class NfsCall(Generic[T]):
    """A call, and how to read its reply.

    procedure: its number. arguments: encoded. parse: reads the result; returns a refusal by the server as an OSError;
    raises Malformed.
    """

    procedure: int
    arguments: bytes
    parse: Callable[[Cursor], T | OSError]


Found = tuple[bytes, NfsAttributes | None]
"""The handle, and what it is, if the server says so."""


def unix_credentials(machine: bytes, uid: int, gid: int, groups: Sequence[int]) -> bytes:
    """Encodes who calls, for `encode`."""
    body = words(0) + opaque(machine) + words(uid, gid, len(groups), *groups)
    return words(_AUTH_SYS) + opaque(body) + words(0, 0)


def encode(number: bytes, credentials: bytes, call: NfsCall[T]) -> bytes:
    """The record to send.

    Args:
        number: four bytes that the reply repeats.
        credentials: of `unix_credentials`.
        call: the call.
    """
    head = words(0, _RPC_VERSION, NFS, _VERSION, call.procedure)
    size = len(number) + len(head) + len(credentials) + len(call.arguments)
    return b"".join((words(_LAST_FRAGMENT | size), number, head, credentials, call.arguments))


def look_up(folder: bytes, name: str) -> NfsCall[Found]:
    return NfsCall(3, opaque(folder) + opaque(encode_path(name)), _looked_up)


def list_some(folder: bytes, most: int) -> NfsCall[dict[str, Found]]:
    """Lists a part of the folder, of at most `most` bytes, by name; leaves out names without a handle."""
    return NfsCall(17, opaque(folder) + hyper(0) + bytes(8) + words(most, most), _listed)


def read(file: bytes, offset: int, size: int) -> NfsCall[Piece]:
    return NfsCall(6, opaque(file) + hyper(offset) + words(size), _has_read)


def get_attributes(file: bytes) -> NfsCall[NfsAttributes]:
    return NfsCall(1, opaque(file), _got_attributes)


def _looked_up(reply: Cursor) -> Found | OSError:
    if status := reply.word():
        return _refusal(status)
    found = reply.handle(), reply.maybe_attributes()
    reply.skip_attributes()
    return found


def _listed(reply: Cursor) -> dict[str, Found] | OSError:
    if status := reply.word():
        return _refusal(status)
    reply.skip_attributes()
    reply.skip(8)
    found = {}
    while reply.flag():
        reply.skip(8)
        name = decode_path(reply.opaque(MAX))  # a name that is too long costs only itself
        reply.skip(8)
        about = reply.maybe_attributes()
        handle = reply.handle() if reply.flag() else b""
        if handle and is_usable(name):
            found[name] = handle, about
    reply.flag()
    return found


def _has_read(reply: Cursor) -> Piece | OSError:
    if status := reply.word():
        return _refusal(status)
    about = reply.maybe_attributes()
    reply.skip(8)
    return Piece(reply.opaque(MAX), about)


def _got_attributes(reply: Cursor) -> NfsAttributes | OSError:
    if status := reply.word():
        return _refusal(status)
    return reply.attributes()


def _refusal(status: int) -> OSError:
    number = _ERRORS.get(status, status if status <= _LAST_COMMON_ERROR else errno.EIO)
    return OSError(number, os.strerror(number))
