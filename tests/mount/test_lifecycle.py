"""A mount begins and ends cleanly, also when it is killed, and says in one sentence why it can't begin."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tests.mount.test_tree import catalogued, tree
from tests.support.audio import make_album, make_audio
from tests.support.mounting import PATIENCE, Mount, Place, eventually
from tests.unit.test_extras import OPTIONAL

ALBUM = "Artist/Album (1999) [FLAC]"
FILE = f"{ALBUM}/01 - Title 1.flac"


def library(here: Place, n: int = 3) -> dict[str, Path]:
    make_album(here.origins / "one", "Artist", "Album", n)
    return {"one": here.origins / "one"}


def sockets(here: Place) -> list[Path]:
    return here.call(_sockets, here.user / "run/musicfs")


def _sockets(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if stat.S_ISSOCK(path.stat().st_mode)]


def gone(mount: Mount) -> None:
    """Nothing is left of it."""
    assert not mount.is_mounted()
    eventually(lambda: not mount.processes(), f"the end of {mount.processes()}")
    assert sockets(mount.here) == []
    assert list(mount.path.iterdir()) == []  # the folder below, which is ours to look at again


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_the_mount_cleanly(here: Place, number: int) -> None:
    with Mount(here, library(here)) as mount:
        mount.scanned()
        eventually(lambda: sockets(here), "the control socket")
        mount.signal(number)
        assert mount.wait() == 0
        gone(mount)
        assert "Traceback" not in mount.log


def test_a_signal_in_the_middle_of_the_first_scan_ends_the_mount_cleanly(here: Place) -> None:
    root = here.origins / "one"
    many(root, 1500, here)
    with Mount(here, {"one": root}) as mount:
        mount.wait_for("ScanProgress")
        mount.signal(signal.SIGTERM)
        assert mount.wait() == 0
        assert mount.seen("ScanFinished") is None
        assert "Traceback" not in mount.log
        gone(mount)


def test_unmounting_from_outside_ends_the_daemon(here: Place) -> None:
    with Mount(here, library(here)) as mount:
        mount.scanned()
        here.run("fusermount3", "-u", mount.path)
        assert mount.wait() == 0
        gone(mount)


def test_a_file_that_is_open_does_not_keep_the_daemon_from_ending(here: Place) -> None:
    with Mount(here, library(here)) as mount:
        mount.scanned()
        command = ["sh", "-c", 'exec 3<"$0"; echo open; sleep 60', str(mount.path / FILE)]
        reader = subprocess.Popen(here.who.command(here.environ, *command), stdout=subprocess.PIPE, text=True)
        with reader:
            try:
                assert reader.stdout is not None
                assert reader.stdout.readline() == "open\n"
                mount.signal(signal.SIGTERM)
                assert mount.wait() == 0
                gone(mount)
            finally:
                here.signal(reader.pid, signal.SIGKILL)


def test_a_read_that_is_under_way_finishes_before_the_mount_ends(here: Place) -> None:
    switch = here.base / "switch"
    switch.write_text("")
    origins = library(here)
    with Mount(here, origins, switches={"one": switch}) as mount:
        mount.scanned()
        switch.write_text("slow")
        command = here.who.command(here.environ, "cat", str(mount.path / FILE))
        with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
            try:
                eventually(lambda: waits_in_a_read(reader.pid), "a reader that waits")
                mount.signal(signal.SIGTERM)
                data, _ = reader.communicate(timeout=PATIENCE)
                assert mount.wait() == 0
            finally:
                here.signal(reader.pid, signal.SIGKILL)
        assert data in [path.read_bytes() for path in origins["one"].rglob("*.flac")]
        gone(mount)


def test_a_reader_that_waits_gets_an_error_when_the_mount_must_end_at_once(here: Place) -> None:
    """Not at the deadline, which is minutes away; and from the first request to end on, nothing is opened."""
    switch = here.base / "switch"
    switch.write_text("")
    retry = {"deadline_ms": 600_000}
    with Mount(here, library(here), switches={"one": switch}, retry=retry, one={"timeout_ms": 500_000}) as mount:
        mount.scanned()
        switch.write_text("hang")
        command = here.who.command(here.environ, "cat", str(mount.path / FILE))
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as reader:
            try:
                eventually(lambda: waits_in_a_read(reader.pid), "a reader that waits")
                mount.signal(signal.SIGTERM)
                eventually(
                    lambda: "after transport endpoint shutdown" in _cat(here, mount.path / FILE), "no more opens"
                )
                mount.signal(signal.SIGTERM)
                assert mount.wait() == 0
                _, errors = reader.communicate(timeout=PATIENCE)
            finally:
                here.signal(reader.pid, signal.SIGKILL)
        assert re.search("Input/output error|connection abort|not connected", errors)
        gone(mount)


def _cat(here: Place, path: Path) -> str:
    return here.run("head", "-c", "0", path, check=False).stderr


def waits_in_a_read(pid: int) -> bool:
    waits = Path(f"/proc/{pid}/wchan").read_text()
    return "folio" in waits or "fuse" in waits or "io_schedule" in waits


def test_a_mount_point_that_a_killed_daemon_left_is_cleared_and_its_catalogue_is_whole(here: Place) -> None:
    origins = library(here)
    with Mount(here, origins) as first:
        before = here.call(tree, first.scanned().path)
        first.signal(signal.SIGKILL)
        assert first.wait() != 0
        eventually(lambda: not first.processes(), "the end of the worker and its helpers")
        assert first.is_mounted()
        # The kernel may still list what it knows, but no one reads a file.
        assert "Transport endpoint is not connected" in here.run("stat", "-f", first.path, check=False).stderr
        with Mount(here, origins) as second:
            assert here.call(tree, second.path) == before
            assert here.call(tree, second.scanned().path) == before
            assert here.call(catalogued, here.cache_dir / "catalog.sqlite") == before
            second.signal(signal.SIGTERM)
            assert second.wait() == 0
        gone(second)


def many(root: Path, n: int, here: Place) -> None:
    audio = make_audio(here.base / "a.mp3", seconds=0.1).read_bytes()
    for number in range(n):
        folder = root / f"Album {number // 20:03}"
        folder.mkdir(parents=True, exist_ok=True)
        tag = b"TAG" + f"Song {number:05}".encode().ljust(30, b"\0") + b"Artist".ljust(30, b"\0")
        tag += folder.name.encode().ljust(30, b"\0") + bytes(35)
        (folder / f"{number:05}.mp3").write_bytes(audio + tag)


def test_a_scan_whose_worker_is_killed_completes_all_the_same(here: Place) -> None:
    root = here.origins / "one"
    many(root, 1500, here)
    with Mount(here, {"one": root}) as mount:
        mount.wait_for("ScanProgress")
        here.signal(mount.worker(), signal.SIGKILL)
        assert mount.seen("ScanFinished") is None, "it was too late to kill it"
        mount.scanned()
        shown = here.call(tree, mount.path)
        assert len([path for path in shown if path.endswith(".mp3")]) == 1500
        assert "started again" in mount.log
        mount.signal(signal.SIGTERM)
        assert mount.wait() == 0
        gone(mount)


def sentence(mount: Mount) -> str:
    """What a daemon that could not begin has to say."""
    mount.launch()
    try:
        assert mount.wait() == 1
        [line] = mount.log.splitlines()
        assert line.endswith(".")
        return line
    finally:
        mount.end()


def test_a_mount_point_that_holds_files_is_refused(here: Place) -> None:
    here.call((here.mount_point / "file").write_text, "x")
    assert f"The mount point {here.mount_point} isn't empty" in sentence(Mount(here, library(here)))


def test_a_mount_point_that_is_no_folder_is_refused(here: Place) -> None:
    file = here.user / "file"
    here.call(file.write_text, "x")
    assert f"The mount point {file} isn't a folder" in sentence(Mount(here, library(here), mount_point=file))


def test_a_mount_point_that_can_not_be_made_is_refused(here: Place) -> None:
    assert "/proc/nothing/here" in sentence(Mount(here, library(here), mount_point=Path("/proc/nothing/here")))


def test_a_mount_point_that_is_mounted_already_is_refused(here: Place) -> None:
    origins = library(here)
    with Mount(here, origins) as mount:
        mount.scanned()
        assert f"{here.mount_point} is mounted by MusicFS already" in sentence(Refused(here, origins))
        assert here.call(tree, mount.path)


def test_a_cache_folder_that_is_in_use_is_refused(here: Place) -> None:
    origins = library(here)
    with Mount(here, origins) as mount:
        mount.scanned()
        other = here.user / "Other"
        refusal = sentence(Mount(here, origins, mount_point=other))
        assert f"The cache folder {here.cache_dir} is in use by process {mount.pid}, mounted on {mount.path}" in refusal
        assert here.call(tree, mount.path)


class Refused(Mount):
    """A daemon that must not mount, and so must not unmount what another has mounted."""

    def unmount_lazily(self) -> None:
        pass


def read_again_and_again(path: Path, times: int) -> None:
    for _ in range(times):
        with path.open("rb") as file:
            file.read(4096)
            file.seek(-4096, os.SEEK_END)
            file.read()


def resources(pid: int) -> tuple[int, int]:
    """Open descriptors and threads of a process."""
    process = Path(f"/proc/{pid}")
    return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))


def test_opening_and_closing_leaves_no_descriptor_and_no_thread_behind(here: Place) -> None:
    here.environ["MUSICFS_DUMPABLE"] = "1"  # or its own user could not look
    with Mount(here, library(here)) as mount:
        path = mount.scanned().path / FILE
        here.call(read_again_and_again, path, 20)
        here.call(tree, mount.path)
        before = here.call(resources, mount.pid)
        here.call(read_again_and_again, path, 200)
        for _ in range(20):
            here.call(tree, mount.path)
        eventually(lambda: here.call(resources, mount.pid) == before, f"no more than {before} descriptors and threads")


def test_a_mount_of_local_folders_loads_nothing_for_other_kinds(here: Place) -> None:
    """Neither its daemon nor its library worker: who does not use S3 pays nothing for it. A parser logs no imports."""
    make_audio(here.origins / "disk/song.wav", seconds=1, seed=1)
    here.environ["PYTHONPROFILEIMPORTTIME"] = "1"  # has Python log each import
    with Mount(here, {"disk": here.origins / "disk"}) as mount:
        mount.scanned()
    loaded = {line.rpartition("|")[2].strip() for line in mount.log.splitlines() if line.startswith("import time:")}
    assert {"musicfs.origins.local.open_files", "musicfs.library.scanner"} <= loaded
    kinds = {f"musicfs.origins.{kind}.settings" for kind in ("nfs", "s3", "sftp", "smb")}
    assert loaded & (kinds | OPTIONAL) == set()
