"""Protects a process of MusicFS when it starts."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Mapping

DUMPABLE = "MUSICFS_DUMPABLE"
"""The environment variable that allows a debugger."""

_PR_SET_DUMPABLE = 4


def restrict_umask() -> int:
    """Makes new files private to this user; chmod opens those that are for others. Returns the umask before."""
    return os.umask(0o077)


def hide_memory(environ: Mapping[str, str] = os.environ) -> None:
    """Keeps the secrets in this process's memory from other processes of the same user, and out of core files.

    Root can still read it. A program that this process starts must call this again. MUSICFS_DUMPABLE=1 turns it off.
    """
    if environ.get(DUMPABLE) == "1":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    # For core files alone: where the kernel pipes cores to a program, it asks for dumpable only.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
