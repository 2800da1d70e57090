"""The test suites that every kind of origin passes, for the tests of plugins.

A plugin's test module inherits a suite, and gives it an environment as a fixture (see docs/PLUGINS.md). The suites
need pytest and pytest-asyncio, which `pip install 'musicfs[testing]'` installs. They are imported when they are first
used: the demo, which has no pytest, uses the proxy and the ports alone.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from musicfs.testing.fault_proxy import FaultProxy
from musicfs.testing.ports import HOST, free_port

if TYPE_CHECKING:
    from musicfs.testing.folder_env import FolderEnv
    from musicfs.testing.folders_contract import FoldersContract, FoldersEnv
    from musicfs.testing.observed_contract import ObservedContract, RecordingObserver, observed
    from musicfs.testing.origin_contract import OriginContract, OriginEnv, listing, replica
    from musicfs.testing.remote_faults import DATA, NAME, OTHERS, RemoteEnv, RemoteFaults

__all__ = [
    "DATA",
    "HOST",
    "NAME",
    "OTHERS",
    "FaultProxy",
    "FolderEnv",
    "FoldersContract",
    "FoldersEnv",
    "ObservedContract",
    "OriginContract",
    "OriginEnv",
    "RecordingObserver",
    "RemoteEnv",
    "RemoteFaults",
    "free_port",
    "listing",
    "observed",
    "replica",
]

_HOMES = {
    "folder_env": ("FolderEnv",),
    "folders_contract": ("FoldersContract", "FoldersEnv"),
    "observed_contract": ("ObservedContract", "RecordingObserver", "observed"),
    "origin_contract": ("OriginContract", "OriginEnv", "listing", "replica"),
    "remote_faults": ("DATA", "NAME", "OTHERS", "RemoteEnv", "RemoteFaults"),
}

with suppress(ImportError):
    import pytest

    pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in _HOMES))


def __getattr__(name: str) -> object:
    """See PEP 562."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
