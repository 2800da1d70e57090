"""Another origin's file that only looks like one of ours never takes its place."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.audio import make_audio
from tests.support.mounting import Mount, Place, eventually
from tests.support.playing import SHOWN, SONG
from tests.support.twins import twin_of


@pytest.fixture
def twins(here: Place) -> tuple[Path, Path]:
    """A song at `ours`, and at `theirs` a file that agrees with it in all that a fingerprint samples."""
    ours = make_audio(here.origins / "ours/song.wav", seconds=20, seed=1, tags=SONG)
    theirs = here.origins / "theirs/song.wav"
    theirs.parent.mkdir()
    theirs.write_bytes(twin_of(ours.read_bytes()))
    return ours, theirs


def read(here: Place, path: Path) -> bytes | None:
    """None: an error."""
    try:
        return here.call(Path.read_bytes, path)
    except OSError:
        return None


def test_a_strangers_twin_never_displaces_the_preferred_file(here: Place, twins: tuple[Path, Path]) -> None:
    ours, theirs = twins
    origins = {"ours": ours.parent, "theirs": theirs.parent}
    data, twin = ours.read_bytes(), theirs.read_bytes()
    health = {"check_interval_secs": 0.3}
    with Mount(here, origins, health=health) as mount:
        path = mount.scanned().path / SHOWN
        since = len(mount.events)
        ours.parent.rename(here.base / "away")
        (here.origins / "ours").mkdir()
        assert read(here, path) in (twin, None), "bytes of both"
        (here.origins / "ours").rmdir()
        (here.base / "away").rename(ours.parent)
        mount.wait_for("ScanFinished", since, origin="ours", error=None)
        eventually(lambda: read(here, path) == data, "the turn of the preferred file")
    with Mount(here, origins, health=health) as mount:
        path = mount.scanned().path / SHOWN
        assert read(here, path) == data


def test_twins_are_told_apart_in_the_background_before_a_program_reads_them(
    here: Place, twins: tuple[Path, Path]
) -> None:
    ours, theirs = twins
    with Mount(here, {"ours": ours.parent, "theirs": theirs.parent}) as mount:
        mount.wait_for("CopiesDiffer", origin="ours", other="theirs")
        data = ours.read_bytes()
        ours.parent.rename(here.base / "away")
        assert read(here, mount.path / SHOWN) in (None, data), "the twin serves in its place"


def test_an_untrusted_origin_continues_a_shared_file_only_once_all_of_it_was_compared(here: Place) -> None:
    ours = make_audio(here.origins / "ours/song.wav", seconds=20, seed=1, tags=SONG)
    shutil.copytree(ours.parent, here.origins / "theirs")
    origins = {"theirs": here.origins / "theirs", "ours": ours.parent}
    away, times = here.base / "away", ours.stat()

    def take_away() -> None:
        ours.parent.rename(away)
        os.utime(away / ours.name, (1, 1))  # or the driver, which may have it open, would still read it

    with Mount(here, origins, theirs={"trusted": False}, health={"check_interval_secs": 0.3}) as mount:
        path = mount.scanned().path / SHOWN
        take_away()
        assert read(here, path) is None
        os.utime(away / ours.name, ns=(times.st_atime_ns, times.st_mtime_ns))
        away.rename(ours.parent)
        eventually(lambda: read(here, path) == ours.read_bytes(), "the trusted copy")
        here.run(here.who.python, "-m", "musicfs", "verify", mount.path)
        song = ours.read_bytes()
        take_away()
    with Mount(here, origins, theirs={"trusted": False}) as mount:
        assert read(here, mount.path / SHOWN) == song
