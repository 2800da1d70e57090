"""The first lines of `musicfs status`: whether the music is fine, and if not, what to do first."""

from __future__ import annotations

from typing import Any

import pytest

from musicfs.cli.status import _headline, _next_step, advice

SCAN = {"state": "idle", "running_secs": 0.0, "listed": 9, "read": 0, "error": None}
ORIGIN = {
    "id": "nas", "enabled": True, "health": "healthy", "scanned_at": 1.0, "removals_held": 0, "files_left_out": 0,
    "links_left_out": 0, "same_place_as": None, "reason": "", "location": "/nas", "files": 9, "scan": SCAN,
}  # fmt: skip
FIRST = ORIGIN | {"scanned_at": None, "scan": SCAN | {"state": "scanning", "running_secs": 5.0}}
SLOW = ORIGIN | {"scan": SCAN | {"state": "scanning", "running_secs": 1500.0}}
QUICK = ORIGIN | {"scan": SCAN | {"state": "scanning", "running_secs": 20.0}}
EMPTY = ORIGIN | {"files": 0}
NOTE = {"origin": "nas", "reason": "hidden", "subject": "x", "number": 3, "note": True, "says": ""}


def view(*origins: dict[str, Any], **other: Any) -> dict[str, Any]:
    return {
        "mounted": True,
        "cache_problem": None,
        "problems": [],
        "unreached": None,
        "files": 9,
        "origins": origins,
    } | other


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        (view(ORIGIN), "Your music is fine."),
        (view(QUICK), "Your music is fine."),
        (view(ORIGIN, problems=[NOTE]), "Your music is fine."),
        (view(ORIGIN, problems=[NOTE | {"note": False}]), "Your music plays, but something deserves a look."),
        (view(ORIGIN, cache_problem="full"), "Your music plays, but something deserves a look."),
        (view(SLOW), "Your music plays, but something deserves a look."),
        (view(FIRST, ORIGIN), "Your music appears while nas is scanned for the first time."),
        (view(EMPTY, files=0), "No music is shown: there is none where MusicFS looks for it."),
        (view(EMPTY, files=0, problems=[NOTE]), "No music is shown: there is none where MusicFS looks for it."),
        (view(EMPTY, files=0, cache_problem="full"), "No music is shown, and something deserves a look."),
        (view(FIRST | {"files": 0}, files=0), "Your music appears while nas is scanned for the first time."),
        (view(EMPTY, ORIGIN), "Your music is fine."),
        (view(ORIGIN, mounted=False), "Unmounted, but the process of the mount still runs: files of it are open."),
        (view(ORIGIN | {"health": "unhealthy"}, ORIGIN), "1 of 2 origins is away."),
    ],
)
def test_fine_is_only_said_when_nothing_is_wrong(seen: dict[str, Any], sentence: str) -> None:
    assert _headline(seen).text == sentence


def test_a_scan_that_takes_long_is_mentioned_with_what_it_has_done() -> None:
    assert advice(QUICK) == []
    assert advice(SLOW)[1] == "The scan of nas has been running for 25 min: 9 files listed, 0 read."


def test_an_origin_without_music_is_named_with_its_place() -> None:
    said = "nas holds no music that MusicFS shows: see whether /nas is the right place."
    assert advice(EMPTY) == ["", said]
    assert advice(FIRST | {"files": 0}) == []
    assert _next_step(view(EMPTY, files=0)).startswith("see whether /nas is where your music is; ")
    assert _next_step(view(FIRST | {"files": 0}, files=0)) == ""
    assert _next_step(view(EMPTY, ORIGIN)) == ""
