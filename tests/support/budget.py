"""Runs a function in a process that is killed when it uses more of a processor, or of memory, than it may.

A budget says what a timed assertion can't: it holds on a busy machine, too, and what never ends fails as well.
"""

from __future__ import annotations

import importlib
import json
import math
import resource
import subprocess
import sys
import time
from typing import Any

PATIENCE_SECS = 300


def within(cpu_secs: float, megabytes: int, function: str, *arguments: Any) -> None:
    """Calls `module:function` with arguments that JSON can hold.

    Args:
        cpu_secs: Of a processor, without what starting and importing takes.
        megabytes: Of address space, the interpreter's own included.

    Raises:
        AssertionError: It used more, or raised.
    """
    command = [sys.executable, "-m", "tests.support.budget", json.dumps([cpu_secs, megabytes, function, arguments])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECS)
    assert done.returncode == 0, f"{function}{arguments}: exit code {done.returncode}\n{done.stderr[-3000:]}"


def main(asked: str) -> None:
    cpu_secs, megabytes, function, arguments = json.loads(asked)
    module, _, name = function.partition(":")
    called = getattr(importlib.import_module(module), name)
    most = math.ceil(time.process_time() + cpu_secs)
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    called(*arguments)


if __name__ == "__main__":
    main(sys.argv[1])
