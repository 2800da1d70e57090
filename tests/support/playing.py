"""Playing a track through a mount, and something happening half way."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.support.mounting import PATIENCE, POLL, Place, eventually

SONG = {"title": "Song", "artist": "Artist", "album": "Album", "track": 1}
SHOWN = "Artist/Album [WAV]/01 - Song.wav"
"""Where a WAV file with the tags SONG appears."""
_CHUNK = 64 << 10


@dataclass(frozen=True)
class Played:
    """digest: of all bytes, by SHA-256. longest: the longest wait for bytes in the second half, in seconds."""

    digest: str
    longest: float


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def becomes_served_by(here: Place, path: Path, origin: str) -> None:
    """Waits until reads of the file go to this origin: it is the preferred one, and well, or takes over."""
    eventually(lambda: here.call(os.getxattr, path, "user.musicfs.origin") == origin.encode(), f"the turn of {origin}")


def play(here: Place, path: Path, half_way: Callable[[], object]) -> Played:
    """Reads the whole file as the user who mounts; calls `half_way` when half of it is there."""
    half, go_on = here.user / "half", here.base / "go-on"
    with ThreadPoolExecutor(1) as beside:
        played = beside.submit(here.call, _play, path, half, go_on)
        eventually(lambda: half.exists() or played.done(), "half of the track")
        half_way()
        go_on.touch()
        return played.result(PATIENCE)


def _play(path: Path, half: Path, go_on: Path) -> Played:
    digest, done, longest = hashlib.sha256(), 0, 0.0
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        while True:
            asked = time.monotonic()
            data = file.read(_CHUNK)
            longest = max(longest, time.monotonic() - asked) if half.exists() else 0.0
            if not data:
                return Played(digest.hexdigest(), longest)
            digest.update(data)
            done += len(data)
            if done >= size / 2 and not half.exists():
                half.touch()
                while not go_on.exists() and time.monotonic() < asked + PATIENCE:
                    time.sleep(POLL)
