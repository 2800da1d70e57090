"""Mounting and unmounting: what is missing is named, with what installs it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from musicfs.errors import UserError
from musicfs.mount import mount_points
from musicfs.mount.session import mounting
from musicfs.system.mounts import Mounted


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No root, but a user with one folder of programs."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("there", ["nothing", "something that can't be run"])
def test_a_user_without_fusermount3_learns_which_package_has_it(user: Path, there: str) -> None:
    if there != "nothing":
        (user / "fusermount3").write_text("")
    with pytest.raises(OSError, match="fusermount3 is missing; `apt install fuse3` installs it"):
        mounting.mount(user, "musicfs", allow_other=False)


def test_a_system_without_dev_fuse_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(mounting, "_DEVICE", str(tmp_path / "fuse"))
    with pytest.raises(OSError, match="fuse is missing; `modprobe fuse` makes it"):
        mounting.mount(tmp_path, "musicfs", allow_other=False)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("fusermount3: failed to unmount: Device or resource busy", "is in use; close what plays or browses it"),
        ("fusermount3: entry not found in /etc/mtab", "can't be unmounted: fusermount3: entry not found"),
    ],
)
def test_why_it_can_not_be_unmounted(user: Path, monkeypatch: pytest.MonkeyPatch, said: str, sentence: str) -> None:
    program = user / "fusermount3"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    program.chmod(0o755)
    here = Mounted("1", user, "fuse.musicfs", "0:50", 1000)
    monkeypatch.setattr(mount_points, "mounts", lambda: [here])
    with pytest.raises(UserError, match=sentence):
        mount_points.unmount(user)


def test_root_needs_no_program_to_unmount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError) as failed:
        mounting.unmount(tmp_path, lazy=False)
    # As root the kernel refuses: it is no mount point. Another user may not ask, and then fusermount3 is missed.
    assert failed.value.errno == (errno.EINVAL if os.getuid() == 0 else errno.ENOENT)
