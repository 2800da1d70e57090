"""Files that a parse process reads from a disk itself: told as those whose bytes it is sent, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from musicfs.config.models import OriginConfig
from musicfs.errors import ReplicaFailed
from musicfs.model import DiskFolder, OriginId, OriginType, Replica
from musicfs.origins.local.driver import LocalOrigin
from musicfs.problems import Reason
from musicfs.tags.parser import (
    TOO_LARGE,
    TOO_MUCH_MEMORY,
    TOO_SLOW,
    Examined,
    FileOnDisk,
    Gathered,
    examine,
    reason_of,
)
from musicfs.testing.scanned_library import examine_on_disk
from tests.support.audio import make_audio, make_empty, make_garbage, make_truncated, picture

TAGS = {"title": "Song", "artist": "A", "album": "B", "track": 3}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "music"
    for kind in ("flac", "mp3", "opus", "m4a", "wv"):
        make_audio(root / f"covered.{kind}", seconds=3, tags=TAGS, cover=picture(300_000))
    make_empty(root / "empty.flac")
    make_garbage(root / "garbage.mp3")
    make_truncated(root / "half.flac", tags=TAGS, cover=picture(300_000))
    (root / "cover.jpg").write_bytes(picture(400_000))
    return root


def on_disk(root: Path, name: str) -> FileOnDisk:
    about = (root / name).stat()
    return FileOnDisk(name, "sidecar" if name.endswith("jpg") else "audio", about.st_size, about.st_mtime_ns)


def folder(root: Path, through_links: bool = True) -> DiskFolder:
    return DiskFolder(str(root), through_links)


async def the_long_way(origin: LocalOrigin, file: FileOnDisk) -> Examined:
    replica = Replica(OriginId("a"), file.path, file.size, file.mtime_ns)
    gathered = Gathered.nothing(file.size)
    while True:
        gathered.add([await origin.read(replica, offset, size) for offset, size in gathered.wanted])
        found = examine(file.path, file.role, file.size, gathered.ranges)
        if isinstance(found, Examined):
            return found
        assert gathered.want(found.offset, found.size) is None


async def test_a_file_on_a_disk_is_told_as_one_that_its_origin_reads(root: Path) -> None:
    origin = LocalOrigin(OriginConfig(id=OriginId("a"), origin_type=OriginType.LOCAL, settings={"path": root}))
    files = [on_disk(root, name) for name in sorted(path.name for path in root.iterdir())]
    found = examine_on_disk(folder(root), files)
    assert found == [await the_long_way(origin, file) for file in files]
    assert sum(each is not None and each.tags is not None for each in found) == 6
    with pytest.raises(ReplicaFailed):
        await the_long_way(origin, files[0]._replace(mtime_ns=1))
    await origin.aclose()


def test_nothing_is_told_of_a_file_that_is_not_what_was_listed(root: Path, tmp_path: Path) -> None:
    good = on_disk(root, "covered.flac")
    os.mkfifo(root / "pipe.flac")
    (root / "folder.flac").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/far.flac").write_bytes((root / "covered.flac").read_bytes())
    (root / "link").symlink_to(tmp_path / "outside")
    others = ["pipe.flac", "folder.flac", "gone.flac", "link/far.flac", "../outside/far.flac", "nul\0.flac"]
    files = [good._replace(path=path) for path in others]
    files += [good._replace(size=good.size - 1), good._replace(size=good.size + 1), good._replace(mtime_ns=1)]
    found = examine_on_disk(folder(root), [*files, good])
    assert found[:-1] == [None] * len(files)
    assert found[-1] is not None
    assert examine_on_disk(folder(root / "no such folder"), [good]) == [None]


def test_nothing_is_told_of_a_file_that_changes_while_it_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = on_disk(root, "covered.mp3")
    read = os.pread

    def read_and_touch(fd: int, size: int, offset: int) -> bytes:
        os.utime(root / file.path, ns=(1, 1))
        return read(fd, size, offset)

    monkeypatch.setattr("os.pread", read_and_touch)
    assert examine_on_disk(folder(root), [file]) == [None]


def test_files_that_cost_too_much_and_damaged_ones_are_counted_apart() -> None:
    assert {reason_of(problem) for problem in (TOO_LARGE, TOO_SLOW, TOO_MUCH_MEMORY)} == {Reason.TOO_COSTLY}
    assert reason_of("the file is empty") is Reason.DAMAGED
