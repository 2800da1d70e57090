"""The cache on disk: reading what is cached, beside a local origin and rclone's cache; and memory while it is filled.

Each work runs on a fresh mount whose cache was filled before; its files are in memory, and the server is not asked.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from bench.contenders import MusicFS
from bench.library import make_big_file
from bench.local import timed
from bench.remote import make_remote_library
from bench.services import SERVICES, Peer, RemoteMusicFS, musicfs_over
from bench.tables import Table

_STREAMS = 32
_STREAM_BYTES = 24 << 20
_FILLED_SECS = 2.0


@dataclass(frozen=True)
class _Cached(RemoteMusicFS):
    """Keeps its cache from mount to mount."""

    def start(self) -> None:
        MusicFS.start(self)


@dataclass(frozen=True)
class _Local(MusicFS):
    name = "musicfs, local origin"


def measure_cache(base: Path, rounds: int, big: int) -> Table:
    """Seconds, by contender; rclone with its full cache, where that is installed."""
    table = Table("cached")
    library, here = make_remote_library(base, big), base / "cached"
    local = _Local([library], here / "local", here / "local-cache")
    local.scan()
    with SERVICES["SFTP"](library) as service:
        ours = musicfs_over(service, service.port, here)
        ours.scan()
        cached = _Cached(**vars(ours))
        RemoteMusicFS.start(ours)  # with an empty cache
        ours.unmount()
        _fill_all(cached)
        rclone = next(peer for peer in service.peers(service.port, here) if peer.name == "rclone full")
        with rclone.mounted() as folder:
            _fill(folder / "big.wav")
        contenders: list[MusicFS | Peer] = [local, replace(rclone, fresh=None), cached]
        for number in range(rounds):
            for contender in contenders:
                print(f"cache, round {number + 1} of {rounds}: {contender.name}", file=sys.stderr)
                name = contender.big() if isinstance(contender, MusicFS) else "big.wav"
                for title, work in (
                    ("in sequence", "sequential"),
                    ("10,000 random 4 KiB", "random_4k"),
                    ("200 random 128 KiB", "random_128k"),
                ):
                    with contender.mounted() as folder:
                        table.add(title, contender.name, timed(work, folder, name))
    return table


def measure_streaming(base: Path) -> dict[str, float]:
    """Returns the daemon's resident megabytes: idle, and the most while 32 files stream from a server, without and with
    the worker of a scan; and of both, a page that processes share counted in parts. Parsers are not counted. A new
    mount runs a scan at its start."""
    here = base / "streaming"
    library = here / "music"
    for number in range(_STREAMS):  # of different sizes, since equal bytes would be one content
        make_big_file(library / f"stream-{number:02}.wav", _STREAM_BYTES + 4096 * number)
    found = {"idle": 0.0, "streaming": 0.0, "with a scan": 0.0, "with a scan, in proportion": 0.0}
    with SERVICES["SFTP"](library) as service:
        ours = musicfs_over(service, service.port, here)
        ours.scan()
        with ours.mounted() as folder:
            files = sorted(folder.rglob("stream-*.wav"))
            assert len(files) == _STREAMS, f"{len(files)} files are shown"
            found["idle"] = max(_memory(ours, "Rss"))
            readers = [threading.Thread(target=file.read_bytes) for file in files]
            started = time.perf_counter()
            for reader in readers:
                reader.start()
            while any(reader.is_alive() for reader in readers):
                sizes = _memory(ours, "Rss")
                found["streaming"] = max(found["streaming"], *sizes)
                found["with a scan"] = max(found["with a scan"], sum(sizes))
                row = "with a scan, in proportion"
                found[row] = max(found[row], sum(_memory(ours, "Pss")))
                time.sleep(0.05)
            found["MB/s"] = _STREAMS * _STREAM_BYTES / 1e6 / (time.perf_counter() - started)
    return found


def _memory(mount: MusicFS, kind: str) -> list[float]:
    """Of the daemon, which is the largest, and of the worker, in megabytes.

    Args:
        mount: What they serve.
        kind: "Rss", or "Pss", which counts a page in parts to the processes that share it.
    """
    sizes = []
    for process in mount.processes()[:2]:  # a parser is the worker's child, so it comes after
        with contextlib.suppress(OSError):  # it has ended
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            sizes += [int(line.split()[1]) * 1024 / 1e6 for line in text.splitlines() if line.startswith(f"{kind}:")]
    return sizes


def _fill(file: Path) -> None:
    with file.open("rb", buffering=0) as opened:
        while opened.read(1 << 20):
            pass
    time.sleep(_FILLED_SECS)  # what was read is written a moment later


def _fill_all(mount: MusicFS) -> None:
    """Reads until all of the file is cached: what comes faster than the disk takes it is not kept."""
    share = ""
    while share != "100%":
        with mount.mounted() as folder:
            _fill(folder / mount.big())
            share = os.getxattr(folder / mount.big(), "user.musicfs.cached").decode()
            print(f"cached: {share}", file=sys.stderr)
