"""Finding a mount, by names alone."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from musicfs.control import client
from musicfs.control.client import NotRunning, find_mount
from musicfs.errors import UserError
from musicfs.mount import mount_points
from musicfs.system.mounts import Mounted
from musicfs.system.runtime import canonical, control_socket
from tests.support.commands import commands


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with commands() as user:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(user.home))
        (user.home / "musicfs").mkdir()
        yield user.home


def _listen(mount_point: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.fspath(control_socket(mount_point)))
    return listening


@pytest.mark.parametrize("inside", ["m", "m/Artist", "m/Artist/no/such/file.flac", "link/Artist", "m/../m/x"])
def test_a_path_inside_a_mount_leads_to_it(home: Path, inside: str) -> None:
    (home / "link").symlink_to("m")
    with closing(_listen(home / "m")):
        assert find_mount(home / inside).mount_point == home / "m"


def test_a_mount_within_another_is_the_one_meant(home: Path) -> None:
    with closing(_listen(home / "m")), closing(_listen(home / "m" / "inner")):
        assert find_mount(home / "m" / "inner" / "x").mount_point == home / "m" / "inner"


def test_a_path_outside_names_how_to_mount_there(home: Path) -> None:
    with closing(_listen(home / "m")), pytest.raises(NotRunning, match=f"Nothing is mounted on {home}/m2; `musicfs m"):
        find_mount(home / "m2")


def test_nothing_at_or_below_a_mount_is_touched(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stat of a hung mount would hang whoever asks what is wrong with it."""
    touched: list[str] = []
    readlink = os.readlink

    def watched(path: str | Path) -> str:
        touched.append(str(path))
        return readlink(path)

    monkeypatch.setattr(os, "readlink", watched)
    (home / "a").symlink_to("b")
    assert canonical(home / "a" / "m" / "x" / "y", {home / "b" / "m"}) == home / "b" / "m" / "x" / "y"
    assert str(home / "a") in touched
    assert not [path for path in touched if path.startswith(str(home / "b" / "m"))]


@pytest.mark.parametrize(
    ("links", "path", "real"),
    [
        ({"a": "/{home}/b/c"}, "a/x", "b/c/x"),
        ({"a": "b/../c"}, "a", "c"),
        ({"a": "b", "b": "c"}, "a/x", "c/x"),
        ({}, "gone/x", "gone/x"),
    ],
)
def test_links_are_followed_as_the_kernel_does(home: Path, links: dict[str, str], path: str, real: str) -> None:
    for name, target in links.items():
        (home / name).symlink_to(target.replace("/{home}", str(home)))
    assert canonical(home / path, ()) == home / real == (home / path).resolve()


def test_links_in_a_circle_come_to_an_end(home: Path) -> None:
    (home / "a").symlink_to("a/b")
    canonical(home / "a", ())


def test_sockets_that_nobody_answers_are_no_mounts(home: Path) -> None:
    _listen(home / "m").close()
    assert client.running_mounts() == []
    with pytest.raises(UserError, match="Nothing is mounted"):
        find_mount(None)


OTHERS = Mounted("36", Path("/m"), "fuse.musicfs", "0:54", owner=4_000_000_001)


def test_another_users_mount_is_that_users_to_control(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(OTHERS, path=home / "m")
    monkeypatch.setattr(mount_points, "mounts", lambda: [other])
    with pytest.raises(NotRunning, match="is mounted by the user with the number 4000000001, and only that user can"):
        find_mount(home / "m").get("/status")


def test_a_mount_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = threading.Event()
    monkeypatch.setattr(mount_points, "_ANSWER_SECS", 0.05)
    monkeypatch.setattr(os, "statvfs", lambda path: ends.wait())
    try:
        assert not mount_points.answers(Path("/"))
    finally:
        ends.set()
