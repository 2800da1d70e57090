"""Remote origins beside sshfs, rclone and s3fs: the same real server, the same library, through the mount.

Each work runs on a fresh mount with an empty cache; the server has its files in memory. Latency comes from a proxy in
this process (the kernels here have no netem), which has to carry every byte: without latency clients reach the server
directly, and `the link` shows what the proxy lets through to a plain socket.
"""

from __future__ import annotations

import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers.process import HOST

from bench.library import Track, make_big_file, make_library
from bench.local import timed
from bench.services import SERVICES, Peer, RemoteMusicFS, Service, musicfs_over
from bench.tables import Table
from musicfs.testing.fault_proxy import FaultProxy

Contender = RemoteMusicFS | Peer

_SMALL = range(500)
_FIRST = range(1_000, 1_020)
_WASTED = range(2_000, 3_000)
_HEAD = 100_000
_FOLDERS = {"small": (_SMALL, 0.3), "first": (_FIRST, 20.0), "wasted": (_WASTED, 12.0)}


@dataclass(frozen=True)
class Link:
    """What lies between client and server. latency: seconds of a round trip. rate: bytes per second of a connection."""

    name: str
    latency: float = 0.0
    rate: float = 0.0

    @contextmanager
    def to(self, port: int) -> Iterator[tuple[int, FaultProxy | None]]:
        """The port to connect to."""
        if not self.latency and not self.rate:
            yield port, None
            return
        with FaultProxy(port) as proxy:
            proxy.latency, proxy.rate = self.latency / 2, self.rate
            yield proxy.port, proxy


NEAR, FAR, SLOW = Link("0 ms"), Link("20 ms", 0.02), Link("20 ms, 20 MB/s", 0.02, 20e6)


def make_remote_library(base: Path, big: int) -> Path:
    """What every server serves."""
    root = base / f"remote-{big >> 20}" / "music"
    for name, (numbers, seconds) in _FOLDERS.items():
        make_library(root / name, numbers, seconds)
    make_big_file(root / "big.wav", big)
    return root


def _listing(base: Path, contender: Contender, folder: str, most: int) -> Path:
    numbers = _FOLDERS[folder][0][:most]
    names = [t.shown if isinstance(contender, RemoteMusicFS) else f"{folder}/{t.source}" for t in map(Track, numbers)]
    path = base / f"{folder}.list"
    path.write_text("\n".join(names))
    return path


def _round(contender: Contender, base: Path, link: Link, table: Table, small: int) -> None:
    big = contender.big() if isinstance(contender, RemoteMusicFS) else "big.wav"
    works = [("in sequence", "sequential", big)]
    if link is SLOW:
        works += [("longest wait of a player", "player", big)]
    else:
        first = str(_listing(base, contender, "first", 20))
        works += [("first 64 KiB", "first_bytes", first), ("200 random 128 KiB", "random_128k", big)]
        works += [(f"{small} small files", "small_files", str(_listing(base, contender, "small", small)))]
    for name, work, argument in works:
        with contender.mounted() as folder:
            table.add(f"{link.name}: {name}", contender.name, timed(work, folder, argument))


def _contenders(service: Service, port: int, base: Path) -> list[Contender]:
    return [*service.peers(port, base), musicfs_over(service, port, base)]


def measure_remote(
    base: Path, kinds: Sequence[str], rounds: int, big: int, small: int = len(_SMALL)
) -> Iterator[Table]:
    """One kind after the other. small: how many small files are read, 500 at most."""
    library = make_remote_library(base, big)
    for kind in kinds:
        table = Table(kind)
        here = base / f"remote-{kind.lower()}"
        with SERVICES[kind](library) as service:
            musicfs_over(service, service.port, here).scan()
            for number in range(rounds):
                for link in (NEAR, FAR, SLOW):
                    with link.to(service.port) as (port, _):
                        for contender in _contenders(service, port, here):
                            _say(f"{kind}, {link.name}, round {number + 1} of {rounds}: {contender.name}")
                            _round(contender, here, link, table, small)
        yield table


def measure_waste(base: Path, rounds: int, big: int, tracks: int) -> Table:
    """Bytes that come from the server for each byte that `head -c 100000` of so many tracks reads."""
    table = Table("SFTP: bytes fetched for a byte read")
    here = base / "remote-sftp"
    with SERVICES["SFTP"](make_remote_library(base, big)) as service:
        musicfs_over(service, service.port, here).scan()
        for _ in range(rounds):
            with Link("", 0.002).to(service.port) as (port, proxy):
                assert proxy is not None
                for contender in _contenders(service, port, here):
                    _say(f"waste: {contender.name}")
                    listing = _listing(here, contender, "wasted", tracks)
                    with contender.mounted() as folder:
                        before = proxy.delivered
                        timed("heads", folder, str(listing))
                        table.add(f"{tracks} tracks", contender.name, (proxy.delivered - before) / (tracks * _HEAD))
    return table


def measure_links(size: int) -> dict[str, float]:
    """Bytes per second that a plain socket gets over each link, and that the proxy lets through without any."""
    found = {}
    for link in (NEAR, Link("proxy alone", 1e-9), FAR, SLOW):
        with _source(size) as source, link.to(source) as (port, _), socket.create_connection((HOST, port)) as client:
            started, left = time.perf_counter(), size
            while left:
                left -= len(client.recv(1 << 20))
            found[link.name] = size / (time.perf_counter() - started)
    return found


@contextmanager
def _source(size: int) -> Iterator[int]:
    """Runs a server that sends this many bytes to each client; yields its port."""

    def send() -> None:
        connection, _ = listener.accept()
        with connection:
            for _ in range(size >> 20):
                connection.sendall(bytes(1 << 20))
            connection.recv(1)

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=send)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def of_the_link(table: Table, big: int, speed: float) -> str:
    """How much of a slow link each contender uses, reading in sequence; over 100 % with several connections."""
    row = table.rows[f"{SLOW.name}: in sequence"]
    shares = {name: big / statistics.median(seconds) / speed for name, seconds in row.seconds.items()}
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
