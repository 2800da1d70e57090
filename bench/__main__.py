"""Measures MusicFS beside its peers and prints a Markdown table. Usage: python -m bench [--quick] [--folder DIR]"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

from bench.cache import measure_cache, measure_streaming
from bench.failover import measure_failover
from bench.local import Row, measure_local, measure_memory, measure_start
from bench.remote import SLOW, as_json, as_markdown, measure_links, measure_remote, measure_waste, of_the_link
from bench.scale import measure_scale, scale_as_markdown
from bench.scan import measure_scans, scans_as_markdown
from bench.services import SERVICES
from bench.soak.run import measure_soak, soak_as_json, soak_as_markdown


def _table(rows: list[Row], names: list[str]) -> str:
    lines = ["| seconds, median | " + " | ".join(names) + " | mergerfs / musicfs |", "|---" * (len(names) + 2) + "|"]
    for row in rows:
        cells = [f"{row.median(n):.3f} ({min(row.seconds[n]):.3f}-{max(row.seconds[n]):.3f})" for n in names]
        ratio = row.median("mergerfs") / row.median("musicfs")
        lines.append(f"| {row.name} | " + " | ".join(cells) + f" | {ratio:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the tracks and three rounds")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "musicfs-bench")
    parser.add_argument(
        "--only",
        choices=["local", "start", "memory", "remote", "waste", "cache", "scan", "failover", "scale", "soak"],
        help="just this part",
    )
    parser.add_argument("--minutes", type=float, help="how long the soak lasts: 60, or 5 with --quick")
    parser.add_argument("--seed", type=int, default=1, help="of the soak")
    parser.add_argument("--kinds", nargs="*", choices=list(SERVICES), default=list(SERVICES), help="of remote origins")
    options = parser.parse_args()
    tracks, rounds, big = (10_000, 3, 1 << 28) if options.quick else (100_000, 5, 1 << 30)
    base = options.folder.absolute()
    base.mkdir(parents=True, exist_ok=True)
    print(f"{time.strftime('%Y-%m-%d')}, Linux {platform.release()}, {os.cpu_count()} cores, {tracks:,} tracks")
    results: dict[str, object] = {}
    if options.only in (None, "local"):
        rows, names = measure_local(base, tracks, rounds, big)
        print(_table(rows, names))
        results["local"] = {row.name: row.seconds for row in rows}
    if options.only in (None, "start"):
        results["start"] = started = measure_start(base, (1000, tracks), rounds, big)
        print("mounting:", ", ".join(f"{size:,} tracks {seconds:.3f} s" for size, seconds in started.items()))
    if options.only in (None, "memory"):
        results["memory"] = memory = measure_memory(base, tracks, big)
        print("resident memory, MB:", ", ".join(f"{when} {size:.1f}" for when, size in memory.items()))
    remote_big = (48 if options.quick else 96) << 20
    if options.only in (None, "remote"):
        results["links"] = links = measure_links(remote_big)
        print("a plain socket, MB/s:", ", ".join(f"{name} {speed / 1e6:.0f}" for name, speed in links.items()))
        tables = []
        for table in measure_remote(base, options.kinds, rounds, remote_big):
            share = of_the_link(table, remote_big, links[SLOW.name])
            print(f"\n{as_markdown(table)}\n\nshare of the slow link: {share}", flush=True)
            tables.append(table)
        results["remote"] = as_json(tables)
    if options.only in (None, "waste"):
        waste = measure_waste(base, 1, remote_big, 100 if options.quick else 1000)
        print(f"\n{as_markdown(waste)}")
        results["waste"] = as_json([waste])
    if options.only in (None, "cache"):
        cached = measure_cache(base, rounds, big)
        print(f"\n{as_markdown(cached)}")
        streaming = measure_streaming(base)
        print("32 files from SFTP, resident MB:", ", ".join(f"{when} {size:.1f}" for when, size in streaming.items()))
        results["cache"] = as_json([cached]) | {"streaming": streaming}
    if options.only in (None, "failover"):
        results["failover"] = measure_failover(3 if options.quick else 25)
    if options.only in (None, "scan"):
        scans = measure_scans(base, options.kinds, 100 if options.quick else 500)
        print(f"\n{scans_as_markdown(scans)}")
        results["scan"] = [vars(scan) for scan in scans]
    if options.only in (None, "scale"):
        sizes, scanned = (
            ((1_000, 100_000), (1_000,)) if options.quick else ((1_000, 100_000, 1_000_000), (1_000, 100_000))
        )
        results["scale"] = scale = measure_scale(base, sizes, scanned, rounds)
        print(f"\n{scale_as_markdown(scale)}")
    if options.only == "soak":
        minutes = options.minutes or (5 if options.quick else 60)
        results["soak"] = soak = soak_as_json(measure_soak(minutes, options.seed))
        print(f"\n{soak_as_markdown(soak)}")
    out = base / "results.json"
    out.write_text(json.dumps(results, indent=1))
    print(f"every round's seconds: {out}")


if __name__ == "__main__":
    main()
