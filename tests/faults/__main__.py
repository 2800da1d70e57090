"""Keeps breaking things under a mount, for as long as asked: see promises.py."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.faults.promises import KINDS, run
from tests.support.mounting import account


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--steps", type=int, default=200, help="per seed")
    parser.add_argument("--minutes", type=float, help="go on with the next seed until this long has passed")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--who", choices=["root", "ordinary"], default="ordinary")
    options = parser.parse_args()
    until = time.monotonic() + (options.minutes or 0) * 60
    seed = options.seed
    while True:
        print(run(account(options.who), options.kinds, seed, lambda done: done < options.steps), flush=True)
        seed += 1
        if time.monotonic() >= until:
            return 0


if __name__ == "__main__":
    sys.exit(main())
