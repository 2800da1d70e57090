"""The NFS kind keeps the contract, against a real server; and what only it can do."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from musicfs.config.kinds import open_origin
from musicfs.config.load import origin_from_argument
from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault, UsageError
from musicfs.model import HealthStatus, OriginId, OriginType, Replica
from musicfs.origin import Origin
from musicfs.origins import folder_queue
from musicfs.origins.local.driver import LocalOrigin
from musicfs.origins.nfs.driver import NfsOrigin
from musicfs.origins.nfs.settings import NfsSettings
from musicfs.testing.folder_env import FolderEnv
from musicfs.testing.folders_contract import FoldersContract
from musicfs.testing.observed_contract import ObservedContract
from musicfs.testing.origin_contract import OriginContract, identity, listing, replica
from tests.support.servers.ganesha import Ganesha
from tests.support.servers.process import HOST


class NfsEnv(FolderEnv):
    """A folder of its own below the exported one; the server acts as nobody, so that file modes count."""

    def __init__(self, root: Path, server: Ganesha) -> None:
        super().__init__(root)
        self.server = server

    def table(self) -> Mapping[str, object]:
        where = {"host": HOST, "port": self.server.port, "mount_port": self.server.mount_port}
        return {"id": "nas", "origin_type": OriginType.NFS, "export": str(self.root), **where}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ganesha]:
    exported = tmp_path_factory.mktemp("export")
    before = os.umask(0o022)
    exported.chmod(0o755)
    server = Ganesha(exported, tmp_path_factory.mktemp("ganesha"))
    with server:
        yield server
    os.umask(before)


@pytest.fixture
async def env(server: Ganesha, tmp_path: Path) -> AsyncIterator[NfsEnv]:
    root = server.root / tmp_path.name
    root.mkdir()
    env = NfsEnv(root, server)
    yield env
    await env.aclose()


class TestNfsFolders(FoldersContract):
    """The times of folders."""


class TestNfs(OriginContract):
    """The contract, unchanged."""


class TestNfsObserved(ObservedContract):
    """The contract of observed scans, unchanged."""


# Files and folders


async def test_a_file_modified_in_place_is_refused_though_its_handle_is_open(env: NfsEnv) -> None:
    env.write("a", b"12345")
    origin = await env.open()
    file = await replica(origin, "a")
    assert await origin.read(file, 0, 5) == b"12345"
    env.write("a", b"54321")
    with pytest.raises(ReplicaFailed) as failed:
        await origin.read(file, 0, 5)
    assert failed.value.fault is ReplicaFault.CHANGED


async def test_a_file_replaced_by_rename_serves_the_old_bytes_or_none(env: NfsEnv) -> None:
    env.write("a", b"12345")
    origin = await env.open()
    file = await replica(origin, "a")
    assert await origin.read(file, 0, 5) == b"12345"
    env.write("new", b"54321")
    (env.root / "new").rename(env.root / "a")
    result = (await asyncio.gather(origin.read(file, 0, 5), return_exceptions=True))[0]
    assert result == b"12345" or getattr(result, "fault", None) is ReplicaFault.CHANGED


@pytest.mark.parametrize("fault", ["pipe", "folder"])
async def test_what_is_no_file_any_more_is_refused_and_does_not_hang(env: NfsEnv, fault: str) -> None:
    env.write("a", b"12345")
    env.write("b", b"x")
    origin = await env.open()
    file = await replica(origin, "a")
    env.remove("a")
    os.mkfifo(env.root / "a") if fault == "pipe" else (env.root / "a").mkdir()
    with pytest.raises(ReplicaFailed):
        await origin.read(file, 0, 5)


async def test_versions_are_told_apart_by_a_nanosecond(env: NfsEnv) -> None:
    env.write("a", b"12345")
    origin = await env.open()
    file = await replica(origin, "a")
    assert file.mtime_ns == (env.root / "a").stat().st_mtime_ns
    other = Replica(OriginId("nas"), "a", 5, file.mtime_ns + 1)
    with pytest.raises(ReplicaFailed) as failed:
        await origin.read(other, 0, 5)
    assert failed.value.fault is ReplicaFault.CHANGED


async def test_more_files_than_a_connection_keeps_open_are_read_right(env: NfsEnv) -> None:
    names = [f"{n}.flac" for n in range(60)]
    for name in names:
        env.write(name, name.encode())
    origin = await env.open(pool_size=1)
    files = [await replica(origin, name) for name in names]
    for file in files + files[::-1]:
        assert await origin.read(file, 0, 99) == file.path.encode()


async def test_a_folder_that_was_replaced_by_its_equal_serves_its_files_again(env: NfsEnv) -> None:
    """As when a disk was taken out of the server and put back: all handles are stale, and the paths are right."""
    env.write("a", b"12345")
    origin = await env.open()
    file = await replica(origin, "a")
    assert await origin.read(file, 0, 5) == b"12345"
    shutil.copytree(env.root, f"{env.root}-copy")
    shutil.rmtree(env.root)
    Path(f"{env.root}-copy").rename(env.root)
    assert await origin.health() is HealthStatus.HEALTHY
    assert await origin.read(file, 0, 5) == b"12345"


async def test_a_folder_that_was_replaced_serves_what_is_at_its_path_now(env: NfsEnv) -> None:
    """Though what is known of it, and of the files in it, leads to those of before, which are still there."""
    for name in ("a/b/1", "a/b/2", "a/b/3"):
        env.write(name, b"12345")
    origin = await env.open()
    old = [await replica(origin, name) for name in ("a/b/1", "a/b/2", "a/b/3")]
    assert [await origin.read(file, 0, 9) for file in old] == [b"12345"] * 3
    (env.root / "a").rename(env.root / "before")
    for name in ("a/b/1", "a/b/3", "a/b/4"):
        env.write(name, b"new")
    for name in ("a/b/4", "a/b/1", "a/b/3"):
        assert await origin.read(await replica(origin, name), 0, 9) == b"new"
    moved = (await asyncio.gather(origin.read(old[1], 0, 9), return_exceptions=True))[0]
    assert moved == b"12345" or getattr(moved, "fault", None) is ReplicaFault.MISSING


@pytest.mark.parametrize("put_back", [True, False])
async def test_handles_that_went_stale_cost_a_walk_and_no_failure_of_the_origin(env: NfsEnv, put_back: bool) -> None:
    """Those of files that were read, and those that were only told of with their neighbours."""
    names = ["a/1", "a/2", "a/3"]
    for name in names:
        env.write(name, b"12345")
    origin = await env.open(pool_size=1)
    files = [await replica(origin, name) for name in names]
    assert [await origin.read(file, 0, 9) for file in files[:2]] == [b"12345"] * 2
    if put_back:
        shutil.copytree(env.root / "a", env.root / "copy")
    shutil.rmtree(env.root / "a")
    if put_back:
        (env.root / "copy").rename(env.root / "a")
    else:
        for name in names:
            env.write(name, b"other")
    for file in files:
        result = (await asyncio.gather(origin.read(file, 0, 9), return_exceptions=True))[0]
        kept_open_by_the_server = result == b"12345"
        assert kept_open_by_the_server or (not put_back and getattr(result, "fault", None) is ReplicaFault.CHANGED)
    if not put_back:
        assert [await origin.read(await replica(origin, name), 0, 9) for name in names] == [b"other"] * 3


async def test_a_file_behind_a_link_is_read(env: NfsEnv) -> None:
    """As when somebody moved a folder and left a link in its place."""
    env.write("a/b", b"12345")
    origin = await env.open()
    file = await replica(origin, "a/b")
    (env.root / "a").rename(env.root / "moved")
    (env.root / "a").symlink_to("moved")
    assert await origin.read(file, 0, 9) == b"12345"
    (env.root / "moved" / "c").symlink_to("b")
    assert await origin.read(Replica(file.origin, "a/c", file.size, file.mtime_ns), 1, 3) == b"234"


async def test_a_file_larger_than_the_server_gives_at_once_is_read_whole(env: NfsEnv) -> None:
    data = os.urandom(5_000_001)
    env.write("a", data)
    origin = await env.open()
    file = await replica(origin, "a")
    assert await origin.read(file, 0, len(data) + 1) == data
    assert await origin.read(file, 1, 3_000_000) == data[1:3_000_001]
    assert await origin.read(file, len(data), 9) == b""


async def test_links_are_left_out_since_they_lead_to_what_is_listed_or_nowhere(env: NfsEnv) -> None:
    env.write("a/b", b"x")
    (env.root / "link").symlink_to("a")
    (env.root / "a" / "link").symlink_to("b")
    (env.root / "out").symlink_to("/etc")
    (env.root / "loop").symlink_to("loop")
    assert list(await listing(await env.open())) == ["a/b"]


async def test_hidden_and_system_folders_are_not_listed(env: NfsEnv) -> None:
    for name in ("a.flac", ".hidden/b", "lost+found/c", "x/.Trash/d", "x/e.flac"):
        env.write(name, b"x")
    with env.denied("lost+found"):
        assert sorted(await listing(await env.open())) == ["a.flac", "x/e.flac"]


async def test_a_folder_that_vanishes_during_the_scan_is_skipped(env: NfsEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1", "b/2", "c/3"):
        env.write(name, b"x")
    monkeypatch.setattr(folder_queue, "_AT_ONCE", 1)  # or all of them may have been listed when the first one shows
    seen = []
    async for stat in (await env.open()).scan():
        seen.append(stat.path)
        if stat.path == "a/1":
            shutil.rmtree(env.root / "b")
    assert seen == ["a/1", "c/3"]


@pytest.mark.parametrize("again", [True, False], ids=["replaced", "gone"])
async def test_a_root_that_vanishes_during_the_scan_fails_it(env: NfsEnv, again: bool) -> None:
    for name in ("a/1", "b/2", "c/3"):
        env.write(name, b"x")
    scan = (await env.open()).scan()
    assert (await anext(scan)).path == "a/1"
    env.remove_root()
    if again:
        env.write("d/4", b"x")
    with pytest.raises(OriginFailed) as failed:
        [stat async for stat in scan]
    assert failed.value.fault is OriginFault.UNREACHABLE


# Who may


async def test_an_export_that_is_refused_is_told_with_what_to_do(env: NfsEnv) -> None:
    """The same for a folder that is not there, and one that is not for this machine: servers do not tell which."""
    origin = await env.open(export="/nowhere")
    with pytest.raises(OriginFailed, match=f"mount {HOST}:/nowhere; .* 'insecure'") as failed:
        await origin.health()
    assert failed.value.fault is OriginFault.UNREACHABLE


@contextmanager
def unprivileged_ports() -> Iterator[None]:
    """Takes the right to use ports below 1024 from this thread and from those that it starts meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0
    before = data[0]
    data[0] = before & ~(1 << 10)  # CAP_NET_BIND_SERVICE
    assert libc.capset(header, data) == 0
    try:
        yield
    finally:
        data[0] = before
        assert libc.capset(header, data) == 0


