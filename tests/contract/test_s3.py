"""The S3 kind keeps the contract, against a real server; and what is peculiar to it."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import HealthStatus
from musicfs.origins.s3 import KIND
from musicfs.origins.s3.driver import S3Origin
from musicfs.testing.observed_contract import ObservedContract, RecordingObserver, observed
from musicfs.testing.origin_contract import OriginContract, identity, listing, replica
from tests.support.library import scanned_library
from tests.support.servers.swift import ACCESS_KEY_ID, SECRET_ACCESS_KEY, Swift


class S3Env:
    """A bucket of its own. What is written before an origin is opened is kept until then, and put all at once."""

    any_bytes = False

    def __init__(self, swift: Swift) -> None:
        self.swift = swift
        self.bucket = swift.make_bucket()
        self._unwritten: dict[str, bytes] = {}
        self._opened: list[S3Origin] = []

    def config(self, **settings: object) -> OriginConfig:
        table = {
            "id": "cloud", "origin_type": KIND.name, "bucket": self.bucket, "endpoint": self.swift.url,
            "access_key_id": ACCESS_KEY_ID, "secret_access_key": SECRET_ACCESS_KEY,
        }  # fmt: skip
        return OriginConfig.model_validate(table | settings)

    async def open(self, populated: bool = False, **settings: object) -> S3Origin:
        self.swift.put_all(self.bucket, self._unwritten)
        self._unwritten.clear()
        origin = S3Origin(self.config(**settings), populated=populated)
        self._opened.append(origin)
        return origin

    def write(self, path: str, data: bytes) -> None:
        if self._opened:
            self.swift.put(self.bucket, path, data)
        else:
            self._unwritten[path] = data

    def date(self, path: str, mtime_ns: int) -> bool:
        return False

    def write_sparse(self, path: str, size: int, at: int, data: bytes) -> None:
        self.swift.put_sparse(self.bucket, path, size, at, data)

    def remove(self, path: str) -> None:
        self.swift.remove(self.bucket, path)

    def denied(self, path: str) -> AbstractContextManager[None]:
        return self.swift.denied(f"{self.bucket}/{path}")

    def empty_root(self) -> None:
        for key in self.swift.keys(self.bucket):
            self.swift.remove(self.bucket, key)

    def remove_root(self) -> None:
        self.empty_root()
        self.swift.remove_bucket(self.bucket)

    async def aclose(self) -> None:
        for origin in self._opened:
            await origin.aclose()


@pytest.fixture
async def env(swift: Swift) -> AsyncIterator[S3Env]:
    env = S3Env(swift)
    yield env
    await env.aclose()


class TestS3(OriginContract):
    """The contract; but a bucket is listed as a whole, by one permission, and folders in it have none of their own."""

    async def test_a_denied_folder_fails_the_scan_by_name(self, env: S3Env) -> None:  # type: ignore[override]
        env.write("open/a.flac", b"12345")
        env.write("closed/b.flac", b"12345")
        with env.denied("closed"), pytest.raises(OriginFailed, match="closed") as failed:
            await listing(await env.open(), "closed")
        assert failed.value.fault is OriginFault.DENIED


class TestS3Observed(ObservedContract):
    """The contract; but one permission is for the whole listing, so what may not be read is listed all the same."""

    async def test_a_closed_folder_costs_itself_alone(self, env: S3Env) -> None:  # type: ignore[override]
        env.write("a.flac", b"12345")
        env.write("closed/b.flac", b"12345")
        observer = RecordingObserver()
        with env.denied("closed"):
            origin = await env.open()
            assert set(await observed(origin, observer)) == {"a.flac", "closed/b.flac"}
            with pytest.raises(ReplicaFailed):
                await origin.stat("closed/b.flac")
        assert observer.problems == []


# Names and listings


async def test_a_prefix_is_the_root(env: S3Env) -> None:
    """Keys beside it, also those that begin alike, are none of the origin's."""
    for key in ("music/a/1.flac", "music/2.flac", "music", "musical/3.flac", "4.flac"):
        env.write(key, key.encode())
    origin = await env.open(prefix="/music/")
    found = await listing(origin)
    assert sorted(found) == ["2.flac", "a/1.flac"]
    assert await origin.read(await replica(origin, "a/1.flac"), 0, 99) == b"music/a/1.flac"


async def test_a_prefix_under_which_nothing_is_any_more_fails(env: S3Env) -> None:
    """The bucket is there, the music is not."""
    env.write("other/a.flac", b"x")
    origin = await env.open(populated=True, prefix="music")
    for attempt in (origin.health(), listing(origin)):
        with pytest.raises(OriginFailed) as failed:
            await attempt
        assert failed.value.fault is OriginFault.UNREACHABLE


