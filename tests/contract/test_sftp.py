"""The SFTP kind keeps the contract, before a real OpenSSH server; and what only it can do."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import asyncssh
import pytest

from musicfs.config.load import check_paths, origin_from_argument
from musicfs.config.models import Config, OriginConfig
from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault, UsageError
from musicfs.model import OriginType
from musicfs.origins import folder_identity
from musicfs.origins.local.driver import LocalOrigin
from musicfs.origins.sftp.driver import SftpOrigin
from musicfs.origins.sftp.settings import SftpSettings, remote_path
from musicfs.problems import Reason
from musicfs.testing.folder_env import FolderEnv
from musicfs.testing.folders_contract import FoldersContract
from musicfs.testing.observed_contract import ObservedContract, RecordingObserver, observed
from musicfs.testing.origin_contract import OriginContract, identity, listing, replica
from tests.support.servers.process import HOST, Server
from tests.support.servers.sshd import Sshd, make_key, open_folder, run_tool, sshd


class SftpEnv(FolderEnv):
    tick_ns = 10**9

    def __init__(self, server: Sshd, root: Path) -> None:
        super().__init__(root)
        self.server = server

    def table(self) -> Mapping[str, object]:
        where = {"host": HOST, "port": self.server.port, "user": self.server.user, "path": str(self.root)}
        access = {"key_file": self.server.key, "known_hosts": self.server.known_hosts}
        return {"id": "nas", "origin_type": OriginType.SFTP, **where, **access}

    def local(self) -> OriginConfig:
        """The same folder without the server."""
        return OriginConfig.model_validate({"id": "disk", "origin_type": OriginType.LOCAL, "path": self.root})

    def open_files(self) -> int:
        """How many files below the root the server's processes hold open."""
        links = [link for process in self.server.processes() for link in Path(f"/proc/{process.pid}/fd").glob("*")]
        return sum(str(link.readlink()).startswith(f"{self.root}/") for link in links if link.is_symlink())

    async def open(self, populated: bool = False, **other: object) -> SftpOrigin:
        origin = await super().open(populated, **other)
        assert isinstance(origin, SftpOrigin)
        return origin


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    with sshd() as server:
        yield server


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, so that no key, agent or setting of whoever runs the tests plays a part."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path


@pytest.fixture
async def env(server: Sshd) -> AsyncIterator[SftpEnv]:
    with open_folder() as folder:
        (folder / "music").mkdir()
        env = SftpEnv(server, folder / "music")
        yield env
        await env.aclose()


class TestSftpFolders(FoldersContract):
    """The times of folders."""


class TestSftp(OriginContract):
    """The contract, unchanged."""


class TestSftpObserved(ObservedContract):
    """The contract of observed scans, unchanged."""


async def test_links_that_lead_nowhere_or_may_not_be_followed_cost_themselves_alone(env: SftpEnv) -> None:
    env.write("a/1.flac", b"12345")
    env.write("z/2.flac", b"12345")
    (env.root.parent / "kept").mkdir(0)
    kept = str(env.root.parent / "kept/x")
    for name, target in {"nowhere": "none", "loop": "loop", "kept": kept, "own": "1.flac"}.items():
        (env.root / "a" / name).symlink_to(target)
    observer = RecordingObserver()
    assert set(await observed(await env.open(), observer)) == {"a/1.flac", "z/2.flac"}
    assert observer.reasons.keys() == {"a/nowhere", "a/loop", "a/kept"}
    assert observer.reasons["a/nowhere"] is Reason.LINK_BROKEN
    assert observer.reasons["a/kept"] is Reason.DENIED
    assert set(await listing(await env.open())) == {"a/1.flac", "z/2.flac"}


# Getting in


async def lets_in(env: SftpEnv, **access: object) -> bool:
    """Whether the origin works with these settings instead of the usual ones."""
    env.write("a.flac", b"12345")
    origin = await env.open(False, **access)
    return await origin.read(await replica(origin, "a.flac"), 0, 5) == b"12345"


async def refused(env: SftpEnv, **access: object) -> OriginFailed:
    with pytest.raises(OriginFailed) as failed:
        await (await env.open(False, **access)).health()
    return failed.value


@pytest.mark.parametrize("file", ["missing", "empty", "other"])
async def test_a_host_that_is_not_known_is_refused_with_what_to_do(env: SftpEnv, home: Path, file: str) -> None:
    known = home / "known"
    if file == "empty":
        known.touch()
    elif file == "other":
        make_key(home / "other")
        known.write_text(f"[{HOST}]:{env.server.port} " + (home / "other.pub").read_text())
    failed = await refused(env, known_hosts=None if file == "missing" else known)
    assert failed.fault is OriginFault.DENIED
    assert f"`ssh-keyscan -p {env.server.port} {HOST} >> " in str(failed)
    assert f"`ssh -p {env.server.port} {env.server.user}@{HOST}`" in str(failed)


