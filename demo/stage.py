"""What the demo puts up and takes down again: a folder, a mount; whatever happens in between."""

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
from typing import Any, Self

from musicfs.mount import mount_points
from musicfs.system.mounts import mounts

_PATIENCE_SECS = 60.0
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
    """The demo's folder and in it `Music`, where MusicFS is mounted. A subclass adds the places with the music."""

    def __init__(self, folder: Path, interrupts: Interrupts) -> None:
        self.folder = folder
        self.music = folder / "Music"
        self.uninterrupted = interrupts.held
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("MUSICFS_")}
        self._environ["MUSICFS_CACHE_DIR"] = str(folder / ".cache")

    def end_places(self) -> None:
        """Ends what the subclass has started, or started in part. MusicFS is unmounted by then."""

    @classmethod
    @contextmanager
    def set_up(cls, interrupts: Interrupts) -> Iterator[Self]:
        """Makes the folder; at the end everything is gone again."""
        with interrupts.held():
            stage = cls(_new_folder(), interrupts)
        try:
            yield stage
        finally:
            interrupts.hold_for_good()
            stage._take_down()

    def _take_down(self) -> None:
        self.unmount(check=False)
        if mount_points.mounted(self.music):  # a program still uses it
            self.musicfs("unmount", "--lazy", str(self.music), check=False, capture=True)
        self.end_places()
        left = [mount.path for mount in mounts() if mount.path.is_relative_to(self.folder)]
        if left:  # never delete through a mount
            print(
                f"Still mounted: {', '.join(map(str, left))}. Unmount it, then remove {self.folder}.", file=sys.stderr
            )
            return
        shutil.rmtree(self.folder, ignore_errors=True)

    # MusicFS

    def mount(self, *arguments: str) -> None:
        # Whole or not at all: an interrupt half-way would leave an unknown process.
        with self.uninterrupted():
            self.musicfs("mount", *arguments)

    def unmount(self, *, check: bool = True) -> None:
        if mount_points.mounted(self.music):
            self.musicfs("unmount", str(self.music), check=check, capture=True)

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
        """Returns what `musicfs status` says about one origin."""
        origins = self.ask("status", str(self.music))["origins"]
        return next(dict(origin) for origin in origins if origin["id"] == id)

    @staticmethod
    def wait_for(ready: Callable[[], object], problem: str) -> float:
        """Waits until `ready()` and returns the seconds it took. Raises `DemoError` when it takes too long."""
        started = time.monotonic()
        while not ready():
            if time.monotonic() - started > _PATIENCE_SECS:
                raise DemoError(f"Waited {_PATIENCE_SECS:.0f} s in vain: {problem}.")
            time.sleep(_LOOK_EVERY_SECS)
        return time.monotonic() - started


def _new_folder() -> Path:
    plain = Path(tempfile.gettempdir()).resolve() / "musicfs-demo"
    with suppress(FileExistsError):
        plain.mkdir()
        return plain
    other = Path(tempfile.mkdtemp(prefix="musicfs-demo-", dir=plain.parent))
    other.chmod(0o755)  # if root runs it, sshd reads the music as another user
    return other


def missing_programs(names: Sequence[str]) -> list[str]:
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    return [name for name in names if shutil.which(name, path=path) is None]
