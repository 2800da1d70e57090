"""What changes at an origin shows in the mount within moments, and what is away stays."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import mutagen
import pytest

from tests.support.audio import make_album
from tests.support.mounting import Mount, Place, eventually

Record = Callable[[str, object], None]
SOON = 40.0
"""Seconds; two are promised, and machines under test are slow. A poll, which is no watch, comes once a minute."""


def files(top: Path) -> list[str]:
    return sorted(
        str(Path(folder, name).relative_to(top)) for folder, _, names in os.walk(top, onerror=_fail) for name in names
    )


def listed_numbers(folder: Path) -> dict[str, int]:
    with os.scandir(folder) as entries:
        return {entry.name: entry.inode() for entry in entries}


def _fail(error: OSError) -> None:
    raise error


class Library:
    """A mount of one album, and its origin's folder."""

    def __init__(self, mount: Mount, root: Path, record: Record) -> None:
        self.mount = mount
        self.root = root
        self._record = record

    def files(self) -> list[str]:
        return self.mount.here.call(files, self.mount.path)

    def shows(self, *expected: str) -> None:
        """Waits until the mount shows exactly these files, and records how long it took."""
        seconds = eventually(lambda: self._files_by_now() == sorted(expected), f"{expected}", SOON)
        self._record("seconds", round(seconds, 2))

    def _files_by_now(self) -> list[str] | None:
        """None when a folder went while it was being looked at."""
        try:
            return self.files()
        except FileNotFoundError:
            return None


def track(number: int, title: str = "", album: str = "Album", artist: str = "Artist") -> str:
    return f"{artist}/{album} (1999) [FLAC]/{number:02} - {title or f'Title {number}'}.flac"


@pytest.fixture
def library(here: Place, record_property: Record) -> Iterator[Library]:
    root = here.origins / "one"
    make_album(root, "Artist", "Album", 2)
    with Mount(here, {"one": root}, health={"check_interval_secs": 0.3}) as mount:
        library = Library(mount.scanned(), root, record_property)
        assert library.files() == [track(1), track(2)]
        yield library


def test_another_spelling_of_most_tracks_renames_the_folder_under_open_files(library: Library) -> None:
    folder = library.mount.path / "Artist"
    number = library.mount.here.call(listed_numbers, library.mount.path)["Artist"]
    song = library.mount.here.call(os.open, folder / "Album (1999) [FLAC]/01 - Title 1.flac", os.O_RDONLY)
    inside = library.mount.here.call(os.open, folder, os.O_RDONLY)
    make_album(library.root, "ARTIST", "Other", 3)
    library.shows(*(track(n, artist="ARTIST") for n in (1, 2)), *(track(n, "", "Other", "ARTIST") for n in (1, 2, 3)))
    assert library.mount.here.call(listed_numbers, library.mount.path) == {"ARTIST": number}
    assert not library.mount.here.call(os.path.exists, folder)
    assert library.mount.here.call(os.pread, song, 4, 0) == b"fLaC"
    assert sorted(library.mount.here.call(os.listdir, inside)) == ["Album (1999) [FLAC]", "Other (1999) [FLAC]"]
    for opened in (song, inside):
        library.mount.here.call(os.close, opened)


def test_an_added_file_shows(library: Library) -> None:
    made = make_album(library.mount.here.base / "aside", "Artist", "Album", 3)[2]
    shutil.copy(made, library.root / "Artist/Album")
    library.shows(track(1), track(2), track(3))


def test_a_removed_file_goes(library: Library) -> None:
    (library.root / "Artist/Album/01 - Title 1.flac").unlink()
    library.shows(track(2))


def test_a_retagged_file_moves_and_its_new_bytes_are_read(library: Library) -> None:
    path = library.root / "Artist/Album/01 - Title 1.flac"
    shown = library.mount.path / track(1)
    assert library.mount.here.call(Path.read_bytes, shown) == path.read_bytes()
    file = mutagen.File(path)
    file["title"] = "Renamed"
    file.save()
    library.shows(track(1, "Renamed"), track(2))
    assert library.mount.here.call(Path.read_bytes, library.mount.path / track(1, "Renamed")) == path.read_bytes()


def test_a_file_that_keeps_its_name_shows_its_new_bytes_and_size(library: Library) -> None:
    path = library.root / "Artist/Album/01 - Title 1.flac"
    shown = library.mount.path / track(1)
    here = library.mount.here
    assert here.call(Path.read_bytes, shown) == path.read_bytes()
    file = mutagen.File(path)
    file["comment"] = "x" * 10_000
    file.save(padding=lambda info: 0)
    eventually(lambda: here.call(os.stat, shown).st_size == path.stat().st_size, "the new size", SOON)
    assert here.call(Path.read_bytes, shown) == path.read_bytes()


