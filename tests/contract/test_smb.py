"""The SMB kind keeps the contract, over a real Samba; and what only it can do."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError
from smbprotocol.header import NtStatus

from musicfs.config.kinds import open_origin
from musicfs.config.load import origin_from_argument
from musicfs.config.models import HealthConfig, OriginConfig
from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault, UsageError
from musicfs.model import HealthStatus, OriginId, OriginType, Replica
from musicfs.origins import folder_queue
from musicfs.origins.local.driver import LocalOrigin
from musicfs.origins.smb import driver
from musicfs.origins.smb.errors import ShareLost, StatusRefused
from musicfs.origins.smb.files import SmbFiles
from musicfs.origins.smb.session import Deadline, Share
from musicfs.origins.smb.settings import SmbSettings, from_url
from musicfs.problems import Reason
from musicfs.testing.folder_env import FolderEnv
from musicfs.testing.folders_contract import FoldersContract
from musicfs.testing.observed_contract import ObservedContract, RecordingObserver, observed
from musicfs.testing.origin_contract import AWKWARD, OriginContract, OriginEnv, identity, listing, replica
from tests.support.servers.process import HOST, PATIENCE
from tests.support.servers.samba import PASSWORD, SHARE, Samba

NAMES = [name for name in AWKWARD if not set(name) & set('\\*?"\n\t')]
"""What a share can hold; Samba lists none of the others."""


class SmbEnv(FolderEnv):
    any_bytes = False
    tick_ns = 100

    def __init__(self, samba: Samba, folder: str) -> None:
        super().__init__(samba.root / folder)
        self.root.mkdir(exist_ok=True)
        self.samba = samba
        self.folder = folder

    def table(self) -> Mapping[str, object]:
        where = {"host": HOST, "port": self.samba.port, "share": SHARE, "prefix": self.folder}
        return {"id": "nas", "origin_type": OriginType.SMB, "user": self.samba.user, "password": PASSWORD, **where}

    async def aclose(self) -> None:
        await super().aclose()
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture(scope="module")
def samba() -> Iterator[Samba]:
    with Samba() as server:
        yield server


@pytest.fixture
async def env(samba: Samba) -> AsyncIterator[SmbEnv]:
    env = SmbEnv(samba, "music")
    yield env
    await env.aclose()


class TestSmbFolders(FoldersContract):
    """The times of folders."""


class TestSmbObserved(ObservedContract):
    """The contract of observed scans, unchanged."""


class TestSmb(OriginContract):
    async def test_awkward_names_are_listed_and_read_exactly(self, env: OriginEnv) -> None:
        for name in AWKWARD:
            env.write(name, name.encode())
        origin = await env.open()
        found = await listing(origin)
        assert sorted(found) == sorted(NAMES)
        for name, stat in found.items():
            assert await origin.read(Replica.of(OriginId(origin.id), stat), 0, 1000) == name.encode()


# Versions


async def test_times_are_exact_to_what_the_protocol_can_say(env: SmbEnv) -> None:
    env.write("a", b"12345")
    os.utime(env.root / "a", ns=(0, 1_234_567_890_123_456_789))
    assert (await replica(await env.open(), "a")).mtime_ns == 1_234_567_890_123_456_700


async def test_a_file_modified_in_place_is_refused_from_then_on(env: SmbEnv) -> None:
    """Samba would go on telling the time of the file as it was when somebody opened it."""
    env.write("a", b"12345")
    origin = await env.open()
    file = await replica(origin, "a")
    for _ in range(2):
        assert await origin.read(file, 0, 5) == b"12345"
        env.write("a", b"54321")
        with pytest.raises(ReplicaFailed) as failed:
            await origin.read(file, 0, 5)
        assert failed.value.fault is ReplicaFault.CHANGED
        (env.root / "a").write_bytes(b"12345")
        os.utime(env.root / "a", ns=(file.mtime_ns, file.mtime_ns))


async def test_a_file_modified_while_it_is_read_is_refused(env: SmbEnv) -> None:
    """Whatever is read of it is of one version."""
    old, new = b"o" * 3_000_000, b"n" * 3_000_000
    env.write("a", old)
    origin = await env.open()
    file = await replica(origin, "a")
    for _ in range(20):
        reading = asyncio.create_task(origin.read(file, 0, len(old)))
        await asyncio.to_thread(env.write, "a", new)
        with suppress(ReplicaFailed):
            assert await reading == old
        env.write("a", old)
        os.utime(env.root / "a", ns=(file.mtime_ns, file.mtime_ns))


async def test_nothing_stays_open_on_the_server(env: SmbEnv) -> None:
    for n in range(20):
        env.write(f"{n}.flac", b"12345")
    origin = await env.open()
    for path in await listing(origin):
        file = await replica(origin, path)
        assert await origin.read(file, 0, 5) == b"12345"
        assert await origin.read(file, 9, 5) == b""
        (env.root / path).write_bytes(b"")
        with pytest.raises(ReplicaFailed):
            await origin.read(file, 3, 5)
    async for _ in origin.scan():
        break
    async with asyncio.timeout(PATIENCE):
        while await asyncio.to_thread(env.samba.open_files):
            await asyncio.sleep(0.01)


# Listing


async def test_links_on_the_server_neither_repeat_a_folder_for_ever_nor_fail_the_listing(env: SmbEnv) -> None:
    env.write("z/a.flac", b"x")
    (env.root / "z/up").symlink_to("..")
    (env.root / "self").symlink_to(".")
    (env.root / "dangling").symlink_to("nowhere")
    (env.root / "outside").symlink_to("/etc")
    (env.root / "file.flac").symlink_to("z/a.flac")
    assert sorted(await listing(await env.open())) == ["file.flac", "z/a.flac"]


async def test_hidden_and_system_folders_are_not_listed(env: SmbEnv) -> None:
    for name in ("a.flac", ".hidden/b", "lost+found/c", "System Volume Information/d", "x/e.flac"):
        env.write(name, b"x")
    with env.denied("lost+found"):
        assert sorted(await listing(await env.open())) == ["a.flac", "x/e.flac"]


async def test_a_folder_that_vanishes_during_the_scan_is_skipped(env: SmbEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1", "b/2", "c/3"):
        env.write(name, b"x")
    monkeypatch.setattr(folder_queue, "_AT_ONCE", 1)  # or all of them have been listed when the first one shows
    seen = []
    async for stat in (await env.open()).scan():
        seen.append(stat.path)
        if len(seen) == 1:
            left = next(folder for folder in ("a", "b", "c") if folder != stat.path[0])
            shutil.rmtree(env.root / left)
    assert len(seen) == 2
    assert left not in {path[0] for path in seen}


async def test_folders_are_listed_several_at_a_time(env: SmbEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes round trips, and a NAS has thousands."""
    for name in "abcd":
        env.write(f"{name}/1.flac", b"x")
    together, honest = threading.Barrier(4), SmbFiles.open_folder

    def opened(files: SmbFiles, path: str, root: Any, deadline: Deadline) -> object:
        if path:
            together.wait(PATIENCE)
        return honest(files, path, root, deadline)

    monkeypatch.setattr(SmbFiles, "open_folder", opened)
    found = [stat.path async for stat in (await env.open()).scan()]
    assert sorted(found) == [f"{name}/1.flac" for name in "abcd"]


