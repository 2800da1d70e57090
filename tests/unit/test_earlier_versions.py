"""What earlier commits kept on disk is used as it is: nothing is lost, and nothing read again."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from musicfs.catalog.database import ROOT_INO
from musicfs.catalog.view import TreeView
from musicfs.config.load import load_config
from musicfs.events import ScanFinished
from musicfs.federation.quarantine import SetAside
from tests.support.control import Running, running_app
from tests.support.earlier import ARCHIVES, EarlierCache, unpack


@pytest.fixture(params=ARCHIVES)
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> EarlierCache:
    return unpack(request.param, tmp_path)


WRITTEN = 1_700_000_000
"""The fixtures' tracks were written so many seconds after this as their numbers are."""


@asynccontextmanager
async def mounted(earlier: EarlierCache) -> AsyncIterator[Running]:
    config = load_config(earlier.config_file).config
    async with running_app(earlier.folder, *config.origins) as running:
        yield running


def files_of(tree: TreeView, ino: int = ROOT_INO, path: str = "") -> Iterator[tuple[str, int]]:
    """Path and inode number of every file of the tree."""
    for child, name, content, *_ in tree.children(ino, 0, 1000):
        if content is None:
            yield from files_of(tree, child, f"{path}{name}/")
        else:
            yield path + name, child


def test_there_is_an_archive_of_the_first_commit_and_of_the_last_before_the_modules_moved() -> None:
    assert ARCHIVES == ["cache-d22e566.tar.xz", "cache-d52e7f8.tar.xz"]


async def test_the_tree_keeps_its_inode_numbers_and_no_file_is_read_again(earlier: EarlierCache) -> None:
    async with mounted(earlier) as running:
        assert dict(files_of(running.parts.tree)) == earlier.inodes
        for _ in range(2):
            await running.scanned()
            events = {o.id: running.parts.membership.last_scan_event(o.id) for o in running.parts.registry.list()}
            scans = {id: scan for id, scan in events.items() if isinstance(scan, ScanFinished)}
            assert {id: (scan.listed, scan.read, scan.error) for id, scan in scans.items()} == {
                "a": (6, 0, None), "b": (5, 0, None), "c": (3, 0, None),
            }  # fmt: skip
            assert dict(files_of(running.parts.tree)) == earlier.inodes


async def test_a_track_is_known_since_its_oldest_file_was_written(earlier: EarlierCache) -> None:
    async with mounted(earlier) as running:
        tree = running.parts.tree
        inodes = {path: tree.inode(ino) for path, ino in earlier.inodes.items()}
        seen = {path: tree.first_seen(inode.content) for path, inode in inodes.items() if inode and inode.content}
        assert seen == {path: WRITTEN + int(Path(path).name[:2]) for path in earlier.inodes}


async def test_pinned_and_cached_files_are_served_while_every_origin_is_away(earlier: EarlierCache) -> None:
    earlier.take_music_away()
    assert {path.split("/")[1].split()[0] for path in earlier.cached} >= {"Pinned", "Read"}
    async with mounted(earlier) as running:
        assert (await running.get("/pins"))["pins"] == earlier.said["pins"]["pins"]
        filesystem = running.parts.filesystem
        for path, digest in earlier.cached.items():
            handle = filesystem.open(earlier.inodes[path])
            assert hashlib.sha256(await filesystem.read(handle, 0, 1 << 20)).hexdigest() == digest
            filesystem.release(handle)
        assert dict(files_of(running.parts.tree)) == earlier.inodes


async def test_a_copy_that_was_quarantined_still_is(earlier: EarlierCache) -> None:
    async with mounted(earlier) as running:
        (held,) = running.parts.registry.quarantined.held.values()
        assert held == SetAside(held.replica, 0)
        assert (held.replica.origin, held.replica.path) == ("c", "Shared/2.flac")


async def test_a_scrub_that_was_stopped_goes_on_where_it_was(earlier: EarlierCache) -> None:
    before = earlier.said["stopped"]
    async with mounted(earlier) as running:
        assert await running.get("/verify") == before
        await running.scanned()
        begun = await running.post("/verify", {"rate": 10**9})
        assert (begun["number"], begun["begun_at"]) == (before["number"], before["begun_at"])
        assert begun["done_files"] >= before["done_files"] > 0
        while (now := await running.get("/verify"))["state"] == "running":
            pass  # each look is a request, and lets it go on
        assert (now["done_files"], now["found"]) == (14, 1)
