"""What a parser process may do, and what it may not, even if an attacker runs code in it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from musicfs.library.parse_pool import Parsers
from musicfs.system import processes
from musicfs.tags.parse_messages import FileToParse
from musicfs.tags.parser import MEMORY, TOO_MUCH_MEMORY, Examined, Gathered, MissingBytes, examine
from tests.support import bad_parser
from tests.support.audio import make_audio, picture


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in bad_parser.environment().items():
        monkeypatch.setenv(name, value)


async def answer_of(deed: str) -> str:
    """What a parser answers that does the deed, as the problem of a file."""
    parsers = Parsers(1, bad_parser.command(deed))
    try:
        found = await parsers.examine(FileToParse(bad_parser.BAD, "audio", 1, {0: b"x"}, 2.0))
    finally:
        parsers.close()
    assert isinstance(found, Examined)
    assert found.problem is not None
    return found.problem


async def test_it_opens_nothing_makes_nothing_runs_nothing_and_connects_to_nothing(tmp_path: Path) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    with server:
        os.environ["PATH"] += f":/{server.getsockname()[1]}"  # how the port gets there
        said = await answer_of("tries what is forbidden")
    outcomes = dict(part.split("=") for part in said.split())
    version = int(outcomes.pop("landlock"))
    assert version, "the kernel of this machine has no Landlock"
    later = {name for name, since in {"connect": 4, "listen": 4, "signal": 6}.items() if version < since}
    assert {outcome for name, outcome in outcomes.items() if name not in later} == {"refused"}, said


async def test_it_has_few_rights_and_low_limits() -> None:
    limits = await answer_of("shows its limits")
    assert "NoNewPrivs=1" in limits
    assert re.search(r"processes=0 .*size=0 .*core=0 ", limits), limits
    limit, own, hard = (int(found) for found in re.findall(r"(?:own|memory|most)=(\d+)", limits))
    assert own < limit <= own + MEMORY + (1 << 20)
    assert limit <= hard <= own + 3 * MEMORY


async def test_it_knows_no_secret_and_no_other_program_of_the_user_looks_into_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MUSICFS_NAS_PASSWORD", "correct horse")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "battery staple")
    known = await answer_of("shows its environment")
    assert "PATH" in known
    assert not {"horse", "staple", "PASSWORD", "SECRET", "HOME"} & set(re.split(r"\W+", known))
    assert "dumpable=0" in await answer_of("shows its limits")


async def test_a_file_that_takes_much_memory_is_reported_and_the_next_one_is_parsed() -> None:
    parsers = Parsers(1, bad_parser.command("takes memory while it parses"))
    try:
        found = await parsers.examine(FileToParse(bad_parser.BAD, "audio", 4, {0: b"fLaC"}, 2.0))
        (pid,) = parsers.pids
        assert isinstance(found, Examined)
        assert found.problem == TOO_MUCH_MEMORY
        assert isinstance(await parsers.examine(FileToParse("a.jpg", "sidecar", 1, {0: b"x"}, 2.0)), Examined)
        assert parsers.pids == [pid]
    finally:
        parsers.close()


KINDS = "flac", "mp3", "ogg", "opus", "m4a", "wv", "wav", "aiff", "ape", "mpc", "tta", "wma", "dsf", "aac"


async def test_every_format_is_parsed_in_the_cage_as_outside_of_it(tmp_path: Path) -> None:
    """What a parser imports late, such as a codec, it could not import there."""
    tags = {"title": "S\xf6ng \u30b5", "artist": "\xc4", "album": "B\u0436", "track": 3, "year": 1999, "genre": "Rock"}
    parsers = Parsers(1)
    parsed = 0
    try:
        for kind in KINDS:
            with contextlib.suppress(ValueError, KeyError, NotImplementedError):
                path = make_audio(tmp_path / f"a.{kind}", seconds=1, tags=tags, cover=picture(20_000))
                data = path.read_bytes()
                found = [await gathered(parsers, path.name, data), alone(path.name, data)]
                assert found[0] == found[1]
                parsed += found[0].tags is not None
    finally:
        parsers.close()
    assert parsed >= 8


async def gathered(parsers: Parsers, name: str, data: bytes) -> Examined:
    here = Gathered.nothing(len(data))
    while True:
        here.add([data[offset : offset + size] for offset, size in here.wanted])
        found = await parsers.examine(FileToParse(name, "audio", len(data), here.ranges, 2.0))
        if not isinstance(found, MissingBytes):
            assert isinstance(found, Examined)
            return found
        assert here.want(found.offset, found.size) is None


def alone(name: str, data: bytes) -> Examined:
    found = examine(name, "audio", len(data), {0: data})
    assert isinstance(found, Examined)
    return found


def test_it_ends_with_the_worker_even_if_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, time; from musicfs.library.parse_pool import Parsers\n"
        "async def main():\n"
        "    parsers = Parsers(1); parsers.warm(); print(*parsers.pids, flush=True); time.sleep(1000)\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        worker.send_signal(signal.SIGKILL)
    until = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_environment_of_a_parser_has_what_an_interpreter_needs_and_nothing_else() -> None:
    given = {"PATH": "/bin::rel", "LANG": "C", "LC_ALL": "C", "HOME": "/root", "X_TOKEN": "t", "PYTHONPATH": "/p:"}
    assert processes.bare_environment(given).keys() == {"PATH", "LANG", "LC_ALL", "PYTHONPATH"}
    assert processes.bare_environment(given)["PATH"] == "/bin"