async def test_a_prefix_that_was_mistyped_removes_nothing_from_a_library(env: S3Env, tmp_path: Path) -> None:
    """Neither where it names nothing, nor where other music lies."""
    for number in range(8):
        env.write(f"music/{number}.flac", bytes(100 + number))
    env.write("musak/x.flac", b"x")
    with scanned_library(tmp_path / "library") as library:
        library.adopt(await env.open(prefix="music"))
        await library.scan()
        before = library.nodes()
        library.adopt(await env.open(populated=True, prefix="musik"))
        assert (await library.scan())[0].error is not None
        assert library.nodes() == before
        library.adopt(await env.open(populated=True, prefix="musak"))
        (scan,) = await library.scan()
        assert (scan.added, scan.removed, scan.removals_held) == (1, 0, 8)
        assert before.items() < library.nodes().items()
        library.adopt(await env.open(populated=True, prefix="music"))
        (scan,) = await library.scan()
        assert (scan.removed, scan.removals_held, scan.error) == (1, 0, None)
        assert library.nodes() == before


async def test_keys_that_are_no_paths_are_left_out_and_spoil_nothing(env: S3Env) -> None:
    env.write("a/b.flac", b"x")
    for key in ("a/", "a//c", "/d", "e/../f", "./g", "h/.", "i//", ".hidden/j", "k/.Trash/l"):
        env.write(key, b"x")
    env.write("\x01/control\x7f.flac", b"x")
    assert sorted(await listing(await env.open())) == ["\x01/control\x7f.flac", "a/b.flac"]


async def test_a_marker_alone_is_an_empty_folder(env: S3Env) -> None:
    env.write("music/", b"")
    origin = await env.open(prefix="music")
    assert await origin.health() is HealthStatus.HEALTHY
    assert await listing(origin) == {}


async def test_a_file_and_a_folder_of_one_name_are_both_seen(env: S3Env) -> None:
    """Disks can't have that; buckets can."""
    env.write("a", b"x")
    env.write("a/b", b"x")
    origin = await env.open()
    assert set(await listing(origin)) == set(await listing(origin, "a")) == {"a", "a/b"}


async def test_the_etag_is_the_version(env: S3Env) -> None:
    """The same bytes written again are the same version, whatever their time."""
    env.write("a.flac", b"12345")
    origin = await env.open()
    file = await replica(origin, "a.flac")
    assert file.etag is not None
    env.write("a.flac", b"12345")
    assert await origin.read(file, 1, 3) == b"234"


async def test_a_replica_without_an_etag_is_held_to_its_size_and_time(env: S3Env) -> None:
    env.write("a.flac", b"12345")
    origin = await env.open()
    file = replace(await replica(origin, "a.flac"), etag=None)
    assert await origin.read(file, 1, 3) == b"234"
    for other in (replace(file, mtime_ns=1), replace(file, size=4)):
        with pytest.raises(ReplicaFailed) as failed:
            await origin.read(other, 1, 3)
        assert failed.value.fault is ReplicaFault.CHANGED


# Keys


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No key is to be found anywhere; the home, empty."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "MUSICFS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


NONE: dict[str, Any] = {"access_key_id": None, "secret_access_key": None}


