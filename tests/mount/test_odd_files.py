"""Through a mount: files of times that the catalogue can't hold."""

from __future__ import annotations

import os

from tests.mount.test_lifecycle import library
from tests.support.mounting import Mount, Place


def test_a_file_of_the_year_2400_plays(here: Place) -> None:
    origins = library(here)
    files = sorted(origins["one"].rglob("*.flac"))
    data = files[0].read_bytes()
    os.utime(files[0], (13_569_465_600, 13_569_465_600))
    with Mount(here, origins) as mount:
        mount.scanned()
        shown = here.run("find", mount.path, "-type", "f", "-size", f"{len(data)}c").stdout.splitlines()
        read = [here.run("sha256sum", path).stdout.split()[0] for path in shown]
        assert here.run("sha256sum", files[0]).stdout.split()[0] in read
        assert here.run("find", mount.path, "-newermt", "2262-01-01").stdout.splitlines()
        mount.wait_for("ScanFinished", origin="one", error=None)
