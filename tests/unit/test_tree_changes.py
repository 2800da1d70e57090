"""The tree after changes in any order is the tree of one scan that finds the same files at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

import pytest

from musicfs.catalog.database import ROOT_INO
from musicfs.catalog.rows import ScannedFile
from musicfs.library.placement import folder_of
from musicfs.model import Fingerprint, Stat
from musicfs.tags.tags import Tags
from tests.support.library import ScannedLibrary, scanned_library

ORIGINS = {"a": 1, "b": 2}
Files = Mapping[tuple[str, str], int]
"""(origin, path) to the number of the content there."""

CONTENTS = (
    Tags("flac", "flac", "One", "Abba", album="Hits", track=1),
    Tags("flac", "flac", "Two", "Beck", album="Hits", track=2),
    Tags("flac", "flac", "Three", "Cream", album="Hits", track=3),
    Tags("flac", "flac", "One", "Abba", album="Hits", track=1, year=1974),
    Tags("flac", "flac"),
    None,
)
PATHS = [f"{folder}/{name}.flac" for folder in ("1", "2", "2/CD 2", "3") for name in "xy"] + ["1/cover.jpg", "3/x.lrc"]
PATHS += ["4/artist.jpg", "4/A/x.flac", "4/Side B/y.flac", "4/Scans/back.jpg", "4/Scans/HQ/z.jpg", "root.jpg"]


def scanned(path: str, content: int) -> ScannedFile:
    """What a scan finds at `path`; a file without music has other bytes than every track."""
    is_audio = path.endswith(".flac")
    number = content if is_audio else content + len(CONTENTS)
    tags = CONTENTS[content] if is_audio else None
    role = "audio" if is_audio else "sidecar"
    text = json.dumps(tags.to_json()) if tags is not None else None
    stat = Stat(path, 1000 + number, 1)
    return ScannedFile(stat, folder_of(path, role), role, Fingerprint(bytes([number]) * 32), text, None)


class Changing:
    """A library whose files are put and removed without being read."""

    def __init__(self, library: ScannedLibrary) -> None:
        self._library = library
        self.files: dict[tuple[str, str], int] = {}
        with library.catalog.transaction():
            library.catalog.configure_origins(ORIGINS)

    def put(self, files: Files) -> None:
        self.files |= files
        for origin in ORIGINS:
            found = [scanned(path, content) for (at, path), content in files.items() if at == origin]
            if found:
                with self._library.catalog.transaction():
                    self._library.builder.update(*self._library.catalog.store(origin, found))

    def remove(self, origin: str, path: str) -> None:
        del self.files[origin, path]
        catalog = self._library.catalog
        with catalog.transaction():
            self._library.builder.update(*catalog.remove_replicas(list(catalog.replicas_under(origin, path))))

    def enable(self, *origins: str) -> None:
        catalog = self._library.catalog
        with catalog.transaction():
            touched = catalog.configure_origins({id: ORIGINS[id] for id in origins})
            self._library.builder.update(catalog.folders_of(touched))

    def time_of_root(self) -> int:
        root = self._library.view_now().inode(ROOT_INO)
        assert root is not None
        return root.mtime_ns

    def tree(self) -> dict[str, list[tuple[str, str]]]:
        """The path of each file in the tree, with where its bytes lie."""
        return {path: sorted(self._library.replicas(path)) for path in self._library.paths()}


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[Changing]:
    with scanned_library(tmp_path / "changing") as library:
        yield Changing(library)


def fresh(folder: Path, files: Files) -> dict[str, list[tuple[str, str]]]:
    with scanned_library(folder) as library:
        made = Changing(library)
        made.put(files)
        return made.tree()


def test_a_copy_in_an_earlier_folder_takes_its_track_out_of_the_place_that_another_copy_gave_it(
    changing: Changing, tmp_path: Path
) -> None:
    """Beside tracks of other artists it is a part of a compilation; alone, an album of its own artist."""
    changing.put({("a", "2/x.flac"): 0, ("a", "2/y.flac"): 1, ("b", "2/CD 2/x.flac"): 2})
    assert {path.split("/")[0] for path in changing.tree()} == {"Various Artists"}
    changing.put({("b", "1/x.flac"): 0})
    assert {path.split("/")[0] for path in changing.tree()} == {"Various Artists", "Abba"}
    assert changing.tree() == fresh(tmp_path / "fresh", changing.files)


@pytest.mark.parametrize("seed", range(8))
def test_changes_one_by_one_give_the_tree_of_one_scan(changing: Changing, tmp_path: Path, seed: int) -> None:
    chance = Random(seed)
    for step in range(16):
        if changing.files and chance.random() < 0.35:
            changing.remove(*chance.choice(sorted(changing.files)))
        elif chance.random() < 0.1:
            changing.enable(chance.choice("ab"))
            changing.enable(*ORIGINS)
        else:
            at = [(chance.choice("ab"), path) for path in chance.sample(PATHS, chance.choice((1, 1, 3)))]
            changing.put({where: chance.randrange(len(CONTENTS)) for where in at})
        assert changing.tree() == fresh(tmp_path / str(step), changing.files), changing.files


def test_each_change_of_a_listing_gives_its_folder_a_later_time_whatever_the_clock_says(
    changing: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel takes a listing that it has cached for the present one while the folder's time is the same."""
    now = iter(range(1000, 0, -1))
    monkeypatch.setattr("time.time_ns", lambda: next(now))
    times = [changing.time_of_root()]
    for artist in (0, 1, 2):
        changing.put({("a", f"{artist}/x.flac"): artist})
        times.append(changing.time_of_root())
    changing.remove("a", "0/x.flac")
    times.append(changing.time_of_root())
    assert times == sorted(set(times))
