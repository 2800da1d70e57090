"""What is measured side by side: each shows the same two folders at a mount point, and starts afresh every time."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.library import Track

_PATIENCE_SECS = 600


def _wait_mounted(path: Path) -> None:
    until = time.monotonic() + _PATIENCE_SECS
    while not os.path.ismount(path):
        if time.monotonic() > until:
            raise TimeoutError(f"{path} is not mounted")
        time.sleep(0.005)


def _unmount(path: Path) -> None:
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@dataclass(frozen=True)
class Plain:
    """The first folder itself: what the kernel alone can do."""

    name = "plain folder"
    folders: Sequence[Path]

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        yield self.folders[0]

    def path(self, track: Track) -> str:
        return track.source

    def big(self) -> str:
        return "big.wav"


@dataclass(frozen=True)
class Mergerfs:
    """mergerfs over both folders, with its own defaults."""

    name = "mergerfs"
    folders: Sequence[Path]
    mount_point: Path

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        self.mount_point.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mergerfs", ":".join(map(str, self.folders)), str(self.mount_point)], check=True)
        _wait_mounted(self.mount_point)
        try:
            yield self.mount_point
        finally:
            _unmount(self.mount_point)

    def path(self, track: Track) -> str:
        return track.source

    def big(self) -> str:
        return "big.wav"


@dataclass(frozen=True)
class MusicFS:
    """This project over both folders, its catalogue kept between rounds as it is between reboots."""

    name = "musicfs"
    folders: Sequence[Path]
    mount_point: Path
    cache_dir: Path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "musicfs", *arguments]

    def _origins(self) -> list[str]:
        return [part for folder in self.folders for part in ("--origin", str(folder))]

    def scan(self) -> None:
        """Fills the catalogue; shows the scan's own summary."""
        subprocess.run(self.command("scan", *self._origins(), "--cache-dir", str(self.cache_dir)), check=True)

    def forget(self) -> None:
        shutil.rmtree(self.cache_dir, ignore_errors=True)

    def start(self) -> None:
        """Returns when the mount can be seen."""
        self.mount_point.mkdir(parents=True, exist_ok=True)
        command = self.command("mount", str(self.mount_point), *self._origins(), "--cache-dir", str(self.cache_dir))
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def processes(self) -> list[psutil.Process]:
        """The daemon and its children."""
        for process in psutil.process_iter(["cmdline"]):
            with contextlib.suppress(psutil.Error):
                command = process.info["cmdline"] or []
                if "musicfs" in command and str(self.mount_point) in command:
                    return [process, *process.children(recursive=True)]
        return []

    def settle(self) -> None:
        """Waits until the rescan that follows a mount is over and its worker has gone to rest or is idle."""
        until = time.monotonic() + _PATIENCE_SECS
        while time.monotonic() < until:
            cpu = sum(p.cpu_percent(0.5) for p in self.processes())
            if cpu < 1:
                return

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        self.start()
        self.settle()
        try:
            yield self.mount_point
        finally:
            subprocess.run(
                self.command("unmount", "--lazy", str(self.mount_point)), check=True, stdout=subprocess.DEVNULL
            )

    def path(self, track: Track) -> str:
        return track.shown

    def big(self) -> str:
        return "Unknown Artist/Unknown Album [WAV]/big.wav"


Contender = Plain | Mergerfs | MusicFS