async def test_keys_come_from_the_variables_of_the_origin(
    env: S3Env, no_keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSICFS_CLOUD_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("MUSICFS_CLOUD_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    assert await (await env.open(**NONE)).health() is HealthStatus.HEALTHY


async def test_keys_come_from_amazons_variables(env: S3Env, no_keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    assert await (await env.open(**NONE)).health() is HealthStatus.HEALTHY


@pytest.mark.parametrize("file", ["credentials", "config"])
@pytest.mark.parametrize("profile", [None, "nas"])
async def test_keys_come_from_the_files_of_amazons_tools(
    env: S3Env, no_keys: Path, monkeypatch: pytest.MonkeyPatch, file: str, profile: str | None
) -> None:
    """A profile that was asked for comes before the environment's keys."""
    name = profile or "default"
    section = f"profile {name}" if file == "config" and profile else name
    text = f"[{section}]\naws_access_key_id = {ACCESS_KEY_ID}\naws_secret_access_key={SECRET_ACCESS_KEY}\n"
    (no_keys / ".aws").mkdir()
    (no_keys / ".aws" / file).write_text(text)
    if profile:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert await (await env.open(profile=profile, **NONE)).health() is HealthStatus.HEALTHY


async def test_keys_may_come_from_a_program_and_are_renewed_before_they_expire(env: S3Env, no_keys: Path) -> None:
    """Stands for all that the library knows besides: roles, SSO, web identities, containers."""
    soon = datetime.now(UTC) + timedelta(minutes=5)
    keys = {
        "Version": 1, "AccessKeyId": ACCESS_KEY_ID, "SecretAccessKey": SECRET_ACCESS_KEY,
        "Expiration": soon.isoformat(),
    }  # fmt: skip
    (no_keys / "keys.json").write_text(json.dumps(keys))
    (no_keys / "give").write_text(f"#!/bin/sh\necho >> {no_keys}/asked\ncat {no_keys}/keys.json\n")
    (no_keys / "give").chmod(0o700)
    (no_keys / ".aws").mkdir()
    (no_keys / ".aws/config").write_text(f"[profile nas]\ncredential_process = {no_keys}/give\n")
    origin = await env.open(profile="nas", **NONE)
    await origin.health()
    at_first = (no_keys / "asked").read_text()
    (no_keys / "keys.json").write_text(json.dumps(keys | {"Expiration": "2100-01-01T00:00:00Z"}))
    for _ in range(3):
        await origin.health()
    assert (no_keys / "asked").read_text() == at_first + "\n"


async def test_no_message_of_the_library_holds_a_session_token(
    env: S3Env, no_keys: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "hunter2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    with suppress(OriginFailed):  # the server knows of no tokens
        await (await env.open(**NONE)).health()
    assert "hunter2" not in caplog.text
    assert SECRET_ACCESS_KEY not in caplog.text


async def test_keys_that_were_refused_are_looked_up_again(
    env: S3Env, no_keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they are when somebody mends them, or renews what had expired, while the mount is up."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    origin = await env.open(**NONE)
    with pytest.raises(OriginFailed):
        await origin.health()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    assert await origin.health() is HealthStatus.HEALTHY


@pytest.mark.parametrize(
    ("settings", "detail"),
    [
        ({"secret_access_key": "wrong"}, "the secret key is wrong"),
        ({"access_key_id": "nobody"}, "denied"),
        ({"secret_access_key": None}, "set MUSICFS_CLOUD_SECRET_ACCESS_KEY"),
        ({**NONE}, "set MUSICFS_CLOUD_ACCESS_KEY_ID and MUSICFS_CLOUD_SECRET_ACCESS_KEY"),
        ({**NONE, "profile": "nowhere"}, r"profile \(nowhere\) could not be found"),
    ],
)
async def test_wrong_keys_deny_the_origin_and_never_the_file(
    env: S3Env, no_keys: Path, settings: dict[str, Any], detail: str
) -> None:
    env.write("a.flac", b"12345")
    file = await replica(await env.open(), "a.flac")
    origin = await env.open(**settings)
    for attempt in (origin.health(), listing(origin), origin.read(file, 0, 5), origin.stat("a.flac")):
        with pytest.raises(OriginFailed, match=detail) as failed:
            await attempt
        assert failed.value.fault is OriginFault.DENIED
        assert SECRET_ACCESS_KEY not in f"{failed.value!r} {failed.value.__cause__!r}"


async def test_a_mangled_file_of_keys_is_told_without_its_text(env: S3Env, no_keys: Path) -> None:
    (no_keys / ".aws").mkdir()
    (no_keys / ".aws/credentials").write_text("aws_secret_access_key = hunter2\n")
    origin = await env.open(**NONE)
    with pytest.raises(OriginFailed, match=r"Unable to parse config file: .*/\.aws/credentials") as failed:
        await origin.health()
    told = "".join(traceback.format_exception(failed.value))
    assert "hunter2" not in told


async def test_secrets_are_in_no_repr(env: S3Env) -> None:
    origin = await env.open()
    await origin.health()
    shown = f"{env.config()!r} {origin!r} {vars(origin)!r} {vars(origin._credentials)!r} {vars(origin._bucket)!r}"
    assert SECRET_ACCESS_KEY not in shown


async def test_a_name_that_does_not_resolve_is_unreachable(env: S3Env) -> None:
    origin = await env.open(endpoint="http://nowhere.invalid")
    with pytest.raises(OriginFailed, match=r"nowhere\.invalid") as failed:
        await origin.health()
    assert failed.value.fault is OriginFault.UNREACHABLE


async def test_a_server_without_tls_is_not_spoken_to_in_clear_text(env: S3Env) -> None:
    origin = await env.open(endpoint=env.swift.url.replace("http:", "https:"))
    with pytest.raises(OriginFailed) as failed:
        await origin.health()
    assert failed.value.fault is OriginFault.UNREACHABLE


async def test_a_prefix_lies_in_its_bucket(env: S3Env) -> None:
    env.write("Ada/a.flac", b"a")
    whole = await identity(await env.open())
    ada = await identity(await env.open(False, prefix="Ada"))
    assert whole.overlaps(ada)
    assert not ada.overlaps(await identity(await env.open(False, prefix="B")))
    assert not whole.overlaps(await identity(await env.open(False, bucket="other")))
