"""The commands around a real mount, each a process of its own."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from musicfs.mount import mount_points
from tests.support.commands import Commands, commands, kill, make_album
from tests.support.mounting import eventually

SONG = Path("Artist/Album (2001) [FLAC]/01 - Song 1.flac")


@pytest.fixture
def user() -> Iterator[Commands]:
    with commands() as user:
        make_album(user.home / "laptop" / "Album")
        make_album(user.home / "nas" / "Album")
        make_album(user.home / "nas" / "Other", artist="Ötzi")
        yield user


def _mount(user: Commands, *more: str, at: str = "m") -> Path:
    mount_point = user.home / at
    done = user("mount", mount_point, "--origin", user.home / "laptop", "--origin", user.home / "nas", *more)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Mounted on {mount_point}: ")
    assert len(done.stdout.splitlines()) == 1
    return mount_point


def test_a_day_with_a_mount(user: Commands) -> None:
    """Mount, look, scan, ask why, unmount: the way that the help shows."""
    mount_point = _mount(user)
    done = user("scan")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ORIGIN", "laptop", "nas"]
    assert (mount_point / SONG).is_file()
    (mount_point / SONG).read_bytes()

    done = user("status")
    assert done.stdout.startswith("Your music is fine.\n6 files in 4 folders, ")
    assert "scanning" not in done.stdout
    assert not {"\x1b", "─", "│", "━"} & set(done.stdout)

    done = user("why", mount_point / SONG)
    assert "  1  laptop: healthy, priority 1, serves now" in done.stdout
    assert "  2  nas: healthy, but priority 2 comes after 1" in done.stdout
    assert str(user.home / "laptop/Album/1.flac") in done.stdout
    assert user.json("why", mount_point / SONG)["path"] == str(SONG)

    origins = user.json("origin", "list")["origins"]
    assert [(o["id"], o["health"], o["files"]) for o in origins] == [("laptop", "healthy", 3), ("nas", "healthy", 6)]

    done = user("unmount")
    assert (done.returncode, done.stdout) == (0, f"Unmounted {mount_point}.\n")
    assert not mount_points.mounted(mount_point)
    assert user("status").returncode == 1


def test_the_control_api_is_loaded_for_its_first_client(user: Commands) -> None:
    """It takes a third of the memory, and most mounts are seldom asked. It knows what was before its time."""

    def with_api() -> list[int]:
        return [pid for pid in user.processes() if "/aiohttp/" in Path(f"/proc/{pid}/maps").read_text()]

    mount_point = _mount(user)
    eventually(lambda: (mount_point / SONG).is_file(), "the scan")
    assert user.processes()
    assert with_api() == []
    (path,) = (user.home / "musicfs").glob("*.sock")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        metrics = client.makefile("rb").read()
    assert b'musicfs_scans_total{origin="laptop",result="completed"} 1.0' in metrics
    assert len(with_api()) == 1
    assert user("unmount").returncode == 0
    assert user.processes() == []


def test_the_next_mount_can_follow_at_once_and_knows_the_music(user: Commands) -> None:
    """`unmount` waits until the process, and with it the lock of the cache folder, is gone."""
    mount_point = _mount(user)
    user("scan")
    assert user("unmount", mount_point / SONG).returncode == 0
    done = user("mount", mount_point, "--origin", user.home / "laptop", "--origin", user.home / "nas")
    assert "6 files known, scanning for changes" in done.stdout
    assert user("unmount").returncode == 0


def test_an_origin_that_is_away_is_a_warning_and_its_music_is_accounted_for(user: Commands) -> None:
    _mount(user)
    user("scan")
    (user.home / "nas").rename(user.home / "gone")
    done = user("origin", "check", "nas", "laptop")
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].startswith("nas: unhealthy: ")
    assert done.stdout.splitlines()[1].startswith("laptop: healthy")
    status = user("status").stdout
    assert status.startswith("1 of 2 origins is away.\nNext: bring back nas; ")
    assert "\n6 files" in status
    assert "Its music stays listed; 3 of its 6 files can be read elsewhere." in status
    assert "`musicfs origin check nas`" in status
    done = user("scan")
    assert done.returncode == 1
    assert "Nothing was removed." in done.stdout
    user("unmount")
    done = user("mount", user.home / "m", "--origin", user.home / "laptop", "--origin", user.home / "nas")
    assert done.returncode == 0
    assert "does not exist" in done.stderr
    assert "6 files known" in done.stdout


def test_many_files_gone_at_once_are_kept_until_the_user_confirms(user: Commands) -> None:
    mount_point = _mount(user)
    user("scan")
    done = user("unmount")
    assert (done.returncode, done.stderr) == (0, "")
    (user.home / "nas" / "new.txt").write_text("the folder is not empty")
    for path in (user.home / "nas").glob("*/*.flac"):
        path.unlink()
    _mount(user)
    done = user("scan")
    assert "6 files are gone from nas but kept" in done.stdout
    assert "`musicfs origin accept-removals nas`" in user("status").stdout
    assert (mount_point / "Ötzi").is_dir()
    done = user("origin", "accept-removals", "nas")
    assert done.returncode == 0
    assert not (mount_point / "Ötzi").exists()
    assert user.json("origin", "list")["origins"][1]["removals_held"] == 0


def test_a_mount_in_use_is_not_torn_away_unless_asked_lazily(user: Commands) -> None:
    mount_point = _mount(user)
    user("scan")
    with (mount_point / SONG).open("rb"):
        done = user("unmount", mount_point)
        assert done.returncode == 1
        assert "is in use" in done.stderr
        assert (mount_point / SONG).is_file()
        done = user("unmount", mount_point, "--lazy")
        assert done.returncode == 0
        assert "ends when the last open file is closed" in done.stdout
        assert not mount_points.mounted(mount_point)
        _lingers(user, mount_point)
        assert user("shutdown", mount_point).returncode == 0
    assert user("status").returncode == 1


def _lingers(user: Commands, mount_point: Path) -> None:
    """A mount that was unmounted lazily and whose files are open: every command says so, and what ends it."""
    lines = user("status").stdout.splitlines()
    assert lines[0] == "Unmounted, but the process of the mount still runs: files of it are open."
    assert lines[1] == f"Next: close the files, or `musicfs shutdown {mount_point}` ends it at once."
    done = user("unmount", mount_point)
    assert done.returncode == 0
    assert f"or at once by `musicfs shutdown {mount_point}`" in done.stdout
    done = user("mount", mount_point, "--origin", user.home / "laptop")
    assert done.returncode == 1
    assert "was unmounted while files were open" in done.stderr
    assert f"`musicfs shutdown {mount_point}` ends it" in done.stderr


def test_a_mount_that_was_started_in_another_session_is_not_to_be_removed(user: Commands) -> None:
    mount_point = _mount(user)
    session = user.home / "session"
    session.mkdir(mode=0o700)
    own = user.env["XDG_RUNTIME_DIR"]
    user.env["XDG_RUNTIME_DIR"] = str(session)
    done = user("status", mount_point)
    user.env["XDG_RUNTIME_DIR"] = own
    assert done.returncode == 1
    assert done.stderr == (
        f"musicfs: {mount_point} is mounted and works, but its control socket is not in {session}/musicfs. If it has"
        " just started, try again; otherwise it was started with another XDG_RUNTIME_DIR: use that one here, too.\n"
    )
    assert user("status", mount_point).returncode == 0


def test_one_folder_under_two_names_is_one_place(user: Commands) -> None:
    (user.home / "link").symlink_to("nas")
    mount_point = user.home / "m"
    assert user("mount", mount_point, "--origin", user.home / "nas", "--origin", user.home / "link").returncode == 0
    assert user("scan").returncode == 0
    status = user("status").stdout
    assert status.startswith("Your music plays, but something deserves a look.")
    assert "link is wholly or partly the same place as nas: what lies at both has one copy, not two." in status
    done = user("redundancy")
    assert done.stdout.startswith("6 tracks in one place, ")
    assert "link is wholly or partly the same place as nas: the two count as one." in done.stdout
    assert user.json("redundancy")["same_places"] == {"link": "nas"}
    config = user.home / "two.toml"
    config.write_text("".join(
        f'[[origins]]\nid = "{id}"\norigin_type = "local"\npath = "{user.home / id}"\npriority = 1\n\n'
        for id in ("nas", "link")
    ))  # fmt: skip
    done = user("config", "check", config)
    assert done.returncode == 0
    assert "warning: origin 'link' is wholly or partly the same place as 'nas'" in done.stdout


def test_what_a_crash_leaves_is_explained_and_cleared_away(user: Commands) -> None:
    mount_point = _mount(user)
    kill(user.json("status")["pid"])
    for arguments in (["status"], ["status", mount_point], ["why", mount_point / SONG], ["origin", "list"]):
        done = user(*arguments)
        assert done.returncode == 1
        assert done.stderr == (
            f"musicfs: {mount_point} is mounted, but its process does not answer. If it has just started, try again;"
            f" otherwise `musicfs unmount {mount_point}` removes it.\n"
        )
    assert user("unmount").returncode == 0
    assert not mount_points.mounted(mount_point)
    assert not list((user.home / "musicfs").iterdir())


def test_a_crashed_mount_is_replaced_by_the_next(user: Commands) -> None:
    _mount(user)
    kill(user.json("status")["pid"])
    _mount(user)
    assert user("status").returncode == 0


def test_a_hung_mount_is_never_asked_for_a_file(user: Commands) -> None:
    """Even a stat of the mount point would hang; the commands work on its name and on the mount table."""
    mount_point = _mount(user)
    pid = user.json("status")["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        done = user("status", mount_point)
        assert done.returncode == 1
        assert "did not answer within 10 s" in done.stderr
    finally:
        os.kill(pid, signal.SIGCONT)


def test_several_mounts_have_to_be_told_apart(user: Commands) -> None:
    first, second = _mount(user), _mount(user, at="m2")
    done = user("status")
    assert done.returncode == 1
    assert done.stderr == f"musicfs: There are several mounts ({first}, {second}): name one of them.\n"
    assert user.json("status", second / "Artist")["mount_point"] == str(second)
    assert user.json("origin", "list", "--mount", first)["origins"][0]["id"] == "laptop"
    assert user("unmount", first).returncode == 0
    assert user("unmount").stdout == f"Unmounted {second}.\n"


def test_the_same_place_or_the_same_cache_is_not_mounted_twice(user: Commands) -> None:
    mount_point = _mount(user)
    done = user("mount", mount_point, "--origin", user.home / "laptop")
    assert done.returncode == 1
    assert f"`musicfs unmount {mount_point}`" in done.stderr
    cache = user.json("status")["cache_dir"]
    done = user("mount", user.home / "m2", "--origin", user.home / "laptop", "--cache-dir", cache)
    assert done.returncode == 1
    assert "is in use by process" in done.stderr


def test_a_scan_of_a_configuration_that_is_mounted_is_done_by_its_mount(user: Commands) -> None:
    mount_point = _mount(user)
    user("scan")
    make_album(user.home / "laptop" / "New", artist="New")
    answer = user.json("scan", mount_point, "--origin", user.home / "laptop", "--origin", user.home / "nas")
    assert [scan["origin"] for scan in answer["scans"]] == ["laptop", "nas"]
    assert (mount_point / "New").is_dir()


def test_in_the_foreground_an_interruption_unmounts(user: Commands) -> None:
    mount_point = user.home / "m"
    with subprocess.Popen(
        user.command("mount", mount_point, "--origin", user.home / "laptop", "--foreground"),
        env=user.env | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == f"Mounted on {mount_point}; Ctrl-C unmounts it.\n"
        assert mount_points.mounted(mount_point)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""
    assert not mount_points.mounted(mount_point)


def test_a_mount_that_cannot_be_says_so_in_one_sentence(user: Commands) -> None:
    done = user("mount", user.home / "laptop" / "Album" / "1.flac", "--origin", user.home / "nas")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "isn't a folder" in done.stderr
    done = user("mount", user.home / "m", "--origin", user.home / "nas", MUSICFS_CACHE_DIR="/proc/no")
    assert done.returncode == 1
    assert "The cache folder /proc/no can't be used" in done.stderr


def test_what_happens_can_be_followed_until_a_shutdown_that_open_files_do_not_hinder(user: Commands) -> None:
    mount_point = _mount(user)
    user("scan")
    with (
        subprocess.Popen(
            user.command("events", "--follow", "--json"), env=user.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        ) as follower,
        (mount_point / SONG).open("rb"),
    ):  # fmt: skip
        assert follower.stdout is not None
        while not select.select([follower.stdout], [], [], 0)[0]:  # until it has begun to listen
            user("scan")
        (user.home / "nas").rename(user.home / "gone")
        status = ""
        while "nas" not in status:  # each look is a command of its own
            user("origin", "check", "nas")
            status = user("events").stdout
        assert "nas is unhealthy: " in status
        for line in follower.stdout:
            event = json.loads(line)
            if event["event"] == "HealthChanged" and event["origin"] == "nas" and event["after"] == "unhealthy":
                break
        done = user("status")
        assert done.stdout.splitlines()[1].startswith("Next: bring back nas; MusicFS notices")
        assert user.json("shutdown") == {"mount_point": str(mount_point), "ended": True}
        _, told = follower.communicate(timeout=60)
        assert (follower.returncode, told) == (0, "musicfs: the mount has ended.\n")
    assert not mount_points.mounted(mount_point)
    assert user("shutdown", mount_point).returncode == 1


def test_the_ids_of_origins_are_completed(user: Commands) -> None:
    complete = {"_MUSICFS_COMPLETE": "bash_complete", "COMP_WORDS": "musicfs origin disable la", "COMP_CWORD": "3"}
    assert user(**complete).stdout.strip() == ""
    _mount(user)
    assert user(**complete).stdout.split() == ["plain,laptop"]