@pytest.mark.parametrize("again", [True, False], ids=["replaced", "gone"])
async def test_a_root_that_vanishes_during_the_scan_fails_it(env: SmbEnv, again: bool) -> None:
    for name in ("a/1", "b/2", "c/3"):
        env.write(name, b"x")
    scan = (await env.open()).scan()
    await anext(scan)
    env.root.rename(env.root.parent / "away")
    try:
        if again:
            env.write("d/4", b"x")
        with pytest.raises(OriginFailed) as failed:
            [stat async for stat in scan]
    finally:
        shutil.rmtree(env.root.parent / "away")
    assert failed.value.fault is OriginFault.UNREACHABLE


@pytest.mark.parametrize("path", ["a:stream", "a\\b", "*", "folder/./a", "folder//a", "nul\0"])
async def test_paths_that_mean_something_else_to_a_share_are_no_files(env: SmbEnv, path: str) -> None:
    env.write("a", b"x")
    env.write("folder/a", b"x")
    with pytest.raises(ReplicaFailed) as failed:
        await (await env.open()).stat(path)
    assert failed.value.fault is ReplicaFault.MISSING


# The share as a whole


async def test_the_folder_of_a_whole_share_can_vanish_and_come_back(env: SmbEnv) -> None:
    env.write("a.flac", b"12345")
    origin = await env.open(prefix=None)
    file = await replica(origin, f"{env.folder}/a.flac")
    env.samba.root.rename(env.samba.root.parent / "away")
    try:
        for attempt in (origin.health(), listing(origin), origin.read(file, 0, 5), origin.stat(file.path)):
            with pytest.raises(OriginFailed) as failed:
                await attempt
            assert failed.value.fault is OriginFault.UNREACHABLE
    finally:
        (env.samba.root.parent / "away").rename(env.samba.root)
    assert await origin.health() is HealthStatus.HEALTHY
    assert await origin.read(file, 0, 5) == b"12345"


