"""The protocol of sd_notify(3), as far as a service speaks it."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from musicfs.daemon.systemd import Notifier


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(10)
        yield manager


@pytest.mark.parametrize("abstract", [False, True], ids=["file", "abstract"])
def test_lines_are_one_datagram(manager: socket.socket, tmp_path: Path, abstract: bool) -> None:
    name = f"musicfs-{os.getpid()}" if abstract else str(tmp_path / "notify")
    manager.bind(f"\0{name}" if abstract else name)
    notifier = Notifier(f"@{name}" if abstract else name)
    assert notifier
    assert notifier.notify("READY=1", "STATUS=12 files; \udcff")
    assert manager.recv(4096) == b"READY=1\nSTATUS=12 files; ?"
    assert notifier.notify_reloading()
    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", manager.recv(4096))


def test_whoever_is_not_there_or_does_not_read_is_not_waited_for(manager: socket.socket, tmp_path: Path) -> None:
    assert not Notifier()
    assert not Notifier().notify("READY=1")
    assert not Notifier(str(tmp_path / "nobody")).notify("READY=1")
    manager.bind(str(tmp_path / "notify"))
    notifier = Notifier(str(tmp_path / "notify"))
    while notifier.notify("WATCHDOG=1"):  # until its queue is full
        pass


@pytest.mark.parametrize(
    ("usecs", "pid", "secs"),
    [
        ("30000000", "", 30.0),
        ("30000000", str(os.getpid()), 30.0),
        ("30000000", "1", None),
        ("", "", None),
        ("0", "", None),
        ("-5", "", None),
        ("soon", "", None),
    ],
)
def test_the_watchdog_is_meant_for_the_process_that_is_named(usecs: str, pid: str, secs: float | None) -> None:
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": usecs, "HOME": "/"} | ({"WATCHDOG_PID": pid} if pid else {})
    assert Notifier.from_environ(environ).watchdog_secs == secs
    assert environ == {"HOME": "/"}
    assert Notifier.from_environ({"WATCHDOG_USEC": "30000000"}).watchdog_secs is None
