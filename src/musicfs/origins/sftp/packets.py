"""The packets of an SFTP connection: what the server sends is limited, and what it is sent goes out together.

asyncssh accepts packets of up to 4 MiB of any kind, all on the event loop. It sends each request in an SSH packet of
its own, behind an empty one, with a system call for either: more work than all the rest of a request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncssh import SFTPClient

MAX_READ = 255 << 10
"""Bytes of a file in one request: the most that OpenSSH sends."""
_MAX = 256 << 10
"""Bytes of a packet: the limit of OpenSSH for both sides."""
_MAX_NAMES = 4096
"""Names in one packet. OpenSSH sends a hundred."""
_STATUS, _HANDLE, _DATA, _NAME = 101, 102, 103, 104
_MAX_OF = {_STATUS: 16 << 10, _HANDLE: 1 << 10, _DATA: _MAX, _NAME: _MAX}
_MAX_OTHER = 16 << 10


def bound(client: SFTPClient) -> None:
    """Makes a packet that is larger than an honest server needs end the connection."""
    handler: Any = client._handler  # asyncssh offers no other way
    handler._reader = _BoundedReader(handler._reader)


def gather(client: SFTPClient) -> None:
    """Makes requests that are made in one turn of the event loop leave in one packet."""
    handler: Any = client._handler
    handler._writer = _GatheringWriter(handler._writer)


class _GatheringWriter:
    """Replaces an SSHWriter."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._pending: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def write(self, data: bytes) -> None:
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._flush)
        self._pending.append(data)

    def _flush(self) -> None:
        data, self._pending = b"".join(self._pending), []
        if not self._writer.channel.is_closing():
            self._writer.write(data)


class _BoundedReader:
    """Replaces an SSHReader. asyncssh reads a packet's length of 4 bytes, and then the packet."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def readexactly(self, size: int) -> bytes:
        if size > _MAX:
            raise _too_large(size)
        data: bytes = await self._reader.readexactly(size)
        if size > 4:
            _check(data)
        return data


def _check(packet: bytes) -> None:
    if len(packet) > _MAX_OF.get(packet[0], _MAX_OTHER):
        raise _too_large(len(packet))
    if packet[0] == _NAME and int.from_bytes(packet[5:9], "big") > _MAX_NAMES:
        raise _too_large(len(packet))


def _too_large(size: int) -> Exception:
    from asyncssh import SFTPBadMessage

    return SFTPBadMessage(f"the server sent a packet of {size} bytes, which is larger than it may be")
