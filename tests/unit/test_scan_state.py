"""Which of the catalogue's replicas a scan has seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from musicfs.catalog.rows import ScannedFile
from musicfs.library.scan_state import SeenReplicas
from musicfs.model import Fingerprint, Stat
from tests.support.library import ScannedLibrary, scanned_library


@pytest.fixture
def library(tmp_path: Path) -> Iterator[ScannedLibrary]:
    with scanned_library(tmp_path / "catalogue") as library:
        yield library


def test_a_replica_counts_once_and_one_that_comes_later_counts_as_seen() -> None:
    seen = SeenReplicas(5)
    assert seen.add([1, 3, 3, 9]) == 2
    assert seen.add([1, 2]) == 1
    assert seen.unseen(range(1, 12)) == [4, 5]


def test_a_catalogue_without_replicas_has_none_that_are_unseen(library: ScannedLibrary) -> None:
    seen = SeenReplicas(library.catalog.newest_replica())
    assert seen.unseen([1, 2]) == []


def test_a_million_replicas_take_a_megabyte() -> None:
    assert len(SeenReplicas(10**6)._seen) == 10**6 + 1


@pytest.mark.parametrize(
    ("path", "below", "under"),
    [
        ("", {"a", "a/1", "a/b/2", "a!", "a0", "\udcff/3"}, {"a", "a/1", "a/b/2", "a!", "a0", "\udcff/3"}),
        ("a", {"a/1", "a/b/2"}, {"a", "a/1", "a/b/2"}),
        ("a/b", {"a/b/2"}, {"a/b/2"}),
        ("\udcff", {"\udcff/3"}, {"\udcff/3"}),
        ("nothing", set(), set()),
    ],
)
def test_replicas_are_found_by_the_folder_that_they_are_in(
    library: ScannedLibrary, path: str, below: set[str], under: set[str]
) -> None:
    catalog, names = library.catalog, ["a", "a/1", "a/b/2", "a!", "a0", "\udcff/3"]
    with catalog.transaction():
        catalog.configure_origins({"here": 1, "there": 2})
        for origin in ("here", "there"):
            catalog.store(origin, [_sidecar(name) for name in names])
    known = {catalog.compare("here", [Stat(name, 1, 1)]).known[0]: name for name in names}
    assert {known[number] for number in catalog.replicas_below("here", path)} == below
    assert {known[number] for number in catalog.replicas_under("here", path)} == under


def _sidecar(path: str) -> ScannedFile:
    return ScannedFile(Stat(path, 1, 1), "", "sidecar", Fingerprint(b"f" * 32), None, None)
