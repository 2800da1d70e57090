"""Scanning and probing without a mount."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import Commands, commands, make_album


@pytest.fixture
def user() -> Iterator[Commands]:
    with commands() as user:
        make_album(user.home / "laptop" / "Album")
        make_album(user.home / "nas" / "Album")
        (user.home / "nas" / "noise.flac").write_bytes(b"no music")
        yield user


@pytest.fixture
def config(user: Commands) -> Path:
    tables = (
        f'[[origins]]\nid = "{id}"\norigin_type = "local"\npriority = {priority}\npath = "{user.home / id}"\n'
        for priority, id in enumerate(("laptop", "nas"))
    )
    file = user.home / "musicfs.toml"
    file.write_text(f'mount_point = "{user.home}/m"\n' + "".join(tables))
    return file


def _result(**counts: int | str | None) -> dict[str, int | str | None]:
    names = (
        "listed", "read", "added", "changed", "removed", "unreadable", "removals_held", "links_left_out", "problems",
        "folders_unlisted",
    )  # fmt: skip
    return dict.fromkeys(names, 0) | {"error": None} | counts


def test_an_estimate_says_what_a_first_scan_takes_and_scans_nothing(user: Commands, config: Path) -> None:
    by_origin = {each["origin"]: each for each in user.json("scan", "--estimate", "--config", config)["estimates"]}
    assert (by_origin["laptop"]["files"], by_origin["nas"]["files"]) == (3, 4)
    assert by_origin["laptop"]["requests"] == 3
    assert by_origin["laptop"]["read_bytes"] == by_origin["laptop"]["bytes"]
    assert user.json("scan", "--config", config)["scans"][0]["added"] == 3
    (user.home / "nas").rename(user.home / "away")
    done = user("scan", "--estimate", "--config", config)
    assert done.returncode == 1
    header, *rows = (line.split() for line in done.stdout.splitlines())
    assert header == ["ORIGIN", "FILES", "SIZE", "REQUESTS", "TO", "READ", "RESULT"]
    assert [row[0] for row in rows[:2]] == ["laptop", "nas"]
    assert f"{user.home}/nas" in done.stdout


def test_an_estimate_of_a_mount_names_what_it_needs(user: Commands) -> None:
    done = user("scan", "--estimate")
    assert done.returncode == 2
    assert "give --config FILE, or --origin for each" in done.stderr


def test_a_scan_tells_what_it_found_and_the_next_that_nothing_is_new(user: Commands, config: Path) -> None:
    assert user.json("scan", "--config", config) == {
        "scans": [
            _result(origin="laptop", listed=3, read=3, added=3),
            _result(origin="nas", listed=4, read=4, added=4, unreadable=1, problems=1),
        ]
    }
    done = user("scan", MUSICFS_CONFIG=str(config))
    assert done.returncode == 0
    assert done.stdout == (
        "ORIGIN  LISTED  READ  ADDED  CHANGED  REMOVED  UNREADABLE  KEPT  RESULT\n"
        "laptop       3     0      0        0        0           0     0  done\n"
        "nas          4     0      0        0        0           0     0  done\n"
    )
    started, ended = done.stderr.splitlines()[:2], done.stderr.splitlines()[2:]
    assert started == ["musicfs: scanning laptop", "musicfs: scanning nas"]
    assert sorted(ended) == ["musicfs: scanning laptop: done", "musicfs: scanning nas: done"]


def test_a_scan_says_how_much_is_not_shown_as_it_should_be(user: Commands, config: Path) -> None:
    (user.home / "nas" / "gone.flac").symlink_to("nowhere")
    done = user("scan", "--config", config)
    assert done.stdout.splitlines()[-1].startswith("2 problems at nas: ")
    assert "`musicfs problems`" in done.stdout


def test_the_mount_starts_with_what_the_scan_found(user: Commands, config: Path) -> None:
    user("scan", "--config", config)
    assert "4 files known" in user("mount", "--config", config).stdout
    assert user("unmount").returncode == 0


def test_links_that_are_not_followed_are_counted_and_what_they_hid_is_told(user: Commands, config: Path) -> None:
    """An upgrade to `inside`, as a mount for all users has by default, hides nothing in silence."""
    make_album(user.home / "outside")
    (user.home / "nas" / "linked").symlink_to(user.home / "outside")
    (user.home / "nas" / "never.mp3").symlink_to("/etc/hostname")
    assert user.json("scan", "--config", config)["scans"][1] == _result(
        origin="nas", listed=8, read=8, added=8, unreadable=2, problems=2
    )
    done = user("scan", "--config", config, "--allow-other")
    assert "2 symbolic links of nas are not followed, because of its setting `links`;" in done.stdout
    config.write_text(config.read_text() + "[mount]\nallow_other = true\n")
    assert user.json("scan", "--config", config)["scans"][1] == _result(origin="nas", listed=4, links_left_out=2)
    nas = user.json("origin", "list", "--config", config)["origins"][1]
    assert (nas["links"], nas["links_left_out"], nas["files_left_out"], nas["files"]) == ("inside", 2, 4, 4)
    config.write_text(config.read_text().replace('id = "nas"', 'id = "nas"\nlinks = "all"'))
    assert user.json("scan", "--config", config)["scans"][1]["added"] == 4
    nas = user.json("origin", "list", "--config", config)["origins"][1]
    assert (nas["links"], nas["links_left_out"], nas["files_left_out"], nas["files"]) == ("all", 0, 0, 8)


def test_one_origin_that_fails_fails_the_command_and_not_the_others(user: Commands, config: Path) -> None:
    (user.home / "laptop").rename(user.home / "gone")
    done = user("scan", "--config", config)
    assert done.returncode == 1
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [rows[1][-1], rows[2][-1]] == ["failed", "done"]
    assert "Nothing was removed." in done.stdout
    assert "Traceback" not in done.stderr


def test_removals_can_be_confirmed_without_a_mount(user: Commands, config: Path) -> None:
    user("scan", "--config", config)
    for track in (user.home / "nas" / "Album").iterdir():
        track.unlink()
    (user.home / "nas" / "noise.flac").unlink()
    (user.home / "nas" / "more.flac").write_bytes(b"no music either")
    done = user("scan", "--config", config)
    assert "4 files are gone from nas but kept" in done.stdout
    done = user("origin", "accept-removals", "nas", "--config", config)
    assert done.returncode == 0
    assert user.json("origin", "list", "--config", config)["origins"][1]["files"] == 1
    assert user("origin", "accept-removals", "zzz", "--config", config).returncode == 1


def test_origins_are_checked_and_listed_without_a_mount(user: Commands, config: Path) -> None:
    (user.home / "nas").rename(user.home / "gone")
    answer = user.json("origin", "check", "--config", config)
    assert [(o["id"], o["health"]) for o in answer["origins"]] == [("laptop", "healthy"), ("nas", "unhealthy")]
    assert user("origin", "check", "laptop", "--config", config).returncode == 0
    done = user("origin", "check", "--config", config)
    assert done.returncode == 1
    assert done.stderr == ""
    done = user("origin", "check", "zzz", "--config", config)
    assert (done.returncode, done.stderr) == (1, "musicfs: There is no origin 'zzz'; there are: laptop, nas.\n")
    listed = user.json("origin", "list", "--config", config)["origins"]
    assert [(o["id"], o["files"], o["scanned_at"]) for o in listed] == [("laptop", 0, None), ("nas", 0, None)]


def test_on_a_terminal_the_summary_has_colours_and_no_bar_is_left(user: Commands, config: Path) -> None:
    ours, theirs = pty.openpty()
    env = {name: value for name, value in user.env.items() if name != "NO_COLOR"} | {"TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(user.command("scan", "--config", config), env=env, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        out = b""
        try:
            while data := os.read(ours, 65536):
                out += data
        except OSError:  # the other end is closed
            pass
        assert process.wait(60) == 0
    os.close(ours)
    assert b"laptop" in out
    assert b"\x1b[32mdone" in out
    assert b"\x1b[?25h" in out, "the cursor is shown again"


def test_an_interrupted_scan_is_one_line_and_keeps_the_catalogue_whole(user: Commands, config: Path) -> None:
    """What was found is kept, and the next scan goes on from there."""
    for number in range(300):
        folder = user.home / "laptop" / f"Album {number}"
        folder.mkdir()
        for track in (user.home / "laptop" / "Album").iterdir():
            os.link(track, folder / track.name)
    with subprocess.Popen(
        user.command("scan", "--config", config),
        env=user.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert process.stderr.readline() == "musicfs: scanning laptop\n"
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(60) == 130
        assert rest.replace("musicfs: scanning nas\n", "").strip() == "musicfs: interrupted."
        assert process.stdout.read() == ""
    assert user.json("scan", "--config", config)["scans"][0]["listed"] == 903
