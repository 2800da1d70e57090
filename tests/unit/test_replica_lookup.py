"""The replicas of an open content are looked up again when those of its opening have failed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.content.open_content import OpenContent
from musicfs.content.reader import Reader
from musicfs.content.replica_lookup import ReplicaLookup
from musicfs.errors import NoReplicaAvailable, ReplicaFailed, ReplicaFault
from musicfs.model import Content, Fingerprint, OriginId, Replica, Stat
from musicfs.tags.fingerprint import fingerprint
from tests.support.fakes import PATH, UNREACHABLE, FakeOrigin
from tests.support.federation import Federation, federation
from tests.support.virtualtime import now_ms, virtual_time

DATA = bytes(range(251)) * 3000  # two blocks and a part of one
SONG = Content(1, fingerprint(len(DATA), {0: DATA}), len(DATA))


class File(FakeOrigin):
    """Refuses every version but its present one, `mtime_ns`; None: the file is gone."""

    def __init__(self, id: str, data: bytes = DATA) -> None:
        super().__init__(id, data=data)
        self.mtime_ns: int | None = 1
        self.stats = 0
        self.stat_secs = 0.0

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        if replica.mtime_ns != self.mtime_ns or replica.path != PATH:
            raise ReplicaFailed(self.id, replica.path, self._fault())
        return await super().read(replica, offset, size)

    async def stat(self, path: str) -> Stat:
        self.stats += 1
        await asyncio.sleep(self.stat_secs)
        if self.mtime_ns is None:
            raise ReplicaFailed(self.id, path, ReplicaFault.MISSING)
        return Stat(path, len(self.data), self.mtime_ns)

    def _fault(self) -> ReplicaFault:
        return ReplicaFault.MISSING if self.mtime_ns is None else ReplicaFault.CHANGED


class Catalogue:
    """What it has of the song; `finds` is what the next scan finds. scans: what was asked for."""

    def __init__(self, *has: Replica) -> None:
        self.has: list[Replica] = list(has)
        self.finds: Sequence[Replica] | None = None
        self.scans: list[tuple[str, str]] = []
        self.scan_secs = 0.0

    def find(self, key: Fingerprint) -> Sequence[Replica]:
        return self.has if key == SONG.fingerprint else ()

    async def scan(self, origin: OriginId, path: str) -> None:
        self.scans.append((origin, path))
        await asyncio.sleep(self.scan_secs)
        if self.finds is not None:
            self.has = list(self.finds)


def made_of(made: Federation, catalogue: Catalogue) -> tuple[Reader, OpenContent]:
    """A reader that keeps nothing in memory, and the song opened with all replicas that the catalogue has now."""
    lookup = ReplicaLookup(made.executor, catalogue.find, catalogue.scan)
    return Reader(made.executor, recent_blocks=0, lookup=lookup), OpenContent(SONG, tuple(catalogue.has))


async def read(reader: Reader, file: OpenContent, index: int = 1) -> bool:
    """Reads a block; returns whether it is right."""
    at = index * BLOCK_SIZE
    return await reader.read(file, at, 1000) == DATA[at : at + 1000]


@virtual_time
async def test_reads_that_succeed_look_nothing_up() -> None:
    async with federation(File("a")) as made:
        catalogue = Catalogue(*made.replicas)
        reader, file = made_of(made, catalogue)
        assert await read(reader, file)
        assert made.origins[0].stats == 0  # type: ignore[attr-defined]
        assert catalogue.scans == []


@virtual_time
async def test_a_touched_file_serves_after_its_fingerprint_is_computed_again() -> None:
    origin = File("a")
    async with federation(origin) as made:
        catalogue = Catalogue(*made.replicas)
        reader, file = made_of(made, catalogue)
        assert await read(reader, file)
        for origin.mtime_ns in (2, 3):
            assert await read(reader, file)
        assert (origin.stats, catalogue.scans) == (2, [])
        assert [each.mtime_ns for each in file.replicas] == [3]


@virtual_time
async def test_a_file_with_other_bytes_and_the_same_size_never_serves() -> None:
    origin = File("a")
    async with federation(origin) as made:
        catalogue = Catalogue(*made.replicas)
        reader, file = made_of(made, catalogue)
        origin.data, origin.mtime_ns = DATA[:-1] + b"!", 2
        with pytest.raises(NoReplicaAvailable):
            await read(reader, file, 0)
        sampled = len(origin.calls)
        assert catalogue.scans == [("a", "album")], "it may have another name by now"
        await asyncio.sleep(0.2)
        with pytest.raises(NoReplicaAvailable):
            await read(reader, file, 0)
        assert (origin.stats, len(origin.calls)) == (1, sampled), "it is looked for every few seconds only"
        await asyncio.sleep(6)
        with pytest.raises(NoReplicaAvailable):
            await read(reader, file, 0)
        assert (origin.stats, len(origin.calls)) == (2, sampled), "the same version is never read again"


@virtual_time
async def test_many_handles_share_one_search() -> None:
    origin = File("a")
    async with federation(origin) as made:
        catalogue = Catalogue(*made.replicas)
        reader, first = made_of(made, catalogue)
        files = [first, *(OpenContent(SONG, first.replicas) for _ in range(9))]
        origin.mtime_ns, origin.stat_secs = 2, 0.5
        assert all(await asyncio.gather(*(read(reader, file, number % 3) for number, file in enumerate(files))))
        assert origin.stats == 1


@virtual_time
async def test_all_blocks_of_one_read_find_the_same_replicas() -> None:
    origin = File("a")
    async with federation(origin) as made:
        reader, file = made_of(made, Catalogue(*made.replicas))
        origin.mtime_ns = 2
        assert await reader.read(file, 0, SONG.size) == DATA
        assert origin.stats == 1


@virtual_time
async def test_a_search_that_began_before_the_file_changed_once_more_is_followed_by_another() -> None:
    origin = File("a")
    async with federation(origin) as made:
        reader, first = made_of(made, Catalogue(*made.replicas))
        second = OpenContent(SONG, [Replica(origin.id, PATH, len(DATA), 2)])
        origin.mtime_ns, origin.stat_secs = 2, 0.5
        beginning = asyncio.create_task(read(reader, first, 0))
        await asyncio.sleep(0.6)
        origin.mtime_ns, origin.stat_secs = 3, 0
        assert await read(reader, second, 1)
        assert await beginning


@virtual_time
async def test_a_renamed_file_serves_once_its_folder_is_scanned() -> None:
    origin, other = File("a"), File("b")
    async with federation(origin, other) as made:
        catalogue = Catalogue(origin.replica)
        reader, file = made_of(made, catalogue)
        origin.mtime_ns = None
        catalogue.finds = [other.replica]
        assert await read(reader, file)
        assert catalogue.scans == [("a", "album")]


@virtual_time
async def test_a_copy_that_the_catalogue_has_by_now_serves_without_a_search() -> None:
    origin, later = File("a"), File("b")
    async with federation(origin, later) as made:
        catalogue = Catalogue(origin.replica)
        reader, file = made_of(made, catalogue)
        catalogue.has.append(later.replica)
        origin.read_outcome = UNREACHABLE
        assert await read(reader, file)
        assert (origin.stats, catalogue.scans) == (0, [])


@virtual_time
@pytest.mark.parametrize("what", ["stat", "scan"])
async def test_a_search_that_hangs_takes_no_longer_than_the_reads_deadline(what: str) -> None:
    origin = File("a")
    async with federation(origin) as made:
        catalogue = Catalogue(*made.replicas)
        reader, file = made_of(made, catalogue)
        origin.mtime_ns = None if what == "scan" else 2
        origin.stat_secs, catalogue.scan_secs = (3600.0, 0) if what == "stat" else (0, 3600.0)
        start = now_ms()
        with pytest.raises(NoReplicaAvailable):
            await read(reader, file)
        assert now_ms() - start <= made.executor.patience * 1000
        start = now_ms()
        with pytest.raises(NoReplicaAvailable):
            await read(reader, file, 0)
        assert now_ms() - start < 500, "the next reads do not wait for what has just failed"
        await reader.aclose()


@virtual_time
async def test_of_two_touched_files_one_that_hangs_does_not_hold_up_the_other() -> None:
    hung, quick = File("a"), File("b")
    async with federation(hung, quick) as made:
        reader, file = made_of(made, Catalogue(*made.replicas))
        hung.mtime_ns = quick.mtime_ns = 2
        hung.stat_secs = 3600
        start = now_ms()
        assert await read(reader, file)
        assert now_ms() - start < 1000
        await reader.aclose()
