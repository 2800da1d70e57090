"""Origins come and go on a mount that is being read, by the commands of a user."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import pytest

from musicfs.control.client import ControlClient
from tests.support.commands import Commands, commands, make_album
from tests.support.mounting import PATIENCE, eventually
from tests.support.servers.process import HOST
from tests.support.servers.sshd import sshd

SHARED = "Artist/Album (2001) [FLAC]"
OWN = "Other/Record (2001) [FLAC]"


class Live:
    """A mount of the origins a and b from a configuration file: b has an album of its own besides."""

    def __init__(self, user: Commands) -> None:
        self.user = user
        self.mount_point = user.home / "m"
        self.file = user.home / "musicfs.toml"
        for id in "ab":
            make_album(user.home / id / "shared")
        make_album(user.home / "b/own", tracks=2, artist="Other", album="Record", seed=100)
        self.write("a", "b")

    def write(self, *ids: str, more: str = "") -> None:
        origins = "".join(
            f'[[origins]]  # {id}\nid = "{id}"\norigin_type = "local"\npath = "{id}"\npriority = {number}\n\n'
            for number, id in enumerate(ids, 1)
        )
        text = f'mount_point = "{self.mount_point}"\ncache_dir = "{self.user.home}/cache"\n\n{origins}{more}'
        self.file.write_text(text)

    def do(self, *arguments: str | Path) -> str:
        done = self.user(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def origins(self) -> dict[str, dict[str, Any]]:
        return {o["id"]: o for o in self.client().get("/origins")["origins"]}

    def client(self) -> ControlClient:
        (socket,) = (self.user.home / "musicfs").glob("*.sock")
        return ControlClient(socket, self.mount_point)

    def scanned(self) -> None:
        def done() -> bool:
            enabled = [o for o in self.origins().values() if o["enabled"]]
            return all(o["scan"]["completed"] > 0 and o["scan"]["state"] == "idle" for o in enabled)

        eventually(done, "the scans")

    def inodes(self) -> dict[str, int]:
        return {
            str(Path(folder, name).relative_to(self.mount_point)): Path(folder, name).stat().st_ino
            for folder, _, names in os.walk(self.mount_point)
            for name in names
        }

    def written(self) -> dict[str, dict[str, Any]]:
        return {table["id"]: table for table in tomllib.loads(self.file.read_text())["origins"]}

    def connections(self, port: int) -> int:
        """How many the mount's processes have to this port."""
        daemon = psutil.Process(self.pid())
        found = [c for process in (daemon, *daemon.children()) for c in process.net_connections()]
        return len([c for c in found if c.raddr and c.raddr.port == port])

    def pid(self) -> int:
        pid = self.client().pid()
        assert pid is not None
        return pid


@pytest.fixture
def live() -> Iterator[Live]:
    with commands() as user:
        live = Live(user)
        live.do("mount", "--config", live.file)
        try:
            live.scanned()
            yield live
        finally:
            user("unmount", "--lazy", live.mount_point)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def readers(tracks: dict[Path, str], count: int = 3) -> Iterator[None]:
    """Threads that read these files again and again, past the kernel's cache, and compare their digests."""
    stop = Event()

    def read() -> int:
        rounds = 0
        while not stop.is_set() or not rounds:
            for path, expected in tracks.items():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    assert hashlib.sha256(file.read()).hexdigest() == expected, path
            rounds += 1
        return rounds

    with ThreadPoolExecutor(count) as pool:
        reading: list[Future[int]] = [pool.submit(read) for _ in range(count)]
        try:
            yield
        finally:
            stop.set()
        assert all(future.result(PATIENCE) for future in reading)


