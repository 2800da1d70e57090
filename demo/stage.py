"""What the demo puts up and takes down again: a folder, mounts, processes; whatever happens in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from musicfs.mount import points

_PATIENCE_SECS = 30.0
_LOOK_EVERY_SECS = 0.05


class DemoError(Exception):
    """The demo can't go on; one sentence says why."""


class Interrupts:
    """Ctrl-C and the like, put off while something is half done."""

    def __init__(self) -> None:
        self._held = 0
        self._came = False

    def install(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        if not self._held:
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lets what is inside finish; an interrupt that came meanwhile takes effect afterwards."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._came and not self._held:
            raise KeyboardInterrupt

    def hold_for_good(self) -> None:
        self._held += 1


class Stage:
    """The demo's folder: `laptop`, the NAS's disk, the NAS as it is mounted, and `Music`.

    The NAS is a mount of its own, by bindfs, so that it can really be taken away from under an open file: a
    plain folder that is renamed or removed goes on serving the files that are open.
    """

    def __init__(self, folder: Path, interrupts: Interrupts) -> None:
        self.folder = folder
        self.music = folder / "Music"
        self.nas = folder / "nas"
        self.laptop = folder / "laptop"
        self.nas_disk = folder / ".nas-disk"
        self.uninterrupted = interrupts.held
        self._nas: subprocess.Popen[bytes] | None = None
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("MUSICFS_")}
        self._environ["MUSICFS_CACHE_DIR"] = str(folder / ".cache")

    @classmethod
    @contextmanager
    def set_up(cls, interrupts: Interrupts) -> Iterator[Stage]:
        """Makes the folder; at the end everything is gone again."""
        with interrupts.held():
            stage = cls(_new_folder(), interrupts)
        try:
            for folder in (stage.nas, stage.laptop, stage.nas_disk):
                folder.mkdir()
            yield stage
        finally:
            interrupts.hold_for_good()
            stage._take_down()

    def _take_down(self) -> None:
        if points.mounted(self.music):
            self.musicfs("unmount", str(self.music), check=False, capture=True)
        if points.mounted(self.music):  # somebody is still in there
            self.musicfs("unmount", "--lazy", str(self.music), check=False, capture=True)
        self.lose_nas()
        self.clear_nas()
        left = [mount.path for mount in points.mounts() if mount.path.is_relative_to(self.folder)]
        if left:  # never delete through a mount
            print(
                f"Still mounted: {', '.join(map(str, left))}. Unmount it, then remove {self.folder}.", file=sys.stderr
            )
            return
        shutil.rmtree(self.folder, ignore_errors=True)

    # the NAS

    def bring_nas(self) -> None:
        """Mounts the NAS; returns once its files can be seen."""
        # Without the kernel's cache: a read while the NAS is away must fail, as it does over a network.
        options = ["-f", "--no-allow-other", "-o", "direct_io,fsname=nas"]
        command = ["bindfs", *options, str(self.nas_disk), str(self.nas)]
        with self.uninterrupted():
            self._nas = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip
        self.wait_for(lambda: self._nas_is_mounted() or self._nas_has_ended(), "the NAS can't be mounted")

    def _nas_is_mounted(self) -> bool:
        return any(mount.path == self.nas for mount in points.mounts())

    def _nas_has_ended(self) -> bool:
        assert self._nas is not None
        if self._nas.poll() is None:
            return False
        said = self._nas.stderr.read().decode(errors="replace").strip() if self._nas.stderr else ""
        raise DemoError(f"The NAS can't be mounted: {said or 'bindfs ended'}.")

    def lose_nas(self) -> int | None:
        """Kills the process behind the NAS, and that one only; returns its number."""
        process, self._nas = self._nas, None
        if process is None:
            return None
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()
        return process.pid

    def clear_nas(self) -> None:
        """Removes the dead mount that `lose_nas` left behind."""
        if self._nas_is_mounted():
            root = os.getuid() == 0
            command = ["umount", "--lazy", str(self.nas)] if root else ["fusermount3", "-u", "-z", str(self.nas)]
            subprocess.run(command, check=False, capture_output=True)

    # MusicFS

    def mount(self, *arguments: str) -> None:
        # Whole or not at all: interrupted half-way, it would leave a process that nobody knows of.
        with self.uninterrupted():
            self.musicfs("mount", *arguments)

    def musicfs(self, *arguments: str, check: bool = True, capture: bool = False) -> str:
        """Runs the real command in the demo's folder; its output goes where ours goes, or is returned."""
        sys.stdout.flush()
        done = subprocess.run(
            [sys.executable, "-m", "musicfs", *arguments], cwd=self.folder, env=self._environ, check=False,
            stdin=subprocess.DEVNULL, capture_output=capture, text=True, start_new_session=True,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise DemoError(f"`musicfs {' '.join(arguments)}` failed. {done.stderr or ''}".strip())
        return done.stdout or ""

    def ask(self, *arguments: str) -> Any:
        """What a command says with --json."""
        return json.loads(self.musicfs(*arguments, "--json", capture=True))

    def origin(self, id: str) -> dict[str, Any]:
        """What `musicfs status` tells of one origin."""
        origins = self.ask("status", str(self.music))["origins"]
        return next(dict(origin) for origin in origins if origin["id"] == id)

    @staticmethod
    def wait_for(ready: Callable[[], object], problem: str) -> float:
        """Seconds that it took until `ready()`. Raises `DemoError` when it takes too long."""
        begun = time.monotonic()
        while not ready():
            if time.monotonic() - begun > _PATIENCE_SECS:
                raise DemoError(f"Waited {_PATIENCE_SECS:.0f} s in vain: {problem}.")
            time.sleep(_LOOK_EVERY_SECS)
        return time.monotonic() - begun


def _new_folder() -> Path:
    plain = Path(tempfile.gettempdir()).resolve() / "musicfs-demo"
    with suppress(FileExistsError):
        plain.mkdir(mode=0o700)
        return plain
    return Path(tempfile.mkdtemp(prefix="musicfs-demo-", dir=plain.parent))


def missing_programs(names: Sequence[str]) -> list[str]:
    return [name for name in names if shutil.which(name) is None]