async def test_a_server_that_wants_privileged_ports_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    with Ganesha(tmp_path / "export", tmp_path, squash="No_Root_Squash", privileged=True) as server:
        assert isinstance(server, Ganesha)
        env = NfsEnv(server.root, server)
        env.write("a", b"x")
        with unprivileged_ports(), pytest.raises(OriginFailed, match="'insecure'"):
            await (await env.open()).health()
        await env.aclose()


async def test_the_groups_of_the_user_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "export").mkdir()
    with Ganesha(tmp_path / "export", tmp_path, squash="No_Root_Squash") as server:
        assert isinstance(server, Ganesha)
        env = NfsEnv(server.root, server)
        env.write("a", b"12345")
        os.chown(env.root / "a", 0, 4711)
        (env.root / "a").chmod(0o640)
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
        monkeypatch.setattr(os, "getegid", lambda: 65534)
        monkeypatch.setattr(os, "getgroups", lambda: [65534, 4711])
        origin = await env.open()
        file = await replica(origin, "a")
        assert await origin.read(file, 0, 5) == b"12345"
        monkeypatch.setattr(os, "getgroups", list)
        with pytest.raises(ReplicaFailed) as failed:
            await (await env.open()).read(file, 0, 5)
        assert failed.value.fault is ReplicaFault.DENIED
        await env.aclose()


