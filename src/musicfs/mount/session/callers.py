"""Who waits for an answer, and whether a signal is about to end it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

_STATUS = ("SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:")
_HARMLESS = (
    signal.SIGCHLD, signal.SIGCONT, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGURG,
    signal.SIGWINCH,
)  # fmt: skip
"""Those that end no program that has said nothing of them."""


def _mask(*signals: int) -> int:
    return sum(1 << number - 1 for number in signals)


_ENDING = ~_mask(*_HARMLESS)
_KILL = _mask(signal.SIGKILL)


def is_ending(thread: int) -> bool:
    """Whether a thread is gone, or ends as soon as it need not wait any more; False if that can't be known.

    Args:
        thread: As a request names it: 0 if it is of another PID namespace.
    """
    try:
        status = Path(f"/proc/{thread}/status").read_text()
    except OSError:  # Other users' processes may be hidden there.
        return _is_gone(thread)
    lines = [line.split() for line in status.splitlines() if line.startswith(_STATUS)]
    pending, shared, blocked, ignored, caught = (int(mask, 16) for _, mask in lines)
    return bool((pending | shared) & (_KILL | (_ENDING & ~(blocked | ignored | caught))))


def _is_gone(thread: int) -> bool:
    if thread == 0:
        return False
    try:
        os.kill(thread, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False
