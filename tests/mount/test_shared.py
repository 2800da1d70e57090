"""A mount that other users see gives each of them what the origin's files and folders let that user read, no more."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.audio import make_audio
from tests.support.mounting import Mount, account, eventually, place

GROUP = 54321
STRANGER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
MEMBER = ("setpriv", "--reuid=65534", "--regid=65534", f"--groups={GROUP}")
# An ACL that lets one more user read: its mask stands where the mode has the group's bits.
ONE_MORE_USER = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in ((1, 6, 0xFFFFFFFF), (2, 4, 54322), (4, 0, 0xFFFFFFFF), (0x10, 4, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF))
)


@pytest.fixture(scope="module")
def mount() -> Iterator[Mount]:
    with place(account("root")) as here:
        root = here.origins / "one"
        for name in ("open", "private", "group", "acl", "closed/song", "closed group/song", "moving/song"):
            make_audio(root / f"{name}.flac", tags={"title": name})
            (root / f"{name}.flac").chmod(0o644)
        (root / "private.flac").chmod(0o600)
        (root / "group.flac").chmod(0o640)
        (root / "closed").chmod(0o700)
        (root / "closed group").chmod(0o750)
        os.setxattr(root / "acl.flac", "system.posix_acl_access", ONE_MORE_USER)
        here.run(
            "chgrp", str(GROUP), *(root / name for name in ("group.flac", "closed group", "closed group/song.flac"))
        )
        secret = here.base / "private/id_ed25519"
        secret.parent.mkdir(mode=0o700)
        secret.write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
        secret.chmod(0o600)
        (root / "cover.jpg").symlink_to(secret)
        with Mount(here, {"one": root}, mount={"allow_other": True}, tree={"template": "$path"}) as mount:
            yield mount.scanned()


def can_read(mount: Mount, who: tuple[str, ...], name: str) -> bool:
    done = mount.here.run(*who, "head", "-c", "4", mount.path / name, check=False)
    assert done.returncode == 0 or "Permission denied" in done.stderr, done.stderr
    return done.returncode == 0 and done.stdout == "fLaC"


@pytest.mark.parametrize(
    ("name", "stranger", "member"),
    [
        ("open.flac", True, True),
        ("private.flac", False, False),
        ("group.flac", False, True),
        ("acl.flac", False, False),
        ("closed/song.flac", False, False),
        ("closed group/song.flac", False, True),
    ],
)
def test_each_user_reads_what_the_file_and_all_folders_above_it_allow(
    mount: Mount, name: str, stranger: bool, member: bool
) -> None:
    assert can_read(mount, (), name)
    assert can_read(mount, STRANGER, name) is stranger
    assert can_read(mount, MEMBER, name) is member


def test_attributes_say_whose_a_file_is_and_what_a_user_may_do(mount: Mount) -> None:
    def shown(name: str) -> tuple[str, int, int]:
        about = mount.here.call(os.stat, mount.path / name)
        return stat.filemode(about.st_mode), about.st_uid, about.st_gid

    ours = (mount.origins["one"] / "open.flac").stat()
    assert shown("open.flac") == ("-r--r--r--", ours.st_uid, ours.st_gid)
    assert shown("private.flac") == ("-r--------", ours.st_uid, ours.st_gid)
    assert shown("group.flac") == ("-r--r-----", ours.st_uid, GROUP)
    assert shown("closed group/song.flac") == ("-r--r-----", ours.st_uid, GROUP)
    assert shown("closed")[0] == "dr-xr-xr-x"


def test_a_link_to_a_private_file_is_not_shown(mount: Mount) -> None:
    names = mount.here.call(os.listdir, mount.path)
    assert "open.flac" in names
    assert "cover.jpg" not in names
    assert (
        "1 symbolic link of one that lead out of its folder is not followed"
        in mount.here.run(mount.here.who.python, "-m", "musicfs", "status", mount.path).stdout
    )


def test_a_mode_that_changes_counts_soon_and_reads_nothing_again(mount: Mount) -> None:
    """chmod leaves the time of change alone; the kernel has cached what it was told of the file before."""
    file, folder = mount.origins["one"] / "moving/song.flac", mount.origins["one"] / "moving"
    for path, closed, opened in ((file, 0o600, 0o644), (folder, 0o700, 0o755)):
        assert can_read(mount, STRANGER, "moving/song.flac")
        since = len(mount.events)
        path.chmod(closed)
        eventually(lambda: not can_read(mount, STRANGER, "moving/song.flac"), "the refusal")
        path.chmod(opened)
        eventually(lambda: can_read(mount, STRANGER, "moving/song.flac"), "the permission")
        scans = [event for event in mount.events[since:] if event["event"] == "ScanFinished"]
        assert scans
        assert all((scan["read"], scan["changed"], scan["error"]) == (0, 0, None) for scan in scans)


def test_what_one_user_sees_alone_is_as_it_was() -> None:
    with place(account("root")) as here:
        file = here.origins / "one/a.flac"
        make_audio(file, tags={"title": "a"})
        file.chmod(0o600)
        with Mount(here, {"one": here.origins / "one"}, tree={"template": "$path"}) as mount:
            mount.scanned()
            about = here.call(Path.stat, mount.path / "a.flac")
            assert stat.filemode(about.st_mode) == "-r--r--r--"