# Settings


def opened(**table: object) -> Origin:
    return open_origin(OriginConfig.model_validate({"id": "nas", "origin_type": "nfs"} | table), populated=False)


async def test_a_mounted_export_is_read_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    origin = opened(path=tmp_path)
    assert isinstance(origin, LocalOrigin)
    assert origin.kind == OriginType.NFS
    assert await origin.read(await replica(origin, "a"), 0, 9) == b"12345"
    await origin.aclose()


@pytest.fixture
def stale(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the next read of an open file fail as the system does where the server has forgotten its handle."""
    pread, due = os.pread, [False]

    def forgetful(fd: int, size: int, offset: int) -> bytes:
        if due[0]:
            due[0] = False
            raise OSError(errno.ESTALE, "Stale file handle")
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", forgetful)
    return lambda: due.__setitem__(0, True)


async def test_a_file_of_a_mounted_export_whose_handle_is_stale_is_opened_again_by_its_path(
    tmp_path: Path, stale: Callable[[], None]
) -> None:
    """And checked again: what lies there by then may be another file."""
    (tmp_path / "a").write_bytes(b"12345")
    origin = opened(path=tmp_path)
    file = await replica(origin, "a")
    for _ in range(2):
        assert await origin.read(file, 0, 9) == b"12345"
        stale()
    (tmp_path / "new").write_bytes(b"54321")
    os.utime(tmp_path / "new", ns=(0, file.mtime_ns + 1))
    (tmp_path / "new").rename(tmp_path / "a")
    with pytest.raises(ReplicaFailed) as failed:
        await origin.read(file, 0, 9)
    assert failed.value.fault is ReplicaFault.CHANGED
    await origin.aclose()


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({}, "use host and export, or path"),
        ({"host": "nas"}, "use host and export, or path"),
        ({"path": "/mnt/nas", "host": "nas", "export": "/music"}, "use either path"),
        ({"host": "nas", "export": "music"}, "export"),
        ({"host": "nas", "export": "/music", "port": 70000}, "port"),
        ({"host": "nas", "export": "/music", "version": 4}, "version"),
        ({"host": "nas", "export": "/music", "user": "me"}, "user"),
    ],
)
def test_settings_that_can_not_be_meant_are_refused(table: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        NfsSettings.model_validate(table)


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("nfs://nas/export/music", {"host": "nas", "export": "/export/music"}),
        (
            "NFS://nas:2050/music/?mount_port=2051",
            {"host": "nas", "export": "/music", "port": 2050, "mount_port": 2051},
        ),
        ("nfs://[fd00::1]/a%20b%23c", {"host": "fd00::1", "export": "/a b#c"}),
    ],
)
def test_an_origin_of_the_command_line_is_an_export(url: str, settings: dict[str, object]) -> None:
    table = origin_from_argument(url, [])
    assert {key: value for key, value in table.items() if key not in ("id", "priority", "origin_type")} == settings
    NfsSettings.model_validate(settings)
    assert isinstance(opened(**settings), NfsOrigin)


@pytest.mark.parametrize("url", ["nfs://nas", "nfs:///music", "nfs://nas/", "nfs://me:secret@nas/music", "nfs://me@nas/m",
                                 "nfs://nas/a#b", "nfs://nas/a?colour=red", "nfs://nas:no/a"])  # fmt: skip
def test_urls_that_name_no_export_are_refused_with_the_remedy(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        origin_from_argument(url, [])
    assert "secret" not in str(refused.value)


async def test_the_export_is_the_same_by_every_name_of_the_server(env: NfsEnv) -> None:
    env.write("Ada/a.flac", b"a")
    env.write("B/b.flac", b"b")
    whole = await identity(await env.open())
    for other in ({"host": "localhost"}, {"export": f"{env.root}/Ada"}):
        assert whole.overlaps(await identity(await env.open(False, **other)))
    ada, b = [await identity(await env.open(False, export=f"{env.root}/{name}")) for name in ("Ada", "B")]
    assert not ada.overlaps(b)
