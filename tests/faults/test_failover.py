"""A place that fails in the middle of a track: never a wrong byte, never a hang."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.audio import make_audio
from tests.support.faulty import FAULTS
from tests.support.mounting import Mount, Place, eventually
from tests.support.playing import becomes_served_by

Record = Callable[[str, object], None]
TAGS = {"title": "Song", "artist": "Artist", "album": "Album", "track": 1}
SHOWN = "Artist/Album [WAV]/01 - Song.wav"
FAST: dict[str, Any] = {"health": {"check_interval_secs": 0.3, "timeout_ms": 1000}}
CHUNK = 64 * 1024
LATE = 10.0
"""Seconds: far beyond the deadlines below, and what is left of them when the machine is slow."""


def stream(path: Path, switch: Path, fault: str, at: float = 0.5) -> tuple[str, int, int]:
    """Plays the file: (digest, bytes read, size by fstat). `fault` begins after the share `at` of it."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        pending = True
        while data := file.read(CHUNK):
            digest.update(data)
            done += len(data)
            if pending and done >= size * at:
                switch.write_text(fault)
                pending = False
    return digest.hexdigest(), done, size


def read_or_errno(path: Path) -> tuple[str, int, int] | int:
    """(digest, bytes read, size by fstat), or the number of the error that ended it."""
    digest, done = hashlib.sha256(), 0
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            while data := file.read(CHUNK):
                digest.update(data)
                done += len(data)
    except OSError as error:
        return error.errno or 0
    return digest.hexdigest(), done, size


def forget_pages(path: Path) -> None:
    """Has the kernel drop what it has cached of the file."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest_of_first(path: Path, count: int) -> str:
    """Of the first `count` bytes."""
    return hashlib.sha256(path.read_bytes()[:count]).hexdigest()


def whole(path: Path) -> tuple[str, int, int]:
    size = path.stat().st_size
    return digest_of(path), size, size


class Pair:
    """Two origins, `near` preferred, whose driver is faulty; their files are equal, or else variants of one track."""

    def __init__(self, here: Place, *, equal: bool) -> None:
        self.here = here
        self.roots = {id: here.origins / id for id in ("near", "far")}
        # More than the reader keeps in memory, so that what is read twice is fetched twice.
        self.near = make_audio(self.roots["near"] / "song.wav", seconds=130, seed=1, tags=TAGS)
        self.far = self.roots["far"] / "song.wav"
        if equal:
            self.far.parent.mkdir()
            shutil.copy2(self.near, self.far)
        else:
            make_audio(self.far, seconds=128, seed=2, tags=TAGS)
        self.switch = here.base / "switch"
        self.switch.write_text("")
        self.switch.chmod(0o666)

    def mount(self, **settings: Any) -> Mount:
        return Mount(self.here, self.roots, switches={"near": self.switch}, **(FAST | settings))


@pytest.fixture
def equal(here: Place) -> Pair:
    return Pair(here, equal=True)


@pytest.fixture
def variants(here: Place) -> Pair:
    return Pair(here, equal=False)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "wrong"])
def test_a_track_plays_to_its_end_though_its_origin_fails_half_way(
    equal: Pair, fault: str, record_property: Record
) -> None:
    # Probes are so seldom that the read meets the fault first.
    with equal.mount(health={"check_interval_secs": 600, "timeout_ms": 1000}) as mount:
        path = mount.scanned().path / SHOWN
        becomes_served_by(mount.here, path, "near")
        digest, done, size = mount.here.call(stream, path, equal.switch, fault)
        assert (digest, done, size) == (digest_of(equal.near), equal.near.stat().st_size, done)
        eventually(lambda: mount.seen("FailedOver") or mount.seen("HedgeWon"), "a read that met the fault")
        moved = [event for event in mount.events if event["event"] in ("FailedOver", "HedgeWon")]
        record_property("longest gap in ms", max(event["gap_ms"] for event in moved))


def test_a_file_that_is_missing_when_it_is_read_is_looked_for_at_once(equal: Pair) -> None:
    with equal.mount(health={"check_interval_secs": 600}) as mount:
        path = mount.scanned().path / SHOWN
        since = len(mount.events)
        equal.switch.write_text("vanish")
        assert mount.here.call(digest_of, path) == digest_of(equal.far)
        mount.wait_for("ReplicaSuspect", since, origin="near", path="song.wav")
        scan = mount.wait_for("ScanFinished", since, origin="near")
        assert (scan["listed"], scan["removed"]) == (1, 0)


@pytest.mark.parametrize("at", [0.0001, 0.5])
def test_an_origin_that_begins_to_lie_is_found_out_by_reading(equal: Pair, at: float) -> None:
    with equal.mount() as mount:
        path = mount.scanned().path / SHOWN
        assert mount.here.call(digest_of, path) == digest_of(equal.near)
        mount.here.call(forget_pages, path)
        digest, done, size = mount.here.call(stream, path, equal.switch, "wrong", at)
        assert (digest, done, size) == (digest_of(equal.near), equal.near.stat().st_size, done)
        mount.wait_for("ReplicaQuarantined", origin="near", path="song.wav")
        assert mount.seen("ReplicaQuarantined", origin="far") is None


def test_a_track_whose_only_origin_hangs_is_an_error_in_time_and_browsing_goes_on(
    here: Place, record_property: Record
) -> None:
    root = here.origins / "near"
    make_audio(root / "song.wav", seconds=10, seed=1, tags=TAGS)
    for number in range(2, 40):
        make_audio(root / f"{number}.flac", tags=TAGS | {"title": f"Other {number}", "track": number})
    switch = here.base / "switch"
    switch.write_text("")
    retry = {"deadline_ms": 1500}
    with Mount(here, {"near": root}, switches={"near": switch}, retry=retry, **FAST) as mount:
        path = mount.scanned().path / SHOWN
        switch.write_text("hang")
        started = time.monotonic()
        command = here.who.command(here.environ, "cat", str(path))
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as reader:
            try:
                listed = here.run("ls", "-lR", mount.path).stdout
                browsed = time.monotonic() - started
                still_waiting = reader.poll() is None
                _, errors = reader.communicate(timeout=LATE)
                failed = time.monotonic() - started
            finally:
                here.signal(reader.pid, 9)
        assert listed.count(".flac") == 38
        assert still_waiting, "browsing waited for the origin"
        assert "Input/output error" in errors
        record_property("seconds to browse", round(browsed, 2))
        record_property("seconds to fail", round(failed, 2))
        # Whoever tries again hears it again, and when the origin answers, music plays.
        assert here.call(read_or_errno, path) == errno.EIO
        since = len(mount.events)
        switch.write_text("")
        mount.wait_for("HealthChanged", since, before="HealthStatus.UNHEALTHY")
        # A fetch that began while it hung may still be joined, until its deadline.
        eventually(lambda: here.call(read_or_errno, path) == whole(root / "song.wav"), "the music")


def read_while_it_fails(path: Path, switch: Path, fault: str) -> tuple[str, int, int]:
    """Opens, reads half, switches the fault on, reads on: (digest, bytes read, the number of the error or 0)."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        half = os.fstat(file.fileno()).st_size // 2
        try:
            while more := file.read(CHUNK):
                digest.update(more)
                before, done = done, done + len(more)
                if before < half <= done:
                    switch.write_text(fault)
        except OSError as error:
            return digest.hexdigest(), done, error.errno or 0
    return digest.hexdigest(), done, 0


