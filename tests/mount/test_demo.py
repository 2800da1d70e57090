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

from musicfs.mount import points

ROOT = Path(__file__).parents[2]


@contextmanager
def demo(tmp_path: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        ["scripts/demo", *arguments], cwd=ROOT, env=environ, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def left_behind(tmp_path: Path) -> list[str]:
    """Mounts, files and processes of a demo that ran with `tmp_path` for its temporary folder."""
    mounts = [str(mount.path) for mount in points.mounts() if mount.path.is_relative_to(tmp_path)]
    files = [str(path) for path in tmp_path.iterdir()]
    return mounts + files + list(_processes(f"TMPDIR={tmp_path}"))


def _processes(variable: str) -> Iterator[str]:
    """The command lines of all processes that inherited the variable."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is somebody else's
            if variable.encode() in (process / "environ").read_bytes().split(b"\0"):
                yield (process / "cmdline").read_text(errors="replace").replace("\0", " ")


def test_the_demo_shows_a_failover_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with demo(tmp_path, "--no-wait") as process:
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert "✗" not in output
    assert "\x1b" not in output
    assert re.search(r"✓ every byte is right: SHA-256 [0-9a-f]{16}\.\.\. equals the original's", output)
    assert re.search(r"from nas\n  The NAS is gone: .*\n.* 100%  from laptop\n", output)
    assert "✓ it was served by nas and then laptop" in output
    assert "✓ offline is not deleted" in output
    assert "✓ it is used, and preferred, again" in output
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("line", ["Encoding", "Mounted on", "  The NAS is gone", "The mount is yours now"])
def test_ctrl_c_cleans_up_at_any_point(tmp_path: Path, line: str) -> None:
    with demo(tmp_path) as process:
        assert process.stdout is not None
        assert any(told.startswith(line) for told in process.stdout)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        process.wait()
    assert "unmounted and removed" in rest
    assert process.returncode == (0 if line == "The mount is yours now" else 130)
    assert left_behind(tmp_path) == []
