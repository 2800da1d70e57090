"""Files and folders that another user has a hand in are refused; those of this user are closed to others."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from musicfs.system import ownership
from musicfs.system.ownership import Untrusted, check_folder, make_private, open_private, open_trusted

OTHER = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Below another folder, both open to be read by all."""
    made = tmp_path / "above" / "cache"
    made.mkdir(parents=True)
    for each in (made.parent, made):
        each.chmod(0o755)
    return made


def test_a_missing_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "b")
    assert mode(tmp_path / "a" / "b") == 0o700


def test_a_folder_that_others_may_read_is_closed_to_them(folder: Path) -> None:
    make_private(folder)
    assert mode(folder) == 0o700


@AS_ROOT
def test_a_folder_of_another_user_is_refused_and_left_alone(folder: Path) -> None:
    os.chown(folder, OTHER, -1)
    with pytest.raises(Untrusted, match=f"{folder} belongs to the user nobody"):
        make_private(folder)
    assert mode(folder) == 0o755


@pytest.mark.parametrize("bits", [0o757, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused_with_the_remedy(folder: Path, bits: int) -> None:
    folder.chmod(bits)
    with pytest.raises(Untrusted, match=f"`chmod 700 {folder}`"):
        make_private(folder)


def test_a_folder_above_that_others_may_write_to_is_refused_unless_it_is_sticky(folder: Path) -> None:
    folder.parent.chmod(0o777)
    with pytest.raises(Untrusted, match=f"`chmod go-w {folder.parent}`"):
        make_private(folder)
    with pytest.raises(Untrusted):
        make_private(folder / "new")
    assert not (folder / "new").exists()
    folder.parent.chmod(0o1777)
    make_private(folder)


@AS_ROOT
def test_a_folder_above_that_is_another_users_is_refused_even_if_it_is_closed(folder: Path) -> None:
    os.chown(folder.parent, OTHER, -1)
    folder.parent.chmod(0o700)
    with pytest.raises(Untrusted, match=f"{folder.parent} belongs to the user nobody"):
        check_folder(folder)


@AS_ROOT
def test_the_private_group_of_the_user_counts_as_the_user_and_no_other_group_does(folder: Path) -> None:
    for each in (folder.parent, folder):
        each.chmod(0o775)
    check_folder(folder)
    os.chown(folder, 0, OTHER)
    with pytest.raises(Untrusted, match="can be changed by other users"):
        check_folder(folder)


@pytest.mark.parametrize(
    ("primary", "listed", "others", "expected"),
    [
        (1000, [], [], True),
        (1000, ["me"], [], True),
        (100, [], [], False),  # not the user's own, such as `staff`
        (1000, ["you"], [], False),
        (1000, [], [("you", 1000)], False),  # another user's primary group, too
    ],
)
def test_a_group_is_private_if_it_is_the_users_own_and_no_one_else_is_in_it(
    monkeypatch: pytest.MonkeyPatch, primary: int, listed: list[str], others: list[tuple[str, int]], expected: bool
) -> None:
    users = [SimpleNamespace(pw_name=name, pw_gid=gid) for name, gid in [("me", primary), *others]]
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: users[0])
    monkeypatch.setattr(pwd, "getpwall", lambda: users)
    monkeypatch.setattr(grp, "getgrgid", lambda gid: SimpleNamespace(gr_mem=listed))
    assert ownership._is_private_group.__wrapped__(1000, 1000) is expected


@AS_ROOT
def test_an_access_control_list_is_not_taken_for_the_private_group(folder: Path) -> None:
    entries = [(1, 7, -1), (2, 7, OTHER), (4, 5, -1), (16, 7, -1), (32, 5, -1)]  # tag, rights, id; see acl(5)
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(folder, "system.posix_acl_access", packed)
    except OSError as error:
        pytest.skip(f"this file system has no access control lists ({error.strerror})")
    assert mode(folder) == 0o775
    with pytest.raises(Untrusted):
        check_folder(folder)


def test_a_link_of_this_user_is_followed_and_what_it_leads_to_is_checked(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("above/../above/cache")
    make_private(tmp_path / "link")
    assert mode(folder) == 0o700
    folder.chmod(0o777)
    with pytest.raises(Untrusted):
        make_private(tmp_path / "link")


@AS_ROOT
def test_a_link_of_another_user_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    os.chown(tmp_path / "link", OTHER, OTHER, follow_symlinks=False)
    for path in (tmp_path / "link", tmp_path / "link" / "below"):
        with pytest.raises(Untrusted, match="link belongs to the user nobody"):
            make_private(path)
    assert mode(folder) == 0o755


def test_a_relative_path_begins_in_the_working_folder_which_an_absolute_one_does_not_need(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    check_folder(Path("../cache"))
    folder.parent.chmod(0o777)
    with pytest.raises(Untrusted):
        check_folder(Path())
    folder.rmdir()
    check_folder(tmp_path)


def test_links_in_a_circle_end_in_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        check_folder(tmp_path / "a")


def test_a_file_is_opened_for_this_user_alone(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("kept")
    old.chmod(0o644)
    for path in (old, tmp_path / "new"):
        os.close(open_private(path, os.O_RDWR | os.O_CREAT))
        assert mode(path) == 0o600
    assert old.read_text() == "kept"


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_APPEND, os.O_RDWR | os.O_CREAT])
def test_a_link_or_a_second_name_or_a_pipe_is_not_opened(tmp_path: Path, flags: int) -> None:
    target = tmp_path / "target"
    target.write_text("")
    target.chmod(0o644)
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "hard").hardlink_to(target)
    os.mkfifo(tmp_path / "pipe", 0o644)
    for name in ("link", "hard", "pipe"):
        with pytest.raises(OSError, match=rf"{name} is|No such device or address: '.*{name}'"):
            open_private(tmp_path / name, flags)
    assert mode(target) == 0o644


@AS_ROOT
def test_a_file_of_another_user_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.chown(tmp_path / "file", OTHER, -1)
    with pytest.raises(Untrusted, match="belongs to the user nobody"):
        open_private(tmp_path / "file", os.O_RDWR)


@AS_ROOT
def test_what_root_has_written_is_trusted_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(os, "geteuid", lambda: OTHER)
    os.close(open_trusted(tmp_path / "file"))
    with pytest.raises(Untrusted, match="belongs to the user root"):
        open_private(tmp_path / "file", os.O_RDONLY)


def test_a_pipe_may_be_read(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    try:
        os.close(open_trusted(Path(f"/dev/fd/{reading}")))
    finally:
        os.close(reading)
        os.close(writing)


@AS_ROOT
def test_a_pipe_of_another_user_keeps_no_one_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.chown(tmp_path / "pipe", OTHER, -1)
    with pytest.raises(Untrusted, match="belongs to the user nobody"):
        open_trusted(tmp_path / "pipe")
