"""A mount as a service of systemd's: what it tells, when it falls silent, and the units that run it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.mount.test_lifecycle import library
from tests.support.mounting import PATIENCE, ROOT, Account, Mount, Place, account, eventually

UNITS = ROOT / "contrib/systemd"
WATCHDOG_SECS = 0.6
NAME = "musicfs@.service"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
# What gives a service a mount namespace, out of which no mount comes, and what implies NoNewPrivileges= for whoever is
# not root (systemd.exec(5)), with which fusermount3 can't mount.
OWN_NAMESPACE = {
    "BindPaths", "BindReadOnlyPaths", "DynamicUser", "ExecPaths", "InaccessiblePaths", "LogNamespace", "MountAPIVFS",
    "MountFlags", "MountImages", "NoExecPaths", "PrivateDevices", "PrivateIPC", "PrivateMounts", "PrivateTmp",
    "ProcSubset", "ProtectControlGroups", "ProtectHome", "ProtectKernelLogs", "ProtectKernelModules",
    "ProtectKernelTunables", "ProtectProc", "ProtectSystem", "ReadOnlyPaths", "ReadWritePaths", "RootDirectory",
    "RootImage", "TemporaryFileSystem",
}  # fmt: skip
NO_NEW_PRIVILEGES = {
    "LockPersonality", "MemoryDenyWriteExecute", "ProtectClock", "ProtectHostname", "RestrictAddressFamilies",
    "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID", "SystemCallArchitectures", "SystemCallFilter",
    "SystemCallLog",
}  # fmt: skip


@pytest.fixture(scope="module")
def who() -> Account:
    return account("ordinary")


class Manager:
    """The socket on which systemd listens, and what it was told on it."""

    def __init__(self, path: Path) -> None:
        self.told: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(os.fspath(path))
        path.chmod(0o777)
        self._socket.settimeout(PATIENCE)

    def until(self, line: str, times: int = 1) -> list[str]:
        """What comes from now on, up to this line, as often as that."""
        heard: list[str] = []
        while sum(each.startswith(line) for each in heard) < times:
            try:
                heard += self._socket.recv(4096).decode().split("\n")
            except TimeoutError:
                raise AssertionError(f"no {line}; there was {heard or self.told}") from None
        self.told += heard
        return heard

    def within(self, secs: float) -> list[str]:
        """What comes in this time."""
        heard: list[str] = []
        until = time.monotonic() + secs
        while (left := until - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                heard += self._socket.recv(4096).decode().split("\n")
            except TimeoutError:
                break
        self._socket.settimeout(PATIENCE)
        return heard

    def close(self) -> None:
        self._socket.close()


@contextmanager
def supervised(here: Place, watchdog_secs: float | None = None) -> Iterator[Manager]:
    """Has what `here` runs believe to be systemd's service."""
    manager = Manager(here.base / "notify")
    here.environ["NOTIFY_SOCKET"] = str(here.base / "notify")
    if watchdog_secs is not None:
        here.environ["WATCHDOG_USEC"] = str(int(watchdog_secs * 1e6))
    try:
        yield manager
    finally:
        manager.close()


def test_a_mount_that_answers_says_so_and_one_whose_loop_is_held_up_falls_silent(here: Place) -> None:
    """The thread that tells lives on all the while; what it asks through the mount is not answered."""
    switch, pipe = here.base / "switch", here.base / "switch.pipe"
    switch.write_text("")
    os.mkfifo(pipe)
    pipe.chmod(0o666)
    with (
        supervised(here, WATCHDOG_SECS) as manager,
        Mount(here, library(here), switches={"one": switch}) as mount,
    ):
        assert "WATCHDOG=1" not in manager.until("READY=1")
        manager.until("WATCHDOG=1", times=4)
        file = here.call(_files, mount.scanned().path)[0]
        switch.write_text("block")
        command = here.who.command(here.environ, "cat", str(file))
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as reader:
            try:
                with pipe.open("wb"):  # returns once the event loop is held up on its other end
                    switch.write_text("")
                    manager.within(WATCHDOG_SECS / 3)  # what was under way
                    silence = manager.within(5 * WATCHDOG_SECS)
                assert "WATCHDOG=1" not in silence
                manager.until("WATCHDOG=1", times=4)
                assert reader.wait(PATIENCE) == 0
            finally:
                here.signal(reader.pid, signal.SIGKILL)
        mount.signal(signal.SIGTERM)
        manager.until("STOPPING=1")
        assert mount.wait() == 0
        assert "WATCHDOG=1" not in manager.within(WATCHDOG_SECS)
        assert "s to answer" in mount.log


def _files(mount_point: Path) -> list[Path]:
    return sorted(mount_point.rglob("*.flac"))


