"""The four promises under a random schedule of faults, over real servers and a real mount.

    python -m tests.faults --seed 7 --steps 500
    python -m tests.faults --minutes 60 --kinds local sftp smb nfs s3

The same seed and kinds give the same schedule, whatever the machine's speed; a failure prints it to be replayed.
After every step: what was read is right or an error (1), every call came back within its deadline (2), everything
is still listed (3), and no file at any origin has changed (4).
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from musicfs.app.app import CHECKSUMS
from tests.support.audio import make_audio
from tests.support.mounting import PATIENCE, Account, Mount, Place, eventually, place
from tests.support.servers.swift import Swift
from tests.support.sites import LOCAL_KINDS, REMOTE_KINDS, Site, rot, site

KINDS = (*LOCAL_KINDS, *REMOTE_KINDS)
DEADLINE_MS = 6000
SLACK_SECS = 6.0
"""What a machine with other things to do may add to a deadline."""
CHUNK = 128 * 1024
_ALBUMS, _TRACKS = 8, 3
_GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV)
_SETTINGS: dict[str, Any] = {
    "tree": {"template": "$path"},  # so that what must be listed is known beforehand
    "retry": {"deadline_ms": DEADLINE_MS},
    "health": {"check_interval_secs": 1, "timeout_ms": 1000},
    "cache": {"content_cache_gb": 0.004},  # a fraction of the music: most reads have to ask an origin
}


# What follows runs as the user who mounts, in a process that can be killed.


def read(path: Path, offset: int, size: int) -> tuple[str, int, float]:
    """(SHA-256 of what was read, errno or 0, the longest call in seconds), past the kernel's cache."""
    digest, error, longest = hashlib.sha256(), 0, 0.0
    started = time.monotonic()
    try:
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.seek(offset)
            while size > 0:
                longest, started = max(longest, time.monotonic() - started), time.monotonic()
                data = file.read(min(CHUNK, size))
                if not data:
                    break
                digest.update(data)
                size -= len(data)
    except OSError as problem:
        error = problem.errno or errno.EIO
    return digest.hexdigest(), error, max(longest, time.monotonic() - started)


def listing(root: Path) -> dict[str, int]:
    """Every file below `root` and its size."""

    def refuse(error: OSError) -> None:
        raise error

    return {
        str((Path(folder) / name).relative_to(root)): (Path(folder) / name).stat().st_size
        for folder, _, names in os.walk(root, onerror=refuse)
        for name in names
    }


def recorded(database: Path) -> int:
    """The number of contents that are recorded whole."""
    with closing(sqlite3.connect(database)) as connection:
        return sum(all(witnesses) for (witnesses,) in connection.execute("SELECT vouchers FROM contents"))


class World:
    """The sites, the music at them, one mount, and what must be true of it."""

    def __init__(self, here: Place, sites: Sequence[Site], dice: random.Random) -> None:
        self.here = here
        self.sites = sites
        self.dice = dice
        self.music: dict[str, bytes] = {}
        self.at: dict[str, list[Site]] = {}
        self.rotten: set[tuple[str, str]] = set()
        self.longest = self.browsed = 0.0
        self.reads = self.failed = 0
        self._fill()
        self._files = self._stored()
        self.mount = self._mount()

    def _fill(self) -> None:
        for album in range(_ALBUMS):
            holders = self.dice.sample(self.sites, self.dice.randint(1, len(self.sites)))
            for track in range(_TRACKS):
                kind = self.dice.choice(("flac", "mp3", "ogg", "wav"))
                path = f"Artist {album % 3}/Album {album}/{track + 1:02}.{kind}"
                tags = {"title": f"T{track}", "artist": f"Artist {album % 3}", "album": f"Album {album}"}
                made = make_audio(
                    self.here.base / f"made.{kind}", seconds=self.dice.choice((0.5, 4, 9)), seed=track, tags=tags
                )
                self.music[path] = made.read_bytes()
                self.at[path] = holders
                for each in holders:
                    each.put(path, self.music[path])

    def _stored(self) -> dict[tuple[str, str], object]:
        """What is at every site that can be looked at now."""
        return {(each.id, path): version for each in self.sites for path, version in each.files().items()}

    def _mount(self) -> Mount:
        roots = {each.id: each.root for each in self.sites}
        settings: dict[str, Any] = {each.id: dict(each.settings) for each in self.sites}
        return Mount(self.here, roots, **settings, **_SETTINGS).__enter__()

    # what can happen

    def heal(self) -> None:
        for each in self.sites:
            each.heal()

    def crash(self) -> None:
        self.mount.signal(signal.SIGKILL)
        self.restart()

    def restart(self) -> None:
        self.mount.end()
        self.mount = self._mount()

    def end(self) -> None:
        self.heal()
        self.mount.end()

    # what must be true

    def check_read(self, path: str, meanwhile: Callable[[], None] | None = None) -> None:
        """Reads a random part of it, or all; `meanwhile` happens beside that."""
        data = self.music[path]
        offset = self.dice.choice((0, self.dice.randrange(len(data))))
        size = self.dice.choice((len(data), 4096, 300_000))
        pause = self.dice.random() * 0.2
        sound_before = {each.id for each in self.at[path] if not each.ill}
        with ThreadPoolExecutor(1) as beside:
            reading = beside.submit(self._read, path, offset, size)
            if meanwhile is not None:
                time.sleep(pause)
                meanwhile()
            error = reading.result(PATIENCE * 2)
        sound = {each.id for each in self.at[path] if not each.ill} & sound_before
        rotten = any(path == rotten for _, rotten in self.rotten)
        if error and sound and not rotten and not meanwhile:
            # It may be back for a moment only, and nobody have noticed yet.
            eventually(lambda: not self._read(path, offset, size), f"{path}: {os.strerror(error)} though {sound} serve")

    def _read(self, path: str, offset: int, size: int) -> int:
        """The error that it ended with, 0 for none: then the bytes were right."""
        data = self.music[path]
        digest, error, longest = self.here.call(read, self.mount.path / path, offset, size)
        self.reads += 1
        self.failed += bool(error)
        self.longest = max(self.longest, longest)
        assert longest < DEADLINE_MS / 1000 + SLACK_SECS, f"{path}: a call took {longest:.1f} s"
        assert error in (0, errno.EIO, *_GONE), f"{path}: {os.strerror(error)}"
        wrong = f"{path}: wrong bytes among {size} at {offset} of {len(data)}"
        assert error or digest == hashlib.sha256(data[offset : offset + size]).hexdigest(), wrong
        return error

    def check_tree(self) -> None:
        wanted = {path: len(data) for path, data in self.music.items()}
        started = time.monotonic()
        listed = self.here.call(listing, self.mount.path)
        self.browsed = max(self.browsed, time.monotonic() - started)
        assert self.browsed < SLACK_SECS, f"listing everything took {self.browsed:.1f} s"
        assert listed == wanted, f"lost {wanted.keys() - listed.keys()}, surplus {listed.keys() - wanted.keys()}"

    def check_origins(self) -> None:
        changed = [where for where, version in self._stored().items() if self._files.get(where) != version]
        assert not changed, f"changed at an origin: {changed}"


