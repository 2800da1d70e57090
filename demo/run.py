"""The demo: two places with music become one folder, one of them dies in the middle of a track, and it plays on.

Run by scripts/demo, which installs what this needs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.audio import ALBUMS, make_album
from demo.screen import Screen
from demo.stage import DemoError, Interrupts, Stage, missing_programs

_CHUNK = 64 * 1024
_PLAYING_SECS = 8.0
_LOST_AT = 0.45
_PROGRAMS = ("flac", "lame", "opusenc", "bindfs", "fusermount3")
_PLAYED = "The Paper Lanterns/Night Train (2021) [FLAC]/01 - Departure.flac"
_ONLY_ON_NAS = "Ada Winter/Salt Roads (2022) [OPUS]"


@dataclass(frozen=True)
class Heard:
    """What came of playing a track. origins: those that served it, in order. Waits are for single pieces."""

    digest: str
    longest_wait_ms: float
    lost_wait_ms: float
    origins: list[str]


class Show:
    """The demo from its first line to its last. failures: what should have happened and did not."""

    def __init__(self, stage: Stage, screen: Screen) -> None:
        self._stage = stage
        self._screen = screen
        self.failures: list[str] = []

    def run(self) -> None:
        self._make_library()
        self._mount()
        self._tree()
        self._play_and_lose()
        self._look_while_away()
        self._bring_back()

    def _make_library(self) -> None:
        screen, stage = self._screen, self._stage
        tracks = sum(len(album.titles) for album in ALBUMS)
        screen.say(f"Encoding {len(ALBUMS)} albums, {tracks} tracks of FLAC, Opus and MP3 ...", "dim")
        for number, album in enumerate(ALBUMS):
            with stage.uninterrupted():
                make_album(album, number, stage.nas_disk, stage.laptop)
        stage.bring_nas()
        screen.say(f"Two places hold them, in {stage.folder}:")
        screen.say("  nas     a NAS: a filesystem of its own, mounted like one over the network")
        screen.say("  laptop  a folder; two albums of the NAS are here too, in other folders under other names")

    def _mount(self) -> None:
        self._screen.chapter("1. One folder over both; the NAS is named first, so it is preferred")
        self._screen.command(f"cd {self._stage.folder}")
        arguments = ("Music", "--origin", "nas", "--origin", "laptop")
        self._screen.command(f"musicfs mount {' '.join(arguments)}")
        self._stage.mount(*arguments)
        self._stage.wait_for(self._is_scanned, "the folders are not scanned")

    def _is_scanned(self) -> bool:
        scans = [origin["scan"] for origin in self._stage.ask("status", "Music")["origins"]]
        return all(scan["state"] == "idle" and scan["last"] for scan in scans)

    def _tree(self) -> None:
        self._screen.say()
        for line in tree_lines(self._stage.music, self._screen):
            self._screen.say(line)

    def _play_and_lose(self) -> None:
        stage, screen = self._stage, self._screen
        path = stage.music / _PLAYED
        original = hashlib.sha256((stage.laptop / "night train" / "track1.flac").read_bytes()).hexdigest()
        screen.chapter("2. Play a track, and take the NAS away in the middle of it")
        self._why(_PLAYED)
        screen.say()
        screen.say(f"Playing {path.name}, 2:30 min, in {_PLAYING_SECS:.0f} s:")
        heard = play(path, screen, self._lose)
        screen.say()
        self._check(
            heard.digest == original, f"every byte is right: SHA-256 {heard.digest[:16]}... equals the original's"
        )
        served = " and then ".join(heard.origins)
        self._check(heard.origins == ["nas", "laptop"] and self._both_served(), f"it was served by {served}")
        waits = f"{heard.longest_wait_ms:.1f} ms, after the NAS died {heard.lost_wait_ms:.1f} ms"
        self._check(heard.longest_wait_ms < 1000, f"it never stopped: the longest wait for the next 64 KiB was {waits}")

    def _lose(self) -> None:
        pid = self._stage.lose_nas()
        self._screen.say(f"  The NAS is gone: its process {pid} was killed. What it had not sent is lost.", "yellow")

    def _both_served(self) -> bool:
        """Whether both really answered reads of the mount: only those are timed."""
        return all(self._stage.origin(id)["p50_ms"] is not None for id in ("nas", "laptop"))

    def _look_while_away(self) -> None:
        stage, screen = self._stage, self._screen
        screen.chapter("3. The NAS is away: what MusicFS says, and what is listed")
        screen.command("musicfs status Music")
        stage.musicfs("status", "Music")
        screen.say()
        self._why(_PLAYED)
        screen.say()
        screen.command(f"ls 'Music/{_ONLY_ON_NAS}'   # an album that is only on the NAS")
        names = sorted(os.listdir(stage.music / _ONLY_ON_NAS))  # noqa: PTH208
        screen.say("  ".join(names))
        self._check(len(names) == 4, "offline is not deleted: it is listed")
        begun = time.monotonic()
        error = _read_error(stage.music / _ONLY_ON_NAS / names[0])
        took_ms = (time.monotonic() - begun) * 1000
        self._check(error is not None, f"reading it fails at once instead of hanging: {error}, after {took_ms:.0f} ms")

    def _bring_back(self) -> None:
        stage, screen = self._stage, self._screen
        screen.chapter("4. The NAS comes back")
        stage.clear_nas()
        stage.bring_nas()
        # It would be noticed within half a minute at most, too; this asks at once.
        screen.command("musicfs origin check nas --mount Music")
        stage.musicfs("origin", "check", "nas", "--mount", "Music")
        self._check(_origin_of(stage.music / _PLAYED) == "nas", "it is used, and preferred, again")
        error = _read_error(stage.music / _ONLY_ON_NAS / "01 - Limestone.opus")
        self._check(error is None, "its own albums play again" + (f": {error}" if error else ""))

    def _why(self, path: str) -> None:
        self._screen.command(f"musicfs why 'Music/{path}'")
        self._stage.musicfs("why", f"Music/{path}")

    def _check(self, good: bool, text: str) -> None:
        self._screen.verdict(good, text)
        if not good:
            self.failures.append(text)

    def stay(self) -> None:
        """Until Ctrl-C."""
        with suppress(KeyboardInterrupt):
            self._tell_what_to_try()
            while True:
                time.sleep(0.2)  # signal.pause would miss a signal that comes just before it

    def _tell_what_to_try(self) -> None:
        screen, bin = self._screen, Path(sys.executable).parent
        screen.chapter("The mount is yours now. In another terminal:")
        for line in (
            f"cd {self._stage.folder}; PATH={bin}:$PATH",
            "ls -R Music",
            f"mpv 'Music/{_PLAYED}'",
            "musicfs status Music",
            f"musicfs why 'Music/{_PLAYED}'",
            f"getfattr -d 'Music/{_PLAYED}'",
        ):
            screen.command(line)
        screen.say()
        screen.say("Ctrl-C here unmounts and removes everything.", "bold")


def play(path: Path, screen: Screen, lose: Callable[[], None]) -> Heard:
    """Reads the file piece by piece, many times as fast as it plays, and calls `lose` on the way."""
    digest = hashlib.sha256()
    origins: list[str] = []
    waits: list[float] = []
    lost_at: int | None = None
    size = path.stat().st_size
    pause = _PLAYING_SECS * _CHUNK / size
    with path.open("rb", buffering=0) as file:
        while True:
            begun = time.monotonic()
            piece = file.read(_CHUNK)
            waits.append((time.monotonic() - begun) * 1000)
            if not piece:
                break
            digest.update(piece)
            origin = _origin_of(path)
            if origin not in origins[-1:]:
                origins.append(origin)
            done = file.tell() / size
            losing = lost_at is None and done >= _LOST_AT
            screen.progress(done, f"from {origin}", keep=losing or done == 1)
            if losing:
                lose()
                lost_at = len(waits)
            time.sleep(pause)
    return Heard(digest.hexdigest(), max(waits), max(waits[lost_at:]), origins)


def _origin_of(path: Path) -> str:
    """The origin that the next byte of the file would come from."""
    return os.getxattr(path, "user.musicfs.origin").decode()


def _read_error(path: Path) -> str | None:
    try:
        path.read_bytes()
    except OSError as error:
        return error.strerror or str(error)
    return None


def tree_lines(root: Path, screen: Screen) -> list[str]:
    """The tree as people draw it: artists, albums, and how much is in them from where."""
    lines = [screen.styled(root.name, "bold")]
    artists = sorted(root.iterdir())
    for artist in artists:
        last = artist == artists[-1]
        lines.append(f"{'└──' if last else '├──'} {artist.name}")
        albums = sorted(artist.iterdir())
        for album in albums:
            branch = f"{'   ' if last else '│  '} {'└──' if album == albums[-1] else '├──'} {album.name}"
            files = sorted(album.iterdir())
            tracks = [file for file in files if file.suffix != ".png"]
            extra = ", cover" if len(files) > len(tracks) else ""
            places = os.getxattr(tracks[0], "user.musicfs.replicas").decode().replace(",", " and ")
            lines.append(f"{branch:<45}" + screen.styled(f"{len(tracks)} tracks{extra}, on {places}", "dim"))
    return lines


def _perform(interrupts: Interrupts, wait: bool) -> int:
    screen = Screen()
    with Stage.set_up(interrupts) as stage:
        show = Show(stage, screen)
        show.run()
        screen.say()
        for failure in show.failures:
            screen.say(f"FAILED: {failure}", "red")
        if wait and not show.failures:
            show.stay()
    screen.say("Everything is unmounted and removed.")
    return 1 if show.failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Shows what MusicFS does, in half a minute.")
    parser.add_argument("--no-wait", action="store_true", help="end after the show instead of leaving the mount up")
    arguments = parser.parse_args()
    reconfigure: Any = getattr(sys.stdout, "reconfigure", None)
    if reconfigure:
        reconfigure(errors="replace")
    if missing := missing_programs(_PROGRAMS):
        print(f"Not installed: {', '.join(missing)}; run scripts/demo, which installs them.", file=sys.stderr)
        return 1
    interrupts = Interrupts()
    interrupts.install()
    try:
        return _perform(interrupts, not arguments.no_wait)
    except KeyboardInterrupt:
        print("\nInterrupted; everything is unmounted and removed.")
        return 130
    except DemoError as error:
        print(f"The demo can't go on. {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
