"""Runs an attack in a process of its own: one that dies of it, hangs or takes much memory is a failed test.

    confined("tests.faults.nfs_attacks", "endless_listing", megabytes=150)

The function is called without arguments, and awaited if it is a coroutine; what it raises fails the test.
"""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import inspect
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_MAX = 4 << 30
"""Bytes of address space: what exceeds it would harm the machine."""


def confined(module: str, function: str, *arguments: str, megabytes: int, secs: float = 60) -> str:
    """What the function printed. megabytes: the most that its process may have had in memory, interpreter included."""
    command = [sys.executable, "-m", "tests.support.confined", module, function, str(megabytes), *arguments]
    path = f"{ROOT / 'src'}:{ROOT / 'examples/musicfs-webdav/src'}:{ROOT}"
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": path}, capture_output=True, text=True, timeout=secs)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def peak_megabytes() -> int:
    """Of this process, so far."""
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) >> 10


def main() -> None:
    faulthandler.enable()
    module, function, megabytes, *arguments = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (_MAX, _MAX))
    result = getattr(importlib.import_module(module), function)(*arguments)
    if inspect.iscoroutine(result):
        asyncio.run(result)
    assert peak_megabytes() <= int(megabytes), f"{peak_megabytes()} MB were taken"


if __name__ == "__main__":
    main()
