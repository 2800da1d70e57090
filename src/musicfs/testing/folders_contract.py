"""The contract of origins whose observed scans know the times of folders. A test class inherits it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from musicfs.origin import Origin
from musicfs.testing.observed_contract import RecordingObserver, observed

LONG_AGO = 10**9


class FoldersEnv(Protocol):
    """An environment like OriginEnv, over a folder that the test can reach."""

    root: Path

    async def open(self, populated: bool = False) -> Origin: ...

    def write(self, path: str, data: bytes) -> None: ...


class Poll:
    """Lists one origin repeatedly; each listing skips the folders that were the same in the one before."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._times: dict[str, int | None] = {}

    async def __call__(self) -> tuple[set[str], set[str]]:
        """Returns the listed files, and the skipped folders."""
        before, left_out = self._times, set[str]()

        def lists(folder: str) -> bool:
            assert observer.folders[folder] is not None
            # A folder with folders must be listed, or these are not reported.
            known = before.get(folder) == observer.folders[folder] and not any(
                other.startswith(f"{folder}/") for other in before
            )
            if known:
                left_out.add(folder)
            return not known

        observer = RecordingObserver(lists)
        found = set(await observed(self._origin, observer))
        assert observer.problems == []
        self._times = observer.folders
        return found, left_out


def made(env: FoldersEnv) -> set[str]:
    """Creates artists, albums and their files, all from long ago. Returns the files' paths."""
    files = {f"{artist}/{album}/{n}.flac" for artist in "abc" for album in ("1", "2 ä") for n in "xy"} | {"top.flac"}
    for path in files:
        env.write(path, b"x")
    settle(env)
    return files


def settle(env: FoldersEnv) -> None:
    for folder in (env.root, *env.root.rglob("*")):
        if folder.is_dir():
            os.utime(folder, (LONG_AGO, LONG_AGO))


class FoldersContract:
    async def test_where_nothing_changed_folders_without_folders_are_left_out(self, env: FoldersEnv) -> None:
        files = made(env)
        poll = Poll(await env.open())
        assert await poll() == (files, set())
        albums = {path.rpartition("/")[0] for path in files if path.count("/") == 2}
        assert await poll() == ({"top.flac"}, albums)

    async def test_files_that_came_or_went_and_folders_that_were_renamed_are_met(self, env: FoldersEnv) -> None:
        made(env)
        poll = Poll(await env.open())
        await poll()
        env.write("a/1/new.flac", b"x")
        (env.root / "b/1/x.flac").unlink()
        (env.root / "c/1").rename(env.root / "c/3")
        env.write("c/2 ä/deep/er/new.flac", b"x")
        listed, left_out = await poll()
        assert listed == {
            "top.flac", "a/1/x.flac", "a/1/y.flac", "a/1/new.flac", "b/1/y.flac", "c/3/x.flac", "c/3/y.flac",
            "c/2 ä/x.flac", "c/2 ä/y.flac", "c/2 ä/deep/er/new.flac",
        }  # fmt: skip
        assert left_out == {"a/2 ä", "b/2 ä"}
