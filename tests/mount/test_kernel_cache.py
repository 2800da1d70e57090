"""What the kernel caches of a mount is what a fresh mount shows, whatever changed and whenever."""

from __future__ import annotations

import gc
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from musicfs.catalog.database import ROOT_INO
from musicfs.library.tree_changes import TreeChanges
from musicfs.mount.operations import Operations
from musicfs.testing.scanned_library import ScannedLibrary, scanned_library
from tests.support.audio import make_album, make_audio
from tests.support.mounting import eventually
from tests.support.shown import ShowingThread, Shown

_ALBUMS = ("One", "Two", "Three")
_STEPS = 40
_SECS = 10.0
"""Until the kernel has forgotten: it takes milliseconds."""


class Library:
    """Two folders of music with the same albums but other files, and the tree of both."""

    def __init__(self, base: Path, scanned: ScannedLibrary, chance: random.Random) -> None:
        self.roots = {"a": base / "a", "b": base / "b"}
        self._scanned = scanned
        self._chance = chance
        self._seen = self._made = 0
        for number, root in enumerate(self.roots.values()):
            make_album(root, "Artist", "Kept", 3, seconds=0.1, seed=number)
            for album in _ALBUMS:
                make_album(root, "Artist", album, 3, seconds=0.1, seed=number)
        scanned.configure(self.roots)

    async def change(self, album: str) -> None:
        """Changes one thing about an album, and commits what that does to the tree."""
        folder = self._chance.choice(list(self.roots.values())) / "Artist" / album
        files = sorted(folder.glob("*.flac"))
        changes: list[Callable[[Path, list[Path]], Awaitable[None]]] = [self._appear, self._switch]
        if files:
            changes += [self._vanish, self._rename, self._replace, self._touch, self._empty]
        await self._chance.choice(changes)(folder, files)
        for origin in self.roots:
            with self._scanned.catalog.transaction():
                self._scanned.catalog.set_accept_removals(origin, True)
        await self._scanned.scan()

    async def _appear(self, folder: Path, _: list[Path]) -> None:
        self._made += 1
        tags = {"artist": "Artist", "album": folder.name, "title": f"Other {self._made}", "track": 10 + self._made}
        make_audio(folder / f"other {self._made}.flac", seconds=0.1, tags=tags)

    async def _vanish(self, _: Path, files: list[Path]) -> None:
        self._chance.choice(files).unlink()

    async def _rename(self, folder: Path, files: list[Path]) -> None:
        tags = {"artist": "Artist", "album": folder.name, "title": f"New {self._chance.random()}", "track": 1}
        make_audio(self._chance.choice(files), seconds=0.1, tags=tags)

    async def _replace(self, folder: Path, files: list[Path]) -> None:
        number = self._chance.randrange(4)
        make_album(folder.parent.parent, "Artist", folder.name, len(files), seconds=0.1, seed=number)

    async def _touch(self, _: Path, files: list[Path]) -> None:
        os.utime(self._chance.choice(files), (10**9, 10**9 + self._chance.randrange(10**6)))

    async def _empty(self, folder: Path, _: list[Path]) -> None:
        shutil.rmtree(folder)

    async def _switch(self, *_: object) -> None:
        """Makes other variants shown: those of the origin that can be reached."""
        catalog, builder = self._scanned.catalog, self._scanned.builder
        with catalog.transaction():
            catalog.set_reachable("a", bool(self._chance.randrange(2)))
            self._scanned.changes.append(builder.update((), catalog.entries.dirs_with_variants()))

    def changes(self) -> TreeChanges:
        """What the kernel must forget since the last call."""
        new = self._scanned.changes[self._seen :]
        self._seen += len(new)
        together = TreeChanges()
        for one in new:
            together.entries |= one.entries
            together.directories |= one.directories
            together.attributes |= one.attributes
        return together


