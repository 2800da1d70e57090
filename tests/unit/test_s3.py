"""What of S3 needs no server: signatures, settings, URLs, listings, the order of files, keys and patience."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import groupby
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, quote_plus, urlsplit

import pytest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from yarl import URL

from musicfs.config.load import origin_from_argument
from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed, OriginFault, UsageError, UserError
from musicfs.model import Replica, Stat
from musicfs.origins.s3.client import Bucket
from musicfs.origins.s3.credentials import CredentialChain
from musicfs.origins.s3.driver import S3Origin
from musicfs.origins.s3.listing import Folders, is_name, parse_page
from musicfs.origins.s3.settings import S3Settings, from_url
from musicfs.origins.s3.signing import Signer, escaped_path
from musicfs.origins.s3.spellings import Spellings, unescaped
from musicfs.problems import Problem, Reason
from musicfs.system.threads import WorkerThreads
from tests.support.virtualtime import now_ms, virtual_time


@given(st.text())
def test_the_path_that_is_sent_is_the_path_that_is_signed(path: str) -> None:
    """As yarl, which sends it, may neither unescape nor tidy it up."""
    escaped = escaped_path(path.encode("utf-8", "replace").decode())
    assert URL(f"http://nas/{escaped}", encoded=True).raw_path == f"/{escaped}"


def test_a_session_token_is_sent_and_signed_as_are_the_headers() -> None:
    signer = Signer(ReadOnlyCredentials("id", "secret", "token"), "eu-west-1")
    made = signer.signed("GET", "https://nas/music/a", {"range": "bytes=0-9"})
    assert made["X-Amz-Security-Token"] == "token"
    assert "/eu-west-1/s3/aws4_request" in made["Authorization"]
    assert "host;range;x-amz-content-sha256;x-amz-date;x-amz-security-token" in made["Authorization"]
    assert "secret" not in repr(signer)


# Settings


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "https://music.s3.eu-west-1.amazonaws.com"),
        ({"bucket": "my.music"}, "https://s3.eu-west-1.amazonaws.com/my.music"),
        ({"path_style": True}, "https://s3.eu-west-1.amazonaws.com/music"),
        ({"endpoint": "http://nas:9000/"}, "http://nas:9000/music"),
        ({"endpoint": "https://store.example/base"}, "https://store.example/base/music"),
        ({"endpoint": "https://store.example", "path_style": False}, "https://music.store.example"),
    ],
)
def test_the_address_of_a_bucket(settings: dict[str, object], url: str) -> None:
    assert S3Settings.model_validate({"bucket": "music"} | settings).url_in("eu-west-1") == url


@pytest.mark.parametrize(
    "settings",
    [
        {"bucket": ""},
        {"bucket": "a/b"},
        {"prefix": "a//b"},
        {"prefix": "../a"},
        {"endpoint": "nas:9000"},
        {"endpoint": "ftp://nas"},
        {"endpoint": "http://me:hunter2@nas"},
        {"buckett": "x"},
    ],
)
def test_settings_that_can_not_be_meant_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        S3Settings.model_validate({"bucket": "music"} | settings)


def test_a_url_gives_the_settings() -> None:
    url = "s3://bucket/my%20music/flac?endpoint=http://nas:9000&region=eu-west-1&profile=nas&path_style=true"
    table = origin_from_argument(url, [])
    origin = OriginConfig.model_validate(table)
    assert (origin.id, origin.origin_type, origin.metered) == ("flac", "s3", True)
    settings = S3Settings.model_validate(dict(origin.settings))
    assert (settings.bucket, settings.prefix, settings.region) == ("bucket", "my music/flac", "eu-west-1")
    assert (settings.endpoint, settings.profile, settings.path_style) == ("http://nas:9000", "nas", True)
    assert origin_from_argument("s3://bucket", [])["bucket"] == "bucket"


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("s3://key:hunter2@bucket", "set them as variables"),
        ("s3://bucket?secret_access_key=hunter2", "set it as a variable"),
        ("s3://bucket?regoin=x", "use endpoint, region"),
        ("s3:///prefix", "the bucket is missing"),
        ("s3://bucket/a#b", "%23"),
    ],
)
def test_a_url_that_can_not_be_used_is_told_with_the_remedy_and_without_its_secrets(url: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=remedy) as told:
        origin_from_argument(url, [])
    assert "hunter2" not in str(told.value)
    with pytest.raises(ValueError):
        from_url(urlsplit(url))


# Listings


def page(contents: str, more: str = "<IsTruncated>false</IsTruncated>") -> bytes:
    space = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    return f"<ListBucketResult {space}><EncodingType>url</EncodingType>{more}{contents}</ListBucketResult>".encode()


def test_keys_are_unescaped_and_those_that_are_no_text_left_out() -> None:
    rest = "<LastModified>2024-05-01T10:00:00.789Z</LastModified><ETag>&quot;ab-2&quot;</ETag><Size>7</Size></Contents>"
    keys = ("a+b/%2B%0A.flac", "%FF.flac")
    found = parse_page(page("".join(f"<Contents><Key>{key}</Key>{rest}" for key in keys)))
    assert found.entries == [
        Stat("a b/+\n.flac", 7, 1714557600 * 10**9, "ab-2"),
        Problem("%FF.flac", Reason.BAD_NAME, "it is no text, so no request could name it"),
    ]
    assert found.following is None


ENTRY = (
    "<Contents><Key>{}</Key><LastModified>{}</LastModified><Size>{}</Size><StorageClass>{}</StorageClass>{}</Contents>"
)
RESTORED = "<RestoreStatus><RestoreExpiryDate>2031-01-01T00:00:00Z</RestoreExpiryDate></RestoreStatus>"


def test_an_entry_that_makes_no_sense_costs_itself_alone() -> None:
    now = "2024-05-01T10:00:00Z"
    entries = [
        ("fine", now, "7", "STANDARD", ""), ("undated", "yesterday", "7", "", ""), ("far", "99999-01-01", "7", "", ""),
        ("endless", now, "9" * 30, "", ""), ("less than nothing", now, "-1", "", ""), ("no size", now, "", "", ""),
        ("cold", now, "7", "GLACIER", ""), ("colder", now, "7", "DEEP_ARCHIVE", ""),
        ("thawed", now, "7", "GLACIER", RESTORED), ("instant", now, "7", "GLACIER_IR", ""),
    ]  # fmt: skip
    found = parse_page(page("".join(ENTRY.format(*entry) for entry in entries)))
    time = 1714557600 * 10**9
    assert [each for each in found.entries if isinstance(each, Stat)] == [
        Stat("fine", 7, time), Stat("undated", 7, 0), Stat("far", 7, 0), Stat("thawed", 7, time),
        Stat("instant", 7, time),
    ]  # fmt: skip
    assert {problem.path: problem.reason for problem in found.entries if isinstance(problem, Problem)} == {
        "endless": Reason.BAD_SIZE, "less than nothing": Reason.BAD_SIZE, "no size": Reason.BAD_SIZE,
        "cold": Reason.ARCHIVED, "colder": Reason.ARCHIVED,
    }  # fmt: skip


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20))
def test_the_spellings_of_a_key_have_the_key_and_what_a_sloppy_listing_may_mean(key: str) -> None:
    written = quote(key, safe="/+")  # escapes a space as %20, and leaves + as it is
    assert unescaped(quote_plus(key)) == key
    if key.isprintable() and is_name(key):
        assert key in Spellings().of(unescaped(written))
        assert key in Spellings().of(written)


def test_the_spellings_of_a_key_lead_nowhere_else() -> None:
    assert set(Spellings().of("a%2F..%2Fb c")) == {"a%2F..%2Fb c", "a%2F..%2Fb+c"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html></html>",
        b"<ListBucketResult>",
        page("", "<IsTruncated>true</IsTruncated>"),
    ],
)
def test_a_listing_that_is_not_sound_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        parse_page(body)


@given(st.sets(st.lists(st.sampled_from(["a", "a b", "b", "c-d"]), min_size=1, max_size=4).map("/".join)))
def test_each_folders_files_come_together_and_none_is_lost(paths: set[str]) -> None:
    folders = Folders()
    found: list[Stat] = []
    for path in sorted(paths):
        found += folders.add(Stat(path, 1, 1))
    found += folders.rest()
    assert sorted(stat.path for stat in found) == sorted(paths)
    runs = [folder for folder, _ in groupby(stat.path.rpartition("/")[0] for stat in found)]
    assert len(runs) == len(set(runs))


def test_no_more_than_some_files_are_held_back_for_their_folders() -> None:
    folders, given_out = Folders(), 0
    for depth in range(80):
        for number in range(1000):
            given_out += len(list(folders.add(Stat("d/" * depth + str(number), 1, 1))))
    assert given_out >= 80_000 - 50_000
    assert given_out + len(list(folders.rest())) == 80_000


@pytest.mark.parametrize("key", ["a" * 2000, "a/" * 200 + "b", "a\0b", "../b", "a//b"])
def test_a_key_that_no_file_can_have_is_left_out(key: str) -> None:
    assert not is_name(key)


# Keys of Amazon's own machines, which no server here can be


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """A service that gives out keys as such a machine's does; what it was asked."""
    asked: list[str] = []

    class Service(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(f"{self.command} {self.path}")
            keys = {"AccessKeyId": "id", "SecretAccessKey": "secret", "Token": "token"}
            body = json.dumps(keys | {"Expiration": "2100-01-01T00:00:00Z", "Code": "Success"}).encode()
            if self.path.endswith(("/token", "/security-credentials/")):
                body = b"role"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = answer

        def log_message(self, *_: object) -> None:
            pass

    for name in [name for name in os.environ if name.startswith(("AWS_", "MUSICFS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield asked
        server.shutdown()
        thread.join()


async def look(**settings: str) -> list[Signer]:
    config = OriginConfig.model_validate({"id": "cloud", "origin_type": "s3", "bucket": "music", **settings})
    chain = CredentialChain(config, S3Settings.model_validate(dict(config.settings)))
    threads = WorkerThreads("test", 1)
    try:
        return await asyncio.gather(*(chain.get(threads) for _ in range(5)))
    finally:
        threads.close()


async def test_an_instance_is_asked_for_its_keys_once(machine: list[str]) -> None:
    signers = await look()
    assert {signer.region for signer in signers} == {"eu-west-1"}
    assert signers[-1].signed("GET", "https://nas", {})["X-Amz-Security-Token"] == "token"
    roles = "/latest/meta-data/iam/security-credentials/"
    assert machine == ["PUT /latest/api/token", f"GET {roles}", f"GET {roles}role"]


async def test_a_machine_is_not_asked_for_the_keys_of_another_store(machine: list[str]) -> None:
    with pytest.raises(UserError, match="no access key was found"):
        await look(endpoint="http://nas:9000")
    assert machine == []


@pytest.mark.parametrize(
    ("given", "lacking"),
    [
        ("access_key_id", "MUSICFS_CLOUD_SECRET_ACCESS_KEY"),
        ("secret_access_key", "MUSICFS_CLOUD_ACCESS_KEY_ID"),
    ],
)
async def test_half_of_an_access_key_is_an_error_that_names_the_other_half_and_no_machine_is_asked(
    machine: list[str], given: str, lacking: str
) -> None:
    with pytest.raises(UserError, match=f"half of the access key is missing: set {lacking}$"):
        await look(**{given: "x" * 20})
    assert machine == []


# Patience


class Answering:
    """In the place of aiohttp's session: sends a file in pieces, one every `gap` seconds."""

    def __init__(self, pieces: list[bytes], gap: float) -> None:
        self.method, self.status = "GET", 206
        self.headers = {
            "Content-Range": f"bytes 0-{sum(map(len, pieces)) - 1}/{sum(map(len, pieces))}",
            "Last-Modified": "Thu, 01 Jan 1970 00:00:01 GMT",
        }
        self.content = self
        self._pieces = pieces
        self._gap = gap

    @asynccontextmanager
    async def request(self, *_: object, **__: object) -> AsyncIterator[Answering]:
        yield self

    async def iter_any(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await asyncio.sleep(self._gap)
            yield piece


class KnownKeys(CredentialChain):
    async def get(self, threads: WorkerThreads) -> Signer:
        return Signer(ReadOnlyCredentials("id", "secret", None), "eu-west-1")


async def read_slowly(gap: float, piece: int = 10_000) -> bytes:
    """256 KiB of which 10 kB come at a time, with 5 s of patience."""
    data = bytes(256 << 10)
    config = OriginConfig.model_validate({"id": "cloud", "origin_type": "s3", "bucket": "music", "timeout_ms": 5000})
    origin = S3Origin(config)
    keys = KnownKeys(config, S3Settings(bucket="music"))
    origin._bucket = Bucket(config.id, S3Settings(bucket="music", endpoint="http://nas"), keys, 8, 5.0)
    pieces = [data[start : start + piece] for start in range(0, len(data), piece)]
    origin._bucket._session = cast(Any, Answering(pieces, gap))
    return await origin.read(Replica(config.id, "a.flac", len(data), 10**9), 0, len(data))


@virtual_time
async def test_a_slow_answer_is_waited_for_as_long_as_it_goes_on() -> None:
    assert len(await read_slowly(1.0)) == 256 << 10
    assert now_ms() == 27_000


@virtual_time
async def test_an_answer_that_trickles_is_given_up() -> None:
    """It may take its patience for each 16 KiB, and once besides."""
    with pytest.raises(OriginFailed) as failed:
        await read_slowly(4.0, piece=1)
    assert failed.value.fault is OriginFault.TIMEOUT
    assert now_ms() == 85_000


@virtual_time
async def test_an_answer_that_stops_is_given_up() -> None:
    with pytest.raises(OriginFailed) as failed:
        await read_slowly(6.0)
    assert failed.value.fault is OriginFault.TIMEOUT
    assert now_ms() == 5000
