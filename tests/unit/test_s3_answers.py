"""Answers that no honest server gives, and what is made of them: a failure of the right kind, never wrong bytes."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import OriginId, Replica
from musicfs.origins.s3.driver import S3Origin
from musicfs.origins.s3.listing import time_of
from musicfs.origins.s3.parts import Parts

TIME = 1_700_000_000
FILE = Replica(OriginId("cloud"), "a.flac", 10, TIME * 10**9, "abc")
HEADERS = {"Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT", "ETag": '"abc"'}


def answer(status: int, headers: dict[str, str], body: bytes = b"") -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


@asynccontextmanager
async def saying(text: bytes, tls: ssl.SSLContext | None = None, **settings: object) -> AsyncIterator[S3Origin]:
    """An origin whose server says `text` whatever it is asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            writer.write(text)

    async with served(serve, tls, **settings) as origin:
        yield origin


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def served(serve: Serve, tls: ssl.SSLContext | None = None, **settings: object) -> AsyncIterator[S3Origin]:
    serving: set[asyncio.Task[None]] = set()

    async def serve_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.create_task(serve_and_close(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    table = {
        "id": "cloud", "origin_type": "s3", "bucket": "music", "access_key_id": "id", "secret_access_key": "secret",
        "endpoint": f"{'https' if tls else 'http'}://localhost:{port}", "timeout_ms": 10_000,
    }  # fmt: skip
    origin = S3Origin(OriginConfig.model_validate(table | settings))
    try:
        yield origin
    finally:
        await origin.aclose()
        server.close()
        await asyncio.gather(*serving)


async def read(origin: S3Origin) -> bytes:
    return await origin.read(FILE, 2, 5)


async def scan(origin: S3Origin) -> None:
    async for _ in origin.scan():
        pass


async def stat(origin: S3Origin) -> None:
    await origin.stat("a.flac")


def part(place: str, body: bytes = b"23456", etag: str = '"abc"') -> bytes:
    return answer(206, HEADERS | {"Content-Range": place, "ETag": etag}, body)


async def test_a_right_answer_is_taken() -> None:
    async with saying(part("bytes 2-6/10")) as origin:
        assert await read(origin) == b"23456"


async def read_parts(origin: S3Origin) -> list[bytes]:
    """What is handed out of two parts, in this order."""
    found: list[bytes] = []

    def take(number: int, data: bytes) -> None:
        assert number == len(found)
        found.append(data)

    await origin.read_parts(FILE, 2, [2, 3], take)
    return found


async def test_parts_are_handed_out_in_order() -> None:
    async with saying(part("bytes 2-6/10")) as origin:
        assert await read_parts(origin) == [b"23", b"456"]


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        (part("bytes 2-6/10", etag='"abd"'), ReplicaFailed),
        (part("bytes 2-6/11"), ReplicaFailed),
        (part("bytes 3-7/10"), OriginFailed),
        (answer(412, HEADERS), ReplicaFailed),
        (answer(500, HEADERS, b"no"), OriginFailed),
        (part("bytes 2-6/10", b"234567890"), OriginFailed),
    ],
)
async def test_no_part_of_a_wrong_answer_is_handed_out(text: bytes, failure: type[Exception]) -> None:
    async with saying(text) as origin:
        found: list[int] = []
        with pytest.raises(failure):
            await origin.read_parts(FILE, 2, [2, 3], lambda number, data: found.append(number))
        assert not found


async def test_an_answer_that_ends_early_fails_after_the_parts_that_came() -> None:
    async with saying(part("bytes 2-6/10", b"2345")) as origin:
        found: list[int] = []
        with pytest.raises(OriginFailed):
            await origin.read_parts(FILE, 2, [2, 3], lambda number, data: found.append(number))
        assert found == [0]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.lists(st.integers(1, 20), min_size=40, max_size=40))
def test_parts_are_cut_from_pieces_of_any_size(sizes: list[int], pieces: list[int]) -> None:
    data, found, at = bytes(range(sum(sizes))), [], 0
    parts = Parts(sizes, lambda number, part: found.append((number, part)))
    for piece in pieces:
        assert parts.complete == (at >= len(data))
        parts.take(data[at : at + piece])
        at += piece
    expected, at = [], 0
    for number, size in enumerate(sizes):
        expected.append((number, data[at : at + size]))
        at += size
    assert found == expected


@pytest.mark.parametrize(
    "text", [part("bytes 2-6/10", etag='"other"'), part("bytes 2-6/11"), answer(412, {}), answer(416, {})]
)
async def test_another_version_is_refused(text: bytes) -> None:
    async with saying(text) as origin:
        with pytest.raises(ReplicaFailed) as failed:
            await read(origin)
    assert failed.value.fault is ReplicaFault.CHANGED


LOOP = b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>"


