"""Measures MusicFS beside its peers and prints a Markdown table. Usage: python -m bench [--quick] [--folder DIR]"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

from bench.local import Row, measure_local, measure_memory, measure_start


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
    parser.add_argument("--only", choices=["local", "start", "memory"], help="just this part")
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
    out = base / "results.json"
    out.write_text(json.dumps(results, indent=1))
    print(f"every round's seconds: {out}")


if __name__ == "__main__":
    main()
