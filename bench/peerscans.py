"""Indexing a folder of music: `musicfs scan`, MPD's update and `beet import -A`, each from nothing.

Bytes are those that read calls got from the library's files, counted by strace in a run that isn't timed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.servers.process import HOST, Server, free_port

from bench.contenders import MusicFS
from bench.scan import make_tracks
from bench.tables import Table

_PATIENCE_SECS = 600.0
# As a grandchild, so that the process that is started is the traced one; a file for each thread, so that no call is
# written in two parts.
_STRACE = ["strace", "-D", "-ff", "-y", "-s", "0", "-e", "trace=read,pread64,readv,preadv,preadv2"]
_RESULT = re.compile(r" = (\d+)$")


def measure_peer_scans(base: Path, rounds: int, count: int) -> Table:
    """Time, in all and beyond what the same program needs for a fifth of the tracks; bytes read of each track."""
    libraries = {number: base / f"tracks-{number}" / "music" for number in (count // 5, count)}
    for number, library in libraries.items():
        make_tracks(library, number)
    here = base / "peer-scans"
    here.mkdir(parents=True, exist_ok=True)
    table = Table(f"{count} tracks")
    contenders: dict[str, Callable[[Path, Path, int, list[str]], None]] = {
        "MPD": _mpd, "beets": _beets, "musicfs": _musicfs,
    }  # fmt: skip

    def fresh(name: str) -> Path:
        folder = here / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    for number in range(rounds):
        for name, scan in contenders.items():
            print(f"scan, round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            found = []
            for tracks, music in libraries.items():
                folder = fresh(name)
                started = time.perf_counter()
                scan(music, folder, tracks, [])
                found.append(time.perf_counter() - started)
            few, all_of_them = found
            table.add("s in all, with the program's start", name, all_of_them)
            table.add("ms per further track", name, (all_of_them - few) / (count - count // 5) * 1000)
    for name, scan in contenders.items():
        print(f"scan, its bytes: {name}", file=sys.stderr, flush=True)
        trace = fresh(f"{name}-trace")
        scan(libraries[count], fresh(name), count, [*_STRACE, "-o", str(trace / "calls")])
        table.add("KiB read per track", name, _read_of(libraries[count], trace) / count / 1024)
    return table


def _mpd(library: Path, here: Path, count: int, tracer: list[str]) -> None:
    port = free_port()
    settings = {
        "music_directory": library, "playlist_directory": here, "db_file": here / "database",
        "state_file": here / "state", "bind_to_address": HOST, "port": port, "auto_update": "no",
    }  # fmt: skip
    (here / "mpd.conf").write_text("".join(f'{name} "{value}"\n' for name, value in settings.items()))
    command = [*tracer, "mpd", "--no-daemon", "--stderr", str(here / "mpd.conf")]
    with Server(command, port, here / "log") as server:
        client = ["mpc", "--host", HOST, "--port", str(port)]
        subprocess.run([*client, "update", "--wait"], check=True, capture_output=True, timeout=_PATIENCE_SECS)
        output = subprocess.run([*client, "stats"], check=True, capture_output=True, text=True).stdout
        songs = next(int(line.split()[-1]) for line in output.splitlines() if line.startswith("Songs"))
        assert songs == count, f"MPD found {songs} songs"
        server.kill()  # how long it takes to end is no part of this


def _beets(library: Path, here: Path, count: int, tracer: list[str]) -> None:
    config = {"directory": str(here / "music"), "library": str(here / "library.db"), "plugins": [],
              "import": {"copy": False, "write": False, "move": False}}  # fmt: skip
    (here / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    environ = os.environ | {"BEETSDIR": str(here)}
    _run([*tracer, "beet", "import", "-A", "-q", "-C", "-W", str(library)], environ)
    found = _run(["beet", "ls"], environ).count("\n")
    assert found == count, f"beets found {found} tracks"


def _musicfs(library: Path, here: Path, count: int, tracer: list[str]) -> None:
    ours = MusicFS([library], here / "mnt", here / "cache")
    output = _run([*tracer, *ours.command("scan", *ours.options(), "--json")], os.environ)
    last: dict[str, Any] = json.loads(output)["scans"][0]
    assert last["read"] == count, last


def _run(command: list[str], environ: Mapping[str, str]) -> str:
    """What the command said; an error with that when it fails."""
    done = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def _read_of(library: Path, trace: Path) -> int:
    """Bytes that the traced processes got from files of the library."""
    inside, total = f"<{library}/", 0
    for calls in trace.iterdir():
        for line in calls.read_text(errors="replace").splitlines():
            if inside in line and (got := _RESULT.search(line)):
                total += int(got[1])
    return total
