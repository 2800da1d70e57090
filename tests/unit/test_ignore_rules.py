"""What of an origin is shown: the list of all origins, an origin's own patterns, marker files, and hidden names."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from musicfs.catalog.problem_list import count_problems
from musicfs.config.ignore import IgnorePattern, IgnorePatterns, checked_patterns
from musicfs.library.ignore_rules import IgnoreRules, Verdict
from musicfs.problems import Reason
from tests.support.audio import make_album, make_audio
from tests.support.library import ScannedLibrary, scanned_library


@pytest.mark.parametrize(
    ("pattern", "path", "is_folder", "matches"),
    [
        ("*.tmp", "a/b/x.tmp", False, True),
        ("*.TMP", "a/b/x.tmp", False, True),
        ("*.tmp", "x.tmp/y", False, False),  # whoever asks has asked about the folder before
        ("Podcasts/", "Podcasts", True, True),
        ("Podcasts/", "a/Podcasts", True, True),
        ("Podcasts/", "Podcasts", False, False),
        ("/Podcasts", "Podcasts", True, True),
        ("/Podcasts", "a/Podcasts", True, False),
        ("a/*", "a/b", True, True),
        ("a/*", "b/a/b", True, False),
        ("a/*", "a/b/c", False, False),
        ("a/**", "a/b/c", False, True),
        ("**/live/*.flac", "x/y/live/1.flac", False, True),
        ("**/live/*.flac", "live/1.flac", False, True),
        ("a/**/b", "a/b", True, True),
        ("a/**/b", "a/x/y/b", True, True),
        ("a/**/b", "a/x/y/c", True, False),
        ("[ab]?", "b1", False, True),
        ("\\!x", "!x", False, True),
        ("\\#x", "#x", False, True),
        ("#x", "#x", False, True),
        ("\\[live\\]", "a/[live]", True, True),
        ("[live]", "a/[live]", True, False),
        ("what\\?", "what?", False, True),
        ("what\\?", "whats", False, False),
        ("[z-a]", "b", False, False),
        ("a\\", "a\\", False, True),
    ],
)
def test_a_pattern_matches_as_in_gitignore(pattern: str, path: str, is_folder: bool, matches: bool) -> None:
    assert IgnorePattern.parse(pattern).matches(path.split("/"), is_folder=is_folder) is matches


@pytest.mark.parametrize("text", ["", " ", "!", "/", "a//b", "../x", "a/./b", "x" * 501, "a/" * 30 + "b"])
def test_what_is_no_pattern_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        checked_patterns(["*.tmp", text])


def test_the_last_pattern_that_matches_decides_and_a_file_may_have_comments() -> None:
    patterns = IgnorePatterns.parse(["# mine", "", "*.flac", "!keep.flac", "///"])
    assert patterns.decide(["x", "a.flac"], is_folder=False) is True
    assert patterns.decide(["x", "keep.flac"], is_folder=False) is False
    assert patterns.decide(["x", "a.mp3"], is_folder=False) is None


def test_a_pattern_of_the_configuration_is_no_comment() -> None:
    rules = IgnoreRules(["#work", "!#work/keep"])
    assert [rules.of_folder(path) for path in ("#work", "a/#work", "work")] == [Verdict.IGNORED] * 2 + [Verdict.SHOWN]


def test_no_pattern_takes_long_whatever_it_is() -> None:
    """The patterns of a marker file are whatever bytes a server sends."""
    rules = IgnoreRules()
    rules.mark("x", "\n".join(["**/" * 18 + "*a" * 100 + "b"] * 20))
    started = time.process_time()
    rules.of_file("x/" + "/".join(["a" * 30] * 50) + "/" + "a" * 200)
    assert time.process_time() - started < 2


def test_exceptions_show_what_the_list_ignores_and_what_is_hidden() -> None:
    rules = IgnoreRules(["!.hack", "!lost+found", "Podcasts/"])
    assert rules.of_file(".hack/1.flac") is Verdict.SHOWN
    assert rules.of_file("lost+found/1.flac") is Verdict.SHOWN
    assert rules.of_file(".other/1.flac") is Verdict.HIDDEN
    assert rules.of_file("a/Podcasts/x/1.flac") is Verdict.IGNORED


def test_a_marker_of_the_root_does_not_rule_out_everything() -> None:
    rules = IgnoreRules()
    rules.mark("", None)
    assert rules.of_file("1.flac") is Verdict.SHOWN
    rules.mark("", "/drafts")
    assert rules.of_file("drafts/1.flac") is Verdict.IGNORED


@pytest.fixture
def library(tmp_path: Path) -> Iterator[ScannedLibrary]:
    with scanned_library(tmp_path / "cache", template="$path") as library:
        yield library


@pytest.fixture
def music(tmp_path: Path, library: ScannedLibrary) -> Path:
    root = tmp_path / "music"
    make_audio(root / "A" / "1.flac", seed=1)
    library.configure({"a": root})
    return root


def counts(music: Path) -> dict[tuple[Reason, str], int]:
    """What the catalogue counts, by reason and subject."""
    return {(row.reason, row.subject): row.number for row in count_problems(music.parent / "cache" / "catalog.sqlite")}


async def test_what_is_hidden_is_counted_where_it_is_and_dots_hide_no_album(
    library: ScannedLibrary, music: Path
) -> None:
    hidden = [".5_ The Gray Chapter/01.flac", ".hack/Album/CD1/02.flac", "38/.38 Special.flac", ".a/b/c/d/e/deep.flac"]
    for number, name in enumerate((*hidden, "...And Justice for All/01.flac", "x/...Baby.flac")):
        make_audio(music / name, seed=number + 5)
    (music / ".hack" / "cover.jpg").write_bytes(b"")
    make_audio(music / "A" / "._1.flac", seed=90)
    scan = await library.scanner.scan(library.origins["a"])
    assert scan.added == 3
    assert set(library.paths()) == {"_..And Justice for All/01.flac", "A/1.flac", "x/_..Baby.flac"}
    assert counts(music) == {
        (Reason.HIDDEN, ".5_ The Gray Chapter"): 1,
        (Reason.HIDDEN, ".hack"): 1,
        (Reason.HIDDEN, "38/.38 Special.flac"): 1,
    }


async def test_unknown_kinds_are_counted_by_extension(library: ScannedLibrary, music: Path) -> None:
    unfinished = "2.flac.part", "3.mp3.crdownload", "4.flac.!qB", "5.flac.8e3b2a1c.partial", "6.flac.tmp", "7.flac~"
    for name in ("1.sid", "2.SID", "x.exe", "Thumbs.db", "README", ".DS_Store", "a.lnk", *unfinished):
        (music / "A" / name).write_bytes(b"x")
    await library.scan()
    assert counts(music) == {
        (Reason.UNKNOWN_KIND, ".sid"): 2,
        (Reason.UNKNOWN_KIND, ".exe"): 1,
    }


async def test_the_places_that_servers_keep_for_themselves_are_not_shown(library: ScannedLibrary, music: Path) -> None:
    for number, name in enumerate(("@Recycle/x", "#snapshot/a/b", "A/@eaDir", ".Trash-1000/files")):
        make_audio(music / name / "1.flac", seed=number + 5)
    make_audio(music / "A" / "1.sync-conflict-20240101-120000-ABCDEFG.flac", seed=30)
    await library.scan()
    assert library.paths() == ["A/1.flac"]
    assert counts(music) == {}


@pytest.mark.parametrize("name", [".nomedia", ".ndignore"])
async def test_a_marker_file_rules_out_its_folder_at_once_and_only_while_it_is_there(
    library: ScannedLibrary, music: Path, name: str
) -> None:
    """However much it hides: the user has said so."""
    make_album(music / "Sounds", "Artist", "S", 6, seconds=0.1)
    await library.scan()
    assert len(library.paths()) == 7
    (music / "Sounds" / name).write_bytes(b"")
    (scan,) = await library.scan(under=[f"Sounds/{name}"])
    assert (scan.removed, scan.removals_held) == (6, 0)
    make_audio(music / "Sounds" / "Artist" / "more.flac", seed=77)
    await library.scan(under=["Sounds/Artist/more.flac"])
    await library.scan()
    assert library.paths() == ["A/1.flac"]
    (music / "Sounds" / name).unlink()
    await library.scan(under=[f"Sounds/{name}"])
    assert len(library.paths()) == 8


async def test_a_marker_file_that_comes_after_other_files_of_its_folder_counts_for_them(
    library: ScannedLibrary, music: Path
) -> None:
    """ "(" sorts before "." in a flat listing of keys."""
    for number in range(600):
        (music / "S" / f"(x)/{number:03}.jpg").parent.mkdir(parents=True, exist_ok=True)
        (music / "S" / f"(x)/{number:03}.jpg").write_bytes(b"%d" % number)
    make_audio(music / "S" / "(1).flac", seed=50)
    (music / "S" / ".nomedia").write_bytes(b"")
    await library.scan()
    assert library.paths() == ["A/1.flac"]


async def test_a_marker_file_may_have_patterns(library: ScannedLibrary, music: Path) -> None:
    for number, name in enumerate(("S/1.flac", "S/1.mp3", "S/d/2.mp3", "S/demos/3.flac")):
        make_audio(music / name, seed=number + 5)
    (music / "S" / ".ndignore").write_text("# lossy copies\n*.mp3\ndemos/\n")
    await library.scan()
    assert library.paths() == ["A/1.flac", "S/1.flac"]


async def test_patterns_of_the_origin_rule_out_at_once_what_was_shown(library: ScannedLibrary, music: Path) -> None:
    make_album(music / "Podcasts", "Artist", "P", 8, seconds=0.1)
    await library.scan()
    scan = await library.scanner.scan(library.origins["a"], ignore=["Podcasts/"])
    assert (scan.removed, scan.removals_held) == (8, 0)
    assert library.paths() == ["A/1.flac"]