async def test_the_users_own_known_hosts_are_believed_too(env: SftpEnv, home: Path) -> None:
    (home / ".ssh").mkdir()
    shutil.copy(env.server.known_hosts, home / ".ssh/known_hosts")
    (home / "other").touch()
    assert await lets_in(env, known_hosts=None)
    assert await lets_in(env, known_hosts=home / "other")


async def test_host_keys_are_checked_even_where_the_configuration_of_ssh_says_no(env: SftpEnv, home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh/config").write_text("UserKnownHostsFile none\nStrictHostKeyChecking no\n")
    assert (await refused(env, known_hosts=None)).fault is OriginFault.DENIED


async def test_a_key_that_the_server_does_not_know_is_refused(env: SftpEnv, home: Path) -> None:
    make_key(home / "other")
    failed = await refused(env, key_file=home / "other")
    assert failed.fault is OriginFault.DENIED
    assert "MUSICFS_NAS_PASSWORD" in str(failed)


async def test_a_key_file_that_is_missing_is_named(env: SftpEnv, home: Path) -> None:
    failed = await refused(env, key_file=home / "nowhere")
    assert failed.fault is OriginFault.DENIED
    assert f"{home}/nowhere can't be read" in str(failed)


async def test_a_keys_passphrase_comes_from_the_environment(
    env: SftpEnv, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_key(home / "locked", "tell nobody")
    with env.server.also_lets_in(home / "locked"):
        failed = await refused(env, key_file=home / "locked")
        assert failed.fault is OriginFault.DENIED
        assert "MUSICFS_NAS_PASSPHRASE" in str(failed)
        monkeypatch.setenv("MUSICFS_NAS_PASSPHRASE", "tell nobody")
        assert await lets_in(env, key_file=home / "locked")
        monkeypatch.setenv("MUSICFS_NAS_PASSPHRASE", "a guess")
        assert "a guess" not in str(await refused(env, key_file=home / "locked"))


async def test_the_agent_is_asked_for_keys(env: SftpEnv, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = home / "agent"
    command = ["ssh-agent", "-D", "-a", str(socket)]
    with Server(command, 0, home / "agent.log", ready=socket.exists):
        run_tool(["ssh-add", "-q", str(env.server.key)], SSH_AUTH_SOCK=str(socket))
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        assert await lets_in(env, key_file=None)


async def test_what_the_settings_leave_open_is_taken_from_the_users_ssh_config(env: SftpEnv, home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh/config").write_text(
        f"Host jukebox\n HostName {HOST}\n Port {env.server.port}\n User {env.server.user}\n"
        f" IdentityFile {env.server.key}\n UserKnownHostsFile {env.server.known_hosts}\n"
    )
    assert await lets_in(env, host="jukebox", port=None, user=None, key_file=None, known_hosts=None)


@pytest.mark.parametrize(
    "line",
    [
        "IdentityFile {home}/nowhere\n IdentityFile {key}",
        "CertificateFile {home}/nowhere\n IdentityFile {key}",
        "IdentityFile {key} # my key",
        "ConnectTimeout none\n IdentityFile {key}",
        "ConnectTimeout 10 # seconds\n IdentityFile {key}",
    ],
)
async def test_what_ssh_accepts_in_its_config_is_accepted_here(env: SftpEnv, home: Path, line: str) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh/config").write_text(f"Host *\n {line.format(home=home, key=env.server.key)}\n")
    assert await lets_in(env, key_file=None)


async def test_a_key_file_with_a_passphrase_works_if_the_agent_has_the_key(
    env: SftpEnv, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(env.server.key, home / "key")
    run_tool(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret words", "-f", str(home / "key")])
    failed = await refused(env, key_file=home / "key")
    assert failed.fault is OriginFault.DENIED
    assert "ssh-add" in str(failed)
    assert "MUSICFS_NAS_PASSPHRASE" in str(failed)
    socket = home / "agent"
    command = ["ssh-agent", "-D", "-a", str(socket)]
    with Server(command, 0, home / "agent.log", ready=socket.exists):
        run_tool(["ssh-add", "-q", str(env.server.key)], SSH_AUTH_SOCK=str(socket))
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        assert await lets_in(env, key_file=home / "key")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("ProxyCommand no-such-program %h %p", "runs no-such-program, which is not there"),
        ("KexAlgorithms sntrup761x25519-sha512@example.org", "KexAlgorithms"),
    ],
)
async def test_what_can_not_work_in_the_config_of_ssh_is_named(env: SftpEnv, home: Path, line: str, told: str) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh/config").write_text(f"Host *\n {line}\n")
    failed = await refused(env)
    assert told in str(failed)
    assert failed.fault is OriginFault.UNREACHABLE


@pytest.mark.parametrize(("said", "used"), [("", "aes256-gcm@openssh.com"), ("Ciphers aes128-ctr\n", "aes128-ctr")])
async def test_the_cipher_is_the_one_of_the_ssh_config_or_one_that_costs_little(
    env: SftpEnv, home: Path, said: str, used: str
) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh/config").write_text(said)
    origin = await env.open()
    await origin.health()
    (session,) = origin._sessions.living
    assert session._connection.get_extra_info("send_cipher") == used


class PasswordServer(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password == "tell nobody"


async def test_a_password_comes_from_the_environment_and_is_shown_nowhere(
    env: SftpEnv, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server of the library's own, since OpenSSH takes no passwords but the system's."""
    caplog.set_level("DEBUG")
    async with asyncssh.listen(
        HOST, 0, server_factory=PasswordServer, server_host_keys=[env.server.home / "host_key"], sftp_factory=True
    ) as listener:
        port = listener.get_port()
        access = {"port": port, "known_hosts": env.server.known_as(port), "key_file": None}
        assert (await refused(env, **access)).fault is OriginFault.DENIED
        monkeypatch.setenv("MUSICFS_NAS_PASSWORD", "a guess")
        told = str(await refused(env, **access))
        monkeypatch.setenv("MUSICFS_NAS_PASSWORD", "tell nobody")
        assert await lets_in(env, **access)
        monkeypatch.delenv("MUSICFS_NAS_PASSWORD")
        (home / "password").write_text("tell nobody\n")
        (home / "password").chmod(0o644)
        assert "chmod 600" in str(await refused(env, **access, password_file=home / "password"))
        (home / "password").chmod(0o600)
        assert await lets_in(env, **access, password_file=home / "password")
        assert "a guess" not in told + caplog.text
        assert "tell nobody" not in caplog.text + repr(env.config(password="tell nobody"))


# Settings


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("sftp://nas/srv/music", {"host": "nas", "path": "/srv/music"}),
        ("sftp://me@nas:2222/srv", {"host": "nas", "port": 2222, "user": "me", "path": "/srv"}),
        ("sftp://nas/~/music", {"host": "nas", "path": "~/music"}),
        ("SFTP://[fe80::1]/a%20b%23", {"host": "fe80::1", "path": "/a b#"}),
        ("sftp://nas/", {"host": "nas", "path": "/"}),
    ],
)
def test_a_url_is_understood(url: str, settings: dict[str, object]) -> None:
    table = origin_from_argument(url, [])
    assert {key: table[key] for key in table if key not in ("id", "priority", "origin_type")} == settings
    assert SftpSettings.model_validate(settings)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sftp://me:hunter2@nas/music", "MUSICFS_<ID>_PASSWORD"),
        ("sftp://nas", "the folder is missing"),
        ("sftp:///music", "the host is missing"),
        ("sftp://nas/music?port=5", "%3F"),
        ("sftp://nas:port/music", "Port could not be cast"),
    ],
)
def test_a_url_that_is_of_no_use_is_told(url: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as failed:
        origin_from_argument(url, [])
    assert "hunter2" not in str(failed.value)


@pytest.mark.parametrize(
    ("path", "remote"),
    [("/srv/music/", "/srv/music"), ("/", "/"), ("music", "music"), ("~/music", "music"), ("~", "."), ("~/", ".")],
)
def test_a_path_without_a_slash_before_it_is_in_the_users_home(path: str, remote: str) -> None:
    assert remote_path(path) == remote


def test_files_of_the_settings_are_to_be_files(env: SftpEnv, home: Path) -> None:
    config = Config(cache_dir=home, origins=(env.config(), env.config(id="two", key_file=home, known_hosts=home / "x")))
    assert check_paths(config) == [
        f"origin 'two': key_file is {home}, which is not a file: correct the path.",
        f"origin 'two': known_hosts is {home}/x, which does not exist: correct the path.",
    ]


# Reading


async def test_a_file_modified_in_place_is_refused_on_its_open_handle(env: SftpEnv) -> None:
    env.write("a", b"12345")
    origin = await env.open()
    file = await replica(origin, "a")
    assert await origin.read(file, 0, 5) == b"12345"
    env.write("a", b"54321")
    with pytest.raises(ReplicaFailed) as failed:
        await origin.read(file, 0, 5)
    assert failed.value.fault is ReplicaFault.CHANGED


async def test_a_folder_in_the_place_of_a_file_is_missing(env: SftpEnv) -> None:
    env.write("a", b"12345")
    origin = await env.open()
    file = await replica(origin, "a")
    env.remove("a")
    env.write("a/b", b"x")
    with pytest.raises(ReplicaFailed) as failed:
        await origin.read(file, 0, 5)
    assert failed.value.fault is ReplicaFault.MISSING


async def test_files_kept_open_are_bounded_and_let_go_of_when_idle(env: SftpEnv) -> None:
    for n in range(200):
        env.write(str(n), b"x")
    origin = await env.open()
    files = [await replica(origin, str(n)) for n in range(200)]
    for _ in range(2):
        assert await asyncio.gather(*(origin.read(file, 0, 9) for file in files)) == [b"x"] * 200
    assert 0 < env.open_files() <= 2 * 64
    await origin.health()
    assert env.open_files() > 0
    await origin.health()
    async with asyncio.timeout(30):
        while env.open_files():
            await asyncio.sleep(0.01)
    assert await origin.read(files[0], 0, 9) == b"x"


# Listing


async def test_links_are_followed_once_and_loops_end(env: SftpEnv) -> None:
    outside = env.root.parent / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "far.flac").write_bytes(b"x")
    (outside / "sub/deep.flac").write_bytes(b"x")
    (outside / "back").symlink_to(env.root)
    env.write("z/a.flac", b"x")
    env.write("z/self", b"x")
    env.write(".hidden/b.flac", b"x")
    (env.root / "a-link-to-z").symlink_to("z")
    (env.root / "z/loop").symlink_to("..")
    (env.root / "z/file-link.flac").symlink_to("a.flac")
    (env.root / "z/out").symlink_to("../../outside/sub")
    (env.root / "link-1").symlink_to(outside)
    (env.root / "link-2").symlink_to(outside)
    (env.root / "link-file.flac").symlink_to(outside / "far.flac")
    (env.root / "dangling").symlink_to("nowhere")
    (env.root / "circle").symlink_to("circle")
    found = await listing(await env.open())
    assert found.keys() == (await listing(LocalOrigin(env.local()))).keys()
    assert sorted(found) == ["link-1/far.flac", "link-file.flac", "z/a.flac", "z/out/deep.flac", "z/self"]
    assert found["link-file.flac"].size == 1


async def test_hidden_and_system_folders_are_not_listed(env: SftpEnv) -> None:
    for name in ("a.flac", ".hidden/b", "lost+found/c", "x/.Trash/d", "x/e.flac"):
        env.write(name, b"x")
    os.mkfifo(env.root / "pipe")
    with env.denied("lost+found"):
        assert sorted(await listing(await env.open())) == ["a.flac", "x/e.flac"]


async def test_a_folder_that_vanishes_during_the_scan_is_skipped(env: SftpEnv) -> None:
    """Some folders are listed ahead of what was told."""
    for n in range(30):
        env.write(f"{n:02}/x", b"x")
    seen = []
    async for stat in (await env.open()).scan():
        seen.append(stat.path)
        if stat.path == "00/x":
            shutil.rmtree(env.root / "29")
    assert seen == [f"{n:02}/x" for n in range(29)]


async def test_a_root_that_vanishes_during_the_scan_fails_it(env: SftpEnv) -> None:
    for n in range(30):
        env.write(f"{n:02}/x", b"x")
    scan = (await env.open()).scan()
    assert (await anext(scan)).path == "00/x"
    env.remove_root()
    with pytest.raises(OriginFailed) as failed:
        [stat async for stat in scan]
    assert failed.value.fault is OriginFault.UNREACHABLE


async def test_a_root_that_is_a_file_is_unreachable(env: SftpEnv) -> None:
    env.remove_root()
    env.root.write_bytes(b"x")
    assert "not a folder" in str(await refused(env))


async def test_the_folder_is_the_same_on_every_way_to_it(env: SftpEnv) -> None:
    env.write("Ada/a.flac", b"a")
    (env.root / "way").symlink_to(env.root)
    whole = await identity(await env.open())
    for path, overlaps in ((env.root / "way", True), (env.root / "Ada", True), (env.root.parent, True)):
        other = await identity(await env.open(False, path=str(path)))
        assert whole.overlaps(other) is other.overlaps(whole) is overlaps
    env.write("B/b.flac", b"b")
    ada = await identity(await env.open(False, path=str(env.root / "Ada")))
    assert not ada.overlaps(await identity(await env.open(False, path=str(env.root / "B"))))


async def test_the_folder_of_a_server_on_this_machine_is_the_local_folder(
    env: SftpEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    env.write("a.flac", b"a")
    local = await LocalOrigin(env.local()).identify_folder()
    assert not local.overlaps(await identity(await env.open()))
    keys = env.server.key.parent
    monkeypatch.setattr(folder_identity, "_HOST_KEYS", keys)
    (keys / "ssh_host_test_key.pub").write_text(" ".join(env.server.known_hosts.read_text().split()[1:3]))
    assert local.overlaps(await identity(await env.open()))
