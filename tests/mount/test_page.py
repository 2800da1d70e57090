"""The status page, in a real browser, over a real mount whose places come and go."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from demo.stage import Interrupts

from musicfs.system.runtime import control_socket
from tests.support.audio import make_album
from tests.support.browser import Tab, browser
from tests.support.mounting import eventually
from tests.support.nasstage import NasStage as Stage
from tests.support.statuspage import StatusPage, status_page

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = '<img src="x" onerror="document.title=1">'
TRACK = "Artist/Album (1999) [FLAC]/01 - Title 1.flac"


@dataclass
class Shown:
    """A page that follows the mount of a stage."""

    tab: Tab
    stage: Stage
    page: StatusPage

    async def says(self, text: str) -> None:
        await self.tab.shows(f"document.body?.innerText.includes({text!r})")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shown() -> AsyncIterator[Shown]:
    with Stage.set_up(Interrupts()) as stage:
        await asyncio.to_thread(_mount, stage)
        async with status_page(stage.music, "--no-browser") as page, browser() as tab:
            await tab.size(1280, 900)
            await page.enter(tab)
            shown = Shown(tab, stage, page)
            await shown.says("Everything plays.")
            yield shown


def _mount(stage: Stage) -> None:
    make_album(stage.nas_disk / HOSTILE, "Artist", "Album", 2, seconds=60)
    shutil.copytree(stage.nas_disk, stage.laptop, dirs_exist_ok=True)
    make_album(stage.laptop, "Artist", "Single", 1)
    stage.bring_nas()
    stage.mount("Music", "--origin", "nas", "--origin", "laptop")
    stage.wait_for(lambda: all(o["scan"]["last"] for o in stage.ask("status", "Music")["origins"]), "it is not scanned")


async def test_every_place_is_shown_and_the_token_is_not(shown: Shown) -> None:
    cards = await shown.tab.evaluate("[...document.querySelectorAll('#origins h3')].map(e => e.innerText)")
    assert [card.split() for card in cards] == [["nas", "Healthy"], ["laptop", "Healthy"]]
    assert "token" not in await shown.tab.evaluate("location.href")
    await shown.says("2 tracks at two origins")
    assert await shown.tab.evaluate("[...document.querySelectorAll('svg[role=img]')].every(e => e.ariaLabel)")


async def test_a_place_that_goes_and_returns_is_shown_without_a_reload_and_names_are_only_text(shown: Shown) -> None:
    await shown.tab.evaluate("window.stayed = true")
    with (shown.stage.music / TRACK).open("rb", buffering=0) as file:
        await asyncio.to_thread(file.read, 4096)
        await shown.says("Serving 01 - Title 1.flac.")
        await asyncio.to_thread(shown.stage.lose_nas)
        await asyncio.to_thread(file.read)
    await shown.says("Everything plays.\n\nnas does not answer; laptop serves its music.")
    await shown.says("nas no longer answers")
    await shown.tab.shows("/reads? failed over from nas to laptop/i.test(document.body.innerText)")
    await shown.says(HOSTILE)
    assert await shown.tab.evaluate("document.querySelectorAll('img').length") == 0
    await asyncio.to_thread(shown.stage.clear_nas)
    await asyncio.to_thread(shown.stage.bring_nas)
    await shown.says("nas answers again.")
    await shown.tab.shows("document.querySelector('#story').innerText === ''")
    assert await shown.tab.evaluate("window.stayed")


def _origin(id: str, health: str = "healthy", also_elsewhere: int | None = None, **more: object) -> dict[str, object]:
    scan = {"state": "idle", "error": None}
    known = {"enabled": True, "reason": "gone", "files": 8, "scanned_at": 1.0, "scan": scan}
    return {"id": id, "health": health, "also_elsewhere": also_elsewhere, **known, **more}


WELL, AWAY = _origin("disk"), _origin("nas", "unhealthy", 8)


@pytest.mark.parametrize(
    ("origins", "cached", "sentences"),
    [
        ([WELL], 0, "Everything plays."),
        ([WELL, AWAY], 0, "Everything plays. nas does not answer; disk serves its music."),
        ([WELL, AWAY], 1, "Everything plays. nas does not answer; disk and the cache serve its music."),
        (
            [WELL, AWAY | {"also_elsewhere": 3}], 0,
            "Some of your music does not play. nas does not answer. disk serves 3 of its 8 files; the others play when"
            " it answers again.",
        ),
        (
            [WELL, AWAY | {"also_elsewhere": 0}], 1,
            "Some of your music does not play. nas does not answer. No other origin has its 8 files; cached files"
            " play.",
        ),
        (
            [WELL, AWAY | {"also_elsewhere": None}], 0,
            "Most of your music plays. nas does not answer; disk serves the files that it also has.",
        ),
        (
            [AWAY], 0,
            "Nothing plays. nas does not answer. Your music stays listed and plays when an origin answers.",
        ),
        (
            [AWAY], 1,
            "Only the cache plays. nas does not answer. Cached music plays; all other music stays listed and plays when"
            " an origin answers.",
        ),
        ([WELL, _origin("nas", "unknown")], 0, "Connecting. Waiting for the first answer from nas."),
        ([WELL, _origin("nas", "degraded", reason="slow")], 0, "Everything plays. nas is degraded: slow."),
        ([], 0, "No origin is enabled yet."),
    ],
)  # fmt: skip
async def test_the_first_sentences_say_whether_the_music_plays(
    shown: Shown, origins: list[dict[str, object]], cached: int, sentences: str
) -> None:
    given = json.dumps([{"origins": origins}, {"blocks": cached}])
    said = await shown.tab.evaluate(f"import('/page/words.js').then(words => words.verdict(...{given}))")
    assert f"{said['verdict']} {said['story']}".strip() == sentences


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_can_be_used_by_everybody(shown: Shown, scheme: str) -> None:
    await shown.tab.prefer(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    await shown.tab.shows("getComputedStyle(document.querySelector('h1')).transitionDuration === '0s'")
    light = await shown.tab.evaluate(
        "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).every(c => c > 127)"
    )
    assert light == (scheme == "light")
    axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text()
    await shown.tab.evaluate(f"{axe}; undefined")
    found: list[dict[str, Any]] = await shown.tab.evaluate("axe.run().then(found => found.violations)")
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []


async def test_a_phone_needs_no_sideways_scrolling(shown: Shown) -> None:
    await shown.tab.size(390, 844)
    try:
        assert await shown.tab.evaluate("document.documentElement.scrollWidth") == 390
    finally:
        await shown.tab.size(1280, 900)


async def test_the_keyboard_reaches_everything_and_shows_where_it_is(shown: Shown) -> None:
    await shown.tab.open(shown.page.url)  # from its top, as one who has just come
    await shown.says("Everything plays.")
    await shown.tab.evaluate("document.activeElement.blur(); document.querySelector('details').open = true")
    reached = []
    for _ in range(4):
        await shown.tab.press("Tab")
        reached.append(await shown.tab.evaluate("document.activeElement.className || document.activeElement.localName"))
        assert await shown.tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == ["skip", "summary", "albums", "log"]


async def test_it_asks_nobody_else_and_complains_of_nothing(shown: Shown) -> None:
    assert shown.tab.requests
    assert [url for url in shown.tab.requests if not url.startswith(shown.page.url)] == []
    assert [each for each in shown.tab.complaints if "401" not in each] == []  # which asked for the code
    policy = await shown.tab.evaluate("fetch('/').then(answer => answer.headers.get('Content-Security-Policy'))")
    assert policy.startswith("default-src 'self';")


async def test_copies_that_are_set_aside_are_named(shown: Shown) -> None:
    copies = [
        {"origin": "nas", "path": "a.flac", "file": "Artist/Song.flac", "block": 3, "against": None},
        {"origin": "nas", "path": HOSTILE, "file": None, "block": 0, "against": "disk"},
    ]
    view = {"places": [{"places": 2, "tracks": 2, "bytes": 9}], "albums_in_one": 0, "albums": []}
    given = json.dumps(view | {"differing_copies": 3, "differing": copies})
    await shown.tab.evaluate(f"import('/page/library.js').then(library => library.showCopies({given}))")
    said = await shown.tab.evaluate("document.querySelector('#copies details').textContent")
    assert said == (f"3 copies quarantinedArtist/Song.flac damaged at nas{HOSTILE} nas differs from diskand 1 more")


async def test_a_wrong_code_is_told_of_and_the_right_one_opens_the_page(shown: Shown) -> None:
    await shown.tab.evaluate("sessionStorage.clear()")
    await shown.tab.open(shown.page.url)
    await shown.says("Enter the code that musicfs page printed.")
    await shown.page.type_code(shown.tab, "AAAA-AAAA-AAAA")
    await shown.says("This is not the code that `musicfs page` printed.")
    await shown.page.type_code(shown.tab, shown.page.code)
    await shown.says("Everything plays.")
    assert shown.page.code not in await shown.tab.evaluate("location.href")
    shown.tab.complaints.clear()


async def test_the_browser_that_is_started_gets_its_token_by_a_file_that_no_one_else_can_read(
    shown: Shown, tmp_path: Path
) -> None:
    """The command line names the file, and nothing else; it goes once it was used, and no address ever has a secret."""
    starter, started = tmp_path / "xdg-open", tmp_path / "started"
    starter.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {started}.new\nmv {started}.new {started}\n")
    starter.chmod(0o755)
    tab = shown.tab
    await tab.evaluate("sessionStorage.clear()")
    before = len(tab.requests)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    async with status_page(shown.stage.music, environ=environ) as page:
        await asyncio.to_thread(eventually, started.exists, "a browser is started")
        (given,) = started.read_text().splitlines()
        file = Path(given.removeprefix("file://"))
        assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
        ticket = file.read_text().partition('name="ticket" value="')[2].partition('"')[0]
        await tab.open(file.as_uri())
        await shown.says("Everything plays.")
        assert await tab.evaluate("location.href") == page.url
        assert await tab.evaluate("document.cookie") == ""
        await asyncio.to_thread(eventually, lambda: not file.exists(), "the file goes")
        token = await tab.evaluate("sessionStorage.getItem('musicfs-token')")
        for secret in (ticket, token):
            assert secret not in given
            assert [url for url in tab.requests[before:] if secret in url] == []
        history = (await tab.call("Page.getNavigationHistory"))["entries"]
        assert not any(secret in each["url"] for each in history for secret in (ticket, token))
    await shown.page.enter(tab)
    await shown.says("Everything plays.")
    shown.tab.complaints.clear()


async def test_a_file_that_no_browser_has_used_goes_with_the_page(shown: Shown) -> None:
    async with status_page(shown.stage.music, environ={"PATH": "/nowhere"}):
        folder = control_socket(shown.stage.music).parent
        await asyncio.to_thread(eventually, lambda: list(folder.glob("page-*.html")), "the file is there")
    assert list(folder.glob("page-*.html")) == []


async def test_what_is_left_out_is_said_first_and_at_its_origin(shown: Shown) -> None:
    count = {
        "origin": "disk",
        "reason": "denied",
        "subject": "",
        "number": 2,
        "note": False,
        "says": "2 files may not be read",
    }
    noted = count | {"reason": "unknown-kind", "number": 9, "note": True}
    given = json.dumps([{"origins": [WELL], "problems": [count, noted]}, {"blocks": 0}])
    said = await shown.tab.evaluate(f"import('/page/words.js').then(words => words.verdict(...{given}))")
    assert said["state"] == "covered"
    assert said["story"].startswith("2 problems: files that are left out, or shown without their tags.")
    bad = shown.stage.laptop / "bad.flac"
    bad.write_bytes(b"no music")
    await asyncio.to_thread(shown.stage.ask, "scan", "Music")
    await shown.tab.shows(
        "[...document.querySelectorAll('.problems li')].map(e => e.innerText)"
        ".includes('1 file could not be parsed: shown without tags.')"
    )
    await shown.says("1 problem: files that are left out")
    bad.unlink()
    await asyncio.to_thread(shown.stage.ask, "scan", "Music")
    await shown.tab.shows("document.querySelectorAll('.problems li').length === 0")


async def test_it_says_when_the_mount_has_ended(shown: Shown) -> None:
    await asyncio.to_thread(shown.stage.musicfs, "unmount", str(shown.stage.music), capture=True)
    await shown.says("MusicFS does not answer.")
