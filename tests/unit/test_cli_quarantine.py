"""`musicfs quarantine`, over the control API of an application without a mount."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete

from musicfs.cli.main import cli, main
from musicfs.control import client as clients
from musicfs.errors import UserError
from tests.support.audio import make_audio
from tests.support.control import Running, local_origin, running_app
from tests.support.mounting import eventually
from tests.support.playing import SONG
from tests.support.twins import twin_of


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """Two origins, each with a file that only looks like the other's."""
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as name:
        folder = Path(name)
        song = make_audio(folder / "a/song.wav", seconds=10, tags=SONG)
        (folder / "b").mkdir()
        (folder / "b/twin.wav").write_bytes(twin_of(song.read_bytes()))
        async with running_app(
            folder, *(local_origin(id, folder / id, number) for number, id in enumerate("ab"))
        ) as it:
            await it.scanned()
            monkeypatch.setattr(clients, "find_mount", lambda path: it.client)
            monkeypatch.setattr(clients, "running_mounts", lambda: [it.client])
            yield it


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command; what it returned, printed, and warned of."""

    async def run(*words: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, ["quarantine", *words])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def held(api: Running) -> list[Any]:
    return list(api.client.get("/quarantine")["quarantined"])


async def test_a_twin_is_listed_released_and_quarantined_again(api: Running, run: Any) -> None:
    await asyncio.to_thread(eventually, lambda: held(api), "the twin")
    size = (api.folder / "b/twin.wav").stat().st_size
    twin = {"origin": "b", "path": "twin.wav", "size": size, "reason": "other-content", "block": None, "against": "a"}
    code, out, _ = await run("list", "--json")
    assert (code, json.loads(out)) == (0, {"quarantined": [twin]})
    code, out, _ = await run("list")
    assert "it only looks like the file at a" in out
    assert await run("release", "b:twin.wav") == (0, "Released 1 copy.\n", "")
    assert await run("list") == (0, "No copy is in quarantine.\n", "")
    (api.folder / "b/more.wav").write_bytes((api.folder / "a/song.wav").read_bytes())
    await api.scanned()
    await asyncio.to_thread(eventually, lambda: held(api), "the twin once more")
    assert await run("release", "--all", "--json") == (0, '{\n  "released": 1\n}\n', "")


async def test_what_is_not_in_quarantine_is_named(api: Running, run: Any) -> None:
    code, _, err = await run("release", "a:song.wav")
    assert code == 1
    assert "a:song.wav is not in quarantine" in err
    for words in ((), ("b:twin.wav", "--all"), ("twin.wav",)):
        assert (await run("release", *words))[0] == 2
    with pytest.raises(UserError, match="takes either"):
        await api.post("/quarantine/release", {"origin": "a"})


async def test_the_shell_completes_copies_in_quarantine(api: Running) -> None:
    await asyncio.to_thread(eventually, lambda: held(api), "the twin")
    completion = ShellComplete(cli, {}, "musicfs", "_MUSICFS_COMPLETE")
    found = await asyncio.to_thread(completion.get_completions, ["quarantine", "release"], "b:")
    assert [each.value for each in found] == ["b:twin.wav"]


async def test_a_verification_names_a_twin_and_no_block_of_it(api: Running, capsys: pytest.CaptureFixture[str]) -> None:
    await asyncio.to_thread(eventually, lambda: held(api), "the twin")
    code = await asyncio.to_thread(main, ["verify"])
    out = capsys.readouterr().out
    assert (code, "1 copy differs" in out, "not as at a" in out, "-1" in out) == (1, True, True, False)