class Between:
    """Calls a function once, between an answer and its way to the kernel."""

    KINDS = ("readdirplus", "lookup", "getattr")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._function: Callable[[], None] | None = None
        self._kind = ""
        self._last = False
        self._skipped = 0
        self.calls: Counter[str] = Counter()
        for kind in self.KINDS:
            self._hold(monkeypatch, kind)

    def _hold(self, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        answer = getattr(Operations, kind)

        def answered(operations: Operations, ino: int, request: bytes) -> bytes:
            found: bytes = answer(operations, ino, request)
            if kind == self._kind and self._function is not None and not (found and self._last) and not self._skip():
                function, self._function = self._function, None
                self.calls[kind] += 1
                function()
                time.sleep(0.01)  # the other thread passes on to the kernel what does not wait for this answer
            return found

        monkeypatch.setattr(Operations, kind, answered)

    def _skip(self) -> bool:
        self._skipped -= 1
        return self._skipped >= 0

    def call(self, function: Callable[[], None], kind: str, *, last: bool = False, skipped: int = 0) -> None:
        """Calls it after an answer to a request of that kind.

        Args:
            function: What to call.
            kind: One of `KINDS`.
            last: Whether it must be an answer which says that a listing ends.
            skipped: How many such answers come before.
        """
        self._function, self._kind, self._last = function, kind, last and kind == "readdirplus"
        self._skipped = skipped

    def cancel(self) -> bool:
        """Whether the function was not called yet; it won't be."""
        waits, self._function = self._function is not None, None
        return waits


@pytest.fixture
def showing(tmp_path: Path) -> Iterator[ShowingThread]:
    thread = ShowingThread(tmp_path / "cache" / "catalog.sqlite", tmp_path)
    yield thread
    thread.end()


def compare(mount: Shown, showing: ShowingThread, paths: set[str]) -> None:
    """Raises AssertionError unless the mount comes to show what a fresh one does.

    Args:
        mount: The mount that is looked at.
        showing: Makes the fresh one.
        paths: All that was shown so far, at which there may be nothing; what is shown now is added.
    """
    with showing.mount() as fresh:
        listed = fresh.listed()
        paths |= {line.split("|")[0] for line in listed}
        at = {path: fresh.at(path) for path in paths}
    eventually(lambda: mount.listed() == listed, "the listing of a fresh mount", _SECS)
    assert {path: mount.at(path) for path in paths} == at


@pytest.mark.parametrize("seed", range(4))
async def test_a_mount_comes_to_show_what_a_fresh_one_does(
    tmp_path: Path, showing: ShowingThread, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    between = Between(monkeypatch)
    with scanned_library(tmp_path / "cache") as scanned:
        library = Library(tmp_path, scanned, chance)
        await scanned.scan()
        library.changes()
        paths: set[str] = set()
        with showing.mount() as mount:
            compare(mount, showing, paths)
            for _ in range(_STEPS):
                album = chance.choice(_ALBUMS)
                if chance.randrange(2):  # its listing must be asked for, and is answered before the next change shows
                    await library.change(album)
                    showing.call(mount.show, library.changes())
                    await library.change(album)
                    changes = library.changes()
                    kind = chance.choice(Between.KINDS)
                    between.call(partial(mount.show, changes), kind, last=bool(chance.randrange(2)))
                    if kind == "lookup":
                        for path in sorted(paths):
                            mount.at(path)
                    mount.listed()
                    if between.cancel():
                        showing.call(mount.show, changes)
                else:
                    await library.change(album)
                    showing.call(mount.show, library.changes())
                compare(mount, showing, paths)
    assert set(between.calls) == set(Between.KINDS)
    assert between.calls.total() >= _STEPS // 8


@pytest.mark.parametrize("seed", range(4))
async def test_a_change_during_the_first_listing_shows(
    tmp_path: Path, showing: ShowingThread, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The kernel knows no folder yet, so it can forget none, and then gets their attributes from before the change."""
    chance = random.Random(seed)
    between = Between(monkeypatch)
    with scanned_library(tmp_path / "cache") as scanned:
        library = Library(tmp_path, scanned, chance)
        await scanned.scan()
        for skipped in range(12):
            library.changes()
            with showing.mount() as mount:
                for album in _ALBUMS:
                    await library.change(album)
                between.call(partial(mount.show, library.changes()), "readdirplus", skipped=skipped)
                mount.listed()
                if between.cancel():
                    break
                compare(mount, showing, set())
    assert between.calls.total() >= 6


def asked(mount: Shown, work: Callable[[], object]) -> Counter[str]:
    """How many requests of each kind the work made of the mount, apart from `ls` asking for labels."""
    before = Counter(mount.filesystem.counts.requests())
    work()
    found = Counter(mount.filesystem.counts.requests()) - before
    del found["getxattr"]
    return found


def _asks_for_nothing(mount: Shown, work: Callable[[], object]) -> bool:
    return not asked(mount, work)


def _stat_all(folder: Path) -> None:
    for path, _, names in os.walk(folder):
        for name in names:
            Path(path, name).stat()


async def test_a_second_listing_asks_for_nothing(tmp_path: Path, showing: ShowingThread) -> None:
    with scanned_library(tmp_path / "cache") as scanned:
        Library(tmp_path, scanned, random.Random(0))
        await scanned.scan()
        with showing.mount() as mount:
            works: list[Callable[[], object]] = [
                mount.listed,
                partial(subprocess.run, ["ls", "-lR", mount.path], check=True, capture_output=True),
                partial(_stat_all, mount.path),
            ]
            assert asked(mount, works[0])["readdir"] > 0
            for work in works:
                # Systems take memory back page by page, so one listing may be gone once in a while.
                eventually(partial(_asks_for_nothing, mount, work), "no request", _SECS)


async def test_a_first_listing_asks_twice_for_each_folder_and_not_for_files(
    tmp_path: Path, showing: ShowingThread
) -> None:
    with scanned_library(tmp_path / "cache") as scanned:
        Library(tmp_path, scanned, random.Random(0))
        await scanned.scan()
        with showing.mount() as mount:
            folders = sum(line.split("|")[1:2] == ["d"] for line in mount.listed())
        works: list[Callable[[Shown], object]] = [Shown.listed, lambda shown: _stat_all(shown.path)]
        for work in works:
            with showing.mount() as mount:
                found = asked(mount, partial(work, mount))
            assert found.pop("getattr", 0) <= 1  # of the mount point
            assert found == {"readdir": 2 * folders}


def _make_tree(catalog: Path, folders: int, files: int) -> None:
    """Adds folders with files to a catalogue, past the scanner, which takes longer."""
    with closing(sqlite3.connect(catalog)) as db, db:
        for folder in range(1000, 1000 + folders):
            numbers = range(folder * 1000, folder * 1000 + files)
            inodes = [(folder, None), *((number, 1) for number in numbers)]
            names = [(ROOT_INO, folder), *((folder, number) for number in numbers)]
            db.executemany("INSERT INTO inodes (ino, content, size, mtime_ns) VALUES (?, ?, 1, 1)", inodes)
            db.executemany(
                "INSERT INTO names (parent, name, hidden, ino, position) VALUES (?1, 'name ' || ?2, 0, ?2, ?2)", names
            )


def test_a_mount_keeps_nothing_in_memory_of_what_the_kernel_knows(tmp_path: Path, showing: ShowingThread) -> None:
    folders, files = 40, 250
    with scanned_library(tmp_path / "cache"):
        _make_tree(tmp_path / "cache" / "catalog.sqlite", folders, files)
        with showing.mount() as mount:
            _stat_all(mount.path / "name 1000")  # loads what is loaded once
            gc.collect()
            before = sys.getallocatedblocks()
            _stat_all(mount.path)
            gc.collect()
            assert sys.getallocatedblocks() - before < folders * files / 4
            assert mount.filesystem.counts.readdir > 2 * folders


async def test_one_process_serves_several_mounts_at_once_and_the_end_of_one_ends_no_other(
    tmp_path: Path, showing: ShowingThread
) -> None:
    with scanned_library(tmp_path / "cache") as scanned:
        Library(tmp_path, scanned, random.Random(0))
        await scanned.scan()
        with showing.mount() as one:
            with showing.mount() as two, ThreadPoolExecutor(2) as pool:
                listings = list(pool.map(Shown.listed, (one, two)))
                assert listings[0] == listings[1]
                assert len(listings[0]) > 10
            with showing.mount() as three:
                assert three.listed() == listings[0]
