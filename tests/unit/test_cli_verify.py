"""`musicfs redundancy` and `musicfs verify`, over the control API of an application without a mount."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from musicfs.cli.main import main
from musicfs.control import client as clients
from musicfs.errors import UserError
from tests.support.audio import make_album, make_audio
from tests.support.control import Running, local_origin, running_app

PART = "Artist/Part (1999) [FLAC]"
LONG = "Artist/Long [WAV]/01 - Long.wav"


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """Two origins that share an album and a long song; another album is half at `b` alone, and half at both."""
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as name:
        folder = Path(name)
        make_album(folder / "a", "Artist", "Both", 2)
        tags = {"artist": "Artist", "album": "Long", "title": "Long", "track": 1}
        make_audio(folder / "a" / "long.wav", seconds=10, tags=tags)
        make_album(folder / "a", "Artist", "Part", 1, seed=7)
        copytree(folder / "a", folder / "b")
        make_album(folder / "b", "Artist", "Part", 2, seed=7)
        origins = [local_origin(id, folder / id, number) for number, id in enumerate("ab")]
        async with running_app(folder, *origins) as running:
            await running.scanned()
            monkeypatch.setattr(clients, "find_mount", lambda path: running.client)
            yield running


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command; what it returned, printed, and warned of."""

    async def run(*words: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, list(words))
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def rot(path: Path, at: int) -> None:
    """Another byte, and the times as they were."""
    about = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


async def test_what_lives_in_one_place_and_what_a_loss_would_cost_is_told(api: Running, run: Any) -> None:
    size = (api.folder / "b/Artist/Part/02 - Title 2.flac").stat().st_size
    assert (await api.get("/redundancy"))["if_lost"] == [
        {"origin": "a", "tracks": 0, "bytes": 0, "albums": 0, "whole_albums": 0},
        {"origin": "b", "tracks": 1, "bytes": size, "albums": 1, "whole_albums": 0},
    ]
    assert [each["path"] for each in (await api.get("/redundancy", origin="b"))["albums"]] == [PART]
    assert (await api.get("/redundancy", origin="a"))["albums"] == []

    code, out, err = await run("redundancy")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["a", "0", "0", "B", "0", "0"] in lines
    assert [line[-2:] for line in lines if line[:1] == ["b"]] == [["0", "1"]]
    assert f"{PART}       2             1" in out
    assert "Nothing lives at a alone." in (await run("redundancy", "--if-lost", "a"))[1]
    assert (await run("redundancy", "--if-lost", "nas"))[0] == 1
    assert json.loads((await run("redundancy", "--json"))[1]) == await api.get("/redundancy")
    assert (await run("redundancy", "--csv", "--json"))[0] == 2
    assert [(row["what"], row["path"], row["origin"], row["tracks"]) for row in await table(run)] == [
        ("album", PART, "b", "1"), ("if lost", "", "a", "0"), ("if lost", "", "b", "1"),
    ]  # fmt: skip

    make_album(api.folder / "b", "Artist", "Only", 2, seed=20)
    await api.scanned("b")
    lost = {each["origin"]: each for each in (await api.get("/redundancy"))["if_lost"]}
    assert (lost["b"]["tracks"], lost["b"]["albums"], lost["b"]["whole_albums"]) == (3, 2, 1)


async def table(run: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((await run("redundancy", "--csv"))[1])))


async def test_a_copy_that_has_rotted_is_found_listed_and_counts_for_no_place(api: Running, run: Any) -> None:
    code, out, _ = await run("verify")
    assert (code, "Every copy that was read is intact." in out) == (0, True)
    assert "Done: 9 copies of the whole mount, " in out
    rot(api.folder / "b" / "long.wav", 700_000)
    code, out, _ = await run("verify", "--json")
    view = json.loads(out)
    assert (code, view["state"], view["found"]) == (1, "done", 1)
    assert view["finds"] == [{"origin": "b", "path": "long.wav", "file": LONG, "block": 2, "against": None}]
    told = await api.get("/redundancy")
    assert told["differing"] == view["finds"]
    assert [(each["places"], each["tracks"]) for each in told["places"]] == [(1, 2), (2, 3)]
    code, out, _ = await run("verify", "--status")
    assert (code, "1 copy differs:" in out) == (1, True)
    listed = re.compile(rf"^{re.escape(LONG)} +b +long\.wav +2 +damaged$", re.MULTILINE)
    assert listed.search(out)
    assert listed.search((await run("redundancy"))[1])
    assert [(row["path"], row["block"]) for row in await table(run) if row["what"] == "differs"] == [("long.wav", "2")]
    recent = [event for event in (await api.get("/events/recent"))["events"] if event["event"] == "ScrubMismatch"]
    assert [(event["origin"], event["path"], event["block"]) for event in recent] == [("b", "long.wav", 2)]


async def test_it_is_begun_looked_at_and_stopped_and_reads_what_it_was_told_to(api: Running, run: Any) -> None:
    assert "Nothing has been verified yet" in (await run("verify", "--status"))[1]
    code, out, _ = await run("verify", "--no-wait", "--rate", "10kB/s")
    assert code == 0
    assert out.startswith("Running: ")
    assert "10.0 kB/s at most" in out
    code, out, _ = await run("verify", "--stop", "--json")
    assert (code, json.loads(out)["state"]) == (0, "stopped")
    assert (await run("verify", "--status"))[1].startswith("Stopped: ")
    for wrong in ("--rate", "slow"), ("--rate", "1"), ("--stop", "--status"):
        assert (await run("verify", *wrong))[0] == 2

    view = await api.post("/verify", {"path": f"/{PART}/", "rate": 10**9})
    assert (view["path"], view["files"]) == (PART, 3)
    await ended(api)
    assert (await api.post("/verify", {"path": f"{PART}/02 - Title 2.flac"}))["files"] == 1
    await ended(api)
    with pytest.raises(UserError, match="There is no Nobody in the mount"):
        await api.post("/verify", {"path": "Nobody"})

    (api.folder / "b").rename(api.folder / "gone")
    await api.post("/origins/b/check")
    code, out, _ = await run("verify")
    assert (code, "Not checked: 5 copies at b (unhealthy)." in out) == (0, True)


async def ended(api: Running) -> None:
    while (await api.get("/verify"))["state"] == "running":
        pass  # each look is a request, and lets it go on
