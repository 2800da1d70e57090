"""Runs the real `musicfs` as a user would, in a home and a runtime folder of its own, and leaves no mount behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from musicfs.system.mounts import mounts
from tests.support.audio import make_audio

Done = subprocess.CompletedProcess[str]


class Commands:
    """One user's machine: `home` is empty and everything below it is this user's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("MUSICFS_")} | {
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_RUNTIME_DIR": str(home),
            "NO_COLOR": "1",
        }
        if os.geteuid() != 0:
            self.env["MUSICFS_DUMPABLE"] = "1"  # or `processes` would not see who has this home

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "musicfs", *map(str, arguments)]

    def __call__(self, *arguments: str | Path, **env: str) -> Done:
        return subprocess.run(
            self.command(*arguments), env=self.env | env, capture_output=True, text=True, errors="surrogateescape",
            check=False, timeout=90,
        )  # fmt: skip

    def json(self, *arguments: str | Path) -> Any:
        """What the command printed, whatever its exit code."""
        return json.loads(self(*arguments, "--json").stdout)

    def unmount_all(self) -> None:
        for mounted in mounts():
            if mounted.path.is_relative_to(self.home):
                subprocess.run(["umount", "--lazy", str(mounted.path)], check=False)

    def processes(self) -> list[int]:
        """Those that were started with this user's home, and what they started."""
        home = os.fsencode(f"HOME={self.home}")
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # It ended, or is another user's.
                if home in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found

    def wait_for_all(self) -> None:
        """Until everything of this user has ended: what still ran would write into the home while it is removed.

        Raises:
            AssertionError: Something did not end within a minute; it was killed.
        """
        deadline = time.monotonic() + 60
        while left := self.processes():
            if time.monotonic() > deadline:
                for pid in left:
                    kill(pid)
                raise AssertionError(f"These processes went on after the test: {left}")
            time.sleep(0.02)


@contextmanager
def commands() -> Iterator[Commands]:
    # Not pytest's folder: the address of a socket is 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="mfs-", dir="/tmp") as home:
        user = Commands(Path(home).resolve())
        try:
            yield user
        finally:
            user.unmount_all()
            user.wait_for_all()


def kill(pid: int) -> None:
    """Ends the process as a crash would, and waits until it is gone."""
    process = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        select.select([process], [], [], 30)
    finally:
        os.close(process)


def make_album(
    folder: Path, tracks: int = 3, artist: str = "Artist", album: str = "Album", seed: int = 0
) -> list[Path]:
    """Tracks 1, 2, ... of one album; other seeds give other bytes."""
    return [
        make_audio(
            folder / f"{number}.flac",
            seconds=0.1,
            seed=seed + number,
            tags={"artist": artist, "album": album, "title": f"Song {number}", "track": number, "year": 2001},
        )
        for number in range(1, tracks + 1)
    ]
