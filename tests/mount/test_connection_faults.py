"""When the connection to the kernel ends by force: programs, the daemon, and what file servers know of files."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from musicfs.system.mounts import mounts
from tests.mount.test_lifecycle import FILE, gone, library, waits_in_a_read
from tests.support.audio import make_audio
from tests.support.mounting import PATIENCE, Account, Mount, Place, account, eventually

_LIBC = ctypes.CDLL(None, use_errno=True)
_CONNECTIONS = Path("/sys/fs/fuse/connections")
_HANDLE_BYTES = 128
_ENDED = (errno.ENOTCONN, errno.ECONNABORTED)


@pytest.fixture(scope="module")
def who() -> Account:
    """Only root may open a file by its handle, and abort a connection."""
    return account("root")


@pytest.fixture
def connections() -> Iterator[Path]:
    """The folder of the kernel's FUSE connections."""
    is_ours = not any(each.path == _CONNECTIONS for each in mounts())
    if is_ours:
        subprocess.run(["mount", "-t", "fusectl", "none", _CONNECTIONS], check=True)
    try:
        yield _CONNECTIONS
    finally:
        if is_ours:
            subprocess.run(["umount", _CONNECTIONS], check=True)


class Handle(ctypes.Structure):
    """`struct file_handle` of open_by_handle_at(2)."""

    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("handle", ctypes.c_ubyte * _HANDLE_BYTES)]


def handle_of(path: Path) -> Handle:
    handle, mount_id = Handle(_HANDLE_BYTES), ctypes.c_int()
    result = _LIBC.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount_id), 0)
    assert result == 0, os.strerror(ctypes.get_errno())
    return handle


def read_by(handle: Handle, mount: Path) -> bytes:
    """The bytes of the file. Raises OSError."""
    folder = os.open(mount, os.O_RDONLY)
    try:
        fd = _LIBC.open_by_handle_at(folder, ctypes.byref(handle), os.O_RDONLY)
        if fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        with os.fdopen(fd, "rb") as file:
            return file.read()
    finally:
        os.close(folder)


def forget_all() -> None:
    """Makes the kernel drop names, inodes and pages that it could read again."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def test_a_file_is_opened_by_its_handle_as_file_servers_do(here: Place) -> None:
    """A client of an NFS server knows a file by nothing else, whatever the server or the kernel has forgotten."""
    origins = library(here)
    with Mount(here, origins) as mount:
        path = mount.scanned().path / FILE
        data, handle = path.read_bytes(), handle_of(path)
        assert read_by(handle, mount.path) == data
        forget_all()
        assert read_by(handle, mount.path) == data
        mount.signal(signal.SIGTERM)
        assert mount.wait() == 0
    with Mount(here, origins) as mount:
        assert read_by(handle, mount.path) == data
        for file in origins["one"].rglob("*.flac"):
            make_audio(file, seconds=0.2, seed=99, tags={"title": "Other", "artist": "Artist", "album": "Album"})
        eventually(lambda: not path.exists(), "the tree without the file")
        forget_all()
        with pytest.raises(OSError) as failed:
            read_by(handle, mount.path)
        assert failed.value.errno == errno.ESTALE


def test_a_connection_that_is_aborted_ends_its_readers_and_its_daemon(here: Place, connections: Path) -> None:
    """That is what an administrator does about a mount that is stuck."""
    switch = here.base / "switch"
    switch.write_text("")
    with Mount(here, library(here), switches={"one": switch}, one={"timeout_ms": 500_000}) as mount:
        device = mount.scanned().path.stat().st_dev
        switch.write_text("hang")
        with reader(mount.path / FILE) as waiting:
            (connections / str(os.minor(device)) / "abort").write_text("1")
            _, errors = waiting.communicate(timeout=PATIENCE)
        assert waiting.returncode != 0
        assert "Software caused connection abort" in errors or "not connected" in errors
        assert mount.wait() == 0
        gone(mount)


def test_a_player_whose_daemon_is_killed_gets_an_error_at_once_and_plays_on_when_it_opens_again(here: Place) -> None:
    origins = {"one": here.origins / "one"}
    song = make_audio(here.origins / "one/song.wav", seconds=60, tags={"title": "Song", "artist": "Artist"})
    with Mount(here, origins) as first:
        path = next(first.scanned().path.rglob("*Song.wav"))
        playing = os.open(path, os.O_RDONLY)
        try:
            assert os.pread(playing, 1 << 20, 0) == song.read_bytes()[: 1 << 20]
            first.signal(signal.SIGKILL)
            assert first.wait() != 0
            with Mount(here, origins) as second:
                with pytest.raises(OSError) as failed:
                    os.pread(playing, 1 << 20, 4 << 20)  # which the kernel has not read ahead
                assert failed.value.errno in _ENDED
                assert path.read_bytes() == song.read_bytes()
                second.signal(signal.SIGTERM)
                assert second.wait() == 0
        finally:
            with suppress(OSError):
                os.close(playing)


@contextmanager
def reader(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that reads the file, once it waits for its bytes."""
    with subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            eventually(lambda: waits_in_a_read(process.pid), "a reader that waits")
            yield process
        finally:
            process.kill()
