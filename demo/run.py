"""The demo: three places with music become one folder, two of them die in the middle of a track, and it plays on.

Run by scripts/demo, which installs what this needs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.audio import ALBUMS, make_album
from demo.places import PROGRAMS, SWIFT, DemoStage
from demo.screen import Screen
from demo.stage import DemoError, Interrupts, missing_programs

_CHUNK = 64 * 1024
_PLAYING_SECS = 8.0
# Early, because MusicFS reads ahead as much as was played: each place must have something left to send.
_LOST_AT = (("nas", 0.2), ("cloud", 0.5))
_STOOD_IN = ("FailedOver", "HedgeWon")
_PROGRAMS = (*PROGRAMS, "flac", "lame", "opusenc", "fusermount3")
_PLAYED = "The Paper Lanterns/Night Train (2021) [FLAC]/01 - Departure.flac"
_ONLY_ON_NAS = "Ada Winter/Salt Roads (2022) [OPUS]"
_ONLY_IN_CLOUD = "Various Artists/Harbour Sessions (2020) [OPUS]"


@dataclass(frozen=True)
class Heard:
    """The result of playing a track. origins: those that served it, in order. Waits are for single pieces."""

    digest: str
    longest_wait_ms: float
    origins: list[str]


class Show:
    """The demo from its first line to its last. failures: what should have happened and did not."""

    def __init__(self, stage: DemoStage, screen: Screen) -> None:
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
        self._go_offline()

    def _make_library(self) -> None:
        screen, stage = self._screen, self._stage
        tracks = sum(len(album.titles) for album in ALBUMS)
        screen.say(f"Encoding {len(ALBUMS)} albums, {tracks} tracks of FLAC, Opus and MP3 ...", "dim")
        for number, album in enumerate(ALBUMS):
            with stage.uninterrupted():
                make_album(album, number, stage.places.folders)
        screen.say("Starting an SSH server and an S3 server ...", "dim")
        stage.open_places()
        screen.say("Three places hold them, the same bytes in other folders under other names:")
        screen.say("  nas     a server that is reached by SFTP (OpenSSH)")
        screen.say("  cloud   a bucket (S3, by OpenStack Swift)")
        screen.say(f"  laptop  a folder, in {stage.folder}")

    def _mount(self) -> None:
        self._screen.chapter("1. One folder over all three; the NAS has the first priority")
        self._screen.command(f"cd {self._stage.folder}")
        self._mount_again()

    def _mount_again(self) -> None:
        arguments = ("Music", "--config", self._stage.config.name)
        self._screen.command(f"musicfs mount {' '.join(arguments)}")
        self._stage.mount(*arguments)

    def _is_scanned(self) -> bool:
        scans = [origin["scan"] for origin in self._stage.ask("status", "Music")["origins"]]
        return all(scan["state"] == "idle" and scan["last"] for scan in scans)

    def _tree(self) -> None:
        self._stage.wait_for(self._is_scanned, "the places are not scanned")
        self._screen.say()
        for line in tree_lines(self._stage.music, self._screen):
            self._screen.say(line)

    def _play_and_lose(self) -> None:
        stage, screen = self._stage, self._screen
        path = stage.music / _PLAYED
        original = _digest(stage.places.laptop / "night train" / "track1.flac")
        screen.chapter("2. Play a track; kill the NAS in the middle of it, and then the cloud")
        self._why(_PLAYED)
        screen.say()
        screen.say(f"Playing {path.name}, 5 min, in {_PLAYING_SECS:.0f} s:")
        heard = self._play(path)
        screen.say()
        self._check(
            heard.digest == original, f"every byte is right: SHA-256 {heard.digest[:16]}... equals the original's"
        )
        served = heard.origins == ["nas", "cloud", "laptop"] and {"cloud", "laptop"} <= self._stood_in()
        self._check(served, f"it was served by {', then '.join(heard.origins)}")
        wait = f"{heard.longest_wait_ms:.0f} ms"
        self._check(heard.longest_wait_ms < 1000, f"it never stopped: the longest wait for the next 64 KiB was {wait}")

    def _lose(self, name: str) -> None:
        pid = self._stage.lose(name)
        shown = {"nas": "The NAS", "cloud": "The cloud"}[name]
        self._screen.say(f"  {shown} is gone: its process {pid} was killed. What it had not sent is lost.", "yellow")

    def _stood_in(self) -> set[str]:
        """Returns the places that gave bytes in the place of another one."""
        events = map(json.loads, self._stage.musicfs("events", "Music", "--json", capture=True).splitlines())
        return {event.get("target") or event.get("winner") for event in events if event["event"] in _STOOD_IN}

    def _look_while_away(self) -> None:
        stage, screen = self._stage, self._screen
        screen.chapter("3. Two of three places are away: what MusicFS says, and what is listed")
        for name, _ in _LOST_AT:
            self._await_missed(name)
        screen.command("musicfs status Music")
        stage.musicfs("status", "Music")
        screen.say()
        screen.command(f"ls 'Music/{_ONLY_IN_CLOUD}'   # an album that is only in the cloud")
        names = sorted(os.listdir(stage.music / _ONLY_IN_CLOUD))  # noqa: PTH208
        screen.say("  ".join(names))
        self._check(len(names) == 4, "offline is not deleted: it is listed")
        self._check_fails(f"{_ONLY_IN_CLOUD}/{names[0]}")

    def _await_missed(self, origin: str) -> None:
        """Waits until MusicFS misses it: after the third failure in a row, of reads or of probes."""
        self._stage.wait_for(lambda: self._stage.origin(origin)["health"] == "unhealthy", f"{origin} is not missed")

    def _check_fails(self, path: str) -> None:
        started = time.monotonic()
        error = _read_error(self._stage.music / path)
        took_ms = (time.monotonic() - started) * 1000
        text = f"what was never read before fails at once instead of hanging: {error}, after {took_ms:.0f} ms"
        self._check(error is not None and took_ms < 1000, text)

    def _bring_back(self) -> None:
        stage, screen = self._stage, self._screen
        screen.chapter("4. The NAS comes back")
        stage.bring_back("nas")
        stage.wait_for(lambda: _origin_of(stage.music / _PLAYED) == "nas", "the NAS is not used again")
        self._check(True, "MusicFS has noticed: it is used, and preferred, again")
        error = _read_error(stage.music / _ONLY_ON_NAS / "01 - Limestone.opus")
        self._check(error is None, "its own albums play again" + (f": {error}" if error else ""))

    def _go_offline(self) -> None:
        stage, screen = self._stage, self._screen
        screen.chapter("5. The NAS goes away again, the mount too, and only the mount comes back")
        path = stage.music / _ONLY_ON_NAS / "01 - Limestone.opus"
        before = _digest(path)
        stage.lose("nas")
        screen.command("musicfs unmount Music")
        stage.unmount()
        self._mount_again()
        screen.command(f"getfattr -n user.musicfs.cached 'Music/{_ONLY_ON_NAS}/01 - Limestone.opus'")
        screen.say(f'user.musicfs.cached="{os.getxattr(path, "user.musicfs.cached").decode()}"')
        same = _read_error(path) is None and _digest(path) == before
        self._check(same, "what was played before plays from the cache, with every byte right")
        self._await_missed("nas")
        self._check_fails(f"{_ONLY_ON_NAS}/03 - Home.opus")

    def _why(self, path: str) -> None:
        self._screen.command(f"musicfs why 'Music/{path}'")
        self._stage.musicfs("why", f"Music/{path}")

    def _check(self, good: bool, text: str) -> None:
        self._screen.verdict(good, text)
        if not good:
            self.failures.append(text)

    def stay(self) -> None:
        """With everything back, until Ctrl-C."""
        for name, _ in _LOST_AT:
            self._stage.bring_back(name)
        with suppress(KeyboardInterrupt):
            self._tell_what_to_try()
            while True:
                time.sleep(0.2)  # signal.pause would miss a signal that comes just before it

    def _tell_what_to_try(self) -> None:
        screen, bin = self._screen, Path(sys.executable).parent
        screen.chapter("All places are back, and the mount is yours now. In another terminal:")
        for line in (
            f"cd {self._stage.folder}; PATH={bin}:$PATH",
            "ls -R Music",
            f"mpv 'Music/{_PLAYED}'",
            "musicfs status Music",
            f"musicfs why 'Music/{_PLAYED}'",
            f"kill -9 {self._stage.places.server('nas').pid}   # the NAS",
        ):
            screen.command(line)
        screen.say()
        screen.say("Ctrl-C here unmounts, ends the servers and removes everything.", "bold")

    def _play(self, path: Path) -> Heard:
        """Reads the file piece by piece, many times as fast as it plays, and loses the places on the way."""
        digest = hashlib.sha256()
        origins: list[str] = []
        waits: list[float] = []
        losing = list(_LOST_AT)
        size = path.stat().st_size
        pause = _PLAYING_SECS * _CHUNK / size
        with path.open("rb", buffering=0) as file:
            while True:
                started = time.monotonic()
                piece = file.read(_CHUNK)
                waits.append((time.monotonic() - started) * 1000)
                if not piece:
                    return Heard(digest.hexdigest(), max(waits), origins)
                digest.update(piece)
                origin = _origin_of(path)
                if origin not in origins[-1:]:
                    origins.append(origin)
                done = file.tell() / size
                lost = bool(losing) and done >= losing[0][1]
                self._screen.progress(done, f"from {origin}", keep=lost or done == 1)
                if lost:
                    self._lose(losing.pop(0)[0])
                time.sleep(pause)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
            places = _listed(os.getxattr(tracks[0], "user.musicfs.replicas").decode().split(","))
            lines.append(f"{branch:<45}" + screen.styled(f"{len(tracks)} tracks{extra}, on {places}", "dim"))
    return lines


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1]


def _perform(interrupts: Interrupts, wait: bool) -> int:
    screen = Screen()
    with DemoStage.set_up(interrupts) as stage:
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
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Shows what MusicFS does, in a minute.")
    parser.add_argument("--no-wait", action="store_true", help="end after the show instead of leaving the mount up")
    arguments = parser.parse_args()
    reconfigure: Any = getattr(sys.stdout, "reconfigure", None)
    if reconfigure:
        reconfigure(errors="replace")
    missing = missing_programs(_PROGRAMS) + ([] if SWIFT.exists() else ["OpenStack Swift"])
    if missing:
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
