"""What happens to an open file while its origins' files get other times, other names, or copies."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.audio import make_audio
from tests.support.mounting import Mount, Place
from tests.support.playing import SHOWN, SONG, digest_of, play
from tests.support.servers.process import HOST
from tests.support.servers.sshd import sshd


@pytest.fixture
def song(here: Place) -> Path:
    made = make_audio(here.origins / "disk/folder/song.wav", seconds=130, seed=1, tags=SONG)
    (here.origins / "usb").mkdir()
    shutil.copy(made, here.base / "kept.wav")
    return made


@pytest.fixture
def kept(here: Place, song: Path) -> Path:
    """The song as it was at first."""
    return here.base / "kept.wav"


def touch(song: Path) -> None:
    os.utime(song, (1, 1))


def rename(song: Path) -> None:
    touch(song)  # or the driver, which has the file open, would not notice
    song.rename(song.with_name("another.wav"))


def move_its_folder(song: Path) -> None:
    touch(song)
    song.parent.rename(song.parent.with_name("moved"))


def restore_under_another_name(song: Path) -> None:
    shutil.copy(song, song.with_name("copy.wav"))
    remove(song)


def remove(song: Path) -> None:
    touch(song)
    song.unlink()


@pytest.mark.parametrize("change", [touch, rename, move_its_folder, restore_under_another_name])
def test_a_file_plays_on_when_its_file_gets_another_time_or_name(
    here: Place, song: Path, kept: Path, change: Callable[[Path], None]
) -> None:
    with Mount(here, {"disk": here.origins / "disk"}) as mount:
        played = play(here, mount.scanned().path / SHOWN, lambda: change(song))
        assert played.digest == digest_of(kept)
        print(f"the longest wait was {played.longest * 1000:.0f} ms")


def test_a_file_plays_on_when_all_of_its_copies_are_touched(here: Place, song: Path, kept: Path) -> None:
    copy = here.origins / "usb/song.wav"
    shutil.copy(song, copy)
    with Mount(here, {"disk": here.origins / "disk", "usb": here.origins / "usb"}) as mount:
        path = mount.scanned().path / SHOWN
        assert play(here, path, lambda: list(map(touch, (song, copy)))).digest == digest_of(kept)


def test_a_file_plays_on_from_a_copy_that_came_after_it_was_opened(here: Place, song: Path, kept: Path) -> None:
    with Mount(here, {"disk": here.origins / "disk", "usb": here.origins / "usb"}) as mount:
        path = mount.scanned().path / SHOWN

        def move_to_the_other_origin() -> None:
            since = len(mount.events)
            shutil.copy(song, here.origins / "usb/song.wav")
            mount.wait_for("FilesChanged", since, origin="usb")
            remove(song)

        assert play(here, path, move_to_the_other_origin).digest == digest_of(kept)


def test_a_file_whose_bytes_changed_in_place_is_an_error_soon_and_then_reads_anew(here: Place, song: Path) -> None:
    with Mount(here, {"disk": here.origins / "disk"}) as mount:
        path = mount.scanned().path / SHOWN

        def change() -> None:
            with song.open("r+b") as file:
                file.seek(-1000, os.SEEK_END)
                file.write(b"changed")

        start = time.monotonic()
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            play(here, path, change)
        assert time.monotonic() - start < 9, "a read ended at its deadline only"
        mount.wait_for("FilesChanged", origin="disk", changed=1)
        assert here.call(Path.read_bytes, path) == song.read_bytes()


@pytest.mark.parametrize("change", [touch, rename])
def test_a_file_of_a_server_plays_on_when_its_file_gets_another_time_or_name(
    here: Place, song: Path, kept: Path, change: Callable[[Path], None]
) -> None:
    with sshd() as server:
        key, known = here.user / "key", here.base / "known_hosts"
        here.call(key.write_bytes, server.key.read_bytes())
        here.call(key.chmod, 0o600)
        shutil.copy(server.known_hosts, known)
        known.chmod(0o644)
        nas = {"origin_type": "sftp", "host": HOST, "path": str(here.origins / "disk"), "port": server.port}
        nas |= {"user": server.user, "key_file": str(key), "known_hosts": str(known)}
        with Mount(here, {"nas": here.origins / "disk"}, nas=nas) as mount:
            played = play(here, mount.scanned().path / SHOWN, lambda: change(song))
            assert played.digest == digest_of(kept)
            print(f"the longest wait was {played.longest * 1000:.0f} ms")
