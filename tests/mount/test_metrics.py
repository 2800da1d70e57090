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
from tests.support.audio import make_audio
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


def by_operation(text: str) -> dict[tuple[str, str], float]:
    return {
        (each.name, each.labels.get("operation", "")): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def use(mount_point: Path) -> None:
    """Every operation that tells how long it took; some that fail."""
    for path in sorted(files(mount_point).values()):
        path.read_bytes()
        os.listxattr(path)
    os.statvfs(mount_point)
    assert not (mount_point / "nothing").exists()
    with pytest.raises(OSError):
        os.getxattr(mount_point, "user.musicfs.nonsense")


def test_promtool_has_nothing_to_say_against_the_metrics_of_a_mount(here: Place) -> None:
    with Mount(here, library_with_a_large_file(here)) as mount:
        here.call(use, mount.scanned().path)
        eventually(lambda: here.call(sockets, here.user / "run"), "the control socket")
        text = here.call(metrics, here.user / "run")
    assert promtool(text) == ""
    assert "no help text" in promtool("musicfs_x 1\n")
    samples = by_operation(text)
    for operation in ("lookup", "getattr", "readdir", "open", "read", "release", "statfs", "getxattr"):
        number = samples["musicfs_fuse_requests_total", operation]
        assert number > 0, operation
        assert samples["musicfs_fuse_request_duration_seconds_count", operation] == number, operation
        assert samples["musicfs_fuse_request_duration_seconds_sum", operation] > 0, operation


def test_ls_asks_for_labels_and_acls_once_and_not_for_every_file(here: Place) -> None:
    asked = "musicfs_fuse_requests_total", "getxattr"
    with Mount(here, library(here, 12)) as mount:
        mount.scanned()
        eventually(lambda: here.call(sockets, here.user / "run"), "the control socket")
        before = by_operation(here.call(metrics, here.user / "run"))[asked]
        lines = here.run("ls", "-lR", mount.path).stdout.splitlines()
        after = by_operation(here.call(metrics, here.user / "run"))[asked]
    files = sum(line.startswith("-") for line in lines)
    assert files == 12
    assert 0 < after - before <= 3  # a label, and the two kinds of ACL


def library_with_a_large_file(here: Place) -> dict[str, Path]:
    """The kernel asks for the bytes of the large one, but maybe not for those of the others."""
    origins = library(here)
    make_audio(origins["one"] / "large.wav", seconds=3, tags={"title": "Large", "artist": "Artist"})
    return origins


def files(mount_point: Path) -> dict[str, Path]:
    return {path.name: path for path in mount_point.rglob("*.*") if path.is_file()}


def test_small_files_that_are_at_hand_are_read_without_requests(here: Place) -> None:
    """Their bytes come with the answer to the open: of two waits of a reader, one is left."""
    origins = library_with_a_large_file(here)
    texts = {f"{number}.txt": f"Notes {number}" for number in range(10)}
    for name, text in texts.items():
        (origins["one"] / "Artist/Album" / name).write_text(text)
    with Mount(here, origins) as mount:
        paths = here.call(files, mount.scanned().path)
        eventually(lambda: here.call(sockets, here.user / "run"), "the control socket")

        def reads() -> float:
            return by_operation(here.call(metrics, here.user / "run"))["musicfs_fuse_requests_total", "read"]

        assert here.call(Path.read_bytes, paths.pop("0.txt")) == b"Notes 0"  # what is known of its folder is loaded now
        before = reads()
        for name in list(texts)[1:]:
            assert here.call(Path.read_bytes, paths[name]) == texts[name].encode()
        assert reads() < before + len(texts) - 1
        before = reads()
        (song,) = (path for name, path in paths.items() if name.endswith(".wav"))
        assert here.call(Path.read_bytes, song) == (origins["one"] / "large.wav").read_bytes()
        assert reads() > before
