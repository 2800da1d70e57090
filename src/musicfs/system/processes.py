"""Starts processes that take neither programs nor Python modules from the working folder.

People run commands in folders whose files came from elsewhere: a downloaded album may hold an `asyncio.py`, or a
program called `fusermount3`. An empty or relative entry of PATH or PYTHONPATH stands for the working folder, too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from posixpath import abspath, isabs

WORKING_FOLDER = "/"
"""The working folder of MusicFS's processes."""

_NEEDED = frozenset(("LANG", "LD_LIBRARY_PATH", "MUSICFS_DUMPABLE", "PATH", "PYTHONHOME", "PYTHONPATH"))
_PACKAGES = __file__.rpartition("/musicfs/")[0]


def python_command(module: str, *arguments: str) -> list[str]:
    """Returns the command that runs one of our modules with this interpreter.

    `-P` leaves the working folder out of `sys.path`; multiprocessing passes it on. The module may end without an
    interpreter's exit, of which multiprocessing's resource tracker would warn on the user's terminal.
    """
    return [sys.executable, "-P", "-W", "ignore:resource_tracker", "-m", module, *arguments]


def environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns the environment without the entries of PATH and PYTHONPATH that mean the working folder.

    The folder of this package stays: its code already runs.
    """
    made = dict(environ)
    if "PATH" in made:  # An empty PATH is the working folder; no PATH is the system's own.
        made["PATH"] = os.pathsep.join(filter(isabs, made["PATH"].split(os.pathsep))) or os.defpath
    if python_path := made.pop("PYTHONPATH", ""):
        entries = [entry if isabs(entry) else _own(entry) for entry in python_path.split(os.pathsep)]
        if any(entries):
            made["PYTHONPATH"] = os.pathsep.join(filter(None, entries))
    return made


def bare_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns only what an interpreter of ours needs of `environment`: neither passwords nor addresses of servers."""
    return {name: value for name, value in environment(environ).items() if name in _NEEDED or name.startswith("LC_")}


def _own(entry: str) -> str:
    path = abspath(entry)
    return path if path == _PACKAGES else ""


def leave_working_folder() -> None:
    """Call this when the program starts: afterwards neither it nor its children search the working folder."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    left = {abspath(entry) for entry in given if not isabs(entry)} - {_PACKAGES}
    if "PYTHONPATH" in os.environ:
        sys.path[:] = [entry for entry in sys.path if isabs(entry) and entry not in left]
    safe = environment()
    for name in ("PATH", "PYTHONPATH"):
        if name in safe:
            os.environ[name] = safe[name]
        else:
            os.environ.pop(name, None)


def leave_script_folder() -> None:
    """Cleans `sys.path` for `python -m musicfs`, which puts the working folder first.

    If the package itself is there, the folder stays, and the processes that we start find it, too.
    """
    if sys.flags.safe_path or not sys.path:
        return
    if sys.path[0] != _PACKAGES:
        del sys.path[0]
    elif _PACKAGES not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_PACKAGES, os.environ.get("PYTHONPATH"))))
