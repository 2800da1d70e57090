"""Scans of remote origins: how quickly, and how many bytes of each track have to be transferred.

Real FLAC, MP3 and Opus files with covers of 300 kB. All goes through the proxy, also without latency, since it counts.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.audio import make_audio

from bench.remote import Link
from bench.services import SERVICES, Service, musicfs_over

_LINKS = (Link("0 ms", 1e-9), Link("20 ms", 0.02))
_COVER = 300_000
_SECONDS = 30


@dataclass(frozen=True)
class Scan:
    """kib: transferred per track, with all that the protocol adds. rate: tracks per second, from the command's start to
    its end. share: of the library's bytes that were transferred."""

    kind: str
    link: str
    rate: float
    kib: float
    share: float


def make_tracks(root: Path, count: int) -> int:
    """Albums of ten tracks, one format each; their bytes in all. Safe to repeat."""
    done = root.with_suffix(".complete")
    if not done.exists():
        cover = b"\xff\xd8\xff\xe0" + random.Random(0).randbytes(_COVER)
        for number in range(count):
            album, track = divmod(number, 10)
            kind = ("flac", "mp3", "opus")[album % 3]
            tags = {"title": f"Song {track}", "artist": f"Artist {album // 5}", "album": f"Album {album}"}
            path = root / f"Artist {album // 5}/Album {album}/{track + 1:02}.{kind}"
            make_audio(path, seconds=_SECONDS, tags=tags | {"track": track + 1}, cover=cover)
        done.touch()
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def measure_scans(base: Path, kinds: Sequence[str], count: int) -> list[Scan]:
    library = base / f"tracks-{count}" / "music"
    size = make_tracks(library, count)
    found = []
    for kind in kinds:
        with SERVICES[kind](library) as service:
            found += list(_scans(service, base / f"scan-{kind.lower()}", count, size))
    return found


def _scans(service: Service, here: Path, count: int, size: int) -> Iterator[Scan]:
    for link in _LINKS:
        print(f"scanning {service.kind}, {link.name}", file=sys.stderr, flush=True)
        with link.to(service.port) as (port, proxy):
            assert proxy is not None
            started = time.perf_counter()
            output = musicfs_over(service, port, here).scan()
            seconds = time.perf_counter() - started
            assert f" {count} " in f" {output} ".replace(",", ""), output
            delivered = proxy.delivered
            yield Scan(service.kind, link.name, count / seconds, delivered / count / 1024, delivered / size)


def scans_as_markdown(scans: Sequence[Scan]) -> str:
    lines = ["| scan | link | tracks per second | KiB per track | share of the bytes |", "|---" * 5 + "|"]
    lines += [f"| {s.kind} | {s.link} | {s.rate:.0f} | {s.kib:.0f} | {s.share:.0%} |" for s in scans]
    return "\n".join(lines)
