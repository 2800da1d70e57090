"""Where the command `musicfs` begins: it loads the commands."""

from __future__ import annotations

import gc

_ALLOCATIONS = 100_000


def main() -> int:
    """Runs the command that the process was started with; returns its exit code."""
    # Loading modules makes no garbage, and looking for garbage again and again takes a tenth of the loading time.
    gc.set_threshold(_ALLOCATIONS)
    from musicfs.cli.main import main as run

    return run()
