"""What listeners meet when servers go away, through MusicFS and through its peers, mounted and asked alike."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.servers.process import HOST
from tests.support.servers.sshd import Sshd, open_folder

from bench.contenders import MusicFS
from bench.library import Track, make_big_file, make_library
from bench.services import Peer, RemoteMusicFS

_BIG = 96 << 20
_PATIENCE_SECS = 40.0
_TRACKS = range(5_000, 5_010)
_UNHEARD = range(5_010, 5_012)
_FAULTS = ("killed", "stopped")
_SHORT_SECS = 5
_CACHED_SECS = 2.0  # what was read is written to the cache a moment later

Contender = RemoteMusicFS | Peer
Found = dict[str, dict[str, list[Any]]]
"""What came of it, each time: by what was done, and by contender."""


@dataclass(frozen=True)
class _Federated(RemoteMusicFS):
    """Over several origins. keeps_cache: from mount to mount."""

    origins: Sequence[Mapping[str, object]] = ()
    keeps_cache: bool = False

    def start(self) -> None:
        if self.keeps_cache:
            MusicFS.start(self)
        else:
            super().start()

    def _config(self, cache_dir: Path) -> Path:
        path = super()._config(cache_dir)
        lines = [f"cache_dir = {str(cache_dir)!r}"]
        for number, origin in enumerate(self.origins):
            lines += ["[[origins]]", f'id = "far{number}"', f"priority = {number}"]
            lines += [f"{name} = {value!r}" for name, value in origin.items()]
        path.write_text("\n".join(lines))
        return path


def _settings(server: Sshd, library: Path) -> dict[str, object]:
    return {
        "origin_type": "sftp", "host": HOST, "port": server.port, "path": str(library), "user": server.user,
        "key_file": str(server.key), "known_hosts": str(server.known_hosts),
    }  # fmt: skip


def _rclone_remote(name: str, server: Sshd) -> dict[str, str]:
    values = {
        "TYPE": "sftp", "HOST": HOST, "PORT": str(server.port), "USER": server.user, "KEY_FILE": str(server.key),
        "KNOWN_HOSTS_FILE": str(server.known_hosts),
    }  # fmt: skip
    return {f"RCLONE_CONFIG_{name.upper()}_{key}": value for key, value in values.items()}


def _contenders(here: Path, servers: Sequence[Sshd], libraries: Sequence[Path]) -> list[Contender]:
    """MusicFS over all of them, and rclone's union of them with both of its cache modes."""
    names = [f"far{number}" for number in range(len(servers))]
    environ = {key: value for name, server in zip(names, servers, strict=True)
               for key, value in _rclone_remote(name, server).items()}  # fmt: skip
    upstreams = " ".join(f"{name}:{library}:ro" for name, library in zip(names, libraries, strict=True))
    contenders: list[Contender] = []
    for mode in ("off", "full"):
        mount, cache = here / f"rclone-{mode}", here / f"rclone-{mode}-cache"
        command = [
            "rclone", "mount", ":union:", str(mount), "--read-only", "--config", "", "--vfs-cache-mode", mode,
            "--cache-dir", str(cache),
        ]  # fmt: skip
        peer = Peer(f"rclone union, {mode}", mount, command, environ | {"RCLONE_UNION_UPSTREAMS": upstreams}, cache)
        contenders.append(peer)
    origins = [_settings(server, library) for server, library in zip(servers, libraries, strict=True)]
    ours = _Federated(
        [], here / "musicfs", here / "musicfs-cache", scanned=here / "musicfs-scanned", origins=origins
    )  # fmt: skip
    return [*contenders, ours]


@contextmanager
def _servers(count: int) -> Iterator[list[Sshd]]:
    if not count:
        yield []
        return
    with open_folder() as home, Sshd(home) as server, _servers(count - 1) as others:
        yield [server, *others]


def _ask(*arguments: str | Path) -> dict[str, Any] | None:
    """What the listener found; None when it did not come back in time, and had to be left."""
    process = _listen(*arguments)
    return _answer(process)