async def test_a_share_that_does_not_exist_is_unreachable_and_no_file_is_missing(env: SmbEnv) -> None:
    origin = await env.open(share="nowhere")
    for attempt in (origin.health(), origin.stat("a")):
        with pytest.raises(OriginFailed, match="'nowhere'") as failed:
            await attempt
        assert failed.value.fault is OriginFault.UNREACHABLE


async def test_a_host_that_nobody_knows_is_unreachable(env: SmbEnv) -> None:
    with pytest.raises(OriginFailed) as failed:
        await (await env.open(host="no-such-host.invalid")).health()
    assert failed.value.fault in (OriginFault.UNREACHABLE, OriginFault.TIMEOUT)


# Who may


async def test_guests_read_what_is_open_to_them_and_nothing_else(env: SmbEnv) -> None:
    env.write("a.flac", b"12345")
    origin = await env.open(share="open", user=None, password=None)
    assert await origin.read(await replica(origin, "a.flac"), 0, 5) == b"12345"
    with pytest.raises(OriginFailed, match="guests") as failed:
        await (await env.open(user=None, password=None)).health()
    assert failed.value.fault is OriginFault.DENIED


async def test_an_unknown_user_is_denied_and_not_taken_for_a_guest(env: SmbEnv) -> None:
    """Many servers make guests of them, whose connections nobody signs."""
    with pytest.raises(OriginFailed, match="does not know 'stranger'") as failed:
        await (await env.open(share="open", user="stranger")).health()
    assert failed.value.fault is OriginFault.DENIED


