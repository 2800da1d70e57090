"""The parts of the benchmark: what each measures, with which sizes, and how its result reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cache import measure_cache, measure_streaming
from bench.failover import measure_failover
from bench.local import measure_local, measure_memory, measure_start
from bench.outages import measure_midstream, measure_offline, midstream_as_markdown, offline_as_markdown
from bench.peerscans import measure_peer_scans
from bench.remote import SLOW, measure_links, measure_remote, measure_waste, of_the_link
from bench.scale import measure_scale, scale_as_markdown
from bench.scan import measure_scans, scans_as_markdown
from bench.soak.run import measure_soak, soak_as_json, soak_as_markdown
from bench.tables import as_json, as_markdown


@dataclass(frozen=True)
class Sizes:
    """base: the folder of everything that is made. big: bytes of the big file. kinds: of remote origins."""

    base: Path
    quick: bool
    kinds: list[str]
    minutes: float
    seed: int

    @property
    def tracks(self) -> int:
        return 10_000 if self.quick else 100_000

    @property
    def rounds(self) -> int:
        return 2 if self.quick else 5

    @property
    def big(self) -> int:
        return 1 << (27 if self.quick else 30)

    @property
    def remote_big(self) -> int:
        return (32 if self.quick else 96) << 20


Result = tuple[Any, str]
"""What goes into the JSON file, and Markdown."""


def _local(sizes: Sizes) -> Result:
    tables = measure_local(sizes.base, (5_000,) if sizes.quick else (5_000, sizes.tracks), sizes.rounds, sizes.big)
    return as_json(tables), "\n\n".join(map(as_markdown, tables))


def _local_as_user(sizes: Sizes) -> Result:
    if os.geteuid() == 0:
        raise RuntimeError("local-user is measured by an ordinary user: run it as one")
    return _local(sizes)


def _start(sizes: Sizes) -> Result:
    started = measure_start(sizes.base, (1000, sizes.tracks), sizes.rounds, sizes.big)
    text = ", ".join(f"{size:,} tracks {seconds:.3f} s" for size, seconds in started.items())
    return started, f"From the command to a mount that can be listed: {text}."


def _memory(sizes: Sizes) -> Result:
    memory = measure_memory(sizes.base, sizes.tracks, sizes.big)
    text = ", ".join(f"{when} {size:.1f}" for when, size in memory.items())
    return memory, f"Resident with {sizes.tracks:,} tracks, MB: {text}."


def _remote(sizes: Sizes) -> Result:
    links = measure_links(sizes.remote_big)
    lines = ["A plain socket, MB/s: " + ", ".join(f"{name} {speed / 1e6:.0f}" for name, speed in links.items()) + "."]
    tables = []
    rounds, small = (1, 100) if sizes.quick else (3, 500)
    for table in measure_remote(sizes.base, sizes.kinds, rounds, sizes.remote_big, small):
        share = of_the_link(table, sizes.remote_big, links[SLOW.name])
        lines += ["", as_markdown(table), "", f"Share of the slow link: {share}."]
        tables.append(table)
    return {"links": links} | as_json(tables), "\n".join(lines)


def _waste(sizes: Sizes) -> Result:
    table = measure_waste(sizes.base, 1, sizes.remote_big, 100 if sizes.quick else 1000)
    return as_json([table]), as_markdown(table)


def _cache(sizes: Sizes) -> Result:
    cached = measure_cache(sizes.base, 2 if sizes.quick else 3, sizes.big >> 1)
    streaming = measure_streaming(sizes.base)
    text = ", ".join(f"{when} {size:.1f}" for when, size in streaming.items())
    return as_json([cached]) | {"streaming": streaming}, (
        f"{as_markdown(cached)}\n\nWhile 32 files stream from SFTP, resident MB: {text}."
    )


def _failover(sizes: Sizes) -> Result:
    return measure_failover(1 if sizes.quick else 5)


def _midstream(sizes: Sizes) -> Result:
    found = measure_midstream(sizes.base, 1 if sizes.quick else 3)
    return found, midstream_as_markdown(found)


def _offline(sizes: Sizes) -> Result:
    found = measure_offline(sizes.base)
    return found, offline_as_markdown(found)


def _scan(sizes: Sizes) -> Result:
    scans = measure_scans(sizes.base, sizes.kinds, 100 if sizes.quick else 500)
    return [vars(scan) for scan in scans], scans_as_markdown(scans)


def _peerscans(sizes: Sizes) -> Result:
    table = measure_peer_scans(sizes.base, 1 if sizes.quick else 3, 100 if sizes.quick else 500)
    return as_json([table]), as_markdown(table)


def _scale(sizes: Sizes) -> Result:
    catalogues, scanned = [1_000, 100_000, 1_000_000], [1_000, 100_000]
    if sizes.quick:
        catalogues, scanned = catalogues[:2], scanned[:1]
    rows = measure_scale(sizes.base, catalogues, scanned, sizes.rounds)
    return rows, scale_as_markdown(rows)


def _soak(sizes: Sizes) -> Result:
    soak = soak_as_json(measure_soak(sizes.minutes, sizes.seed))
    return soak, soak_as_markdown(soak)


@dataclass(frozen=True)
class Part:
    """title, about: of its section in the report. alone: it is run only when asked for by name."""

    title: str
    about: str
    run: Callable[[Sizes], Result]
    alone: bool = False


PARTS: Mapping[str, Part] = {
    "local": Part(
        "Local origins",
        "Two folders that overlap in a fifth of the tracks, shown as one. The plain folder is the first of them, three"
        " fifths of the tracks. Cold: a fresh mount over files that are in memory. Warm: the same again. Bare pyfuse3"
        " shows the plain folder with as little Python as possible (`bench/bare.py`), to show what a Python filesystem"
        " costs that does nothing. First time ever: no block has a checksum yet, as after a scan.",
        _local,
    ),
    "local-user": Part(
        "Local origins, as an ordinary user",
        "The same, mounted and read by a user other than root, for whom the kernel reads ahead 128 KiB.",
        _local_as_user,
        True,
    ),
    "start": Part("Start", "", _start),
    "memory": Part("Memory", "", _memory),
    "remote": Part(
        "Remote origins",
        "One real server of each kind on loopback; each row on a fresh mount with an empty cache. Seconds; for `first"
        " 64 KiB`, those of one file.",
        _remote,
    ),
    "waste": Part("Bytes fetched that no one reads", "`head -c 100000` of each track, over SFTP.", _waste),
    "cache": Part("The cache on disk", "Seconds, for a file that is cached whole.", _cache),
    "failover": Part(
        "Failover",
        "A server fails in mid-stream. The tables show the longest gap between two reads of a listener.",
        _failover,
    ),
    "midstream": Part(
        "Failover beside rclone",
        "Two SFTP servers with the same file of 96 MiB. A listener has read 4 MiB of it at the pace of the music when"
        " the first server is killed, or stopped; then it continues as fast as bytes come. All use their defaults.",
        _midstream,
    ),
    "offline": Part(
        "Offline",
        "Ten tracks were played from an SFTP server, which is then killed. rclone keeps listings for --dir-cache-time,"
        " five minutes by default; the second column shows what happens after that.",
        _offline,
    ),
    "scan": Part("Scans", "FLAC, MP3 and Opus files with covers of 300 kB.", _scan),
    "peerscans": Part(
        "Scans beside MPD and beets",
        "The same files, in a local folder and in memory, from an empty catalogue: `musicfs scan`, MPD and `mpc update"
        " --wait`, `beet import -A -q`. Further tracks: those beyond a fifth of them. Bytes are what read calls"
        " returned from the tracks, in a separate run under strace.",
        _peerscans,
    ),
    "scale": Part(
        "Scale",
        "Every file exists, so the scans are real. Medians; lookups are of names that the kernel does not know.",
        _scale,
    ),
    "soak": Part("Soak", "Readers, faults, changes of origins and rescans, all at once, on one mount.", _soak, True),
}
