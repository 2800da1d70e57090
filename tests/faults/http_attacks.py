"""Servers of S3 and WebDAV that mean harm: each attack is a stream of bytes that answers every request.

An attack runs in a process of its own (tests/support/confined.py), in which client and server are together.
"""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress

from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed
from musicfs.model import OriginId, Replica
from musicfs.origin import Origin
from musicfs.origins import records
from musicfs.origins.s3.driver import S3Origin
from musicfs_webdav.driver import WebdavOrigin
from tests.support.servers.process import HOST

Answer = Callable[[bytes], Iterator[bytes]]
"""Takes the head of a request."""

SIZE = 10
FILE = Replica(OriginId("cloud"), "a.flac", SIZE, 1_700_000_000 * 10**9, "abc")
OF_FILE = b'Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\nETag: "abc"\r\n'
RANGE = b"Content-Range: bytes 0-9/10\r\n"
MEGABYTE = b"x" * (1 << 20)

LISTINGS = {
    "s3": (
        b"<ListBucketResult><IsTruncated>false</IsTruncated>",
        b"<Contents>",
        b"</Contents>",
        b"</ListBucketResult>",
    ),
    "webdav": (
        b'<multistatus xmlns="DAV:">',
        b"<response><href>/music/a</href>",
        b"</response>",
        b"</multistatus>",
    ),
}


@asynccontextmanager
async def serving(kind: str, answer: Answer, timeout_ms: int = 20_000) -> AsyncIterator[Origin]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                for piece in answer(head):
                    writer.write(piece)
                    await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
    table: dict[str, object] = {"id": "cloud", "origin_type": kind, "timeout_ms": timeout_ms}
    origin: Origin
    if kind == "s3":
        keys = {"bucket": "music", "access_key_id": "id", "secret_access_key": "secret", "endpoint": url}
        origin = S3Origin(OriginConfig.model_validate({**table, **keys}))
    else:
        origin = WebdavOrigin(OriginConfig.model_validate({**table, "url": f"{url}/music"}))
    try:
        yield origin
    finally:
        await origin.aclose()
        server.close()


def good_status(head: bytes) -> bytes:
    if head.startswith(b"PROPFIND"):
        return b"HTTP/1.1 207 X\r\n"
    return b"HTTP/1.1 206 X\r\n" + OF_FILE + RANGE if b"range: bytes" in head.lower() else b"HTTP/1.1 200 X\r\n"


def endlessly(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


# What has no end


def endless_body(head: bytes) -> Iterator[bytes]:
    yield good_status(head) + b"Content-Length: 99999999999999\r\n\r\n"
    yield from endlessly(MEGABYTE)


def endless_chunks(head: bytes) -> Iterator[bytes]:
    yield good_status(head) + b"Transfer-Encoding: chunked\r\n\r\n"
    yield from endlessly(b"100000\r\n" + MEGABYTE + b"\r\n")


def one_chunk_of_exabytes(head: bytes) -> Iterator[bytes]:
    yield good_status(head) + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n"
    yield from endlessly(MEGABYTE)


def endless_chunk_head(head: bytes) -> Iterator[bytes]:
    yield good_status(head) + b"Transfer-Encoding: chunked\r\n\r\n1;"
    yield from endlessly(MEGABYTE)


def endless_trailers(head: bytes) -> Iterator[bytes]:
    yield good_status(head) + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
    yield from endlessly(b"X-Y: " + b"z" * 1000 + b"\r\n")


def endless_headers(head: bytes) -> Iterator[bytes]:
    yield good_status(head)
    yield from endlessly(b"".join(b"X-%d: %s\r\n" % (n, b"y" * 1000) for n in range(1000)))


def endless_header(head: bytes) -> Iterator[bytes]:
    yield good_status(head) + b"X: "
    yield from endlessly(MEGABYTE)


def endless_status_line(head: bytes) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 "
    yield from endlessly(MEGABYTE)


def endless_promises(head: bytes) -> Iterator[bytes]:
    yield from endlessly(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000)


def endless_error(head: bytes) -> Iterator[bytes]:
    yield b"HTTP/1.1 500 X\r\nContent-Length: 99999999999999\r\n\r\n"
    yield from endlessly(MEGABYTE)


def gzip_bomb(head: bytes) -> Iterator[bytes]:
    body = gzip.compress(bytes(64 << 20))
    yield good_status(head) + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body


ENDLESS = (
    endless_body, endless_chunks, one_chunk_of_exabytes, endless_chunk_head, endless_trailers, endless_headers,
    endless_header, endless_status_line, endless_promises, endless_error, gzip_bomb,
)  # fmt: skip


async def none_is_taken(kind: str) -> None:
    """Each call fails as the origin's fault; a question about a file may do without a body, as a HEAD does."""
    for attack in ENDLESS:
        async with serving(kind, attack, 1000) as origin:
            await _fails(attack.__name__, origin.health())
            await _fails(attack.__name__, origin.read(FILE, 0, SIZE))
            await _fails(attack.__name__, scanned(origin))
            with suppress(OriginFailed):
                await origin.stat("a.flac")


async def scanned(origin: Origin) -> None:
    async for _ in origin.scan():
        pass


async def _fails(attack: str, call: Awaitable[object]) -> None:
    try:
        result = await call
    except OriginFailed:
        return
    raise AssertionError(f"{attack}: taken as {result!r}")


# Documents that cost more than their size


def _document(kind: str, megabytes: int, unit: bytes, around: bool = False) -> bytes:
    begin, opening, closing, end = LISTINGS[kind]
    many = unit * ((megabytes << 20) // len(unit))
    return begin + (opening + many + closing if around else many) + end


def document(kind: str, name: str) -> bytes:
    begin, opening, closing, end = LISTINGS[kind]
    if name == "elements":
        return _document(kind, 3, b"<a/>")
    if name == "elements of a record":
        return _document(kind, 3, b"<a/>", around=True)
    if name == "records":
        return _document(kind, 3, opening + closing)
    if name == "depth":
        return _document(kind, 3, b"<a>")
    if name == "one token":
        return begin + b"<a b='" + b"x" * (3 << 20) + b"'/>" + b"<a/>" * 100 + end
    if name == "attributes":
        return begin + b"<a" + b"".join(b" a%d=''" % n for n in range(250_000)) + b"/>" + b"<a/>" * 100 + end
    laughs = "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    return f'<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">{laughs}]>'.encode() + begin + b"<a>&j;</a>" + end


DOCUMENTS = ("elements", "elements of a record", "records", "depth", "one token", "attributes", "laughs")


async def no_document_is_swallowed(kind: str) -> None:
    """And none is looked at in the event loop's own thread, so that it serves others meanwhile."""
    threads: list[int] = []
    start = records._Builder.start

    def noted(self: records._Builder, tag: str, attrs: dict[str, str]) -> object:
        threads.append(threading.get_ident())
        return start(self, tag, attrs)

    records._Builder.start = noted  # type: ignore[assignment, method-assign]
    for name in DOCUMENTS:
        body = document(kind, name)
        async with serving(kind, lambda head, body=body: iter([_whole(head, body)])) as origin:  # type: ignore[misc]
            await _fails(name, scanned(origin))
            await _fails(name, origin.health())
    assert threads
    assert threading.get_ident() not in threads


def _whole(head: bytes, body: bytes) -> bytes:
    return good_status(head) + b"Content-Length: %d\r\n\r\n" % len(body) + body
