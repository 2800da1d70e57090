"""Measures MusicFS beside its peers, on inputs, servers and mounts that it makes itself.

It keeps the results as JSON and adds each part to the earlier ones; --write makes the document. A part that fails is
reported, and the others continue.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from bench.parts import PARTS, Sizes
from bench.report import document, keep, load
from bench.services import SERVICES


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller inputs, fewer rounds: some minutes in all")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--kinds", nargs="+", choices=list(SERVICES), default=list(SERVICES), help="of remote origins")
    parser.add_argument("--minutes", type=float, help="how long the soak lasts: 60, or 5 with --quick")
    parser.add_argument("--seed", type=int, default=1, help="of the soak")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "musicfs-bench", help="for inputs")
    parser.add_argument("--results", type=Path, help="the JSON file; results.json in that folder if left out")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a document of all results so far")
    return parser.parse_args()


def main() -> int:
    """0, or 1 if a part failed."""
    options = _options()
    # As where it is installed: its modules are compiled once, not at every start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    base = options.folder.absolute()
    base.mkdir(parents=True, exist_ok=True)
    results = options.results or base / "results.json"
    minutes = options.minutes or (5 if options.quick else 60)
    sizes = Sizes(base, options.quick, options.kinds, minutes, options.seed)
    failed = []
    for name, part in PARTS.items():
        if name in options.only if options.only else not part.alone:
            print(f"\n## {part.title}\n", flush=True)
            started = time.monotonic()
            try:
                data, markdown = part.run(sizes)
            except Exception:
                traceback.print_exc()
                failed.append(name)
                continue
            seconds = time.monotonic() - started
            keep(results, name, quick=options.quick, data=data, markdown=markdown, seconds=seconds)
            print(f"{markdown}\n\n{name}: {seconds:.0f} s", flush=True)
    if options.write is not None:
        options.write.write_text(document(load(results)))
    print(f"\nevery round's values: {results}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
