"""Strangers who hold connections take nothing from the music, however few descriptors there are."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from musicfs.control.client import ControlClient
from tests.support.audio import make_album
from tests.support.mounting import Account, Mount, account, place

TRACKS = 40
STRANGERS = 1100


@pytest.fixture(scope="module")
def who() -> Account:
    return account("ordinary")


def limited(who: Account, soft: int, hard: int) -> Account:
    return replace(who, prefix=("prlimit", f"--nofile={soft}:{hard}", *who.prefix))


@contextmanager
def mounted(who: Account) -> Iterator[tuple[Mount, tuple[str, int], ControlClient]]:
    """With an address at which anyone may ask."""
    with place(who) as here:
        make_album(here.origins / "a", "Artist", "Album", TRACKS)
        with Mount(here, {"a": here.origins / "a"}, control={"listen": "127.0.0.1:0"}) as mount:
            mount.scanned()
            (path,) = (here.user / "run").rglob("*.sock")
            client = ControlClient(path)
            host, _, port = client.get("/status")["listening"].rpartition(":")
            yield mount, (host, int(port)), client


def read_all(mount: Mount) -> int:
    """How many files could be read."""
    return mount.here.call(_read_all, str(mount.path))


def _read_all(folder: str) -> int:
    read = 0
    for path in Path(folder).rglob("*.flac"):
        path.read_bytes()
        read += 1
    return read


def test_half_open_connections_keep_no_file_from_being_read(who: Account) -> None:
    """With 128 descriptors in all, which can't be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * STRANGERS)), hard))
    try:
        with mounted(limited(who, 128, 128)) as (mount, address, client), ExitStack() as strangers:
            assert read_all(mount) == TRACKS
            for _ in range(STRANGERS):
                stranger = strangers.enter_context(closing(socket.create_connection(address, 30)))
                stranger.send(b"GET /sta")
            assert read_all(mount) == TRACKS
            assert client.get("/status")["files"] == TRACKS
            assert "Traceback" not in mount.log
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_mount_raises_its_limit_of_open_files(who: Account) -> None:
    with mounted(limited(who, 256, 4096)) as (mount, _, _):
        limits = Path(f"/proc/{mount.pid}/limits").read_text()
        assert [line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files")] == [
            ["4096", "4096"]
        ]