def test_a_mount_that_was_taken_away_from_under_the_service_is_no_sign_of_life(here: Place) -> None:
    """The empty folder below would answer each question; and a file that is open keeps the daemon running."""
    with supervised(here, WATCHDOG_SECS) as manager, Mount(here, library(here)) as mount:
        manager.until("WATCHDOG=1")
        file = here.call(_files, mount.scanned().path)[0]
        command = here.who.command(here.environ, "sh", "-c", 'exec 3<"$0"; echo open; sleep 60', str(file))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
            try:
                assert reader.stdout is not None
                assert reader.stdout.readline() == "open\n"
                here.run("fusermount3", "-u", "-z", mount.path)
                manager.within(WATCHDOG_SECS / 3)
                assert "WATCHDOG=1" not in manager.within(4 * WATCHDOG_SECS)
                assert mount.running
                assert "fails to answer" in mount.log
            finally:
                here.signal(reader.pid, signal.SIGKILL)


def test_the_command_of_the_unit_is_ready_once_the_tree_can_be_seen_reloads_and_stops(here: Place) -> None:
    """By the configuration file alone, as the units have it; without a watchdog none is fed."""
    origins = library(here)
    file = here.user / "music.toml"
    text = f'mount_point = "{here.mount_point}"\ncache_dir = "{here.cache_dir}"\n[[origins]]\nid = "one"\n'
    text += f'origin_type = "local"\npath = "{origins["one"]}"\n'
    here.call(file.write_text, text)
    musicfs = (here.who.python, "-m", "musicfs")
    with supervised(here) as manager:
        command = here.who.command(here.environ, *musicfs, *arguments_of("ExecStart", file))
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as service:
            try:
                manager.until("READY=1")
                assert here.call(os.path.ismount, here.mount_point)
                manager.until("STATUS=3 files from 1 origin")
                here.call(os.kill, service.pid, signal.SIGHUP)
                heard = manager.until("READY=1")
                assert heard.index("RELOADING=1") < heard.index("READY=1")
                assert any(re.fullmatch(r"MONOTONIC_USEC=\d+", line) for line in heard)
                done = here.run(*musicfs, *arguments_of("ExecReload", file))
                assert done.stdout == "Nothing has changed.\n"
                shutil.move(origins["one"], here.origins / "away")
                here.run(*musicfs, "origin", "check", "one", check=False)
                manager.until("STATUS=3 files from 1 origin; away: one")
                here.run(*musicfs, *arguments_of("ExecStop", file))
                manager.until("STOPPING=1")
                assert service.wait(PATIENCE) == 0
                assert service.stderr is not None
                assert "Traceback" not in service.stderr.read()
            finally:
                here.run("fusermount3", "-u", "-z", "-q", here.mount_point, check=False)
                here.signal(service.pid, signal.SIGKILL)
        assert "WATCHDOG=1" not in manager.told
        assert not here.call(os.path.ismount, here.mount_point)


def test_what_a_service_starts_does_not_believe_to_be_the_service(here: Place) -> None:
    here.environ["MUSICFS_DUMPABLE"] = "1"  # or its own user could not look
    with supervised(here, WATCHDOG_SECS) as manager, Mount(here, library(here)) as mount:
        manager.until("READY=1")
        mount.wait_for("ScanProgress")
        environ = here.call(Path(f"/proc/{mount.worker()}/environ").read_bytes)
        assert b"XDG_RUNTIME_DIR" in environ
        assert b"NOTIFY_SOCKET" not in environ
        assert b"WATCHDOG" not in environ


class _Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Webhook(SECRET).verify(body, dict(self.headers))
        self.server.told.append(json.loads(body))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_mount_tells_its_webhooks(here: Place) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Taking) as server:
        told: list[dict[str, object]] = []
        server.told = told  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here.environ["MUSICFS_PHONE_SECRET"] = SECRET
        hook = {"id": "phone", "url": f"http://127.0.0.1:{server.server_port}/", "events": ["ScanFinished"]}
        try:
            with Mount(here, library(here), webhooks=[hook]) as mount:
                mount.scanned()
                eventually(lambda: told, "the end of the scan")
                mount.signal(signal.SIGTERM)
                assert mount.wait() == 0
                assert "Traceback" not in mount.log
                assert SECRET not in mount.log
        finally:
            server.shutdown()
    assert (told[0]["type"], told[0]["mount_point"]) == ("ScanFinished", str(here.mount_point))


# The units


def settings(unit: Path) -> list[tuple[str, str]]:
    return re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE)


def arguments_of(key: str, file: Path) -> list[str]:
    """What the command of the system's unit gives to `musicfs`."""
    (line,) = [value for name, value in settings(UNITS / "system" / NAME) if name == key]
    program, musicfs, *arguments = line.replace("%E/musicfs/%i.toml", str(file)).split()
    assert (program, musicfs) == ("/usr/bin/env", "musicfs")
    return arguments


def verify(unit: Path, whose: str, run: Path) -> str:
    """What systemd has to say against it."""
    command = ["systemd-analyze", f"--{whose}", "verify", "--man=no", str(unit)]
    environ = os.environ | {"XDG_RUNTIME_DIR": str(run)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, env=environ)
    return done.stdout + done.stderr + (f"exit code {done.returncode}" if done.returncode else "")


