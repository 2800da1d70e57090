"""HTTP by hand: what no client library sends."""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path

Place = tuple[str, int] | Path


async def connect(place: Place, tls: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """place: an address and a port, or a Unix socket."""
    if isinstance(place, Path):
        return await asyncio.open_unix_connection(str(place))
    return await asyncio.open_connection(*place, ssl=tls)


async def exchange(place: Place, sent: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """All that is answered until the server closes, or 30 s have passed: then TimeoutError."""
    reading, writing = await connect(place, tls)
    try:
        writing.write(sent)
        return await until_closed(reading)
    finally:
        writing.close()


async def until_closed(reading: asyncio.StreamReader) -> bytes:
    heard = b""
    async with asyncio.timeout(30):
        try:
            while piece := await reading.read(65536):
                heard += piece
        except ConnectionError:
            pass  # closed with something of ours unread
    return heard


def get(target: str, *headers: str, host: str = "127.0.0.1", method: str = "GET") -> bytes:
    """One request, after which the connection ends."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode()


def status_of(answer: bytes) -> int:
    """0: there is no answer."""
    found = re.match(rb"HTTP/1\.\d (\d{3})", answer)
    return int(found[1]) if found else 0