@pytest.mark.parametrize(
    ("call", "text", "fault", "told"),
    [
        (read, answer(200, HEADERS, b"0123456789"), OriginFault.IO, "does not understand ranges"),
        (read, part("bytes 3-7/10"), OriginFault.IO, "another range"),
        (read, part("bytes 2-6/10", b"2345"), OriginFault.IO, "another range"),
        (read, part("bytes"), OriginFault.IO, "without its place"),
        (read, answer(206, {"Content-Range": "bytes 2-6/10"}, b"23456"), OriginFault.IO, "without its time"),
        (read, answer(503, {}, b"<Error><Code>SlowDown</Code></Error>"), OriginFault.IO, "HTTP 503 SlowDown"),
        (read, answer(400, {}, b"<Error><Code>ExpiredToken</Code></Error>"), OriginFault.DENIED, "ExpiredToken"),
        (read, answer(301, {"x-amz-bucket-region": "eu-west-1"}), OriginFault.UNREACHABLE, "region to 'eu-west-1'"),
        (read, part(f"bytes 2-6/{'9' * 5000}"), OriginFault.IO, "without its place"),
        (
            read,
            part("bytes 2-6/10").replace(b"2023", b"9" * 11).replace(b"ETag", b"Tag"),
            OriginFault.IO,
            "without its time",
        ),
        (stat, b"HTTP/1.1 200 X\r\n\r\n", OriginFault.IO, "without its size"),
        (read, b"SSH-2.0-OpenSSH\r\n\r\n", OriginFault.IO, "makes no sense"),
        (scan, answer(200, {}, b"<html></html>"), OriginFault.IO, "a sign-in page"),
        (scan, answer(302, {"Location": "http://hotel/"}), OriginFault.UNREACHABLE, "a sign-in page"),
        (scan, answer(200, {}, b"<Other></Other>"), OriginFault.IO, "can't be understood"),
        (
            scan,
            answer(400, {}, b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>"),
            OriginFault.UNREACHABLE,
            "region to 'eu-west-3'",
        ),
        (scan, answer(200, {}, LOOP + b"</ListBucketResult>"), OriginFault.IO, "in circles"),
        (scan, answer(200, {"Content-Encoding": "gzip"}, b"\0" * 9), OriginFault.IO, "can't be understood"),
    ],
)
async def test_an_answer_that_can_not_be_right_blames_the_origin(
    call: Callable[[S3Origin], Awaitable[object]], text: bytes, fault: OriginFault, told: str
) -> None:
    async with saying(text) as origin:
        with pytest.raises(OriginFailed, match=told) as failed:
            await call(origin)
    assert failed.value.fault is fault


@given(st.text(st.sampled_from("Tue, 14 Nov 2023 22:13:20 GMT+-:9") | st.characters(), max_size=60))
def test_a_time_is_understood_or_refused_whatever_it_looks_like(text: str) -> None:
    with suppress(ValueError, OverflowError):  # which the driver makes a failure of the origin of
        assert time_of(text) % 10**9 == 0


async def test_what_is_beyond_the_first_part_of_an_error_is_not_read() -> None:
    text = b"<Error><Code>SlowDown</Code></Error>" + b" " * 100_000
    async with saying(answer(503, {}, text)) as origin:
        with pytest.raises(OriginFailed, match="HTTP 503 SlowDown"):
            await read(origin)


EMPTY = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>"


async def test_a_listing_that_goes_on_without_a_key_ends() -> None:
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            asked += 1
            writer.write(answer(200, {}, EMPTY.format(asked).encode() + b"</ListBucketResult>"))

    async with served(serve) as origin:
        with pytest.raises(OriginFailed, match="in circles"):
            await scan(origin)
    assert asked == 1001


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """One of localhost, signed by itself, with its key."""
    path = tmp_path / "localhost.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path), "-out", str(tmp_path / "cert")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    path.write_text(path.read_text() + (tmp_path / "cert").read_text())
    return path


async def test_a_certificate_that_no_trusted_authority_signed_is_refused(certificate: Path) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    async with saying(part("bytes 2-6/10"), tls) as origin:
        with pytest.raises(OriginFailed, match="localhost is not to be trusted") as failed:
            await read(origin)
    assert failed.value.fault is OriginFault.UNREACHABLE


@pytest.mark.parametrize("source", ["ca_bundle", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
async def test_an_authority_of_ones_own_is_trusted(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    for variable in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    settings = {"ca_bundle": str(certificate)} if source == "ca_bundle" else {}
    if not settings:
        monkeypatch.setenv(source, str(certificate))
    async with saying(part("bytes 2-6/10"), tls, **settings) as origin:
        assert await read(origin) == b"23456"


async def test_certificates_that_can_not_be_read_are_named(tmp_path: Path) -> None:
    async with saying(part("bytes 2-6/10"), ca_bundle=str(tmp_path / "none")) as origin:
        with pytest.raises(OriginFailed, match=r"the certificates in .*none can't be read"):
            await read(origin)
