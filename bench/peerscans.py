"""Indexing a folder of music: `musicfs scan`, MPD's update and `beet import -A`, each from nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.servers.process import HOST, Server, free_port

from bench.contenders import MusicFS
from bench.scan import make_tracks
from bench.tables import Table

_PATIENCE_SECS = 600.0
_POLL_SECS = 0.01


def measure_peer_scans(base: Path, rounds: int, count: int) -> Table:
    """Time and bytes read, in all and beyond what the same program needs for a fifth of the tracks."""
    libraries = {number: base / f"tracks-{number}" / "music" for number in (count // 5, count)}
    for number, library in libraries.items():
        make_tracks(library, number)
    here = base / "peer-scans"
    here.mkdir(parents=True, exist_ok=True)
    table = Table(f"{count} tracks")
    contenders: dict[str, Callable[[Path, Path, int], int]] = {"MPD": _mpd, "beets": _beets, "musicfs": _musicfs}
    for _ in range(rounds):
        for name, scan in contenders.items():
            print(f"scan: {name}", file=sys.stderr, flush=True)
            found = []
            for tracks, music in libraries.items():
                folder = here / name
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                started = time.perf_counter()
                read = scan(music, folder, tracks)
                found.append((time.perf_counter() - started, read))
            (few_taken, few_read), (taken, read) = found
            more = count - count // 5
            table.add("s in all, with the program's start", name, taken)
            table.add("ms per further track", name, (taken - few_taken) / more * 1000)
            table.add("KiB read per further track", name, (read - few_read) / more / 1024)
    return table


def _mpd(library: Path, here: Path, count: int) -> int:
    port = free_port()
    settings = {
        "music_directory": library, "playlist_directory": here, "db_file": here / "database",
        "state_file": here / "state", "bind_to_address": HOST, "port": port, "auto_update": "no",
    }  # fmt: skip
    (here / "mpd.conf").write_text("".join(f'{name} "{value}"\n' for name, value in settings.items()))
    with Server(["mpd", "--no-daemon", "--stderr", str(here / "mpd.conf")], port, here / "log") as server:
        client = ["mpc", "--host", HOST, "--port", str(port)]
        subprocess.run([*client, "update", "--wait"], check=True, capture_output=True, timeout=_PATIENCE_SECS)
        read = _read_by(server.pid)
        told = subprocess.run([*client, "stats"], check=True, capture_output=True, text=True).stdout
        songs = next(int(line.split()[-1]) for line in told.splitlines() if line.startswith("Songs"))
        assert songs == count, f"MPD found {songs} songs"
        server.kill()  # how long it takes to end is no part of this
    return read


def _beets(library: Path, here: Path, count: int) -> int:
    config = {"directory": str(here / "music"), "library": str(here / "library.db"), "plugins": [],
              "import": {"copy": False, "write": False, "move": False}}  # fmt: skip
    (here / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    environ = os.environ | {"BEETSDIR": str(here)}
    command = ["beet", "import", "-A", "-q", "-C", "-W", str(library)]
    read = _traced(command, environ, here)
    told = subprocess.run(["beet", "ls"], check=True, capture_output=True, text=True, env=environ).stdout
    assert told.count("\n") == count, f"beets found {told.count(chr(10))} tracks"
    return read


def _musicfs(library: Path, here: Path, count: int) -> int:
    ours = MusicFS([library], here / "mnt", here / "cache")
    command = ours.command("scan", *ours.options(), "--json")
    read = _traced(command, os.environ, here)
    last: dict[str, Any] = json.loads((here / "output").read_text())["scans"][0]
    assert last["read"] == count, last
    return read


def _traced(command: list[str], environ: Any, here: Path) -> int:
    """Bytes that the command and its children read, while it lasts; its output is kept in a file."""
    with (here / "output").open("wb") as output, (here / "errors").open("wb") as errors:
        process = subprocess.Popen(command, env=environ, stdout=output, stderr=errors, stdin=subprocess.DEVNULL)
        read: dict[int, int] = {}
        while process.poll() is None:
            for pid in (process.pid, *_children(process.pid)):
                read[pid] = max(read.get(pid, 0), _read_by(pid))
            time.sleep(_POLL_SECS)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{(here / 'errors').read_text(errors='replace')[-2000:]}")
    return sum(read.values())


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            continue
    return found + [below for child in found for below in _children(child)]


def _read_by(pid: int) -> int:
    """Bytes of its read calls so far, of files and all else; 0 when it has gone."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return 0
    return int(lines[0].removeprefix("rchar: "))
