"""Control sockets and the cache's lock."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from musicfs.control.unix_socket import ControlSocket
from musicfs.errors import UserError
from musicfs.system import runtime
from musicfs.system.runtime import control_socket, lock_cache, runtime_dir

HOLDER = """
import sys
from pathlib import Path
from musicfs.system.runtime import lock_cache
with lock_cache(Path(sys.argv[1]), Path("/proc")):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_cache_in_use_is_refused_with_the_name_of_its_user(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(UserError, match=rf"process {holder.pid}, mounted on /proc"),
            lock_cache(tmp_path, None),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with lock_cache(tmp_path, None):
        pass


def test_a_cache_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be used"), lock_cache(tmp_path / "file" / "cache", None):
        pass


def test_each_mount_point_has_a_socket_of_its_own_whatever_way_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert control_socket(Path("music")) == control_socket(tmp_path / "x" / ".." / "music")
    assert control_socket(Path("music")) != control_socket(Path("other"))
    assert len(os.fsencode(control_socket(Path("a" * 200)))) < 108


# What other users could have put there

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
OTHER = 65534
NAMES = ("lock", "musicfs.log", "musicfs.log.1", "catalog.sqlite", "blocks.sqlite-wal", "pins.sqlite", "verify.sqlite")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_cache_with_a_link_in_place_of_a_file_is_refused_and_what_it_leads_to_stays(
    tmp_path: Path, name: str, link: Callable[[Path, Path], None]
) -> None:
    precious = tmp_path / ".bashrc"
    precious.write_text("precious")
    precious.chmod(0o644)
    (tmp_path / "cache").mkdir(mode=0o700)
    link(tmp_path / "cache" / name, precious)
    with (
        pytest.raises(UserError, match=rf"cache folder .* can't be used: .*{name} is .*; name another with cache_dir"),
        lock_cache(tmp_path / "cache", None),
    ):
        pass
    assert (precious.read_text(), mode(precious)) == ("precious", 0o644)


@AS_ROOT
def test_a_cache_folder_of_another_user_or_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(UserError, match=rf"changed by other users \(`chmod 700 {cache}`"), lock_cache(cache, None):
        pass
    cache.chmod(0o700)
    os.chown(cache, OTHER, OTHER)
    with pytest.raises(UserError, match="belongs to the user nobody"), lock_cache(cache, None):
        pass
    assert list(cache.iterdir()) == []


def test_a_cache_of_before_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for name in (*NAMES, "catalog.sqlite.unusable-20260101-000000", "notes.txt"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o644)
    with lock_cache(tmp_path, None):
        assert {each.name: mode(each) for each in tmp_path.iterdir() if mode(each) != 0o600} == {"notes.txt": 0o644}
        assert mode(tmp_path) == 0o700


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a login session, in order."""
    runtime._warn.cache_clear()
    folder = tmp_path / "session"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


def fallback(monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as without:
        without.delenv("XDG_RUNTIME_DIR")
        return runtime_dir()


@pytest.mark.parametrize("made", [False, True])
def test_the_folder_of_the_session_is_used_if_it_is_in_order(session: Path, made: bool) -> None:
    if made:
        (session / "musicfs").mkdir(mode=0o755)
    assert runtime_dir() == session / "musicfs"


@AS_ROOT
def test_the_folder_of_another_users_session_is_not_used_and_that_is_said_once(
    session: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    os.chown(session, OTHER, OTHER)
    folders = {runtime_dir() for _ in range(3)}
    assert folders == {fallback(monkeypatch)}
    assert not next(iter(folders)).is_relative_to(session)
    (record,) = caplog.records
    assert "XDG_RUNTIME_DIR is not used" in record.getMessage()
    assert "belongs to the user nobody" in record.getMessage()
    caplog.clear()


def test_a_session_that_is_open_to_others_or_a_link_is_not_used(
    session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "link").symlink_to(session)
    for value in (str(tmp_path / "link"), "session", str(tmp_path / "missing")):
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
        assert runtime_dir() == fallback(monkeypatch)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(session))
    if os.geteuid() != 0:
        session.chmod(0o755)
        assert runtime_dir() == fallback(monkeypatch)
    session.chmod(0o777)
    assert runtime_dir() == fallback(monkeypatch)
    caplog.clear()


@AS_ROOT
@pytest.mark.parametrize("kind", ["link", "folder", "writable"])
def test_what_another_user_put_into_the_session_is_not_touched(
    session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    system = tmp_path / "etc"
    system.mkdir()
    system.chmod(0o755)
    ours = session / "musicfs"
    if kind == "link":
        ours.symlink_to(system)
    else:
        ours.mkdir()
        ours.chmod(0o777 if kind == "writable" else 0o755)
        os.chown(ours, 0 if kind == "writable" else OTHER, -1)
    assert runtime_dir() == fallback(monkeypatch)
    assert mode(system) == 0o755
    if kind != "link":  # the path of a socket may be in such a folder by a race
        assert ControlSocket(ours / "x.sock").open() is None
        assert list(ours.iterdir()) == []
    caplog.clear()


@AS_ROOT
def test_the_folder_that_the_service_manager_has_made_in_one_of_roots_is_used(
    session: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As the system's unit has it: /run, and in it /run/musicfs."""
    monkeypatch.setattr(os, "geteuid", lambda: 471_100)
    session.chmod(0o755)
    (session / "musicfs").mkdir(mode=0o700)
    os.chown(session / "musicfs", 471_100, -1)
    assert runtime_dir() == session / "musicfs"
    assert caplog.records == []


@AS_ROOT
def test_a_user_without_session_or_home_has_a_folder_that_no_one_else_can_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This user is no one's, so /run/user has no folder of its own for it."""
    user = 471_100
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(runtime, "_TEMPORARY", tmp_path / "tmp")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    for name, bits in (("tmp", 0o1777), ("home", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(bits)
    os.chown(tmp_path / "home", user, -1)
    assert runtime_dir() == tmp_path / "home" / "cache" / "musicfs"
    os.chown(tmp_path / "home", OTHER, -1)
    expected = tmp_path / "tmp" / f"musicfs-{user}"
    assert runtime_dir() == expected
    expected.mkdir(mode=0o700)
    os.chown(expected, user, -1)
    assert runtime_dir() == expected
    os.chown(expected, OTHER, -1)
    with pytest.raises(UserError, match=r"belongs to the user nobody.*set XDG_RUNTIME_DIR"):
        runtime_dir()
