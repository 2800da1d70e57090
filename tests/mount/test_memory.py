"""The process of a mount is small: it loads what its mount needs, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import Commands, commands, make_album

MEGABYTES_AT_REST = 60
"""Of the process of a mount; it takes 42. What it must not load (asyncssh, the control API) takes 17 and more each."""


@pytest.fixture
def user() -> Iterator[Commands]:
    with commands() as user:
        make_album(user.home / "music" / "Album")
        yield user


def test_the_process_of_a_mount_is_small_when_its_tree_has_been_read(user: Commands) -> None:
    mount_point = user.home / "mount"
    assert user("mount", mount_point, "--origin", user.home / "music").returncode == 0
    pid = daemon(user)
    deadline = time.monotonic() + 60
    while len(list(mount_point.rglob("*.flac"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert megabytes(pid) < MEGABYTES_AT_REST
    assert user("unmount", mount_point).returncode == 0


def daemon(user: Commands) -> int:
    return next(pid for pid in user.processes() if b"mount" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))


def megabytes(pid: int) -> float:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return int(fields["Pss"].split()[0]) * 1024 / 1e6
