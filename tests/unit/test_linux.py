"""The calls of the Linux kernel and the C library that the standard library lacks."""

from __future__ import annotations

import gc
from pathlib import Path

import psutil

from musicfs.system.linux import filesystem_of, give_memory_back
from musicfs.system.mounts import Mounted, mounts, parse_mounts

_PIECE = 100_000  # small enough that the C library keeps it
_PIECES = 1_000


def test_what_was_freed_between_what_is_in_use_goes_back_to_the_system() -> None:
    resident = psutil.Process().memory_info
    pieces = [bytearray(b"x") * _PIECE for _ in range(_PIECES)]
    kept = pieces[-1]
    full = resident().rss
    del pieces
    gc.collect()
    give_memory_back()
    assert full - resident().rss > _PIECE * _PIECES * 0.8
    assert len(kept) == _PIECE


def test_the_mount_table_is_read_with_its_escapes_and_without_malformed_lines() -> None:
    line = r"36 35 98:0 /root /mnt/my\040music\134\351 rw,noatime shared:1 - ext4 /dev/sda1 rw"
    path = Path("/mnt/my music\\" + b"\xe9".decode("utf-8", "surrogateescape"))
    assert parse_mounts(f"{line}\nnonsense\n1 2 3\n") == [Mounted("36", path, "ext4", "98:0", source="/dev/sda1")]
    fuse = "40 35 0:54 / /m ro shared:2 - fuse.musicfs musicfs ro,user_id=1000,group_id=100,allow_other"
    assert parse_mounts(fuse) == [Mounted("40", Path("/m"), "fuse.musicfs", "0:54", owner=1000, source="musicfs")]


def test_an_open_file_tells_which_filesystem_it_is_on() -> None:
    proc = next(mount for mount in mounts() if mount.path == Path("/proc"))
    with Path("/proc/self/status").open() as file:
        assert filesystem_of(file.fileno()) == proc.type == "proc"
    assert filesystem_of(10**6) == ""
