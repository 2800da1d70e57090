"""Files that change where nobody looks: the same size, the same time of change, other bytes."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.test_failover import (
    FAST,
    SHOWN,
    TAGS,
    digest_of,
    digest_of_first,
    forget_pages,
    read_or_errno,
    read_while_it_fails,
    whole,
)
from tests.support.audio import make_audio
from tests.support.mounting import Account, Mount, Place, account, eventually


@pytest.fixture(scope="module")
def who() -> Account:
    """One is enough: nothing of this depends on who mounts."""
    return account("ordinary")


def rot(path: Path) -> None:
    """Another byte in the middle, where no fingerprint looks."""
    about = path.stat()
    with path.open("r+b") as file:
        file.seek(about.st_size // 2)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def two_copies(here: Place, seconds: int) -> tuple[dict[str, Path], list[Path]]:
    roots = {id: here.origins / id for id in ("near", "far")}
    near = make_audio(roots["near"] / "song.wav", seconds=seconds, seed=1, tags=TAGS)
    roots["far"].mkdir()
    return roots, [near, Path(shutil.copy2(near, roots["far"]))]


def recorded(here: Place) -> int:
    """How many contents the daemon has kept checksums of."""
    with closing(sqlite3.connect(here.cache_dir / "checksums.sqlite")) as connection:
        return int(connection.execute("SELECT count(*) FROM contents").fetchone()[0])


def test_a_disk_that_rots_is_found_out_after_a_crash_and_stays_out(here: Place) -> None:
    roots, (near, far) = two_copies(here, 20)
    good = digest_of(near)
    with Mount(here, roots, **FAST) as mount:
        path = mount.scanned().path / SHOWN
        assert here.call(digest_of, path) == good
        eventually(lambda: recorded(here), "the checksums")
        mount.signal(signal.SIGKILL)
        mount.wait()
        mount.unmount_lazily()
    rot(near)
    assert digest_of(near) != digest_of(far)
    with Mount(here, roots, **FAST) as mount:
        mount.scanned()
        mount.wait_for("HealthChanged", origin="near", after="HealthStatus.HEALTHY")
        assert here.call(digest_of, path) == good
        mount.wait_for("ReplicaQuarantined", origin="near", path="song.wav")
    with Mount(here, roots, **FAST) as mount:
        assert here.call(os.getxattr, path, "user.musicfs.origin") == b"far"
        assert here.call(digest_of, path) == good


def test_of_two_copies_that_differ_one_is_played_whole_or_not_at_all(here: Place) -> None:
    roots, (near, far) = two_copies(here, 150)  # much more than is read ahead
    rot(far)
    switch = here.base / "switch"
    switch.write_text("")
    switch.chmod(0o666)
    with Mount(here, roots, switches={"near": switch}, retry={"deadline_ms": 2000}, **FAST) as mount:
        path = mount.scanned().path / SHOWN
        assert here.call(digest_of, path) == digest_of(near)
        here.call(forget_pages, path)
        switch.write_text("error")
        digest, done, error = here.call(read_while_it_fails, path, switch, "error")
        assert error == errno.EIO
        assert digest == digest_of_first(near, done)
        mount.wait_for("ReplicasDisagree", origin="near", other="far")
        since = len(mount.events)
        switch.write_text("")
        mount.wait_for("HealthChanged", since, origin="near", before="HealthStatus.UNHEALTHY")
        here.call(forget_pages, path)
        eventually(lambda: here.call(read_or_errno, path) == whole(near), "the music")
        assert mount.seen("ReplicaQuarantined") is None
