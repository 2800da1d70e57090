"""What a mount keeps is for its user alone: files, sockets and its memory, whatever the umask and the folders were."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.test_lifecycle import library
from tests.support.commands import Commands, commands, make_album
from tests.support.mounting import Mount, Place

CORES = "Max core file size        0                    0 "


def open_to_others(folder: Path) -> dict[str, str]:
    """Everything below that others may look into or change; sockets and folders too."""
    found = {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}
    return {name: oct(mode) for name, mode in found.items() if mode & 0o077}


@pytest.fixture
def user() -> Iterator[Commands]:
    with commands() as user:
        make_album(user.home / "music" / "Album")
        yield user


def run(user: Commands, *arguments: str | Path) -> str:
    """With the umask of most systems."""
    done = subprocess.run(
        user.command(*arguments), env=user.env, capture_output=True, text=True, check=False, umask=0o022, timeout=90
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_that_a_mount_makes_is_for_its_user_alone_but_the_mount_point(user: Commands) -> None:
    cache, mount_point = user.home / "kept", user.home / "new" / "mount"
    cache.mkdir()
    cache.chmod(0o755)
    for name in ("musicfs.log", "musicfs.log.1", "checksums.sqlite"):
        (cache / name).write_text("")
        (cache / name).chmod(0o644)
    run(user, "mount", mount_point, "--origin", user.home / "music", "--cache-dir", cache)
    run(user, "scan", mount_point)
    assert open_to_others(cache) == {}
    assert (cache / "catalog.sqlite-wal").exists()
    assert open_to_others(user.home / "musicfs") == {}
    run(user, "unmount", mount_point)
    assert open_to_others(cache) == {}
    assert [stat.S_IMODE(each.stat().st_mode) for each in (mount_point.parent, mount_point)] == [0o755, 0o755]


def test_all_that_a_scan_without_a_mount_makes_is_for_its_user_alone(user: Commands) -> None:
    run(user, "scan", "--origin", user.home / "music", "--cache-dir", user.home / "kept")
    assert stat.S_IMODE((user.home / "kept").stat().st_mode) == 0o700
    assert (user.home / "kept" / "catalog.sqlite").exists()
    assert open_to_others(user.home / "kept") == {}


@pytest.mark.parametrize("command", ["mount", "scan", "accept-removals", "list", "check"])
def test_no_command_uses_a_cache_that_others_may_write_to(user: Commands, command: str) -> None:
    cache, precious = user.home / "shared", user.home / ".bashrc"
    precious.write_text("precious")
    cache.mkdir()
    cache.chmod(0o777)
    for name in ("lock", "musicfs.log", "catalog.sqlite"):
        (cache / name).symlink_to(precious)
    toml = user.home / "musicfs.toml"
    toml.write_text(
        f'cache_dir = "{cache}"\nmount_point = "{user.home}/m"\n[[origins]]\nid = "music"\norigin_type = "local"\n'
        f'path = "{user.home}/music"\n'
    )
    words = {"mount": ["mount"], "scan": ["scan"]}.get(command, ["origin", command])
    words += ["music"] if command == "accept-removals" else []
    done = user(*words, "--config", toml)
    assert done.returncode == 1
    assert done.stderr.startswith(f"musicfs: The cache folder {cache} can't be used: {cache} can be changed by other ")
    assert "`chmod 700" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    cache.chmod(0o700)
    assert "is a symbolic link" in user(*words, "--config", toml).stderr
    assert precious.read_text() == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_the_runtime_folder_of_another_user_is_not_touched_and_commands_find_the_mount_all_the_same(
    user: Commands,
) -> None:
    """As root has it after `sudo -E` or `su`."""
    session, system = user.home / "session", user.home / "etc"
    for each in (session, system):
        each.mkdir()
    system.chmod(0o755)
    (session / "musicfs").symlink_to(system)
    os.chown(session, 65534, 65534)
    session.chmod(0o700)
    user.env["XDG_RUNTIME_DIR"] = str(session)
    for words in (("mount", user.home / "m", "--origin", user.home / "music"), ("status", user.home / "m")):
        done = user(*words)
        assert done.returncode == 0
        (warning,) = done.stderr.splitlines()
        assert warning.startswith(f"musicfs: warning: XDG_RUNTIME_DIR is not used: {session} belongs to the user")
    user("unmount", user.home / "m")
    assert stat.S_IMODE(system.stat().st_mode) == 0o755
    assert list(system.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of root's")
def test_the_runtime_folder_of_root_is_roots_alone(here: Place) -> None:
    """As an ordinary user has it after `su` from root."""
    session = here.base / "session"
    session.mkdir(mode=0o700)
    here.environ["XDG_RUNTIME_DIR"] = str(session)
    code = (
        "import os; from musicfs.system.runtime import control_sockets, runtime_dir;"
        " print(runtime_dir(), control_sockets())"
    )
    done = here.run(here.who.python, "-c", code)
    ordinary = here.user / ".cache"
    assert done.stdout == f"{session if here.call(os.geteuid) == 0 else ordinary}/musicfs []\n"
    (session / "musicfs").mkdir(mode=0o700)
    assert here.run(here.who.python, "-c", code).stdout == done.stdout


def _look(pid: int) -> str:
    try:
        Path(f"/proc/{pid}/environ").read_bytes()
    except PermissionError:
        return "refused"
    return "read"


def test_other_programs_of_the_user_can_not_look_into_the_memory_of_a_mount(here: Place) -> None:
    with Mount(here, library(here)) as mount:
        mount.wait_for("ScanProgress")
        pids = mount.pid, mount.worker()
        expected = "read" if here.call(os.geteuid) == 0 else "refused"  # root may always look
        assert [here.call(_look, pid) for pid in pids] == [expected, expected]
        assert all(CORES in Path(f"/proc/{pid}/limits").read_text() for pid in pids)
        mount.scanned()
        assert here.call(os.listdir, mount.path) == ["Artist"]


def test_a_switch_lets_a_debugger_in(here: Place) -> None:
    here.environ["MUSICFS_DUMPABLE"] = "1"
    with Mount(here, library(here)) as mount:
        mount.wait_for("ScanProgress")
        assert [here.call(_look, pid) for pid in (mount.pid, mount.worker())] == ["read", "read"]
