"""Who may read a file: its own mode, narrowed by every folder above it, and what a mount makes of that."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from musicfs.catalog.rows import ALSO_WITHOUT_OWNER
from musicfs.config.load import load_config
from musicfs.config.models import MountConfig
from musicfs.errors import ConfigError
from musicfs.model import Owner, Stat
from musicfs.mount.readers import Readers
from musicfs.origins.fileowners import CLOSED, Gate, Ownership, narrowed
from musicfs.origins.listing import Lister
from musicfs.system import linux

ME, MINE = os.getuid(), os.getgid()
USER_OBJECT, USER, GROUP_OBJECT, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
ACL = "system.posix_acl_access"


def gate(uid: int, gid: int, bits: str) -> Gate:
    """bits: "ugo" for those that may pass."""
    u, g, o = (letter in bits for letter in "ugo")
    return Gate(uid, gid, u, g, o, g and o)


FILE = gate(1, 10, "ugo")


@pytest.mark.parametrize(
    ("folders", "mode"),
    [
        ([gate(0, 0, "ugo")], 0o444),
        ([gate(1, 10, "u")], 0o400),
        ([gate(1, 10, "ug")], 0o440),
        ([gate(1, 11, "ug")], 0o400),  # whoever is in 11 is not for that in 10
        ([gate(2, 10, "ug")], 0o040),  # the owner of the file is not the folder's
        ([gate(0, 0, "u")], 0),
        ([gate(0, 0, "ugo"), gate(1, 10, "ug"), gate(1, 10, "ugo")], 0o440),
        ([gate(1, 10, "ug"), gate(1, 11, "ug")], 0o400),
        ([gate(1, 10, "uo")], 0o404),
        ([gate(1, 11, "uo")], 0o400),  # others may be members of 11, which is shut out
        ([gate(2, 10, "go")], 0o444),  # the folder's owner is shut out by itself alone
        ([gate(1, 10, "ugo")._replace(group=False, has_acl=True)], 0o404),
    ],
)
def test_a_class_may_read_only_if_all_of_it_gets_past_every_folder(folders: list[Gate], mode: int) -> None:
    assert narrowed(frozenset(folders), FILE) == Owner(1, 10, mode)


def test_folders_that_can_not_be_looked_at_let_nobody_past() -> None:
    assert Ownership().on_the_way("/no/such/folder") == CLOSED
    assert narrowed(CLOSED, FILE).mode == 0


@pytest.fixture
def top() -> Iterator[Path]:
    """A root for origins that all users get to, as they do not to pytest's own folders."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "top").mkdir(mode=0o755)
        yield Path(folder) / "top"


def modes(top: Path) -> dict[str, int]:
    """What a walk says of each file's owner, by its path."""
    lister, waiting, found = Lister(str(top)), [""], dict[str, int]()
    while waiting:
        folder = lister.list(waiting.pop())
        waiting += folder.folders + folder.linked
        for file in folder.files:
            assert file.owner is not None
            assert file.owner[:2] == (ME, MINE)
            found[file.path] = file.owner.mode
            alone = Lister(str(top)).file(file.path, (top / file.path).stat())
            assert alone.owner == file.owner
    return found