def test_origins_come_and_go_while_their_music_is_read(live: Live) -> None:
    """Two folders and an SSH server; no byte is lost, no name and no inode number of what stays changes."""
    shared = {
        live.mount_point / SHARED / f"0{n} - Song {n}.flac": digest(live.user.home / f"a/shared/{n}.flac")
        for n in (1, 2, 3)
    }
    before = live.inodes()
    stay = {path: ino for path, ino in before.items() if path.startswith("Artist")}
    live.user.home.chmod(0o755)  # for the server's user
    with sshd() as server, readers(shared):
        url = f"sftp://{server.user}@{HOST}:{server.port}{live.user.home}/a"
        access = ("--set", f"key_file={server.key}", "--set", f"known_hosts={server.known_hosts}")
        added = live.do("origin", "add", url, "--id", "far", *access)
        assert added.startswith("Origin 'far' is added with priority 3")
        live.scanned()
        assert live.inodes() == before
        assert live.origins()["far"]["files"] == 3
        assert live.connections(server.port) > 0
        live.do("origin", "set-priority", "far", "0")
        for id in ("a", "b"):
            live.do("origin", "disable", id)
        assert live.inodes() == stay
        for id in ("b", "a"):
            live.do("origin", "enable", id)
        live.do("origin", "remove", "far")
        assert live.connections(server.port) == 0
        live.scanned()
        again = live.inodes()
        assert again.keys() == before.keys()
        assert stay.items() <= again.items()
        live.do("origin", "remove", "a")
        live.do("origin", "add", live.user.home / "a", "--priority", "1")
        live.scanned()
        assert live.inodes() == again
    assert {id: table["priority"] for id, table in live.written().items()} == {"b": 2, "a": 1}
    assert "# b" in live.file.read_text()


def test_an_open_file_goes_on_when_its_only_origin_was_removed_and_added_again(live: Live) -> None:
    with next((live.mount_point / OWN).iterdir()).open("rb", buffering=0) as file:
        live.do("origin", "remove", "b")
        assert not (live.mount_point / OWN).exists()
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with pytest.raises(OSError, match="Input/output"):
            os.pread(file.fileno(), 4, 0)
        live.do("origin", "add", live.user.home / "b")
        assert file.read() in [path.read_bytes() for path in (live.user.home / "b/own").iterdir()]


def test_a_reload_takes_over_what_is_different_and_nothing_of_a_file_with_errors(live: Live) -> None:
    shutil.copytree(live.user.home / "b/own", live.user.home / "c/own")
    live.write("c", "a", more="[retry]\ndeadline_ms = 4321\n[tree]\ntemplate = '$path'\n")
    told = live.do("reload", live.mount_point).splitlines()
    assert told == [
        "Origin 'b' is removed.",
        "Origin 'c' is added.",
        "Origin 'a' now has priority 2.",
        "The retry settings have changed.",
        "These settings can't change while mounted, so they stay as they are: tree.template; unmount and mount again to"
        " apply them.",
    ]
    live.scanned()
    assert [(o["id"], o["priority"]) for o in live.origins().values()] == [("c", 1), ("a", 2)]
    live.write("a", more="[health]\ntimeout_ms = 0\n")
    done = live.user("reload", live.mount_point)
    assert done.returncode == 1
    assert "health.timeout_ms is 0: use a whole number of milliseconds, at least 1. Nothing was changed." in done.stderr
    assert list(live.origins()) == ["c", "a"]
    # And so does the signal that means it.
    live.write("b")
    os.kill(live.pid(), signal.SIGHUP)
    eventually(lambda: list(live.origins()) == ["b"], "the reload")
    live.file.write_text("[[origins]")
    os.kill(live.pid(), signal.SIGHUP)
    log = live.user.home / "cache/musicfs.log"
    eventually(lambda: "this is not valid TOML" in log.read_text(), "the refusal")
    assert list(live.origins()) == ["b"]


def test_what_cannot_be_is_refused_in_one_sentence_and_changes_nothing(live: Live) -> None:
    before = live.file.read_bytes()
    for arguments, words in (
        (("remove", "x"), "There is no origin 'x'; there are: a, b."),
        (("add", "a", "--id", "b"), "'b' is taken"),
        (("add", "gopher://x/y"), "this is no kind of origin"),
        (("add", "c", "--set", "colour=red"), "colour"),
        (("add", live.mount_point / "Artist"), "the mount would hide it"),
        (("set-priority", "a", "256"), "256"),
    ):
        done = live.user("origin", *arguments)
        assert done.returncode in (1, 2)
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert live.file.read_bytes() == before
    assert list(live.origins()) == ["a", "b"]
