"""The contract of every kind of origin. A kind's tests inherit `OriginContract` and give it an environment."""

from __future__ import annotations

import asyncio
import itertools
import random
import unicodedata
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pytest

from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import HealthStatus, OriginId, Replica, Stat
from musicfs.origin import FolderIdentity, KnowsItsFolder, Origin, ReadsNow, ReadsRanges
from musicfs.testing.scanned_library import scanned_library

AWKWARD = [
    unicodedata.normalize("NFC", "Björk/Vespertine/01 Hidden Place.flac"),
    unicodedata.normalize("NFD", "Sigur Rós/Ágætis byrjun.flac"),
    unicodedata.normalize("NFC", "both forms/Ágætis.flac"),
    unicodedata.normalize("NFD", "both forms/Ágætis.flac"),
    "宇多田ヒカル/初恋.flac",
    " leading and trailing /a b  c.flac",
    "signs #%+&'; []/what? 100% \"it's\" $x.flac",
    "back\\slash/*star*.flac",
    "new\nline/tab\there.flac",
    "dots../a...and more.flac",
    f"{'d' * 255}/{'ä' * 125}.flac",
]
NOT_UTF8 = b"caf\xe9/na\xefve.flac".decode("utf-8", "surrogateescape")


class OriginEnv(Protocol):
    """The store of one origin, which a test changes behind the origin's back."""

    any_bytes: bool
    """Whether names may hold bytes that are not UTF-8."""

    async def open(self, populated: bool = False) -> Origin:
        """A new origin over the store; the environment closes it."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Creates or replaces a file, and its folders; the new version differs from the old in size or time."""
        ...

    def date(self, path: str, mtime_ns: int) -> bool:
        """Sets the file's time. Returns False if the store sets the times itself."""
        ...

    def write_sparse(self, path: str, size: int, at: int, data: bytes) -> None:
        """Creates a file of `size` zero bytes, except `data` at `at`."""
        ...

    def remove(self, path: str) -> None: ...

    def denied(self, path: str) -> AbstractContextManager[None]:
        """Origins that are opened within may not read the file or folder."""
        ...

    def empty_root(self) -> None: ...

    def remove_root(self) -> None: ...


async def identity(origin: Origin) -> FolderIdentity:
    """Returns what the origin's root really is."""
    assert isinstance(origin, KnowsItsFolder)
    return await origin.identify_folder()


async def listing(origin: Origin, under: str = "") -> dict[str, Stat]:
    found = [stat async for stat in origin.scan(under)]
    assert len({stat.path for stat in found}) == len(found), "a file was listed twice"
    return {stat.path: stat for stat in found}


async def replica(origin: Origin, path: str) -> Replica:
    return Replica.of(OriginId(origin.id), await origin.stat(path))


