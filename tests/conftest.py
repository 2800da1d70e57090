"""The servers that all tests of a run share, since starting one takes a while."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.servers.swift import Swift

# How long an example takes says more of the machine than of the code.
settings.register_profile("musicfs", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("musicfs")

# A shell has what runs in its background ignore Ctrl-C, and so would all programs that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """That of most systems, whatever a test's command made of it: commands close theirs to other users."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def swift() -> Iterator[Swift]:
    with tempfile.TemporaryDirectory(prefix="musicfs-swift-") as home, Swift(Path(home)) as server:
        yield server
