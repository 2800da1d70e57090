"""Set-ups of S3 that people have: who pays, where the access key comes from, and ports that speak another protocol."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed, OriginFault
from musicfs.model import HealthStatus, OriginId, Replica
from musicfs.origins.s3.driver import S3Origin
from musicfs.origins.s3.errors import refusal
from musicfs.testing.observed_contract import RecordingObserver, observed
from tests.support.servers.odds3 import OddBucket, odd_s3

FILES = {"song.flac": b"12345"}
KEYS: dict[str, object] = {"access_key_id": "id", "secret_access_key": "secret"}


@asynccontextmanager
async def origin_of(**settings: object) -> AsyncIterator[S3Origin]:
    table = {"id": "cloud", "origin_type": "s3", "bucket": "music", **settings}
    origin = S3Origin(OriginConfig.model_validate(table))
    try:
        yield origin
    finally:
        await origin.aclose()


async def refused(origin: S3Origin) -> OriginFailed:
    with pytest.raises(OriginFailed) as failed:
        await origin.health()
    return failed.value


@pytest.mark.parametrize("pays", [False, True])
async def test_every_request_says_that_the_requester_pays_if_so_set(pays: bool) -> None:
    bucket = OddBucket(FILES)
    async with odd_s3(bucket) as table, origin_of(**table, requester_pays=pays) as origin:
        (stat,) = (await observed(origin, RecordingObserver())).values()
        assert await origin.read(Replica.of(OriginId("cloud"), stat), 0, 5) == b"12345"
        await origin.stat("song.flac")
    assert {request.headers.get("x-amz-request-payer") for request in bucket.requests} == {
        "requester" if pays else None
    }
    signed = [request.headers["Authorization"] for request in bucket.requests]
    assert all(("x-amz-request-payer" in each) is pays for each in signed)


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that gives the access key of the profile "nas"; it is to be written."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    program = tmp_path / "give"
    (tmp_path / "config").write_text(f"[profile nas]\ncredential_process = {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    return program


def write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("echo hello", "its credential_process prints no JSON"),
        ("echo first >&2; echo second >&2; exit 3", "first second"),
        ("exec sleep 3", "no access key from its source, such as a credential_process, came for 1 s"),
    ],
    ids=["no json", "fails", "hangs"],
)
async def test_a_program_that_gives_no_access_key_is_named(profile: Path, program: str, detail: str) -> None:
    write_program(profile, program)
    async with odd_s3(OddBucket(FILES)) as table:
        settings = {name: value for name, value in table.items() if name not in KEYS}
        async with origin_of(**settings, profile="nas", timeout_ms=1000) as origin:
            failure = await refused(origin)
    assert detail in str(failure)
    assert "\n" not in str(failure)
    assert r"\n" not in str(failure)


@asynccontextmanager
async def port_that(answers: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Reads a little, answers, and closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answers)
        writer.close()

    listener = socket.create_server(("127.0.0.1", 0))
    async with await asyncio.start_server(serve, sock=listener, ssl=tls):
        yield listener.getsockname()[1]


async def test_an_endpoint_of_https_at_a_port_without_tls_is_named() -> None:
    said = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    async with port_that(said) as port, origin_of(endpoint=f"https://127.0.0.1:{port}", **KEYS) as origin:
        failure = await refused(origin)
    assert failure.fault is OriginFault.UNREACHABLE
    assert f"127.0.0.1:{port} does not speak TLS" in str(failure)


async def test_an_endpoint_of_http_at_a_port_with_tls_is_named() -> None:
    async with port_that(b"") as port, origin_of(endpoint=f"http://127.0.0.1:{port}", **KEYS) as origin:
        assert "write https:// in the endpoint" in str(await refused(origin))
    async with odd_s3(OddBucket(FILES)) as table, origin_of(**table) as origin:
        assert await origin.health() is HealthStatus.HEALTHY


@pytest.mark.parametrize(
    "body",
    [
        b"<html>The plain HTTP request was sent to HTTPS port</html>",
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"Reason: You're speaking plain HTTP to an SSL-enabled server port.",
    ],
    ids=["nginx", "go", "apache"],
)
def test_a_server_that_says_that_it_wants_tls_is_understood(body: bytes) -> None:
    failure = refusal(OriginId("cloud"), "music", "a listing", 400, {}, body)
    assert "the server wants https:// in the endpoint" in str(failure)