async def test_a_wrong_password_is_denied_and_told_to_nobody(env: SmbEnv, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    origin = await env.open(password="not-the-one")
    with pytest.raises(OriginFailed) as failed:
        await origin.health()
    assert failed.value.fault is OriginFault.DENIED
    assert "not-the-one" not in f"{failed.value!r} {failed.value.__cause__!r} {origin!r} {vars(origin)} {caplog.text}"


async def test_the_password_of_a_connection_that_stands_is_kept_nowhere(
    env: SmbEnv, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked for anew whenever it is needed, so that a new one counts at once."""
    caplog.set_level(1)
    origin = await env.open(password=None)
    monkeypatch.setenv("MUSICFS_NAS_PASSWORD", PASSWORD)
    assert await origin.health() is HealthStatus.HEALTHY
    assert PASSWORD not in f"{origin!r} {vars(origin)} {caplog.text}"


async def test_a_missing_password_is_told_with_where_to_put_it(env: SmbEnv) -> None:
    with pytest.raises(OriginFailed, match="MUSICFS_NAS_PASSWORD") as failed:
        await (await env.open(password=None)).health()
    assert failed.value.fault is OriginFault.DENIED


async def test_a_password_file_that_others_can_read_is_refused(env: SmbEnv, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    file.chmod(0o644)
    with pytest.raises(OriginFailed, match="chmod 600"):
        await (await env.open(password=None, password_file=file)).health()
    file.chmod(0o600)
    assert await (await env.open(password=None, password_file=file)).health() is HealthStatus.HEALTHY


# What servers can be told to speak


@pytest.mark.parametrize(
    "setting",
    [
        "server max protocol = SMB2_02",
        "server max protocol = SMB2_10",
        "server max protocol = SMB3_00",
        "smb encrypt = required",
        "smb2 max read = 65536",
        "smb2 max credits = 128",
    ],
)
async def test_old_strict_and_small_servers_are_read_from(setting: str) -> None:
    data = os.urandom(1_500_000)
    with Samba(settings=setting) as samba:
        env = SmbEnv(samba, "music")
        env.write("a/b.flac", data)
        origin = await env.open()
        file = await replica(origin, "a/b.flac")
        assert await asyncio.gather(*(origin.read(file, 0, len(data)) for _ in range(8))) == [data] * 8
        assert list(await listing(origin)) == ["a/b.flac"]
        with pytest.raises(ReplicaFailed):
            await origin.stat("a/nothing")
        await env.aclose()


# Settings


async def test_a_share_that_is_mounted_is_read_as_a_folder(env: SmbEnv) -> None:
    """With the patience that a network deserves."""
    env.write("a.flac", b"12345")
    table = {"id": "nas", "origin_type": "smb", "path": env.root}
    origin = open_origin(OriginConfig.model_validate(table), populated=False)
    assert isinstance(origin, LocalOrigin)
    assert origin.kind == OriginType.SMB
    assert HealthConfig().threshold_for(origin.kind) == 3
    assert await origin.read(await replica(origin, "a.flac"), 0, 5) == b"12345"
    await origin.aclose()


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("smb://nas/music", {"host": "nas", "share": "music"}),
        (
            "smb://HOME;me@nas:4450/music/flac/a%20b/",
            {"host": "nas", "share": "music", "port": 4450, "user": "me", "domain": "HOME", "prefix": "flac/a b"},
        ),
        ("smb://me%40realm@[::1]/Mus%C3%AFc", {"host": "::1", "share": "Musïc", "user": "me@realm"}),
    ],
)
def test_urls_stand_for_settings(url: str, settings: Mapping[str, object]) -> None:
    assert from_url(urlsplit(url)) == settings
    SmbSettings.model_validate(settings)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("smb://me:secret@nas/music", "MUSICFS_<ID>_PASSWORD"),
        ("smb://nas", "smb://user@host/share"),
        ("smb:///music", "smb://user@host/share"),
        ("smb://nas:99999/music", "port"),
        ("smb://nas/music?vers=3", "%3F"),
    ],
)
def test_urls_that_can_not_be_used_are_told_with_the_remedy(url: str, told: str) -> None:
    with pytest.raises(UsageError) as failed:
        origin_from_argument(url, [])
    assert told in str(failed.value)
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"host": "nas"},
        {"share": "music"},
        {"path": "/mnt", "host": "nas", "share": "music"},
        {"path": "/mnt", "user": "me"},
        {"host": "nas", "share": "music/flac"},
        {"host": "nas", "share": "music", "domain": "HOME"},
        {"host": "nas", "share": "music", "port": 0},
        {"host": "nas", "share": "music", "pasword": "x"},
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: Mapping[str, object]) -> None:
    with pytest.raises(ValidationError):
        SmbSettings.model_validate(settings)


async def test_the_folder_is_the_same_by_every_name_of_the_server_and_in_any_case(env: SmbEnv) -> None:
    env.write("Ada/a.flac", b"a")
    env.write("B/b.flac", b"b")
    whole = await identity(await env.open())
    for other in (
        {"host": "localhost"},
        {"prefix": env.folder.upper()},
        {"prefix": f"{env.folder}/Ada"},
        {"prefix": ""},
    ):
        assert whole.overlaps(await identity(await env.open(False, **other)))
    ada, b = [await identity(await env.open(False, prefix=f"{env.folder}/{name}")) for name in ("Ada", "B")]
    assert not ada.overlaps(b)


# Folders and files that are bad


def failing(monkeypatch: pytest.MonkeyPatch, name: str, method: str, error: Exception) -> None:
    """Makes a method of Share fail for the folder or file of this name, and its listing after the first page."""
    honest, handles = getattr(Share, method), set[bytes]()
    list_folder = Share.list_folder

    def listed(share: Share, path: str, deadline: Deadline) -> object:
        about, entries = list_folder(share, path, deadline)
        if path.endswith(name):
            handles.add(about.handle)
        return about, entries

    def fails(share: Share, what: Any, *args: Any) -> object:
        if what in handles if isinstance(what, bytes) else what.endswith(name):
            if isinstance(error, ShareLost):
                share.close()
            raise error
        return honest(share, what, *args)

    monkeypatch.setattr(Share, "list_folder", listed)
    monkeypatch.setattr(Share, method, fails)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StatusRefused(NtStatus.STATUS_ACCESS_DENIED), Reason.CLOSED_FOLDER),
        (StatusRefused(0xC0000032), Reason.BROKEN_FOLDER),  # the disk is corrupt
        (StatusRefused(0xC0000257), Reason.LINK_OUTSIDE),  # a path of DFS that another server has
        (StatusRefused(0xC0000106), Reason.DEEP_FOLDER),
        (ShareLost(OriginFault.TIMEOUT, "no answer"), Reason.SLOW_FOLDER),
        (ShareLost(OriginFault.IO, "the answer makes no sense"), Reason.BROKEN_FOLDER),
        (ShareLost(OriginFault.UNREACHABLE, "connection reset"), Reason.BROKEN_FOLDER),
    ],
)
@pytest.mark.parametrize("method", ["list_folder", "list_on"])
async def test_a_folder_that_the_server_does_not_list_costs_itself_alone(
    env: SmbEnv, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception, reason: Reason
) -> None:
    for path in ("a/1.flac", "bad/2.flac", "c/3.flac"):
        env.write(path, b"x")
    origin, observer = await env.open(), RecordingObserver()
    failing(monkeypatch, "bad", method, error)
    found = set(await observed(origin, observer)) - {"bad/2.flac"}
    assert found == {"a/1.flac", "c/3.flac"}
    if method == "list_folder" or reason is not Reason.LINK_OUTSIDE:
        assert observer.reasons.keys() == {"bad"}
    if method == "list_folder":
        assert observer.reasons == {"bad": reason}


@pytest.mark.parametrize(
    ("limit", "reason"), [("MAX_NAMES", Reason.BIG_FOLDER), ("MAX_FOLDER_SECS", Reason.SLOW_FOLDER)]
)
async def test_a_folder_that_is_too_big_or_slow_keeps_what_was_listed(
    env: SmbEnv, monkeypatch: pytest.MonkeyPatch, limit: str, reason: Reason
) -> None:
    for path in ("a/1.flac", "b/2.flac"):
        env.write(path, b"x")
    monkeypatch.setattr(driver, limit, 0)
    observer = RecordingObserver()
    assert set(await observed(await env.open(), observer)) == {"a/1.flac", "b/2.flac"}
    assert observer.reasons == {"": reason, "a": reason, "b": reason}


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (NtStatus.STATUS_ACCESS_DENIED, ReplicaFault.DENIED),
        (0xC0000185, ReplicaFault.IO),
        (0xC0000267, ReplicaFault.ARCHIVED),
        (0xC000CF0B, ReplicaFault.ARCHIVED),
    ],
)
async def test_a_file_that_can_not_be_read_blames_itself_while_the_root_answers(
    env: SmbEnv, monkeypatch: pytest.MonkeyPatch, status: int, fault: ReplicaFault
) -> None:
    env.write("a.flac", b"12345")
    origin = await env.open()
    file = await replica(origin, "a.flac")
    failing(monkeypatch, "a.flac", "read", StatusRefused(status))
    with pytest.raises(ReplicaFailed) as failed:
        await origin.read(file, 0, 5)
    assert failed.value.fault is fault
    assert await origin.health() is HealthStatus.HEALTHY


async def test_names_that_samba_shortens_are_reported(tmp_path: Path) -> None:
    with Samba(settings="mangled names = yes") as server:
        env = SmbEnv(server, "music")
        for path in ("a/01 Who Are You?.flac", "a/What?.mp3", "a/fine.flac"):
            env.write(path, b"x")
        observer = RecordingObserver()
        found = set(await observed(await env.open(), observer))
        await env.aclose()
    assert "a/fine.flac" in found
    assert len(found) == 2
    assert list(observer.reasons.values()) == [Reason.BAD_NAME]
    assert "mangled names = no" in observer.problems[0].detail
