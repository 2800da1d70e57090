"""What Prometheus gets from a real mount passes its own check, and tells of what was done."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.mount.test_lifecycle import library
from tests.support.mounting import PATIENCE, Account, Mount, Place, account, eventually


@pytest.fixture(scope="module")
def who() -> Account:
    return account("ordinary")


def promtool(text: str) -> str:
    """What it has to say against them."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    return done.stdout + done.stderr + (f"exit code {done.returncode}" if done.returncode else "")


def sockets(run: Path) -> list[Path]:
    return list(run.rglob("*.sock"))


def metrics(run: Path) -> str:
    """Of the only mount of the user who runs this."""
    [address] = sockets(run)
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(os.fspath(address))
    connection.request("GET", "/metrics")
    return connection.getresponse().read().decode()


def use(mount_point: Path) -> None:
    """Every operation that tells how long it took; some that fail."""
    for path in sorted(mount_point.rglob("*.flac")):
        path.read_bytes()
        os.listxattr(path)
    os.statvfs(mount_point)
    assert not (mount_point / "nothing").exists()
    with pytest.raises(OSError):
        os.getxattr(mount_point, "user.musicfs.nonsense")


def test_promtool_has_nothing_to_say_against_the_metrics_of_a_mount(here: Place) -> None:
    with Mount(here, library(here)) as mount:
        here.call(use, mount.scanned().path)
        eventually(lambda: here.call(sockets, here.user / "run"), "the control socket")
        text = here.call(metrics, here.user / "run")
    assert promtool(text) == ""
    assert "no help text" in promtool("musicfs_x 1\n")
    samples = {
        (each.name, each.labels.get("operation", "")): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }
    for operation in ("lookup", "getattr", "opendir", "readdir", "open", "read", "release", "statfs", "getxattr"):
        number = samples["musicfs_fuse_requests_total", operation]
        assert number > 0, operation
        assert samples["musicfs_fuse_request_duration_seconds_count", operation] == number, operation
        assert samples["musicfs_fuse_request_duration_seconds_sum", operation] > 0, operation
