"""Files that the kernel reads past MusicFS: only where the user says so, and only as root."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.mount.test_metrics import by_operation, metrics, sockets
from tests.support.audio import make_audio
from tests.support.mounting import Mount, Place, eventually

TAGS = {"title": "Song", "artist": "Artist", "album": "Album"}
WANTED: dict[str, Any] = {"passthrough": True}


def reads(here: Place) -> float:
    """The requests for bytes that the mount has answered."""
    eventually(lambda: here.call(sockets, here.user / "run"), "the control socket")
    return by_operation(here.call(metrics, here.user / "run"))["musicfs_fuse_requests_total", "read"]


def song(here: Place, folder: str = "one") -> Path:
    return make_audio(here.origins / folder / "song.wav", seconds=30, tags=TAGS)


def shown(mount: Mount) -> Path:
    return mount.path / "Artist/Album [WAV]/Song.wav"


def test_the_kernel_reads_a_file_itself_where_the_origin_allows_it(here: Place) -> None:
    data = song(here).read_bytes()
    with Mount(here, {"one": here.origins / "one"}, one=WANTED) as mount:
        path = shown(mount.scanned())
        before = reads(here)
        assert here.call(Path.read_bytes, path) == data
        assert here.call(Path.read_bytes, path) == data
        if here.who.name == "root":
            assert reads(here) == before
        else:
            assert reads(here) > before
            assert "`passthrough` has no effect" in mount.log


def test_without_the_setting_every_read_is_checked_here(here: Place) -> None:
    data = song(here).read_bytes()
    with Mount(here, {"one": here.origins / "one"}) as mount:
        path = shown(mount.scanned())
        assert here.call(Path.read_bytes, path) == data
        assert reads(here) > 0
        assert "passthrough" not in mount.log


def test_a_file_that_is_open_is_read_past_the_mount_by_everyone_and_outlives_its_origin(here: Place) -> None:
    """The kernel refuses to open a file in two ways at a time."""
    data = song(here).read_bytes()
    with Mount(here, {"one": here.origins / "one"}, one=WANTED) as mount:
        path = shown(mount.scanned())
        before = reads(here)
        if here.who.name != "root":
            assert here.call(Path.read_bytes, path) == data
            assert reads(here) > before
            return
        one, two = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
        try:
            assert os.pread(one, len(data), 0) == os.pread(two, len(data), 0) == data
            (here.origins / "one").rename(here.origins / "away")
            assert os.pread(one, 4096, 1 << 20) == data[1 << 20 : (1 << 20) + 4096]
            assert path.read_bytes() == data
            assert reads(here) == before
        finally:
            os.close(one)
            os.close(two)


def test_a_file_that_was_changed_is_not_passed_as_what_it_was(here: Place) -> None:
    file = song(here)
    data = file.read_bytes()
    with Mount(here, {"one": here.origins / "one"}, one=WANTED) as mount:
        path = shown(mount.scanned())
        file.write_bytes(bytes(len(data)))
        os.utime(file, (1, 1))
        for _ in range(3):
            with suppress(OSError):  # the name is gone once a scan has found out
                assert here.call(Path.read_bytes, path) != bytes(len(data))