class Schedule:
    """Draws one step after the other, and remembers what it drew."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world = world
        self.dice = dice
        self.steps: list[str] = []

    def step(self) -> None:
        draw = self.dice.random()
        if draw < 0.30:
            self._fault()
        elif draw < 0.40:
            self._say("heal")
            self.world.heal()
        elif draw < 0.44:
            self._say("kill the daemon")
            self.world.crash()
        elif draw < 0.46:
            self._say("restart the daemon")
            self.world.restart()
        elif draw < 0.51:
            self._rot()
        else:
            path = self._path()
            self._say(f"read {path}")
            self.world.check_read(path)
        self.world.check_tree()
        self.world.check_origins()

    def _say(self, what: str) -> None:
        self.steps.append(what)

    def _path(self) -> str:
        return self.dice.choice(sorted(self.world.music))

    def _fault(self) -> None:
        victim = self.dice.choice(self.world.sites)
        fault = self.dice.choice(victim.faults)
        path = self._path()
        if victim.ill:
            self._say(f"{victim.id} recovers from being {victim.fault}, while {path} is read")
            self.world.check_read(path, victim.heal)
        else:
            self._say(f"{victim.id} is {fault}, while {path} is read")
            self.world.check_read(path, lambda: victim.begin(fault))

    def _rot(self) -> None:
        """Of what was read before, and is elsewhere too: else nothing could tell."""
        path = self._path()
        holders = [each for each in self.world.at[path] if each.rots and not each.ill]
        if len(self.world.at[path]) < 2 or not holders or any(path == rotten for _, rotten in self.world.rotten):
            return
        victim = self.dice.choice(holders)
        self._say(f"{path} rots at {victim.id}")
        self.world.rotten.add((victim.id, path))
        rot(victim.root / path, self.dice.randrange(len(self.world.music[path])))


@contextmanager
def a_world(who: Account, kinds: Sequence[str], dice: random.Random, swift: Swift | None) -> Iterator[World]:
    """Everything is well in it, and every byte of the music has been read once through the mount, and recorded."""
    with place(who) as here, ExitStack() as stack:
        sites = [stack.enter_context(site(kind, f"{kind}{number}", here, swift)) for number, kind in enumerate(kinds)]
        world = World(here, sites, dice)
        stack.callback(world.end)
        world.mount.scanned()
        world.check_tree()
        for path, data in world.music.items():
            digest, error, _ = here.call(read, world.mount.path / path, 0, len(data))
            assert (digest, error) == (hashlib.sha256(data).hexdigest(), 0), path
        # What a crash may cost is what was read in the last second.
        database = here.cache_dir / CHECKSUMS
        eventually(lambda: here.call(recorded, database) == len(set(world.music.values())), "the records")
        yield world


def run(
    who: Account, kinds: Sequence[str], seed: int, goes_on: Callable[[int], bool], swift: Swift | None = None
) -> str:
    """Takes steps while `goes_on(steps so far)`; what came of it in one line. swift: a running server of S3, to be
    used instead of one of its own. Raises AssertionError with the schedule in it when a promise was broken."""
    dice = random.Random(seed)
    with a_world(who, kinds, dice, swift) as world:
        schedule = Schedule(world, dice)
        try:
            while goes_on(len(schedule.steps)):
                schedule.step()
        except (AssertionError, OSError) as broken:
            told = "\n".join(f"{number:4} {step}" for number, step in enumerate(schedule.steps, 1))
            raise AssertionError(f"seed {seed}, kinds {' '.join(kinds)}:\n{told}\n{broken}") from broken
        return (
            f"seed {seed}: {len(schedule.steps)} steps, {world.reads} reads, {world.failed} failed for want of any"
            f" origin, the longest call {world.longest:.2f} s, the longest listing {world.browsed:.2f} s"
        )
