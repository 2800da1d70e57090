"""What a scan costs grows with its files, however often one content is among them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from musicfs.catalog.rows import ScannedFile
from musicfs.library.placement import folder_of
from musicfs.model import Fingerprint, Owner, Stat
from musicfs.tags.tags import Tags
from tests.support.library import ScannedLibrary, scanned_library

_BATCH = 200


def scanned(path: str, bytes_of: str, tags: Tags | None, role: str = "audio", mtime_ns: int = 1) -> ScannedFile:
    text = None if tags is None else json.dumps(tags.to_json())
    fingerprint = Fingerprint(blake3(bytes_of.encode()).digest())
    return ScannedFile(Stat(path, 1000, mtime_ns), folder_of(path, role), role, fingerprint, text, None)


def song(album: int, track: int, bytes_of: str = "") -> ScannedFile:
    path = f"{album:04}/{track}.flac"
    tags = Tags("flac", "flac", "Same" if bytes_of else str(track), "Ada", album=bytes_of or str(album), track=track)
    return scanned(path, bytes_of or path, tags)


def cover(album: int, bytes_of: str = "") -> ScannedFile:
    path = f"{album:04}/folder.jpg"
    return scanned(path, bytes_of or path, None, "sidecar")


def broken(album: int, bytes_of: str = "") -> ScannedFile:
    path = f"{album:04}/2.flac"
    return scanned(path, bytes_of or path, None)


def store(library: ScannedLibrary, files: list[ScannedFile]) -> int:
    """Stores the files in batches. Returns how many files were placed."""
    placed = 0
    with library.catalog.transaction():
        library.catalog.configure_origins({"a": 1})
    for start in range(0, len(files), _BATCH):
        with library.catalog.transaction():
            placed += library.builder.update(*library.catalog.store("a", files[start : start + _BATCH])).placed
    return placed


@pytest.fixture
def steps_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[ScannedFile]], float]:
    """Stores the files in a new catalogue. Returns what that cost: SQLite's steps, with the rows that it returned."""
    folders = iter(range(100))

    def cost(files: list[ScannedFile]) -> float:
        counted = 0

        def count() -> None:
            nonlocal counted
            counted += 1

        with scanned_library(tmp_path / str(next(folders))) as library:
            library.catalog._db.set_progress_handler(count, 100)
            placed = store(library, files)
        assert placed <= 2 * len(files)
        return counted

    return cost


KINDS: dict[str, Callable[[int, str], list[ScannedFile]]] = {
    "one cover for all": lambda n, same: [f for a in range(n) for f in (song(a, 1), cover(a, same))],
    "one broken file in all": lambda n, same: [f for a in range(n) for f in (song(a, 1), broken(a, same))],
    "one track in all": lambda n, same: [f for a in range(n) for f in (song(a, 1), song(a, 2, same))],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_content_in_every_album_costs_no_more_than_contents_of_their_own(
    kind: str, steps_of: Callable[[list[ScannedFile]], float]
) -> None:
    made = KINDS[kind]
    few, many = steps_of(made(200, "same")), steps_of(made(800, "same"))
    assert many < 5 * few
    assert many < 1.4 * steps_of(made(800, ""))


def nodes(library: ScannedLibrary) -> Iterator[tuple[str, int, int | None]]:
    view = library.view_now()
    for path, ino in library.nodes().items():
        row = view.owned_inode(ino)
        assert row is not None
        yield path, row.mtime_ns, row.mode


def test_all_names_of_a_content_follow_its_oldest_copy_and_the_one_that_most_users_may_read(tmp_path: Path) -> None:
    files = [f for a in range(3) for f in (song(a, 1), cover(a, "same"))]
    with scanned_library(tmp_path) as library:
        store(library, files)
        covers = {path for path in library.paths() if path.endswith(".jpg")}
        assert len(covers) == 3
        older = files[3]._replace(stat=Stat(files[3].stat.path, 1000, -5, None, Owner(1, 1, 0o444)))
        store(library, [older])
        assert {(path, time, mode) for path, time, mode in nodes(library) if path in covers} == {
            (path, -5, 0o1444) for path in covers
        }
        with library.catalog.transaction():
            gone = list(library.catalog.replicas_under("a", "0001/folder.jpg"))
            library.builder.update(*library.catalog.remove_replicas(gone))
        assert {(time, mode) for path, time, mode in nodes(library) if path in covers} == {(1, None)}
        assert len(covers & set(library.paths())) == 2


def test_a_folder_of_thousands_is_placed_as_a_whole_only_a_few_times(tmp_path: Path) -> None:
    music = tmp_path / "music"
    music.mkdir()
    for number in range(4000):
        (music / f"{number}.mp3").write_bytes(str(number).encode())
    with scanned_library(tmp_path / "library") as library:
        library.configure({"a": music})
        asyncio.run(library.scan())
        assert len(library.paths()) == 4000
        assert sum(changes.placed for changes in library.changes) <= 5 * 4000
        assert len(library.changes) > 3


def test_questions_about_a_picture_with_many_names_cost_no_more_than_with_a_hundred(tmp_path: Path) -> None:
    costs = []
    for albums in (200, 800):
        with scanned_library(tmp_path / str(albums)) as library:
            store(library, [f for a in range(albums) for f in (song(a, 1), cover(a, "same"))])
            ino = next(ino for path, ino in library.nodes().items() if path.endswith(".jpg"))
            counted = 0

            def count() -> None:
                nonlocal counted
                counted += 1

            view = library.view_now()
            view._db.set_progress_handler(count, 10)
            assert len(view.variants(ino)) == 1
            assert view.path(ino).endswith(".jpg")
            assert view.following(ino) is None
            assert view.places(ino)
            costs.append(counted)
    assert costs[1] < 1.2 * costs[0]
