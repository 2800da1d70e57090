"""A track of which two places have different encodings: what is opened can be read, and is what was opened."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.test_failover import SHOWN, Pair, read_or_errno, whole
from tests.support.mounting import Account, Place, account, eventually

SLOW_TO_NOTICE: dict[str, Any] = {"health": {"check_interval_secs": 600, "timeout_ms": 1000}}
HEAD = 100_000


@pytest.fixture(scope="module")
def who() -> Account:
    """One is enough: nothing of this depends on who mounts."""
    return account("ordinary")


def open_while_it_dies(path: Path, switch: Path, fault: str) -> tuple[int, object, int, bytes, int]:
    """Opens the file and reads its head; then `fault` begins, and the file is opened once more at once.

    Returns what the second one is (as `read_or_errno`), the size by stat before and after, what else the first one
    gave, and the number of the error that ended it, or 0.
    """
    before = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        data, error = file.read(HEAD), 0
        switch.write_text(fault)
        time.sleep(0.3)  # for a tenth of a second whoever has answered is taken to be there
        second = read_or_errno(path)
        after = path.stat().st_size
        try:
            while more := file.read(HEAD):
                data += more
        except OSError as failure:
            error = failure.errno or 0
    return before, second, after, data, error


def test_the_first_open_after_the_death_of_an_origin_plays_the_other_variant(here: Place) -> None:
    pair = Pair(here, equal=False)
    near, far = whole(pair.near), whole(pair.far)
    with pair.mount(**SLOW_TO_NOTICE) as mount:
        path = mount.scanned().path / SHOWN
        mount.wait_for("HealthChanged", origin="near", after="HealthStatus.HEALTHY")
        before, second, after, data, error = here.call(open_while_it_dies, path, pair.switch, "error")
        assert (before, second, after) == (near[1], far, far[1])
        expected = pair.near.read_bytes()
        assert data == expected[: len(data)]
        assert error == errno.EIO or data == expected
        since = len(mount.events)
        pair.switch.write_text("")
        mount.wait_for("HealthChanged", since, origin="near", before="HealthStatus.UNHEALTHY")
        eventually(lambda: here.call(os.stat, path).st_size == near[1], "the preferred variant")
        assert here.call(read_or_errno, path) == near