def _listen(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.listener", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _answer(process: subprocess.Popen[str]) -> dict[str, Any] | None:
    try:
        output, _ = process.communicate(timeout=_PATIENCE_SECS)
    except subprocess.TimeoutExpired:
        process.kill()
        return None
    return dict(json.loads(output)) if output else {"error": "it ended"}


def measure_midstream(base: Path, rounds: int) -> Found:
    """The server that serves is killed, or stopped, while a listener reads; another has the same file."""
    here = base / "midstream"
    libraries = [here / "one", here / "two"]
    make_big_file(libraries[0] / "big.wav", _BIG)
    libraries[1].mkdir(parents=True, exist_ok=True)
    if not (libraries[1] / "big.wav").exists():
        shutil.copy2(libraries[0] / "big.wav", libraries[1])
    digest = _digest(libraries[0] / "big.wav")
    found: Found = {}
    with _servers(2) as servers:
        contenders = _contenders(here, servers, libraries)
        for contender in contenders:
            if isinstance(contender, RemoteMusicFS):
                contender.scan()
        for number in range(rounds):
            for fault in _FAULTS:
                for contender in contenders:
                    _say(f"mid-stream, round {number + 1} of {rounds}: {contender.name}, {fault}")
                    came = _fail(contender, servers[0], fault, here / "flag")
                    if came is not None:
                        came["right"] = came.get("digest") == digest
                    found.setdefault(fault, {}).setdefault(contender.name, []).append(came)
    return found


def _fail(contender: Contender, server: Sshd, fault: str, flag: Path) -> dict[str, Any] | None:
    flag.unlink(missing_ok=True)
    with contender.mounted() as folder:
        name = contender.big() if isinstance(contender, RemoteMusicFS) else "big.wav"
        listener = _listen("midstream", folder / name, flag)
        until = time.monotonic() + _PATIENCE_SECS
        while not flag.exists() and listener.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        (server.kill if fault == "killed" else server.stop)()
        try:
            flag.unlink(missing_ok=True)
            return _answer(listener)
        finally:
            if fault == "killed":
                server.start()
            else:
                server.cont()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def measure_offline(base: Path) -> Found:
    """Some tracks are played; then every server is down, and these are listed and played, and others, and again after
    a new mount."""
    here = base / "offline"
    library = here / "music"
    make_library(library, range(_TRACKS.start, _UNHEARD.stop), 20.0)
    found: Found = {}
    with _servers(1) as servers:
        for contender in _offline_contenders(here, servers, library):
            _say(f"offline: {contender.name}")
            for what, came in _go_offline(contender, servers[0], library, here):
                found.setdefault(what, {})[contender.name] = [came]
    return found


def _offline_contenders(here: Path, servers: Sequence[Sshd], library: Path) -> list[Contender]:
    _, full, ours = _contenders(here, servers, [library])
    assert isinstance(full, Peer)
    assert isinstance(ours, _Federated)
    command = ["rclone", "mount", f"far0:{library}", *full.command[3:]]  # no union: one origin
    short = [*command, "--dir-cache-time", f"{_SHORT_SECS}s"]
    return [
        replace(full, name="rclone full", command=command),
        replace(full, name=f"rclone full, --dir-cache-time {_SHORT_SECS}s", command=short),
        replace(ours, keeps_cache=True),
    ]


def _go_offline(contender: Contender, server: Sshd, library: Path, here: Path) -> Iterator[tuple[str, Any]]:
    heard, unheard = here / "heard.list", here / "unheard.list"
    for listing, numbers in ((heard, _TRACKS), (unheard, _UNHEARD)):
        tracks = [(Track(number), contender) for number in numbers]
        lines = [
            f"{_digest(library / track.source)} {track.shown if isinstance(who, RemoteMusicFS) else track.source}"
            for track, who in tracks
        ]
        listing.write_text("\n".join(lines))
    if isinstance(contender, RemoteMusicFS):
        contender.forget()
        contender.scan()
        shutil.copytree(contender.scanned, contender.cache_dir)
    try:
        with contender.mounted() as folder:
            yield "with the server: played", _ask("play", folder, heard)
            _ask("list", folder)
            time.sleep(max(_CACHED_SECS, _SHORT_SECS + 1))
            server.kill()
            yield "offline: listed", _ask("list", folder)
            yield "offline: played what was played before", _ask("play", folder, heard)
            yield "offline: opened what was not", _ask("play", folder, unheard)
        if isinstance(contender, Peer):
            contender = replace(contender, fresh=None)
        try:
            with contender.mounted() as folder:
                yield "mounted again, offline: listed", _ask("list", folder)
                yield "mounted again, offline: played what was played before", _ask("play", folder, heard)
        except (TimeoutError, subprocess.SubprocessError):
            yield "mounted again, offline: listed", {"error": "it does not mount"}
    finally:
        server.kill()
        server.start()


def midstream_as_markdown(found: Found) -> str:
    lines = ["| | fault | longest gap, s | what came of it |", "|---|---|---|---|"]
    for fault, by_name in found.items():
        for name, times in by_name.items():
            gaps = ", ".join("-" if each is None else f"{each.get('gap', 0):.2f}" for each in times)
            lines.append(f"| {name} | {fault} | {gaps} | {'; '.join(dict.fromkeys(map(_ending, times)))} |")
    return "\n".join(lines)


def _ending(came: Mapping[str, Any] | None) -> str:
    if came is None:
        return f"hung for more than {_PATIENCE_SECS:.0f} s"
    if came["error"]:
        return f"{came['error']} after {came.get('bytes', 0) / 1e6:.0f} MB"
    return "all bytes right" if came["right"] else "**wrong bytes**"


def offline_as_markdown(found: Found) -> str:
    names = list(dict.fromkeys(name for by_name in found.values() for name in by_name))
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for what, by_name in found.items():
        lines.append(f"| {what} | " + " | ".join(_told(by_name.get(name, [""])[0]) for name in names) + " |")
    return "\n".join(lines)


def _told(came: Mapping[str, Any] | str | None) -> str:
    if came is None:
        return f"hung for more than {_PATIENCE_SECS:.0f} s"
    if isinstance(came, str):
        return came
    if "seconds" not in came:
        return str(came["error"])
    counted = f"{came['right']} of {came['of']} right" if "right" in came else f"{came['files']} files"
    error = f", {came['error']}" if came["error"] else ""
    return f"{counted}{error}, {came['seconds']:.2f} s"


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
