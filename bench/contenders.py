"""What is measured side by side: each shows the same two folders at a mount point, and starts afresh every time."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.library import Track

_PATIENCE_SECS = 600


def wait_mounted(path: Path, running: Callable[[], bool] = lambda: True, log: Path | None = None) -> None:
    until = time.monotonic() + _PATIENCE_SECS
    while not os.path.ismount(path):
        if time.monotonic() > until or not running():
            output = log.read_text(errors="replace")[-2000:] if log is not None else ""
            raise TimeoutError(f"{path} is not mounted\n{output}")
        time.sleep(0.005)


def unmount(path: Path) -> None:
    command = ["umount", "--lazy"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    subprocess.run([*command, str(path)], check=True)


def output_of(command: Sequence[str]) -> str:
    """What the command said; an error with that when it fails."""
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}")
    return done.stdout


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

    def file(self, name: str) -> str:
        return name


@dataclass(frozen=True)
class Union:
    """Another program over both folders, with its own defaults. command: goes to the background by itself, or not."""

    name: str
    mount_point: Path
    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        self.mount_point.mkdir(parents=True, exist_ok=True)
        log = self.mount_point.with_suffix(".log")
        with log.open("wb") as output:
            process = subprocess.Popen(self.command, env=os.environ | self.environ, stdout=output, stderr=output)
        try:
            wait_mounted(self.mount_point, lambda: not process.poll(), log)
            yield self.mount_point
        finally:
            if os.path.ismount(self.mount_point):
                unmount(self.mount_point)
            process.terminate()
            process.wait(_PATIENCE_SECS)

    def path(self, track: Track) -> str:
        return track.source

    def file(self, name: str) -> str:
        return name


def unions(folders: Sequence[Path], base: Path) -> list[Union]:
    """mergerfs, unionfs-fuse, and rclone's union remote."""
    at = {name: base / f"mnt-{name}" for name in ("mergerfs", "unionfs-fuse", "rclone")}
    rclone = ["rclone", "mount", ":union:", str(at["rclone"]), "--read-only", "--config", ""]
    upstreams = {"RCLONE_UNION_UPSTREAMS": " ".join(f"{folder}:ro" for folder in folders)}
    return [
        Union("mergerfs", at["mergerfs"], ["mergerfs", ":".join(map(str, folders)), str(at["mergerfs"])]),
        Union("unionfs-fuse", at["unionfs-fuse"], [
            "unionfs", "-o", "ro", ":".join(f"{folder}=RO" for folder in folders), str(at["unionfs-fuse"])
        ]),
        Union("rclone union", at["rclone"], rclone, upstreams),
    ]  # fmt: skip


def bare(folders: Sequence[Path], base: Path) -> Union:
    """The first folder by as little Python as can be: see bare.py."""
    mount_point = base / "mnt-bare"
    return Union("bare pyfuse3", mount_point, [sys.executable, "-m", "bench.bare", str(folders[0]), str(mount_point)])


@dataclass(frozen=True)
class MusicFS:
    """This project over both folders, its catalogue kept between rounds as it is between reboots."""

    name = "musicfs"
    folders: Sequence[Path]
    mount_point: Path
    cache_dir: Path

    def command(self, *arguments: str) -> list[str]:
        return [self.python(), "-m", "musicfs", *arguments]

    def python(self) -> str:
        """The interpreter of the environment that it is installed in."""
        return sys.executable

    def options(self) -> list[str]:
        """Where the music is and the cache belongs."""
        origins = [part for folder in self.folders for part in ("--origin", str(folder))]
        return [*origins, "--cache-dir", str(self.cache_dir)]

    def scan(self, *options: str) -> str:
        """Fills the catalogue; what the command said."""
        command = self.command("scan", *self.options(), *options)
        return output_of(command)

    def forget(self) -> None:
        shutil.rmtree(self.cache_dir, ignore_errors=True)

    def forget_checksums(self) -> None:
        """Makes the next reads the first ones: no block of any file has a checksum."""
        for path in self.cache_dir.glob("checksums.sqlite*"):
            path.unlink()

    def start(self) -> None:
        """Returns when the mount can be seen."""
        self.mount_point.mkdir(parents=True, exist_ok=True)
        command = self.command("mount", str(self.mount_point), *self.options())
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
            with contextlib.suppress(psutil.NoSuchProcess):  # one that has just ended: then it is not at rest
                if sum(p.cpu_percent(0.5) for p in self.processes()) < 1:
                    return

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        self.start()
        try:
            self.settle()
            yield self.mount_point
        finally:
            self.unmount()

    def unmount(self) -> None:
        """Returns when its process has ended, too: the next mount wants its cache folder."""
        processes = self.processes()
        subprocess.run(self.command("unmount", "--lazy", str(self.mount_point)), check=True, stdout=subprocess.DEVNULL)
        psutil.wait_procs(processes, _PATIENCE_SECS)

    def path(self, track: Track) -> str:
        return track.shown

    def file(self, name: str) -> str:
        """Where the WAV file of that name is, which has no tags."""
        return f"Unknown Artist/Unknown Album [WAV]/{name}"

    def big(self) -> str:
        return self.file("big.wav")


Contender = Plain | Union | MusicFS
