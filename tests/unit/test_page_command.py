"""`musicfs page`: how it starts the browser, and what it says where it can't listen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# A mount that answers, and a listener that may be refused.
PAGE = """
import socket, sys, types
from pathlib import Path
from musicfs.cli.main import main
from musicfs.control import client
client.find_mount = lambda path: types.SimpleNamespace(socket=Path(sys.argv[1], "x.sock"), get=lambda path: {})
def refuse(*_, **__):
    raise OSError(98, "Address already in use")
if sys.argv[2] == "refused":
    socket.create_server = refuse
sys.exit(main(["page", *sys.argv[3:]]))
"""


def run(folder: Path, listening: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PAGE, str(folder), listening, *options],
        env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
        umask=0o027, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(("options", "place"), [((), "any port"), (("--port", "8384"), "port 8384")])
def test_it_names_the_port_that_it_can_not_have(tmp_path: Path, options: tuple[str, ...], place: str) -> None:
    done = run(tmp_path, "refused", "--no-browser", *options)
    assert done.returncode == 1
    assert done.stderr.startswith(f"musicfs: The page can't be shown at {place} of 127.0.0.1: Address already in use; ")
    assert "None" not in done.stderr


def test_the_browser_has_the_umask_of_the_user(tmp_path: Path) -> None:
    starter, umask = tmp_path / "xdg-open", tmp_path / "umask"
    starter.write_text(f"#!/bin/sh\numask > {umask}\nkill -TERM $PPID\n")
    starter.chmod(0o755)
    done = run(tmp_path, "allowed")
    assert done.returncode == 0, done.stderr
    assert int(umask.read_text(), 8) == 0o027
