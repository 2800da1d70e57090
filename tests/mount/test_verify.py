"""`musicfs verify` on a real mount: rot is found, and neither Ctrl-C nor the end of the mount loses what was done."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from musicfs.control.client import find_mount
from musicfs.errors import UserError
from tests.support.audio import make_audio
from tests.support.mounting import PATIENCE, Account, Mount, Place, account, eventually

ALBUM = "Artist/Album [WAV]"
BLOCK = 256 * 1024
ROTTEN = 3  # block


@pytest.fixture(scope="module")
def who() -> Account:
    return account("ordinary")


def rot(path: Path) -> None:
    """Another byte where no fingerprint looks; the times are as they were."""
    about = path.stat()
    with path.open("r+b") as file:
        file.seek(ROTTEN * BLOCK + 1000)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def copies(here: Place, songs: int) -> dict[str, Path]:
    """The same songs of six blocks on two disks."""
    roots = {id: here.origins / id for id in ("near", "far")}
    for number in range(1, songs + 1):
        tags = {"title": f"Song {number}", "artist": "Artist", "album": "Album", "track": number}
        make_audio(roots["near"] / f"{number}.wav", seconds=9, seed=number, tags=tags)
    shutil.copytree(roots["near"], roots["far"])
    return roots


def ask(body: dict[str, Any] | None = None) -> dict[str, Any]:
    """How far it is, or, with a body, what it is told to do; by the control API."""
    client = find_mount(None)
    return client.get("/verify") if body is None else client.post("/verify", body)


def is_asked(here: Place) -> bool:
    try:
        return bool(here.call(ask))
    except UserError:
        return False


def watched_until(here: Place, sign: bytes, *words: str) -> tuple[int, bytes]:
    """Runs a command on a terminal and presses Ctrl-C once it has shown the sign; its exit code, and all it showed."""
    ours, theirs = pty.openpty()
    command = here.who.command(here.environ | {"TERM": "xterm"}, here.who.python, "-m", "musicfs", *words)
    shown = b""
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd="/") as process:
        os.close(theirs)
        try:
            while select.select([ours], [], [], PATIENCE)[0] and (data := os.read(ours, 65536)):
                if sign not in shown and sign in shown + data:
                    here.signal(process.pid, signal.SIGINT)
                shown += data
        except OSError:  # the other end is closed
            pass
        os.close(ours)
        return process.wait(PATIENCE), shown


def test_rot_is_found_by_file_origin_and_block_across_a_restart(here: Place) -> None:
    roots = copies(here, 8)
    rot(roots["far"] / "2.wav")
    with Mount(here, roots) as mount:
        mount.scanned()
        here.call(ask, {"rate": 1_500_000})
        mount.wait_for("ScrubProgress")
        here.call(ask, {"rate": 10_000})  # for hours
        code, shown = watched_until(here, b"verifying", "verify")
        assert code == 130
        assert b"the mount goes on verifying" in shown
        view = here.call(ask)
        assert (view["state"], view["number"]) == ("running", 1)
    done = view["done_files"]
    assert 2 <= done < view["files"] == 16
    with Mount(here, roots) as mount:
        eventually(lambda: is_asked(here), "the mount answers")
        view = here.call(ask)
        assert (view["state"], view["rate"], view["done_files"]) == ("running", 10_000, done)
        ended = here.run(here.who.python, "-m", "musicfs", "verify", "--rate", "1GB/s", "--json", check=False)
        view = json.loads(ended.stdout)
        assert (ended.returncode, view["number"], view["state"], view["done_files"]) == (1, 1, "done", 16)
        (find,) = view["finds"]
        assert (find["path"], find["file"], find["block"]) == ("2.wav", f"{ALBUM}/02 - Song 2.wav", ROTTEN)
        assert {find["origin"], find["against"]} == {"near", "far"}
        assert view["unchecked"] == []
        mount.wait_for("ScrubFinished", files=16, found=1, unchecked=0)
        for name in "origin", "replicas":
            song = mount.path / find["file"]
            assert here.call(os.getxattr, song, f"user.musicfs.{name}").decode() == find["against"]