def test_a_renamed_folder_changes_nothing_that_the_tags_say(library: Library) -> None:
    since = len(library.mount.events)
    inodes = [library.mount.here.call(os.stat, library.mount.path / name).st_ino for name in library.files()]
    (library.root / "Artist/Album").rename(library.root / "Artist/Elsewhere")
    library.mount.wait_for("ScanFinished", since)
    library.shows(track(1), track(2))
    eventually(
        lambda: (
            library.mount.here.call(Path.read_bytes, library.mount.path / track(1))
            == (library.root / "Artist/Elsewhere/01 - Title 1.flac").read_bytes()
        ),
        "the bytes from the new place",
        SOON,
    )
    assert [library.mount.here.call(os.stat, library.mount.path / name).st_ino for name in library.files()] == inodes


def test_an_album_that_is_moved_in_shows_whole(library: Library) -> None:
    here = library.mount.here
    make_album(here.base / "aside", "Other", "Record", 5)
    (here.base / "aside/Other").rename(library.root / "Other")
    new = [track(number, album="Record", artist="Other") for number in range(1, 6)]
    library.shows(track(1), track(2), *new)
    assert here.call(Path.read_bytes, library.mount.path / new[4])[:4] == b"fLaC"


def test_a_removed_album_leaves_no_empty_folders(library: Library) -> None:
    make_album(library.root, "Other", "Record", 1)
    library.shows(track(1), track(2), track(1, album="Record", artist="Other"))
    shutil.rmtree(library.root / "Other")
    library.shows(track(1), track(2))
    assert library.mount.here.call(os.listdir, library.mount.path) == ["Artist"]


def test_an_origin_whose_folder_is_away_keeps_its_music_in_the_tree(library: Library) -> None:
    mount = library.mount
    away = library.root.with_name("away")
    before = library.files()
    library.root.rename(away)
    mount.wait_for("HealthChanged", origin="one", after="HealthStatus.UNHEALTHY")
    assert library.files() == before
    since = len(mount.events)
    away.rename(library.root)
    mount.wait_for("HealthChanged", since, origin="one", before="HealthStatus.UNHEALTHY")
    mount.wait_for("ScanFinished", since, origin="one", error=None)
    assert library.files() == before
    assert mount.here.call(Path.read_bytes, mount.path / track(1))[:4] == b"fLaC"
    # And it is watched again.
    (library.root / "Artist/Album/01 - Title 1.flac").unlink()
    library.shows(track(2))


def test_a_mount_whose_origin_is_away_from_the_start_shows_what_is_known(here: Place) -> None:
    root = here.origins / "one"
    make_album(root, "Artist", "Album", 2)
    with Mount(here, {"one": root}) as mount:
        before = here.call(files, mount.scanned().path)
    root.rename(here.origins / "away")
    with Mount(here, {"one": root}, retry={"delays_ms": [], "deadline_ms": 1500}) as mount:
        assert here.call(files, mount.path) == before
        mount.wait_for("HealthChanged", after="HealthStatus.UNHEALTHY")
        assert here.call(files, mount.path) == before
        done = here.run("cat", mount.path / track(1), check=False)
        assert "Input/output error" in done.stderr
        mount.signal(signal.SIGTERM)
        assert mount.wait() == 0


def test_a_picture_with_two_names_is_one_file_and_one_name_may_go(library: Library) -> None:
    here, top = library.mount.here, library.mount.path
    for name in ("cover.jpg", "folder.jpg"):
        (library.root / "Artist/Album" / name).write_bytes(b"the same picture")
    names = [track(1).replace("01 - Title 1.flac", name) for name in ("cover.jpg", "folder.jpg")]
    library.shows(track(1), track(2), *names)
    listed = here.call(listed_numbers, (top / names[0]).parent)
    found = [here.call(os.stat, top / name) for name in names]
    assert found[0].st_ino == found[1].st_ino == listed["cover.jpg"] == listed["folder.jpg"]
    assert [here.call(Path.read_bytes, top / name) for name in names] == [b"the same picture"] * 2

    handle = here.call(os.open, top / names[0], os.O_RDONLY)
    try:
        (library.root / "Artist/Album/cover.jpg").unlink()
        library.shows(track(1), track(2), names[1])
        assert here.call(os.fstat, handle).st_ino == found[0].st_ino
        assert here.call(os.pread, handle, 100, 0) == b"the same picture"
    finally:
        here.call(os.close, handle)
    assert here.call(os.stat, top / names[1]).st_ino == found[0].st_ino
    assert here.call(Path.read_bytes, top / names[1]) == b"the same picture"
