"""The test suites that every kind of origin passes, for the tests of plugins.

A plugin's test module inherits a suite, and gives it an environment as a fixture (see docs/PLUGINS.md). This package
needs pytest and pytest-asyncio, which `pip install 'musicfs[testing]'` installs; nothing else of MusicFS imports it.
"""

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{module}" for module in ("folder_env", "folders_contract", "origin_contract", "remote_faults"))
)

from musicfs.testing.fault_proxy import FaultProxy
from musicfs.testing.folder_env import FolderEnv
from musicfs.testing.folders_contract import FoldersContract, FoldersEnv
from musicfs.testing.origin_contract import OriginContract, OriginEnv, listing, replica
from musicfs.testing.ports import HOST, free_port
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
    "OriginContract",
    "OriginEnv",
    "RemoteEnv",
    "RemoteFaults",
    "free_port",
    "listing",
    "replica",
]
