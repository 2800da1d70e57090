"""Mounts of one catalogue in this process, whose changes a test passes on when it likes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from musicfs.catalog.view import TreeView
from musicfs.content.reader import Reader
from musicfs.library.tree_changes import TreeChanges
from musicfs.mount.filesystem import Filesystem
from musicfs.mount.fuse import FuseMount
from musicfs.mount.session.event_loop import FuseEventLoop

_PATIENCE_SECS = 20


class Shown:
    """One mount. Its methods belong to the thread of its event loop; `listed` and `at` to any other."""

    def __init__(self, catalog: Path, mount_point: Path) -> None:
        mount_point.mkdir()
        self.path = mount_point
        self.view = TreeView.open(catalog)
        self.filesystem = Filesystem(self.view, cast(Reader, None), lambda _: [])
        self._mount = FuseMount(self.filesystem, mount_point, allow_other=False, file_mode=0o444)

    async def serve(self, mounted: Future[None]) -> None:
        self._mount.mount()
        mounted.set_result(None)
        try:
            await self._mount.serve()
        finally:
            self._mount.unmount()
            self.view.close()

    def stop(self) -> None:
        self._mount.stop()

    def show(self, changes: TreeChanges) -> None:
        """Shows what is committed, as after each commit of the library."""
        self.view.refresh()
        self._mount.forget(changes)

    def listed(self) -> list[str]:
        """Path, kind, mode, size, time and inode number of all that is listed, and what can't be looked at."""
        command = ["find", str(self.path), "-printf", r"%P|%y|%m|%s|%T@|%i\0"]
        done = subprocess.run(command, check=False, capture_output=True, timeout=_PATIENCE_SECS)
        return sorted((done.stdout + done.stderr).decode().split("\0"))

    def at(self, path: str) -> tuple[int, int, int] | None:
        """Inode number, size and time of change of what the path leads to; None: nothing."""
        try:
            found = os.stat(self.path / path)  # noqa: PTH116 (a name without a Path's normalisation)
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


class ShowingThread:
    """An event loop that serves any number of mounts of a catalogue."""

    def __init__(self, catalog: Path, base: Path) -> None:
        self._catalog = catalog
        self._base = base
        self._number = 0
        self._loop = FuseEventLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="showing")
        self._thread.start()

    @contextmanager
    def mount(self) -> Iterator[Shown]:
        self._number += 1
        shown = Shown(self._catalog, self._base / f"mnt-{self._number}")
        mounted: Future[None] = Future()
        served = asyncio.run_coroutine_threadsafe(shown.serve(mounted), self._loop)
        try:
            mounted.result(_PATIENCE_SECS)
            yield shown
        finally:
            self.call(shown.stop)
            served.result(_PATIENCE_SECS)

    def call(self, function: Callable[..., Any], *arguments: object) -> None:
        """Calls the function in the loop's thread, and returns when it has returned."""

        async def called() -> None:
            function(*arguments)

        asyncio.run_coroutine_threadsafe(called(), self._loop).result(_PATIENCE_SECS)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE_SECS)
        self._loop.close()