@pytest.mark.parametrize("whose", ["system", "user"])
def test_systemd_has_nothing_to_say_against_the_units(whose: str, tmp_path: Path) -> None:
    unit = UNITS / whose / NAME
    assert verify(unit, whose, tmp_path) == ""
    wrong = tmp_path / NAME
    wrong.write_text(unit.read_text().replace("KillMode=mixed", "KillMode=mixd\nTypo=1"))
    complaints = verify(wrong, whose, tmp_path)
    assert "mixd" in complaints
    assert "Typo" in complaints


@pytest.mark.parametrize("whose", ["system", "user"])
def test_the_units_ask_for_nothing_that_hides_the_mount_or_keeps_it_from_being_made(whose: str) -> None:
    said = dict(settings(UNITS / whose / NAME))
    assert not (OWN_NAMESPACE | NO_NEW_PRIVILEGES) & said.keys()
    assert said["NoNewPrivileges"] == "no"
    assert (said["Type"], said["KillMode"], said["Restart"]) == ("notify", "mixed", "on-failure")
    assert float(said["WatchdogSec"]) >= 30
    drain = re.search(r"--drain (\d+)", said["ExecStop"])
    assert drain is not None
    assert int(drain[1]) + 15 < float(said["TimeoutStopSec"])
    assert "--foreground" in said["ExecStart"]


@pytest.mark.parametrize("whose", ["system", "user"])
def test_the_units_take_programs_from_absolute_folders_alone_and_bound_what_a_file_can_cost(whose: str) -> None:
    values = settings(UNITS / whose / NAME)
    (path,) = [value.removeprefix("PATH=") for name, value in values if value.startswith("PATH=")]
    assert all(entry.replace("%h", "/home/me").startswith("/") for entry in path.split(":"))
    said = dict(values)
    assert (said["MemoryMax"], said["TasksMax"], said["LimitCORE"], said["UMask"]) == ("2G", "1024", "0", "0077")
    assert [value for name, value in values if name == "WorkingDirectory"] == ["/"]


def exposure(unit: Path) -> float:
    """By systemd's own measure: 0 is best, 10 worst."""
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout[-300:]
    return float(found[1])


def test_systemd_finds_the_system_unit_less_exposed_than_it_would_be_without_what_confines_it(tmp_path: Path) -> None:
    unit = UNITS / "system" / NAME
    confined = exposure(unit)
    for line in ("DevicePolicy=closed", "UMask=0077", "RemoveIPC=yes", "KeyringMode=private", "User=musicfs"):
        assert f"\n{line}\n" in unit.read_text()
        without = tmp_path / NAME
        without.write_text(unit.read_text().replace(f"\n{line}\n", "\n"))
        assert exposure(without) >= confined
    without.write_text(re.sub(r"^(DevicePolicy|CapabilityBoundingSet|User|UMask)=.*", "", unit.read_text(), flags=re.M))
    assert exposure(without) > confined + 1


def test_the_system_unit_says_of_each_option_that_can_not_be_had_why_not() -> None:
    comments = "".join(re.findall(r"^#.*\n", (UNITS / "system" / NAME).read_text(), re.MULTILINE))
    main = {
        "ProtectSystem",
        "ProtectHome",
        "PrivateTmp",
        "ProtectProc",
        "PrivateUsers",
        "IPAddressDeny",
        "PrivateDevices",
    }
    assert {name for name in main | NO_NEW_PRIVILEGES - {"SystemCallLog"} if f"{name}=" not in comments} == set()


def _confined(here: Place, *confinement: str) -> subprocess.CompletedProcess[str]:
    """A mount by somebody who is confined so, and its end."""
    mount = ("-m", "musicfs", "mount", str(here.mount_point), "--origin", str(here.origins))
    setpriv = ["setpriv", *confinement, *here.who.command(here.environ, here.who.python, *mount)]
    done = subprocess.run(setpriv, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd="/")
    if done.returncode == 0:
        here.run(here.who.python, "-m", "musicfs", "unmount", here.mount_point)
    return done


def test_what_the_system_unit_leaves_to_fusermount3_is_enough_and_less_is_not(here: Place) -> None:
    """The bounding set of the unit, for an account that has no capability itself; and what its comment says."""
    (line,) = [value for name, value in settings(UNITS / "system" / NAME) if name == "CapabilityBoundingSet"]
    kept = ",".join("+" + name.removeprefix("CAP_").lower() for name in line.split())
    # setpriv itself becomes the user, by capabilities that it has still while the set is bounded.
    assert _confined(here, f"--bounding-set=-all,{kept}").returncode == 0
    assert "the system refused" in _confined(here, "--no-new-privs").stderr
    without = kept.replace("+sys_admin,", "")
    assert without != kept
    assert "the system refused" in _confined(here, f"--bounding-set=-all,{without}").stderr
    eventually(lambda: not here.call(os.path.ismount, here.mount_point), "the end of the mount")