@pytest.mark.parametrize("fault", ["error", "vanish", "hang", "short"])
def test_one_open_is_one_content_and_the_next_gets_the_other_whole(variants: Pair, fault: str) -> None:
    with variants.mount(retry={"deadline_ms": 1500, "delays_ms": [100]}) as mount:
        here, path = mount.here, mount.scanned().path / SHOWN
        near, far = whole(variants.near), whole(variants.far)
        eventually(lambda: here.call(os.stat, path).st_size == near[1], "the size of the preferred content")
        digest, done, error = here.call(read_while_it_fails, path, variants.switch, fault)
        assert error in (0, errno.EIO)
        assert digest == digest_of_first(variants.near, done)
        assert error or done == near[1]
        if fault in ("error", "hang"):  # the others leave the origin's health alone
            eventually(lambda: here.call(os.stat, path).st_size == far[1], "the size of the other content")
            eventually(lambda: here.call(read_or_errno, path) == far, "the other content")
        since = len(mount.events)
        variants.switch.write_text("")
        if mount.seen("HealthChanged", origin="near", after="HealthStatus.UNHEALTHY"):
            mount.wait_for("HealthChanged", since, origin="near", before="HealthStatus.UNHEALTHY")
        eventually(lambda: here.call(os.stat, path).st_size == near[1], "the size of the preferred content")
        eventually(lambda: here.call(read_or_errno, path) == near, "the preferred content")


def toggle_and_read(path: Path, switch: Path, times: int) -> list[tuple[str, int, int] | int]:
    results = []
    for number in range(times):
        switch.write_text("error" if number % 2 == 0 else "")
        for _ in range(3):
            forget_pages(path)
            results.append(read_or_errno(path))
    return results


def test_whatever_comes_and_goes_every_open_reads_one_content_whole_or_fails(variants: Pair) -> None:
    with variants.mount(retry={"deadline_ms": 500, "delays_ms": []}) as mount:
        path = mount.scanned().path / SHOWN
        results = mount.here.call(toggle_and_read, path, variants.switch, 8)
        good = {whole(variants.near), whole(variants.far)}
        assert set(results) <= good | {errno.EIO, errno.ESTALE, errno.ENOENT}
        assert set(results) & good
