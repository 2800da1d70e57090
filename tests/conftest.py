"""The servers that all tests of a run share, since starting one takes a while."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers.swift import Swift

# A shell has what runs in its background ignore Ctrl-C, and so would all programs that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def swift() -> Iterator[Swift]:
    with tempfile.TemporaryDirectory(prefix="musicfs-swift-") as home, Swift(Path(home)) as server:
        yield server
