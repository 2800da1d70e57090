"""The origins of a soak with their music, the mount over them, and all that may happen to both."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import tomlkit
from tests.faults.promises import listing, read
from tests.support.audio import make_audio
from tests.support.mounting import Place, account, eventually, place
from tests.support.sites import Site, rot, site

from bench.soak.ledger import Ledger
from musicfs.control.client import ControlClient

_DEADLINE_MS = 6000
_SLACK_SECS = 6.0
"""What a machine with other things to do may add to a deadline."""
_ALBUMS, _TRACKS = 12, 4
_SECONDS = (0.5, 9, 40)
_SETTINGS: dict[str, Any] = {
    "tree": {"template": "$path"},  # so that what must be listed is known beforehand
    "retry": {"deadline_ms": _DEADLINE_MS},
    "health": {"timeout_ms": 2000},
    "cache": {"content_cache_gb": 0.03},  # a fraction of the music: most reads have to ask an origin
}
_RETURNING_SECS = 180.0


class World:
    """sites: by id. truth: a folder with every file as it must be read."""

    def __init__(self, here: Place, sites: Sequence[Site], dice: random.Random) -> None:
        self.here = here
        self.sites = {each.id: each for each in sites}
        self.dice = dice
        self.truth = here.base / "truth"
        self.ledger = Ledger(_DEADLINE_MS / 1000 + _SLACK_SECS)
        self.visitor: tuple[str, str] | None = None
        self._visitors = 0
        self._settings = {
            each.id: {"id": each.id, "priority": number, **_told(each)} for number, each in enumerate(sites)
        }
        self._backing: dict[str, dict[str, object]] = {}
        """What every origin holds, by its id: see `Site.files`."""
        self._fill()
        for each in sites:
            self.ledger.set_well(each.id, True)
            self.ledger.set_in(each.id, True)
        self._backing = {each.id: each.files() for each in sites}
        self.log = here.base / "daemon.log"
        self.daemon = self._start()
        self.client = ControlClient(next((here.user / "run" / "musicfs").glob("*.sock")), here.mount_point)

    # the beginning

    def _fill(self) -> None:
        for album in range(_ALBUMS):
            holders = self.dice.sample(sorted(self.sites), self.dice.randint(1, len(self.sites)))
            for track in range(_TRACKS):
                kind = self.dice.choice(("flac", "mp3", "ogg", "wav"))
                path = f"Artist {album % 3}/Album {album}/{track + 1:02}.{kind}"
                self._make(path, self.dice.choice(_SECONDS), holders)

    def _make(self, path: str, seconds: float, holders: Sequence[str]) -> None:
        album = path.split("/")[1]
        tags = {"title": f"Title {self.dice.random()}", "artist": "Artist", "album": album}
        made = make_audio(self.here.base / "making" / path, seconds=seconds, seed=self.dice.randrange(4), tags=tags)
        self.ledger.holders[path] = list(holders)
        for holder in holders:
            self.sites[holder].put(path, made.read_bytes())
        (self.truth / path).parent.mkdir(parents=True, exist_ok=True)
        made.rename(self.truth / path)

    def _start(self) -> subprocess.Popen[bytes]:
        """Returns when all is scanned, and every byte has been read once."""
        config = self.here.base / "config.toml"
        self._write_config(config)
        command = [self.here.who.python, "-m", "musicfs", "mount", "--foreground", "-v", "--config", str(config)]
        with self.log.open("wb") as log:
            daemon = subprocess.Popen(
                self.here.who.command(self.here.environ, *command), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            eventually(self._complete, "the whole tree")
            for path in self.ledger.holders:
                digest, error, _ = self.here.call(read, self.here.mount_point / path, 0, 1 << 30)
                right = hashlib.sha256((self.truth / path).read_bytes()).hexdigest()
                assert (digest, error) == (right, 0), path
        except BaseException:
            self._end(daemon)
            raise
        return daemon

    def _write_config(self, path: Path) -> None:
        place_of_it = {"mount_point": str(self.here.mount_point), "cache_dir": str(self.here.cache_dir)}
        text = tomlkit.dumps(place_of_it | _SETTINGS | {"origins": list(self._settings.values())})
        path.write_text(text)
        path.chmod(0o600)

    def _complete(self) -> bool:
        return os.path.ismount(self.here.mount_point) and self.shown() == self._expected()

    def shown(self) -> dict[str, int]:
        """Every file of the mount, and its size."""
        return self.here.call(listing, self.here.mount_point)

    def _expected(self) -> dict[str, int]:
        return {
            path: (self.truth / path).stat().st_size
            for path, holders in self.ledger.holders.items()
            if any(map(self.ledger.takes_part, holders))
        }

    # what can happen

    def begin(self, id: str, fault: str) -> None:
        self.ledger.set_well(id, False)
        self.sites[id].begin(fault)

    def heal(self, id: str) -> None:
        self.sites[id].heal()
        self.ledger.set_well(id, True)

    def take_out(self, id: str, *, for_good: bool) -> None:
        self.ledger.set_in(id, False)
        if for_good:
            self.client.delete(f"/origins/{id}")
        else:
            self.client.post(f"/origins/{id}/disable")

    def take_in(self, id: str) -> None:
        """Whichever way it was taken out."""
        if id in {origin["id"] for origin in self.client.get("/origins")["origins"]}:
            self.client.post(f"/origins/{id}/enable", timeout_secs=60)
        else:
            self.client.post("/origins", self._settings[id], timeout_secs=60)
        self.ledger.set_in(id, True)

    def set_priority(self, id: str, priority: int) -> None:
        self._settings[id]["priority"] = priority
        self.client.post(f"/origins/{id}/priority", {"priority": priority})

    def rescan(self) -> None:
        self.client.post("/scan")

    def rot(self, path: str, id: str) -> None:
        """Of what is elsewhere too, and was read before: else nothing could tell."""
        self.ledger.rotten.add(path)
        rot(self.sites[id].root / path, self.dice.randrange((self.truth / path).stat().st_size))

    def visit(self, id: str) -> None:
        """A new album appears at the origin, which is a folder, well, and takes part."""
        self._visitors += 1
        paths = [f"Visitors/Visit {self._visitors}/{track}.flac" for track in range(3)]
        self.ledger.optional.update(paths)
        for path in paths:
            self._make(path, 9, [id])
        self._backing[id] = self.sites[id].files()
        self.visitor = (id, f"Visitors/Visit {self._visitors}")
        self.rescan()

    def leave(self) -> None:
        """The album that came last goes; its origin is well and takes part."""
        assert self.visitor is not None
        id, album = self.visitor
        for path in [path for path in self.ledger.holders if path.startswith(f"{album}/")]:
            del self._backing[id][path]
            (self.truth / path).unlink()
        shutil.rmtree(self.sites[id].root / album)
        self.visitor = None
        self.rescan()

    # what must be true

    def check_origins(self) -> None:
        """No file of an origin that can be looked at has changed."""
        for id, each in self.sites.items():
            now, before = each.files(), self._backing[id]
            if each.ill and not now:
                continue
            for path in sorted(now.keys() | before.keys()):
                if now.get(path) != before.get(path):
                    self.ledger.breach(4, f"{path} of {id} was {before.get(path)} and is {now.get(path)}")

    def check_all_returns(self) -> None:
        """With every origin well and in, everything is shown and can be read."""
        for id in self.sites:
            self.heal(id)
            if not self.ledger.takes_part(id):
                self.take_in(id)
        steady = set(self.ledger.holders) - self.ledger.optional
        try:
            eventually(lambda: steady <= self.shown().keys(), "everything is shown again", _RETURNING_SECS)
        except AssertionError as problem:
            self.ledger.breach(3, f"{problem}; missing: {sorted(steady - self.shown().keys())[:5]}")
            return
        eventually(self._healthy, "every origin is healthy", _RETURNING_SECS)
        for path in sorted(steady - self.ledger.rotten):
            digest, error, _ = self.here.call(read, self.here.mount_point / path, 0, 1 << 30)
            if error or digest != hashlib.sha256((self.truth / path).read_bytes()).hexdigest():
                self.ledger.breach(1, f"at the end, with all well, {path}: {os.strerror(error) if error else 'wrong'}")

    def _healthy(self) -> bool:
        return all(origin["health"] == "healthy" for origin in self.client.get("/origins")["origins"])

    def metrics(self) -> dict[str, float]:
        """Every sample of the daemon's metrics by name; those with labels summed up. Empty when it says nothing."""
        connection = http.client.HTTPConnection("localhost", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(10)
        values: dict[str, float] = {}
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.sock.connect(str(self.client.socket))
            connection.request("GET", "/metrics")
            for line in connection.getresponse().read().decode().splitlines():
                if not line.startswith("#"):
                    name, _, value = line.rpartition(" ")
                    values[name.partition("{")[0]] = values.get(name.partition("{")[0], 0.0) + float(value)
        return values

    def processes(self) -> list[psutil.Process]:
        """The daemon, and its children."""
        daemon = psutil.Process(self.client.pid())
        return [daemon, *daemon.children(recursive=True)]

    # the end

    def end(self) -> None:
        self._end(self.daemon)

    def _end(self, daemon: subprocess.Popen[bytes]) -> None:
        for each in self.sites.values():
            with contextlib.suppress(Exception):
                each.heal()
        if daemon.poll() is None:
            self.here.signal(daemon.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
        if daemon.poll() is None:
            self.here.signal(daemon.pid, signal.SIGKILL)
            daemon.wait(20)
        if os.path.ismount(self.here.mount_point):
            subprocess.run([*self.here.who.prefix, "umount", "--lazy", str(self.here.mount_point)], check=False)


def _told(each: Site) -> dict[str, Any]:
    """What the configuration says of it."""
    return {name: value for name, value in each.settings.items() if value is not None} | {"poll_interval_secs": 60}


@contextmanager
def a_world(kinds: Sequence[str], dice: random.Random) -> Iterator[World]:
    """Yields a world in which everything is well at first. It runs as the current user."""
    who = account("root" if os.geteuid() == 0 else "ordinary")
    with place(who) as here, ExitStack() as stack:
        sites = [stack.enter_context(site(kind, f"{kind}{number}", here)) for number, kind in enumerate(kinds)]
        world = World(here, sites, dice)
        stack.callback(world.end)
        yield world
