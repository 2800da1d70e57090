"""What the catalogue knows of files that are not shown as they should be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from musicfs.catalog import problems
from musicfs.catalog.problem_list import ProblemCount, ProblemRow, count_problems, find_problems
from musicfs.catalog.writer import Catalog
from musicfs.model import OriginId
from musicfs.problems import MAX_DETAIL, Problem, Reason
from tests.support.commands import make_album
from tests.support.earlier_catalogue import turn_back
from tests.support.library import ScannedLibrary, scanned_library

A = OriginId("a")
CLOSED = Problem("x/closed", Reason.CLOSED_FOLDER, "Permission denied")
LINK = Problem("x/link", Reason.LINK_BROKEN)
LOCKED = Problem("y/song.flac", Reason.DENIED, "Permission denied")


@pytest.fixture
def library(tmp_path: Path) -> Iterator[ScannedLibrary]:
    with scanned_library(tmp_path) as made:
        with made.catalog.transaction():
            made.catalog.configure_origins({"a": 1, "b": 2})
        yield made


def meet(catalog: Catalog, *met: Problem, under: Sequence[str] = ("",), skipped: Sequence[str] = ()) -> None:
    scan = catalog.scan_problems("a")
    for folder in skipped:
        scan.spare(folder)
    for problem in met:
        scan.add(problem)
    with catalog.transaction():
        scan.keep(under)


def found(tmp_path: Path, origin: str = "a", *, dismissed: bool = False) -> list[Problem]:
    rows = find_problems(tmp_path / "catalog.sqlite", OriginId(origin), dismissed=dismissed)
    return [Problem(row.path, row.reason, row.detail) for row in rows]


def test_a_scan_replaces_the_problems_of_what_it_scanned(library: ScannedLibrary, tmp_path: Path) -> None:
    meet(library.catalog, CLOSED, LINK, LOCKED)
    assert found(tmp_path) == [CLOSED, LINK, LOCKED]
    meet(library.catalog, LINK, under=["x"])
    assert found(tmp_path) == [LINK, LOCKED]
    meet(library.catalog, CLOSED, under=["x/closed", "y/song.flac"])
    assert found(tmp_path) == [CLOSED, LINK]
    meet(library.catalog)
    assert found(tmp_path) == []


def test_what_is_met_again_keeps_since_when_it_is_known(library: ScannedLibrary, tmp_path: Path) -> None:
    meet(library.catalog, LINK, CLOSED)
    before = find_problems(tmp_path / "catalog.sqlite", A)
    with library.catalog.transaction():
        assert library.catalog.dismiss("a", "x", Reason.LINK_BROKEN, dismissed=True) == 1
    meet(library.catalog, LINK, CLOSED._replace(detail="Input/output error"))
    assert found(tmp_path) == [CLOSED._replace(detail="Input/output error")]
    after = find_problems(tmp_path / "catalog.sqlite", A, dismissed=True)
    assert [row.since for row in after] == [row.since for row in before]
    assert [row.dismissed for row in after] == [False, True]
    with library.catalog.transaction():
        assert library.catalog.dismiss("a", None, None, dismissed=False) == 1
    assert len(found(tmp_path)) == 2


def test_below_a_folder_that_is_skipped_or_unknown_they_stay(library: ScannedLibrary, tmp_path: Path) -> None:
    below = Problem("x/closed/deep", Reason.HIDDEN)
    meet(library.catalog, below, LINK, LOCKED)
    meet(library.catalog, CLOSED, skipped=["y"])
    assert found(tmp_path) == [CLOSED, below, LOCKED]
    scan = library.catalog.scan_problems("a")
    scan.add(CLOSED)
    scan.add(LINK)
    assert scan.unknown_folders == {"x/closed"}
    assert (scan.counts[Reason.LINK_BROKEN], scan.examples[Reason.LINK_BROKEN]) == (1, LINK)


def test_scans_of_several_origins_at_once_do_not_mix(library: ScannedLibrary, tmp_path: Path) -> None:
    one, other = library.catalog.scan_problems("a"), library.catalog.scan_problems("b")
    one.add(LINK)
    other.add(LOCKED)
    with library.catalog.transaction():
        one.keep([""])
        other.keep([""])
    assert (found(tmp_path), found(tmp_path, "b")) == ([LINK], [LOCKED])


def test_more_than_the_most_are_counted(
    library: ScannedLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problems, "MAX_PROBLEMS", 5)
    many = [Problem(f"{n}", Reason.BAD_NAME, "ä" * 1000) for n in range(9)]
    meet(library.catalog, *many)
    rows = find_problems(tmp_path / "catalog.sqlite", A)
    assert [(row.path, len(row.detail)) for row in rows] == [(str(n), MAX_DETAIL) for n in range(5)]
    assert count_problems(tmp_path / "catalog.sqlite") == [ProblemCount(A, Reason.BAD_NAME, "", 9)]
    meet(library.catalog, many[0], under=["0"])
    assert count_problems(tmp_path / "catalog.sqlite") == [ProblemCount(A, Reason.BAD_NAME, "", 9)]
    meet(library.catalog, *many[:3])
    assert count_problems(tmp_path / "catalog.sqlite") == [ProblemCount(A, Reason.BAD_NAME, "", 3)]


def test_they_are_counted_by_reason_and_listed_in_pages(library: ScannedLibrary, tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    meet(library.catalog, *(Problem(f"x/{n}", Reason.HIDDEN) for n in range(10)), LINK, LOCKED)
    with library.catalog.transaction():
        library.catalog.replace_counts("b", {(Reason.UNKNOWN_KIND, ".dff"): 3, (Reason.UNKNOWN_KIND, ".mka"): 2})
        library.catalog.replace_counts("b", {(Reason.UNKNOWN_KIND, ".dff"): 4})
        library.catalog.dismiss("a", "x/3", None, dismissed=True)
    assert count_problems(path) == [
        ProblemCount(A, Reason.DENIED, "", 1),
        ProblemCount(A, Reason.HIDDEN, "", 9),
        ProblemCount(A, Reason.LINK_BROKEN, "", 1),
        ProblemCount(OriginId("b"), Reason.UNKNOWN_KIND, ".dff", 4),
    ]
    pages: list[ProblemRow] = []
    while page := find_problems(path, A, under="x", after=pages[-1] if pages else None, limit=4):
        assert len(page) <= 4
        pages += page
    assert [row.path for row in pages] == [*(f"x/{n}" for n in (0, 1, 2, 4, 5, 6, 7, 8, 9)), "x/link"]
    assert [row.path for row in find_problems(path, A, reason=Reason.DENIED)] == ["y/song.flac"]


async def test_a_damaged_file_is_one_until_it_is_repaired_or_gone(tmp_path: Path) -> None:
    for n in range(2):
        make_album(tmp_path / "a" / str(n), tracks=1)
    files = sorted((tmp_path / "a").rglob("*.flac"))
    whole = files[0].read_bytes()
    for file in files:
        file.write_bytes(b"no music")
    with scanned_library(tmp_path) as library:
        library.configure({"a": tmp_path / "a"})
        await library.scan()
        assert [row.reason for row in find_problems(tmp_path / "catalog.sqlite", A)] == [Reason.DAMAGED] * 2
        await library.scan()
        assert len(found(tmp_path)) == 2  # nothing has read them again
        files[0].write_bytes(whole)
        await library.scan()
        assert [problem.path for problem in found(tmp_path)] == [str(files[1].relative_to(tmp_path / "a"))]
        files[1].unlink()
        await library.scan()
        assert found(tmp_path) == []


async def test_a_catalogue_from_before_knows_what_is_damaged(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_album(tmp_path / "a", tracks=1)
        (tmp_path / "a" / f"{name}.flac").write_bytes(b"no music")
    with scanned_library(tmp_path) as library:
        library.configure({"a": tmp_path / "a"})
        await library.scan()
        before = found(tmp_path)
    turn_back(tmp_path / "catalog.sqlite", 5)
    with scanned_library(tmp_path) as library:
        assert found(tmp_path) == before
        assert [problem.path for problem in before] == ["one.flac", "two.flac"]