def put(path: Path, mode: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    path.chmod(mode)
    return path


def test_a_walk_narrows_each_file_by_the_folders_down_to_it(top: Path) -> None:
    for name, mode in {"a": 0o644, "b": 0o600, "c": 0o777, "in/d": 0o640, "in/deep/e": 0o644, "shut/f": 0o644}.items():
        put(top / name, mode)
    (top / "in").chmod(0o750)
    (top / "shut").chmod(0o700)
    (top / "shut/deep").mkdir(mode=0o777)
    put(top / "shut/deep/g", 0o666)
    assert modes(top) == {
        "a": 0o444, "b": 0o400, "c": 0o444, "in/d": 0o440, "in/deep/e": 0o440, "shut/f": 0o400, "shut/deep/g": 0o400,
    }  # fmt: skip
    top.chmod(0o700)
    assert set(modes(top).values()) == {0o400}


def test_what_a_link_leads_to_is_narrowed_by_the_folders_where_it_really_is(top: Path) -> None:
    put(top.parent / "outside/shut/a", 0o644)
    (top.parent / "outside").chmod(0o750)
    (top.parent / "outside/shut").chmod(0o700)
    put(top.parent / "outside/b", 0o644)
    (top / "file").symlink_to(top.parent / "outside/b")
    (top / "shut").symlink_to(top.parent / "outside/shut")
    assert modes(top) == {"file": 0o440, "shut/a": 0o400}


def set_acl(path: Path, *entries: tuple[int, int]) -> None:
    packed = (struct.pack("<HHI", tag, bits, 77 if tag in (USER, GROUP) else 0xFFFFFFFF) for tag, bits in entries)
    os.setxattr(path, ACL, struct.pack("<I", 2) + b"".join(packed))


def test_where_there_is_an_acl_the_mode_says_nothing_of_the_group(top: Path) -> None:
    """The mode's bits of the group are the mask then: 0640 here, and the group may do nothing."""
    set_acl(put(top / "a", 0o600), (USER_OBJECT, 6), (USER, 4), (GROUP_OBJECT, 0), (MASK, 4), (OTHER, 0))
    assert (top / "a").stat().st_mode & 0o777 == 0o640
    set_acl(put(top / "b", 0o600), (USER_OBJECT, 6), (USER, 4), (GROUP_OBJECT, 4), (MASK, 4), (OTHER, 4))
    set_acl(put(top / "c", 0o600), (USER_OBJECT, 6), (USER, 0), (GROUP_OBJECT, 4), (MASK, 4), (OTHER, 4))
    set_acl(put(top / "d", 0o600), (USER_OBJECT, 6), (GROUP_OBJECT, 4), (GROUP, 4), (MASK, 0), (OTHER, 4))
    put(top / "in/e", 0o644)
    set_acl(top / "in", (USER_OBJECT, 7), (USER, 5), (GROUP_OBJECT, 0), (MASK, 5), (OTHER, 0))
    assert modes(top) == {"a": 0o400, "b": 0o404, "c": 0o400, "d": 0o400, "in/e": 0o400}


def test_an_acl_that_can_not_be_had_counts_as_one_that_forbids(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(top / "a", 0o644)
    (top / "a").parent.chmod(0o755)

    def fail(path: str, *_: object, **__: object) -> list[str]:
        if path.endswith("/a"):
            raise OSError(errno.EIO, "Input/output error")
        return []

    monkeypatch.setattr(os, "listxattr", fail)
    assert modes(top) == {"a": 0o400}


def test_on_a_network_mount_no_acl_is_asked_for_and_a_group_counts_where_all_may_read(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linux, "filesystem_of", lambda fd: "nfs4")
    monkeypatch.delattr(os, "listxattr")
    put(top / "a", 0o644)
    put(top / "b", 0o640)
    assert modes(top) == {"a": 0o444, "b": 0o400}


def test_an_owner_is_no_part_of_a_files_version() -> None:
    assert Stat("a", 1, 2, owner=Owner(1, 1, 0o400)) == Stat("a", 1, 2, owner=Owner(2, 2, 0o444))


# What the mount shows


def test_a_file_without_an_owner_is_the_mounting_users_alone_unless_the_configuration_opens_it() -> None:
    assert Readers(0o400)(None, None, None) == (ME, MINE, 0o400)
    assert Readers(0o444)(None, None, None) == (ME, MINE, 0o444)
    assert Readers(0o444)(7, 8, 0o400 | ALSO_WITHOUT_OWNER) == (ME, MINE, 0o444)
    assert Readers(0o400)(7, 8, 0o440 | ALSO_WITHOUT_OWNER) == (7, 8, 0o440)
    assert Readers(0o444)(7, 8, 0o440) == (7, 8, 0o440)
    assert Readers(0o444)() == (ME, MINE, 0o400), "it has left the tree while it is open"


def test_the_user_who_mounts_may_read_what_no_other_class_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ACL may let MusicFS read another user's file; its own user must not be refused then."""
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(os, "getgid", lambda: 1001)
    assert Readers(0o400)(7, 8, 0o400) == Readers(0o400)(7, 8, 0) == (1000, 1001, 0o400)
    assert Readers(0o400)(7, 8, 0o440) == (7, 8, 0o440)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert Readers(0o400)(7, 8, 0o400) == (7, 8, 0o400)


@pytest.mark.parametrize(
    ("written", "mode"), [("0o444", 0o444), ('"0444"', 0o444), ('"440"', 0o440), ('"0o404"', 0o404), ("0o400", 0o400)]
)
def test_a_file_mode_is_written_as_a_number_or_as_a_text(tmp_path: Path, written: str, mode: int) -> None:
    assert mount_config(tmp_path, written).file_mode == mode


@pytest.mark.parametrize("written", ["444", "0o644", '"0755"', '"rw"', "0o044", "true", "4.5", '"0888"', "[]"])
def test_a_file_mode_that_is_more_or_less_than_reading_is_refused(tmp_path: Path, written: str) -> None:
    with pytest.raises(ConfigError, match=r'mount\.file_mode is .*: use "0400" for the user who mounts alone'):
        mount_config(tmp_path, written)


def mount_config(folder: Path, file_mode: str) -> MountConfig:
    file = folder / "musicfs.toml"
    file.write_text(f'[[origins]]\nid="a"\norigin_type="local"\npath="/a"\n[mount]\nfile_mode = {file_mode}\n')
    return load_config(file).config.mount
