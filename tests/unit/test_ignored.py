"""Which names no origin shows, and which look hidden and are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from musicfs.errors import OriginFailed, OriginFault
from musicfs.model import OriginId
from musicfs.origins.ignored import IGNORED, is_hidden, is_ignored, is_skipped
from musicfs.origins.observers import StrictObserver
from musicfs.problems import Problem, Reason


@pytest.mark.parametrize(
    "name",
    [
        *(name for name in IGNORED if "*" not in name),
        *("#RECYCLE", "@recycle", "@eadir", "LOST+FOUND", "$Recycle.Bin", ".Trash", ".Trash-1000", ".Trashes"),
        "01.sync-conflict-20240101-120000-ABCDEFG.flac",
        "One (Ada's conflicted copy 2024-01-01).flac",
        "One (conflicted copy 2024-01-01 120000).flac",
        "~syncthing~One.flac.tmp",
        "One (Case Conflict 1).flac",
        "One (Selective Sync Conflict).flac",
        "One (SFConflict ada@example.com 2024-01-01-12-00-00).flac",
        "One_conflict-20240101-120000.flac",
        "One_DESKTOP_Jan-01-120000-2024_Conflict.flac",
        "01.flac@SynoEAStream",
        "@GMT-2024.01.01-12.00.00",
        "_UNPACK_Ada - Live",
    ],
)
def test_what_systems_keep_for_themselves_is_ignored(name: str) -> None:
    assert is_ignored(name)
    assert is_skipped(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "01.Conflict.flac",
            "Inner_Conflict.flac",
            "Recycler",
            "Case Conflict",
            "@home",
            "_Unpacked",
            "Sync (Conflict)",
        ),
        *("Recycle", "snapshot", "Conflicted Copy", "Trash", "Lost and Found", "tmp", "#1 Record", "@eaDir 2", "a~b"),
    ],
)
def test_music_with_similar_names_is_not_ignored(name: str) -> None:
    assert not is_ignored(name)
    assert not is_skipped(name)


def test_one_dot_hides_and_more_do_not() -> None:
    assert is_hidden(".hack")
    assert is_skipped(".5_ The Gray Chapter")
    for name in ("...And Justice for All", "..and more", "a.b", ""):
        assert not is_hidden(name)
        assert not is_skipped(name)


def test_a_strict_observer_fails_for_what_a_folder_hides_and_for_nothing_else() -> None:
    observer = StrictObserver(OriginId("a"))
    assert observer.enters("x/Music", None)
    assert not observer.enters("x/@eaDir", 1)
    assert not observer.enters("x/.hidden", 1)
    for reason in Reason:
        if not reason.hides_below:
            observer.report(Problem("x", reason))
    with pytest.raises(OriginFailed, match="the folder 'x' can't be listed: Permission denied") as failed:
        observer.report(Problem("x", Reason.CLOSED_FOLDER, "Permission denied"))
    assert failed.value.fault is OriginFault.DENIED


def test_the_whole_list_is_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "CONFIGURATION.md").read_text()
    section = page.partition("### What is not shown")[2].partition("\n### ")[0]
    assert [name for name in IGNORED if f"`{name}`" not in section] == []
