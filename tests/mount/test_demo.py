"""The demo is what a newcomer runs first: it shows a real failover, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from musicfs.system.mounts import mounts
from tests.support.servers.sshd import open_folder

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(300)  # a whole demo is long, and a busy machine makes it longer


@contextmanager
def demo(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    environ = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(
        ["scripts/demo", *arguments], cwd=ROOT, env=environ, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def left_behind(folder: Path) -> list[str]:
    """Mounts, files and processes of a demo that ran with `folder` for its temporary folder."""
    mounted = [str(mount.path) for mount in mounts() if mount.path.is_relative_to(folder)]
    files = [str(path) for path in folder.iterdir()]
    return mounted + files + list(_processes(f"TMPDIR={folder}"))


def _processes(variable: str) -> Iterator[str]:
    """The command lines of all processes that inherited the variable."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is somebody else's
            if variable.encode() in (process / "environ").read_bytes().split(b"\0"):
                yield (process / "cmdline").read_text(errors="replace").replace("\0", " ")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not one of pytest's own: where root runs this, the demo's SSH server reads as somebody else."""
    with open_folder() as made:
        yield made


def interrupted(process: subprocess.Popen[str], line: str) -> str:
    """What the demo says altogether when Ctrl-C comes after the line that begins so."""
    assert process.stdout is not None
    told = ""
    for each in process.stdout:
        told += each
        if each.startswith(line):
            process.send_signal(signal.SIGINT)
            break
    told += process.stdout.read()
    process.wait()
    return told


def test_the_demo_shows_failovers_and_the_cache_and_leaves_nothing_behind(folder: Path) -> None:
    with demo(folder) as process:
        output = interrupted(process, "All places are back")
    assert process.returncode == 0, output
    assert "✗" not in output
    assert "\x1b" not in output
    for shown in (
        r"✓ every byte is right: SHA-256 [0-9a-f]{16}\.\.\. equals the original's",
        r"from nas\n  The NAS is gone: .*\n.*  from cloud\n  The cloud is gone: .*\n.* 100%  from laptop\n",
        "✓ it was served by nas, then cloud, then laptop",
        "✓ offline is not deleted",
        "✓ MusicFS has noticed: it is used, and preferred, again",
        "✓ what was played before plays from the cache",
        "✓ what was never read before fails at once",
    ):
        assert re.search(shown, output), shown
    assert left_behind(folder) == []


@pytest.mark.parametrize("line", ["Starting", "Mounted on", "  The NAS is gone"])
def test_ctrl_c_cleans_up_at_any_point(folder: Path, line: str) -> None:
    with demo(folder) as process:
        output = interrupted(process, line)
    assert "unmounted and removed" in output
    assert process.returncode == 130
    assert left_behind(folder) == []
