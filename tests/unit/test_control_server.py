"""The control API over its real socket, on a real library, without a mount."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import stat
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from shutil import copy
from typing import Any

import pytest

import musicfs
from musicfs.config.models import CacheConfig, OriginConfig
from musicfs.control.client import ControlClient, NotRunning
from musicfs.control.observations import Observations
from musicfs.control.server import ControlServer
from musicfs.control.unix_socket import ControlSocket
from musicfs.control.views import location
from musicfs.errors import UserError
from musicfs.model import OriginId, OriginType
from tests.support.commands import make_album
from tests.support.control import Running, local_origin, opened, running_app

SONG = "Artist/Album (2001) [FLAC]/01 - Song 1.flac"


@pytest.fixture
async def two() -> AsyncIterator[Running]:
    """An album at two origins, and a file that is no music at the second."""
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as name:
        folder = Path(name)
        for track in make_album(folder / "a" / "Album"):
            (folder / "b" / "Album").mkdir(parents=True, exist_ok=True)
            copy(track, folder / "b" / "Album")
        (folder / "b" / "Bad").mkdir()
        (folder / "b" / "Bad" / "noise.flac").write_bytes(b"no music")
        (folder / "b" / "Bad" / os.fsdecode(b"n\xffise.flac")).write_bytes(b"no music")
        origins = (
            local_origin("a", folder / "a", 0),
            local_origin("b", folder / "b", 1),
            local_origin("off", folder, 2, False),
        )
        async with running_app(folder, *origins) as running:
            yield running


async def _refused(call: Any) -> str:
    with pytest.raises(UserError) as caught:
        await call
    return str(caught.value)


async def test_status_tells_of_the_mount_its_tree_and_its_origins(two: Running) -> None:
    await two.scanned()
    status = await two.get("/status")
    assert status["version"] == musicfs.__version__
    assert status["pid"] == os.getpid()
    assert status["mount_point"] == str(two.folder / "m")
    assert status["cache_dir"] == str(two.folder / "cache")
    assert (status["files"], status["open_files"]) == (5, 0)
    assert [o["id"] for o in status["origins"]] == ["a", "b", "off"]
    a, b, off = status["origins"]
    assert (a["kind"], a["location"], a["priority"], a["enabled"]) == ("local", str(two.folder / "a"), 0, True)
    assert (a["files"], b["files"], off["files"]) == (3, 5, 0)
    assert (a["scan"]["state"], off["scan"]["state"]) == ("idle", "never")
    assert a["p50_ms"] is None
    assert not off["enabled"]


def test_the_location_of_an_origin_says_where_it_is_and_nothing_else() -> None:
    settings = {"bucket": "music", "prefix": "", "endpoint": "http://nas", "profile": None, "anonymous": False}
    config = OriginConfig(
        id=OriginId("cloud"), origin_type=OriginType("s3"), settings={**settings, "session_token": "x"}
    )
    assert location(config) == "bucket=music, endpoint=http://nas"


async def test_the_socket_is_for_this_user_alone_and_goes_with_the_server(two: Running) -> None:
    path = two.client.socket
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert await asyncio.to_thread(two.client.pid) == os.getpid()


async def test_a_socket_that_a_crash_left_is_replaced_and_removed_in_the_end() -> None:
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "run").mkdir()
        (folder / "a").mkdir()
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(os.fspath(folder / "run" / "x.sock"))
        async with running_app(folder, local_origin("a", folder / "a", 0)) as running:
            assert (await running.get("/status"))["pid"] == os.getpid()
        assert not running.client.socket.exists()
        with pytest.raises(NotRunning, match="Nothing is mounted on"):
            running.client.get("/status")
        assert running.client.pid() is None


async def test_a_socket_of_a_later_mount_is_left_alone(tmp_path: Path) -> None:
    """A lazily unmounted process may end long after its mount point has been mounted again."""
    endpoint = ControlSocket(tmp_path / "run" / "x.sock")
    with closing(opened(endpoint)):
        endpoint.path.unlink()
        endpoint.path.touch()
        endpoint.remove()
        assert endpoint.path.exists()


async def test_a_socket_that_cannot_be_made_is_logged_and_the_mount_lives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = ControlSocket(tmp_path / ("x" * 200) / "x.sock")
    assert endpoint.open() is None
    assert "`musicfs status` won't find this mount" in caplog.text
    endpoint.remove()


async def test_whoever_asks_before_the_server_is_there_waits_for_it(tmp_path: Path) -> None:
    async with running_app(tmp_path) as running:
        endpoint = ControlSocket(tmp_path / "run" / "early.sock")
        listening = opened(endpoint)
        asking = asyncio.create_task(asyncio.to_thread(ControlClient(endpoint.path).get, "/status"))
        await asyncio.sleep(0.2)
        assert not asking.done()
        parts = running.parts
        server = ControlServer(parts, endpoint.path, lambda secs: None, Observations(parts.bus, parts.registry))
        await server.start(listening)
        assert (await asking)["pid"] == os.getpid()
        await server.aclose()


async def test_a_check_probes_now_and_answers_the_new_state(two: Running) -> None:
    (two.folder / "b").rename(two.folder / "gone")
    answer = await two.post("/origins/b/check")
    assert (answer["health"], answer["healthy"]) == ("unhealthy", False)
    assert answer["reason"]
    (two.folder / "gone").rename(two.folder / "b")
    assert (await two.post("/origins/b/check"))["healthy"]


async def test_an_origin_that_is_away_tells_what_can_be_read_elsewhere(two: Running) -> None:
    await two.scanned()
    (two.folder / "b").rename(two.folder / "gone")
    await two.post("/origins/b/check")
    b = (await two.get("/origins"))["origins"][1]
    assert (b["health"], b["files"], b["also_elsewhere"]) == ("unhealthy", 5, 3)
    assert b["consecutive_failures"] == 1
    assert b["last_check_secs_ago"] >= 0


async def test_the_status_says_how_much_can_not_be_played(two: Running) -> None:
    await two.scanned()
    assert (await two.get("/status"))["unreached"] == {"files": 0, "cached": 0}
    files = (await two.get("/status"))["files"]
    (two.folder / "b").rename(two.folder / "gone")
    await two.post("/origins/b/check")
    assert (await two.unreached()) == {"files": 2, "cached": 0}
    (two.folder / "a").rename(two.folder / "gone a")
    await two.post("/origins/a/check")
    assert (await two.unreached()) == {"files": files, "cached": 0}


async def test_a_scan_is_numbered_so_that_it_can_be_waited_for(two: Running) -> None:
    await two.scanned()
    (two.folder / "a" / "Album" / "3.flac").unlink()
    await two.scanned("a")
    assert (await two.get("/origins"))["origins"][0]["files"] == 2


async def test_a_failed_scan_says_why(two: Running) -> None:
    await two.scanned()
    (two.folder / "b").rename(two.folder / "gone")
    await two.scanned()
    scan = (await two.get("/status"))["origins"][1]["scan"]
    assert scan["state"] == "failed"
    assert "b" in scan["error"]
    assert (await two.get("/status"))["files"] == 5


async def test_removals_that_are_held_back_go_once_they_are_accepted(two: Running) -> None:
    await two.scanned()
    for path in (two.folder / "b" / "Album").iterdir():
        path.unlink()
    for path in (two.folder / "b" / "Bad").iterdir():
        path.unlink()
    (two.folder / "b" / "keep.flac").write_bytes(b"no music either")
    await two.scanned()
    assert (await two.get("/origins"))["origins"][1]["removals_held"] == 5
    answer = await two.post("/origins/b/accept-removals")
    assert answer["removals_held"] == 5
    await two.completed({"b": answer["scan"]})
    b = (await two.get("/origins"))["origins"][1]
    assert (b["removals_held"], b["files"]) == (0, 1)


async def test_why_ranks_the_replicas_with_reasons(two: Running) -> None:
    await two.scanned()
    for id in "ab":
        await two.post(f"/origins/{id}/check")
    answer = await two.get("/why", path=SONG)
    assert answer["path"] == SONG
    assert len(bytes.fromhex(answer["content"])) == 32
    assert answer["unparsed"] is None
    (variant,) = answer["variants"]
    assert (variant["shown"], variant["content"], variant["size"]) == (True, answer["content"], answer["size"])
    assert [(r["origin"], r["rank"], r["reason"]) for r in variant["replicas"]] == [
        ("a", 1, "healthy, priority 0, serves now"),
        ("b", 2, "healthy, but priority 1 comes after 0"),
    ]
    assert variant["replicas"][0]["location"] == str(two.folder / "a/Album/1.flac")


async def test_why_names_the_failure_of_an_origin_and_the_quarantine_of_a_replica(two: Running) -> None:
    await two.scanned()
    (two.folder / "a").rename(two.folder / "gone")
    await two.post("/origins/a/check")
    await two.post("/origins/b/check")
    replicas = (await two.get("/why", path=SONG))["variants"][0]["replicas"]
    assert [r["origin"] for r in replicas] == ["b", "a"]
    assert replicas[1]["reason"].startswith("unhealthy: ")
    bad = next(
        r for c in range(1, 9) for r in two.parts.tree.replicas(c) if (r.origin, r.path) == ("b", "Album/1.flac")
    )
    two.parts.registry.quarantine(bad, 0)
    replicas = (await two.get("/why", path=SONG))["variants"][0]["replicas"]
    assert [(r["origin"], r["rank"], r["quarantined"]) for r in replicas] == [("a", 1, False), ("b", None, True)]
    assert "the least bad" in replicas[0]["reason"]
    assert replicas[1]["reason"].startswith("quarantined")


async def test_a_file_that_could_not_be_parsed_says_why_and_a_strange_name_crashes_nothing(two: Running) -> None:
    await two.scanned()
    seen = []
    pending = [(1, "")]
    while pending:
        ino, path = pending.pop()
        for child, name, content, *_ in two.parts.tree.children(ino, 0, 100):
            pending.append((child, f"{path}/{name}"))
            if content is not None:
                seen.append(await two.get("/why", path=f"{path}/{name}".lstrip("/")))
    unparsed = [answer for answer in seen if answer["unparsed"]]
    paths = {r["path"] for answer in unparsed for r in answer["variants"][0]["replicas"]}
    assert paths == {"Bad/noise.flac", os.fsdecode(b"Bad/n\xffise.flac")}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda r: r.get("/why", path="no/such"), "There is no no/such"),
        (lambda r: r.get("/why", path=os.fsdecode(b"n\xff")), "There is no n"),
        (lambda r: r.get("/why", path=""), "The mount point is a folder"),
        (lambda r: r.get("/nowhere"), "Not Found"),
        (lambda r: r.post("/status"), "Method Not Allowed"),
        (lambda r: r.post("/origins/zzz/check"), "There is no origin 'zzz'; there are: a, b."),
        (lambda r: r.post("/origins/off/check"), "is disabled"),
        (lambda r: r.post("/scan", {"origin": "zzz"}), "There is no origin 'zzz'"),
        (lambda r: r.post("/scan", []), "is not a JSON object"),
    ],
)
async def test_what_cannot_be_done_is_one_sentence(two: Running, call: Callable[[Running], Any], words: str) -> None:
    sentence = await _refused(call(two))
    assert words in sentence
    assert len(sentence.splitlines()) == 1


async def test_an_internal_error_is_a_sentence_for_the_caller_and_a_traceback_for_the_log(
    two: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def boom(id: OriginId) -> int:
        raise RuntimeError("boom")

    monkeypatch.setattr(two.parts.membership, "rescan", boom)
    sentence = await _refused(two.post("/scan"))
    assert "internal error" in sentence
    assert "boom" in caplog.text
    caplog.clear()


async def test_shutdown_answers_first_and_stops_then(two: Running) -> None:
    assert await two.post("/shutdown") == {"stopping": True}
    await asyncio.sleep(0)
    assert two.stopped == [5.0]


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as name, socket.socket(socket.AF_UNIX) as silent:
        path = Path(name) / "x.sock"
        silent.bind(os.fspath(path))
        silent.listen()
        with pytest.raises(UserError, match="did not answer within"):
            ControlClient(path, Path("/m")).get("/status", timeout_secs=0.01)


async def test_without_a_cache_on_disk_its_requests_are_refused_and_what_was_cached_is_removed() -> None:
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "a").mkdir()
        (folder / "cache" / "blocks").mkdir(parents=True)
        (folder / "cache" / "blocks" / "old").touch()
        cache = CacheConfig(content_cache_gb=0)
        async with running_app(folder, local_origin("a", folder / "a", 0), cache=cache) as running:
            assert "content_cache_gb is 0" in await _refused(running.get("/cache"))
        assert not (folder / "cache" / "blocks").exists()


async def test_what_is_left_out_is_listed_counted_and_can_be_dismissed(two: Running) -> None:
    await two.scanned()
    view = await two.get("/problems")
    paths = ["Bad/noise.flac", "Bad/n\udcffise.flac"]
    assert sorted(problem["path"] for problem in view["problems"]) == sorted(paths)
    assert {(each["origin"], each["reason"], each["shown"]) for each in view["problems"]} == {("b", "damaged", True)}
    status = await two.get("/status")
    assert status["problems"] == view["counts"]
    assert [(each["origin"], each["reason"], each["number"]) for each in view["counts"]] == [("b", "damaged", 2)]
    assert view["counts"][0]["says"] == "2 files could not be parsed: shown without tags"

    assert (await two.get("/problems", path="Bad/noise.flac"))["problems"] == [
        each for each in view["problems"] if each["path"] == "Bad/noise.flac"
    ]
    assert (await two.get("/problems", origin="a"))["problems"] == []
    assert (await two.get("/problems", most="1"))["more"]
    assert "There is no reason 'odd'; there are: archived" in await _refused(two.get("/problems", reason="odd"))

    body = {"origin": "b", "path": "Bad/noise.flac", "reason": "damaged"}
    assert await two.post("/problems/dismiss", body) == {"changed": 1}
    assert (await two.get("/status"))["problems"][0]["number"] == 1
    assert [each["dismissed"] for each in (await two.get("/problems", dismissed="true"))["problems"]].count(True) == 1
    assert await two.post("/problems/dismiss", {}) == {"changed": 1}
    assert (await two.get("/status"))["problems"] == []
    assert await two.post("/problems/dismiss", {"dismissed": False}) == {"changed": 2}


async def test_tags_of_an_earlier_parser_are_read_again_on_request(two: Running) -> None:
    await two.scanned()
    assert await two.post("/origins/a/reparse") == {"read": 0, "done": True}
    with sqlite3.connect(two.folder / "cache/catalog.sqlite") as db:
        db.execute("UPDATE contents SET parser = 1")
    assert await two.post("/origins/a/reparse") == {"read": 3, "done": True}
    assert await two.post("/origins/a/reparse") == {"read": 0, "done": True}
    with sqlite3.connect(two.folder / "cache/catalog.sqlite") as db:
        assert db.execute("SELECT count(*) FROM contents WHERE parser = 1").fetchone() == (1,)