class OriginContract:
    """The tests. `env` is a fixture of the module of the subclass."""

    # Reading several ranges, where that is offered

    async def test_several_ranges_are_read_as_each_of_them_is(self, env: OriginEnv) -> None:
        data = random.Random(3).randbytes(500_000)
        env.write("song.flac", data)
        origin = await env.open()
        if not isinstance(origin, ReadsRanges):
            return
        wanted = [(0, 65536), (200_000, 16384), (499_000, 65536), (500_000, 10), (300_001, 0)]
        song = await replica(origin, "song.flac")
        assert await origin.read_ranges(song, wanted) == [data[at : at + size] for at, size in wanted]
        env.write("song.flac", data[::-1])
        with pytest.raises(ReplicaFailed) as failed:
            await origin.read_ranges(song, wanted)
        assert failed.value.fault is ReplicaFault.CHANGED
        env.remove("song.flac")
        with pytest.raises(ReplicaFailed) as failed:
            await origin.read_ranges(song, wanted)
        assert failed.value.fault in (ReplicaFault.MISSING, ReplicaFault.CHANGED)

    # Listing

    @pytest.mark.parametrize("year", [1500, 1960, 2110, 2400])
    async def test_a_file_of_any_time_is_listed_and_read(self, env: OriginEnv, year: int) -> None:
        env.write("song.flac", b"12345")
        if not env.date("song.flac", (year - 1970) * 31_557_600 * 10**9):
            return
        origin = await env.open()
        song = await replica(origin, "song.flac")
        assert -(2**63) <= song.mtime_ns < 2**63
        assert await origin.read(song, 1, 3) == b"234"
        if isinstance(origin, ReadsRanges):
            assert await origin.read_ranges(song, [(0, 2), (3, 2)]) == [b"12", b"45"]
        if isinstance(origin, ReadsNow):
            assert bytes(origin.read_now(song, 1, 3) or b"234") == b"234"
        assert song.is_version(await origin.stat("song.flac"))

    async def test_awkward_names_are_listed_and_read_exactly(self, env: OriginEnv) -> None:
        names = AWKWARD + ([NOT_UTF8] if env.any_bytes else [])
        for name in names:
            env.write(name, name.encode("utf-8", "surrogateescape"))
        origin = await env.open()
        found = await listing(origin)
        assert sorted(found) == sorted(names)
        for name, stat in found.items():
            data = await origin.read(Replica.of(OriginId(origin.id), stat), 0, 1000)
            assert data == name.encode("utf-8", "surrogateescape")

    async def test_a_folder_of_2100_files_is_listed_whole(self, env: OriginEnv) -> None:
        names = {f"all/{n:04}.flac" for n in range(2100)}
        for name in names:
            env.write(name, b"x")
        assert set(await listing(await env.open())) == names

    async def test_a_folders_files_are_listed_together(self, env: OriginEnv) -> None:
        for name in ("a/1", "a/2", "a/b/1", "a/b/2", "c/1", "a/3", "z"):
            env.write(name, b"x")
        folders = [stat.path.rpartition("/")[0] async for stat in (await env.open()).scan()]
        changes = sum(before != after for before, after in itertools.pairwise(folders))
        assert changes == len(set(folders)) - 1

    async def test_a_scan_can_begin_at_a_folder_or_a_file(self, env: OriginEnv) -> None:
        for name in ("a/1", "a/b/2", "ab/3"):
            env.write(name, b"x")
        origin = await env.open()
        assert set(await listing(origin, "a")) == {"a/1", "a/b/2"}
        assert set(await listing(origin, "a/b/2")) == {"a/b/2"}

    async def test_a_scan_of_a_missing_folder_says_so(self, env: OriginEnv) -> None:
        env.write("a", b"x")
        with pytest.raises(ReplicaFailed) as failed:
            await listing(await env.open(), "nowhere")
        assert failed.value.fault is ReplicaFault.MISSING

    async def test_a_scan_can_be_left_half_way(self, env: OriginEnv) -> None:
        for n in range(50):
            env.write(f"{n}/x", b"x")
        origin = await env.open()
        async for _ in origin.scan():
            break
        assert len(await listing(origin)) == 50

    async def test_stat_agrees_with_the_listing(self, env: OriginEnv) -> None:
        env.write("a/b.flac", b"12345")
        origin = await env.open()
        stat = await origin.stat("a/b.flac")
        assert stat.size == 5
        assert await listing(origin) == {"a/b.flac": stat}

    @pytest.mark.parametrize("path", ["nowhere", "a", "a/b.flac/c", ""])
    async def test_stat_of_what_is_no_file_is_missing(self, env: OriginEnv, path: str) -> None:
        env.write("a/b.flac", b"12345")
        with pytest.raises(ReplicaFailed) as failed:
            await (await env.open()).stat(path)
        assert failed.value.fault is ReplicaFault.MISSING

    # Reading

    async def test_any_range_is_read_exactly(self, env: OriginEnv) -> None:
        """Also across the end, short there, and past it, empty."""
        chance = random.Random(7)
        data = chance.randbytes(300_000)
        env.write("a.flac", data)
        origin = await env.open()
        file = await replica(origin, "a.flac")
        edges = [(0, len(data)), (len(data) - 1, 10), (len(data), 10), (len(data) + 5, 10), (7, 0), (0, len(data) + 1)]
        for offset, size in edges + [(chance.randrange(310_000), chance.randrange(150_000)) for _ in range(100)]:
            assert await origin.read(file, offset, size) == data[offset : offset + size]

    async def test_an_empty_file_reads_as_nothing(self, env: OriginEnv) -> None:
        env.write("a.flac", b"")
        origin = await env.open()
        assert await origin.read(await replica(origin, "a.flac"), 0, 100) == b""

    async def test_a_file_over_4_gib_is_read_at_its_far_end(self, env: OriginEnv) -> None:
        size = (5 << 30) + 3
        env.write_sparse("big.flac", size, (4 << 30) - 4, b"frontier")
        origin = await env.open()
        file = await replica(origin, "big.flac")
        assert file.size == size
        assert await origin.read(file, (4 << 30) - 5, 10) == b"\0frontier\0"
        assert await origin.read(file, size - 2, 10) == b"\0\0"

    async def test_32_reads_at_once_do_not_mix(self, env: OriginEnv) -> None:
        chance = random.Random(8)
        contents = {f"{n}.flac": chance.randbytes(100_000) for n in range(32)}
        for name, data in contents.items():
            env.write(name, data)
        origin = await env.open()
        files = [await replica(origin, name) for name in contents]
        got = await asyncio.gather(*(origin.read(file, 1000, 50_000) for file in files))
        assert got == [data[1000:51_000] for data in contents.values()]

    async def test_cancelled_reads_leave_the_origin_working(self, env: OriginEnv) -> None:
        env.write("a.flac", b"x" * 1_000_000)
        origin = await env.open()
        file = await replica(origin, "a.flac")
        for turns in range(4):
            tasks = [asyncio.create_task(origin.read(file, 0, 1_000_000)) for _ in range(20)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, (asyncio.CancelledError, bytes)) for result in results)
        assert await origin.read(file, 999_999, 5) == b"x"

    # Refusing

    async def test_a_file_that_is_gone_is_missing(self, env: OriginEnv) -> None:
        env.write("a.flac", b"12345")
        env.write("b.flac", b"12345")
        origin = await env.open()
        file = await replica(origin, "a.flac")
        env.remove("a.flac")
        with pytest.raises(ReplicaFailed) as failed:
            await origin.read(file, 0, 5)
        assert failed.value.fault is ReplicaFault.MISSING

    @pytest.mark.parametrize("now", [b"54321", b"123456789", b""])
    async def test_a_file_replaced_since_the_scan_is_refused(self, env: OriginEnv, now: bytes) -> None:
        env.write("a.flac", b"12345")
        origin = await env.open()
        file = await replica(origin, "a.flac")
        env.write("a.flac", now)
        with pytest.raises(ReplicaFailed) as failed:
            await origin.read(file, 0, 5)
        assert failed.value.fault is ReplicaFault.CHANGED

    async def test_a_denied_file_blames_the_file_alone(self, env: OriginEnv) -> None:
        env.write("a.flac", b"12345")
        env.write("b.flac", b"12345")
        file = await replica(await env.open(), "a.flac")
        with env.denied("a.flac"):
            origin = await env.open()
            with pytest.raises(ReplicaFailed) as failed:
                await origin.read(file, 0, 5)
            assert await origin.health() is HealthStatus.HEALTHY
        assert failed.value.fault is ReplicaFault.DENIED

    async def test_a_denied_folder_fails_the_scan_by_name(self, env: OriginEnv) -> None:
        """A listing that silently lacked it would look as if its music had been deleted."""
        env.write("open/a.flac", b"12345")
        env.write("closed/b.flac", b"12345")
        with env.denied("closed"):
            origin = await env.open()
            with pytest.raises(OriginFailed, match="closed") as failed:
                await listing(origin)
        assert failed.value.fault is OriginFault.DENIED

    @pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../outside", ".."])
    async def test_a_path_out_of_the_root_is_not_followed(self, env: OriginEnv, path: str) -> None:
        env.write("a/b", b"x")
        origin = await env.open()
        with pytest.raises(ReplicaFailed):
            await origin.stat(path)
        with pytest.raises(ReplicaFailed):
            await origin.read(Replica(OriginId(origin.id), path, 1, 1), 0, 1)

    # The whole origin

    async def test_an_empty_new_origin_is_healthy_and_has_no_files(self, env: OriginEnv) -> None:
        origin = await env.open(populated=False)
        assert await origin.health() is HealthStatus.HEALTHY
        assert await listing(origin) == {}

    async def test_an_emptied_origin_fails_instead_of_having_no_files(self, env: OriginEnv) -> None:
        """An unmounted disk leaves an empty folder behind."""
        env.write("a.flac", b"12345")
        file = await replica(await env.open(), "a.flac")
        env.empty_root()
        await self._fails_whole(await env.open(populated=True), file)

    async def test_an_origin_emptied_since_it_was_seen_fails(self, env: OriginEnv) -> None:
        env.write("a.flac", b"12345")
        origin = await env.open(populated=False)
        file = await replica(origin, "a.flac")
        assert await origin.health() is HealthStatus.HEALTHY
        env.empty_root()
        await self._fails_whole(origin, file)

    async def test_a_vanished_root_fails_the_origin_and_not_the_file(self, env: OriginEnv) -> None:
        env.write("a.flac", b"12345")
        origin = await env.open()
        file = await replica(origin, "a.flac")
        env.remove_root()
        await self._fails_whole(origin, file)

    async def test_absence_removes_nothing_from_a_library_and_a_deletion_does(
        self, env: OriginEnv, tmp_path: Path
    ) -> None:
        for number in range(8):
            env.write(f"{'closed' if number < 2 else 'open'}/{number}.flac", bytes(100 + number))
        with scanned_library(tmp_path / "library") as library:
            library.adopt(await env.open())
            (scan,) = await library.scan()
            assert (scan.added, scan.error) == (8, None)
            before = library.nodes()
            with env.denied("closed"):
                library.adopt(await env.open(populated=True))
                await library.scan()
                assert library.nodes() == before
            library.adopt(await env.open(populated=True))
            env.remove("closed/0.flac")
            (scan,) = await library.scan()
            assert (scan.removed, scan.removals_held, scan.error) == (1, 0, None)
            before = library.nodes()
            assert len(before) == 7
            for absence in (env.empty_root, env.remove_root):
                absence()
                for origin in (None, await env.open(populated=True)):  # the one that saw it whole, and a new one
                    library.adopt(origin)
                    (scan,) = await library.scan()
                    assert (scan.removed, scan.error is None) == (0, False)
                    assert library.nodes() == before

    async def test_after_closing_everything_fails_as_unreachable(self, env: OriginEnv) -> None:
        env.write("a.flac", b"12345")
        origin = await env.open()
        file = await replica(origin, "a.flac")
        await origin.aclose()
        await self._fails_whole(origin, file)
        await origin.aclose()

    async def _fails_whole(self, origin: Origin, file: Replica) -> None:
        for attempt in (origin.health(), listing(origin), origin.read(file, 0, 5), origin.stat("a.flac")):
            with pytest.raises(OriginFailed) as failed:
                await attempt
            assert failed.value.fault is OriginFault.UNREACHABLE
            assert failed.value.origin == origin.id
