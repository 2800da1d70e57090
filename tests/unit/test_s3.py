"""What of S3 needs no server: signatures, settings, URLs, listings, and the order of files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import groupby
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from musicfs.config import OriginConfig, origin_from_argument
from musicfs.errors import UsageError, UserError
from musicfs.model import Stat
from musicfs.origins.s3.keys import KeyChain
from musicfs.origins.s3.listing import Folders, parse_page
from musicfs.origins.s3.settings import S3Settings, from_url
from musicfs.origins.s3.signing import Keys, escaped_path, escaped_query, signed
from musicfs.origins.threads import WorkerThreads

# The examples of the specification ("Signature Calculations for the Authorization Header", docs.aws.amazon.com).
KEYS = Keys("AKIAIOSFODNN7EXAMPLE", SecretStr("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"))
HOST = {"host": "examplebucket.s3.amazonaws.com"}
THEN = datetime(2013, 5, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("path", "query", "headers", "signature"),
    [
        ("test.txt", {}, {"range": "bytes=0-9"}, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
        ("", {"lifecycle": ""}, {}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "",
            {"prefix": "J", "max-keys": "2"},
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_signatures_are_those_of_the_specification(
    path: str, query: Mapping[str, str], headers: Mapping[str, str], signature: str
) -> None:
    made = signed("GET", "/" + escaped_path(path), escaped_query(query), {**HOST, **headers}, KEYS, THEN)
    assert made["authorization"].endswith(f"Signature={signature}")


def test_a_session_token_is_sent_and_signed() -> None:
    keys = Keys("id", SecretStr("secret"), SecretStr("token"))
    made = signed("GET", "/", "", HOST, keys, THEN)
    assert made["x-amz-security-token"] == "token"
    assert "x-amz-security-token" in made["authorization"]


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
    assert found.entries == [Stat("a b/+\n.flac", 7, 1714557600 * 10**9, "ab-2")]
    assert found.following is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html></html>",
        b"<ListBucketResult>",
        page("", "<IsTruncated>true</IsTruncated>"),
        page("<Contents><Key>a</Key></Contents>"),
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


# Keys of Amazon's own machines, which no server here can be


class Machine:
    """Answers as the services of such a machine do; `asked` has the methods and paths."""

    def __init__(self, expires: str = "2100-01-01T00:00:00Z") -> None:
        self.asked: list[str] = []
        self._keys = {"AccessKeyId": "id", "SecretAccessKey": "secret", "Token": "token", "Expiration": expires}

    async def ask(self, method: str, url: str, headers: Mapping[str, str]) -> bytes:
        self.asked.append(f"{method} {url.removeprefix('http://169.254.')}")
        if url.endswith("/token"):
            return b"session"
        if url.endswith("/security-credentials/"):
            assert headers["x-aws-ec2-metadata-token"] == "session"
            return b"role"
        return json.dumps(self._keys).encode()


async def look(machine: Machine, environ: Mapping[str, str], metadata: bool = True, times: int = 1) -> Keys:
    config = OriginConfig.model_validate({"id": "cloud", "origin_type": "s3", "bucket": "music"})
    chain = KeyChain(config, None, None, metadata, machine.ask, {"HOME": "/nowhere", **environ})
    threads = WorkerThreads("test", 1)
    try:
        found = await asyncio.gather(*(chain.get(threads) for _ in range(times)))
        return found[0]
    finally:
        threads.close()


async def test_an_instance_is_asked_for_its_keys_once() -> None:
    machine = Machine()
    keys = await look(machine, {"AWS_REGION": "eu-west-1"}, times=5)
    assert (keys.access_key_id, keys.region) == ("id", "eu-west-1")
    assert keys.session_token is not None
    roles = "169.254/latest/meta-data/iam/security-credentials/"
    assert machine.asked == ["PUT 169.254/latest/api/token", f"GET {roles}", f"GET {roles}role"]


async def test_keys_are_renewed_before_they_expire() -> None:
    machine = Machine(expires="2020-01-01T00:00:00Z")
    await look(machine, {}, times=2)
    assert len(machine.asked) == 6


async def test_a_container_is_asked_before_the_instance() -> None:
    machine = Machine()
    await look(machine, {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x"})
    assert machine.asked == ["GET 170.2/v2/x"]


@pytest.mark.parametrize(("environ", "metadata"), [({"AWS_EC2_METADATA_DISABLED": "true"}, True), ({}, False)])
async def test_a_machine_is_not_asked_where_that_makes_no_sense(environ: dict[str, str], metadata: bool) -> None:
    machine = Machine()
    with pytest.raises(UserError, match="no access key was found"):
        await look(machine, environ, metadata)
    assert machine.asked == []
