"""Compares the local and start rows of several checkouts of this project, interleaved, to measure a change.

Usage: python -m bench.checkouts BEFORE AFTER [--tracks 10000] [--rounds 3]. Each checkout needs a .venv of its own
(scripts/setup makes it). Prints the medians, and how many times as long the first checkout took as each other one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.contenders import MusicFS
from bench.local import Round, make_folders
from bench.tables import Table

_BIG = 1 << 27  # bytes


@dataclass(frozen=True)
class _Checkout(MusicFS):
    """The MusicFS of one checkout."""

    checkout: Path = Path()

    @property
    def title(self) -> str:
        return self.checkout.name

    def python(self) -> str:
        return str(self.checkout.absolute() / ".venv" / "bin" / "python")


def _contenders(checkouts: Sequence[Path], folders: Sequence[Path], base: Path) -> list[_Checkout]:
    return [
        _Checkout(folders, base / f"mnt-checkout-{number}", base / f"cache-checkout-{number}", checkout=checkout)
        for number, checkout in enumerate(checkouts)
    ]


def _measure_start(contender: _Checkout, table: Table) -> None:
    started = time.perf_counter()
    contender.start()
    next(contender.mount_point.iterdir())
    table.add("start", contender.title, time.perf_counter() - started)
    contender.settle()
    contender.unmount()


def measure_checkouts(checkouts: Sequence[Path], base: Path, tracks: int, rounds: int) -> Table:
    """Seconds, by checkout. The order of the checkouts is reversed from round to round."""
    folders = make_folders(base, tracks, _BIG)
    contenders = _contenders(checkouts, folders, base)
    for contender in contenders:
        contender.forget()
        contender.scan()
    table = Table(f"seconds, {tracks:,} tracks")
    for number in range(rounds):
        for contender in contenders[:: 1 if number % 2 == 0 else -1]:
            print(f"round {number + 1} of {rounds}: {contender.title}", file=sys.stderr, flush=True)
            rows = Table("")
            Round(contender, folders, base, tracks, rows).measure()
            for row in rows.rows.values():
                table.add(row.name, contender.title, row.median(contender.name))
            _measure_start(contender, table)
    return table


def _as_markdown(table: Table, first: str) -> str:
    names = [first, *(n for n in table.names if n != first)]
    lines = [f"| {table.kind} | {' | '.join(names)} | {' | '.join(f'{first} / {name}' for name in names[1:])} |"]
    lines.append("|---" * (2 * len(names)) + "|")
    for row in table.rows.values():
        medians = [row.median(name) for name in names]
        cells = [f"{median:.4f}" for median in medians] + [f"{medians[0] / other:.2f}" for other in medians[1:]]
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.checkouts", description=__doc__)
    parser.add_argument("checkouts", nargs="+", type=Path, metavar="CHECKOUT")
    parser.add_argument("--tracks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "musicfs-bench", help="for inputs")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    base = options.folder.absolute()
    base.mkdir(parents=True, exist_ok=True)
    table = measure_checkouts(options.checkouts, base, options.tracks, options.rounds)
    print(_as_markdown(table, options.checkouts[0].name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
