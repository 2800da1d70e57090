"""Scans of real audio in real folders: what appears in the tree, what is read, and what is never removed."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest

from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import DiskFolder, OriginId, Owner, Replica, Stat
from musicfs.origins.local.driver import LocalOrigin
from musicfs.tags.parser import FileOnDisk
from musicfs.testing.scanned_library import examine_on_disk
from tests.support.audio import make_album, make_audio, make_empty, make_garbage, make_mislabelled, make_truncated
from tests.support.earlier_catalogue import turn_back
from tests.support.library import BreakingOrigin, CountingOrigin, ScannedLibrary, scanned_library

JPEG = b"\xff\xd8\xff\xe0" + bytes(2000) + b"\xff\xd9"


class SlowlyListed(CountingOrigin):
    """Tells of a file now and then, until some were read."""

    read_meanwhile = False

    async def scan(self, under: str = "") -> AsyncIterator[Stat]:
        async for stat in self._origin.scan(under):
            yield stat
            if not self.files:
                await asyncio.sleep(0.02)
            elif not self.read_meanwhile:
                self.read_meanwhile = True


@pytest.fixture
def library(tmp_path: Path) -> Iterator[ScannedLibrary]:
    with scanned_library(tmp_path / "cache") as library:
        yield library


@pytest.fixture
def a(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    return tmp_path / "a"


@pytest.fixture
def b(tmp_path: Path) -> Path:
    (tmp_path / "b").mkdir()
    return tmp_path / "b"


async def test_the_same_bytes_at_two_origins_are_one_file_with_two_replicas(
    library: ScannedLibrary, a: Path, b: Path
) -> None:
    make_album(a / "One", "Artist", "Album", 2)
    shutil.copytree(a / "One", b / "elsewhere" / "copy")
    library.configure({"a": a, "b": b})
    await library.scan()
    assert library.paths() == [
        "Artist/Album (1999) [FLAC]/01 - Title 1.flac",
        "Artist/Album (1999) [FLAC]/02 - Title 2.flac",
    ]
    assert {o for o, _ in library.replicas(library.paths()[0])} == {"a", "b"}


async def test_names_do_not_depend_on_the_order_of_scans(tmp_path: Path, a: Path, b: Path) -> None:
    make_album(a, "Artist", "Album", 3, seed=1)
    make_album(b, "Artist", "Album", 3, seed=2)
    make_audio(a / "loose.mp3", tags=None)
    make_audio(b / "other" / "loose.mp3", tags=None, seed=9)
    seen = []
    for number, order in enumerate([("a", "b"), ("b", "a")]):
        with scanned_library(tmp_path / f"cache{number}") as library:
            library.configure({"a": a, "b": b})
            await library.scan(*order)
            seen.append(library.paths())
    assert seen[0] == seen[1]


async def test_a_rescan_with_nothing_changed_reads_nothing(library: ScannedLibrary, a: Path) -> None:
    make_album(a, "Artist", "Album", 5)
    library.configure({"a": a})
    await library.scan()
    before = library.nodes()
    origin = CountingOrigin(library.origins["a"])
    library.origins["a"] = origin  # type: ignore[assignment]
    result = (await library.scan())[0]
    assert (result.listed, result.read, origin.bytes_read) == (5, 0, 0)
    assert library.nodes() == before


async def test_a_scan_reads_a_small_part_of_each_file(library: ScannedLibrary, a: Path) -> None:
    path = make_audio(a / "long.flac", seconds=60, tags={"title": "Long", "artist": "A", "album": "B"})
    library.configure({"a": a})
    origin = CountingOrigin(library.origins["a"])
    library.origins["a"] = origin  # type: ignore[assignment]
    await library.scan()
    assert path.stat().st_size > 3_000_000
    assert 0 < origin.bytes_read < 300_000


async def test_an_interrupted_scan_resumes_where_it_stopped_and_removes_nothing(
    library: ScannedLibrary, a: Path
) -> None:
    for number in range(12):
        make_album(a, "Artist", f"Album {number:02}", 50 if number < 10 else 5, seconds=0.1)
    library.configure({"a": a})
    whole = library.origins["a"]
    failure = OriginFailed(OriginId("a"), OriginFault.UNREACHABLE, "cut")
    library.origins["a"] = BreakingOrigin(whole, 505, failure)  # type: ignore[assignment]
    first = (await library.scan())[0]
    assert first.error is not None
    assert 0 < len(library.paths()) < 510
    kept = library.nodes()
    origin = CountingOrigin(whole)
    library.origins["a"] = origin  # type: ignore[assignment]
    second = (await library.scan())[0]
    assert second.error is None
    assert second.read == 510 - len(kept)
    assert library.nodes().items() >= kept.items()
    library.origins["a"] = BreakingOrigin(whole, 3, failure)  # type: ignore[assignment]
    await library.scan()
    assert len(library.paths()) == 510


async def test_files_on_a_disk_are_read_where_they_are_parsed(
    library: ScannedLibrary, a: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the parse process itself; but for what a link leads to elsewhere, which the origin reads."""
    make_album(a / "One", "Artist", "Album", 40, seconds=0.1)
    (a / "Elsewhere").symlink_to(tmp_path / "other disk")
    make_album(tmp_path / "other disk", "Artist", "Other", 2, seconds=0.1, seed=1)
    library.configure({"a": a})
    read: set[str] = set()
    whole = LocalOrigin.read

    async def noted(self: LocalOrigin, replica: Replica, offset: int, size: int) -> bytes:
        read.add(replica.path)
        return await whole(self, replica, offset, size)

    monkeypatch.setattr(LocalOrigin, "read", noted)
    (result,) = await library.scan()
    assert (result.read, result.unreadable, len(library.paths())) == (42, 0, 42)
    assert {path.partition("/")[0] for path in read} == {"Elsewhere"}


async def test_where_files_can_not_be_opened_within_a_folder_the_origin_reads_them(
    library: ScannedLibrary, a: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on old kernels."""

    def missing(folder: int, path: str, through_links: bool) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("musicfs.library.disk_files.open_within", missing)
    make_album(a, "Artist", "Album", 3)
    library.configure({"a": a})
    assert (await library.scan())[0].read == 3
    assert len(library.paths()) == 3


async def test_files_are_read_while_the_listing_goes_on(library: ScannedLibrary, a: Path) -> None:
    make_album(a, "Artist", "Album", 200, seconds=0.1)
    library.configure({"a": a})
    origin = SlowlyListed(library.origins["a"])
    library.origins["a"] = origin  # type: ignore[assignment]
    (result,) = await library.scan()
    assert (result.read, result.added) == (200, 200)
    assert origin.read_meanwhile


async def test_broken_files_never_stop_a_scan_and_are_listed(library: ScannedLibrary, a: Path) -> None:
    make_empty(a / "empty.flac")
    make_empty(a / "also empty.flac")
    make_garbage(a / "garbage.mp3")
    make_truncated(a / "half.flac", tags={"title": "Half", "artist": "A", "album": "B"})
    make_mislabelled(a / "really an mp3.flac", "mp3", tags={"title": "Mp3", "artist": "A", "album": "B"})
    make_audio(a / "fine.ogg", tags={"title": "Fine", "artist": "A", "album": "B"})
    library.configure({"a": a})
    result = (await library.scan())[0]
    assert result.error is None
    names = {path.rpartition("/")[2] for path in library.paths()}
    assert {"empty.flac", "also empty.flac", "garbage.mp3", "Fine.ogg", "Half.flac", "Mp3.mp3"} <= names
    assert result.unreadable == 3
    garbage = next(p for p in library.paths() if p.endswith("garbage.mp3"))
    opened = library.view.open_file(library.nodes()[garbage])
    assert opened is not None
    assert library.view.problem(opened[0].id)


async def test_names_that_are_not_utf8_are_scanned_and_readable(library: ScannedLibrary, a: Path) -> None:
    raw = os.fsdecode(b"caf\xe9.flac")
    make_audio(a / "x.flac", tags=None).rename(a / raw)
    library.configure({"a": a})
    await library.scan()
    (path,) = library.paths()
    path.encode("utf-8")
    assert library.replicas(path) == [("a", raw)]


async def test_a_compilation_without_an_album_artist_is_filed_under_various_artists(
    library: ScannedLibrary, a: Path
) -> None:
    for number, artist in enumerate(["Abba", "Beck", "Cream"]):
        tags = {"title": f"T{number}", "artist": artist, "album": "Hits", "track": number + 1, "year": 1970 + number}
        make_audio(a / "Hits" / f"{number}.flac", seed=number, tags=tags)
    library.configure({"a": a})
    await library.scan()
    folders = {path.rpartition("/")[0] for path in library.paths()}
    assert folders == {"Various Artists/Hits (1972) [FLAC]"}


@pytest.mark.parametrize(
    ("artists", "folder"),
    [(["Abba", "Abba", "Beck", "Cream"], "Various Artists"), (["Abba", "Abba", "Beck"], "Abba")],
    ids=["half of the tracks", "more than half"],
)
async def test_an_album_is_its_most_frequent_artists_only_if_more_than_half_of_it_is(
    library: ScannedLibrary, a: Path, artists: list[str], folder: str
) -> None:
    for number, artist in enumerate(artists):
        tags = {"title": f"T{number}", "artist": artist, "album": "Hits", "track": number + 1}
        make_audio(a / "Hits" / f"{number}.flac", seed=number, tags=tags)
    library.configure({"a": a})
    await library.scan()
    assert {path.split("/")[0] for path in library.paths()} == {folder}


async def test_guests_do_not_split_an_album(library: ScannedLibrary, a: Path) -> None:
    for number, artist in enumerate(["Beck", "Beck feat. Cream", "Beck"]):
        tags = {"title": f"T{number}", "artist": artist, "album": "Odelay", "track": number + 1}
        make_audio(a / "Odelay" / f"{number}.flac", seed=number, tags=tags)
    library.configure({"a": a})
    await library.scan()
    assert {path.split("/")[0] for path in library.paths()} == {"Beck"}


async def test_an_album_of_two_discs_is_one_folder_with_disc_numbers(library: ScannedLibrary, a: Path) -> None:
    """The first disc's files say nothing of a second one; its folder does."""
    for disc in (1, 2):
        for track in (1, 2):
            tags = {"title": f"D{disc}T{track}", "artist": "A", "album": "Double", "track": track}
            make_audio(a / "Double" / f"CD{disc}" / f"{track}.flac", seed=disc * 10 + track, tags=tags)
    (a / "Double" / "cover.jpg").write_bytes(JPEG)
    library.configure({"a": a})
    await library.scan()
    assert library.paths() == [
        "A/Double [FLAC]/1-01 - D1T1.flac",
        "A/Double [FLAC]/1-02 - D1T2.flac",
        "A/Double [FLAC]/2-01 - D2T1.flac",
        "A/Double [FLAC]/2-02 - D2T2.flac",
        "A/Double [FLAC]/cover.jpg",
    ]


async def test_sidecars_appear_beside_their_tracks_and_lyrics_under_their_tracks_name(
    library: ScannedLibrary, a: Path
) -> None:
    make_audio(a / "X" / "track1.flac", tags={"title": "Song", "artist": "A", "album": "B", "track": 1})
    (a / "X" / "track1.lrc").write_text("[00:00.00] la")
    (a / "X" / "Cover.JPG").write_bytes(JPEG)
    (a / "X" / "Scans").mkdir()
    (a / "X" / "Scans" / "back.png").write_bytes(JPEG[::-1])
    (a / "X" / ".hidden.jpg").write_bytes(JPEG)
    (a / "X" / "notes.xyz").write_text("unknown")
    library.configure({"a": a})
    await library.scan()
    assert library.paths() == [
        "A/B [FLAC]/01 - Song.flac",
        "A/B [FLAC]/01 - Song.lrc",
        "A/B [FLAC]/Cover.JPG",
        "A/B [FLAC]/Scans/back.png",
    ]


async def test_a_path_template_shows_the_union_of_the_origins_folders(tmp_path: Path, a: Path, b: Path) -> None:
    make_album(a / "in" / "A", "Artist", "Album", 1, folder="x")
    make_album(b / "in" / "B", "Artist", "Other", 1, folder="y")
    (b / "in" / "B" / "y" / "cover.jpg").write_bytes(JPEG)
    with scanned_library(tmp_path / "cache", template="$path") as library:
        library.configure({"a": a, "b": b})
        await library.scan()
        real = sorted(str(p.relative_to(root)) for root in (a, b) for p in root.rglob("*") if p.is_file())
        assert library.paths() == real


async def test_a_real_deletion_of_a_little_goes_and_of_much_is_held_and_reported_once(
    library: ScannedLibrary, a: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5):
        make_album(a / str(number), "Artist", f"Album {number}", 4, seed=number)
    library.configure({"a": a})
    await library.scan()
    shutil.rmtree(a / "0")
    result = (await library.scan())[0]
    assert (result.removed, result.removals_held) == (4, 0)
    assert len(library.paths()) == 16
    shutil.rmtree(a / "1")
    shutil.rmtree(a / "2")
    result = (await library.scan())[0]
    assert (result.removed, result.removals_held) == (0, 8)
    assert len(library.paths()) == 16
    assert library.view_now().origins()[0].held == 8
    await library.scan()  # and so for a day, at every poll
    assert [record.getMessage()[:33] for record in caplog.records] == ["8 files are gone from origin a: t"]
    library.catalog.set_accept_removals("a", True)
    result = (await library.scan())[0]
    assert (result.removed, result.removals_held) == (8, 0)
    assert len(library.paths()) == 8
    assert not library.catalog.accepts_removals("a")


@pytest.mark.parametrize("tracks", [2, 3])
async def test_the_loss_of_all_files_of_a_small_origin_is_held(library: ScannedLibrary, a: Path, tracks: int) -> None:
    """So few may go otherwise. A file that no player shows is left, so that the root is not empty."""
    make_album(a / "1", "Artist", "Album", tracks)
    (a / "notes.odt").write_bytes(b"")
    library.configure({"a": a})
    await library.scan()
    shutil.rmtree(a / "1")
    (result,) = await library.scan()
    assert (result.removed, result.removals_held) == (0, tracks)
    assert len(library.paths()) == tracks


async def test_a_big_removal_that_a_watch_sees_piece_by_piece_is_held_too(library: ScannedLibrary, a: Path) -> None:
    for number in range(8):
        make_album(a / str(number), "Artist", f"Album {number}", 2, seed=number)
    library.configure({"a": a})
    await library.scan()
    held = 0
    for number in range(7):
        shutil.rmtree(a / str(number))
        (result,) = await library.scan("a", under=[str(number)])
        held += result.removals_held
    assert len(library.paths()) == 12
    assert held == 10
    assert library.view_now().origins()[0].held


async def test_a_clock_that_jumps_removes_nothing_and_lets_no_more_go(
    library: ScannedLibrary, a: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        make_album(a / str(number), "Artist", f"Album {number}", 2, seed=number)
    library.configure({"a": a})
    await library.scan()
    now = time.time()
    for years in (-30, 30, -60):
        monkeypatch.setattr("musicfs.catalog.writer.time", SimpleNamespace(time=lambda: now + years * 3e7))  # noqa: B023
        (result,) = await library.scan()
        assert (result.error, result.removed, result.removals_held) == (None, 0, 0)
    shutil.rmtree(a / "0")
    shutil.rmtree(a / "1")
    assert (await library.scan())[0].removed == 4
    monkeypatch.setattr("musicfs.catalog.writer.time", SimpleNamespace(time=lambda: now - 90 * 3e7))
    shutil.rmtree(a / "2")
    (result,) = await library.scan()
    assert (result.removed, result.removals_held) == (0, 2)


async def test_files_that_only_moved_are_no_removal_however_many(library: ScannedLibrary, a: Path) -> None:
    for number in range(5):
        make_album(a / "old" / str(number), "Artist", f"Album {number}", 2, seed=number)
    library.configure({"a": a})
    await library.scan()
    before = library.nodes()
    (a / "old").rename(a / "new")
    (result,) = await library.scan("a", under=["new", "old"])
    assert (result.removed, result.removals_held) == (10, 0)
    assert library.nodes() == before


async def test_an_emptied_or_missing_root_removes_nothing(library: ScannedLibrary, a: Path, tmp_path: Path) -> None:
    make_album(a, "Artist", "Album", 2)
    library.configure({"a": a})
    await library.scan()
    a.rename(tmp_path / "away")
    assert (await library.scan())[0].error is not None
    a.mkdir()
    assert (await library.scan())[0].error is not None
    assert len(library.paths()) == 2
    a.rmdir()
    (tmp_path / "away").rename(a)
    assert (await library.scan())[0].error is None
    assert len(library.paths()) == 2


async def test_a_scan_of_one_path_adds_and_removes_just_that(library: ScannedLibrary, a: Path) -> None:
    first = make_album(a / "1", "Artist", "One", 2)
    make_album(a / "2", "Artist", "Two", 3, seed=1)
    library.configure({"a": a})
    await library.scan()
    make_album(a / "3", "Artist", "Three", 1, seed=2)
    first[0].unlink()
    relative = [str(p.relative_to(a)) for p in (first[0], a / "3")]
    result = (await library.scan("a", under=relative))[0]
    assert (result.added, result.removed) == (1, 1)
    assert len(library.paths()) == 5


async def test_a_retagged_file_moves_in_the_tree(library: ScannedLibrary, a: Path) -> None:
    path = make_audio(a / "x.flac", tags={"title": "Old", "artist": "A", "album": "B"})
    library.configure({"a": a})
    await library.scan()
    make_audio(path, tags={"title": "New", "artist": "A", "album": "B"})
    os.utime(path, ns=(1, 1))
    result = (await library.scan())[0]
    assert result.changed == 1
    assert library.paths() == ["A/B [FLAC]/New.flac"]


async def test_another_copy_speaks_for_a_content_when_the_first_goes(library: ScannedLibrary, a: Path, b: Path) -> None:
    make_album(a / "1", "Artist", "Album", 2)
    shutil.copytree(a / "1", b / "2")
    make_album(a / "rest", "Artist", "Rest", 8, seed=3)
    library.configure({"a": a, "b": b})
    await library.scan()
    before = library.nodes()
    shutil.rmtree(a / "1")
    await library.scan("a")
    assert library.nodes() == before
    assert [o for o, _ in library.replicas("Artist/Album (1999) [FLAC]/01 - Title 1.flac")] == ["b"]


async def test_an_origin_that_is_no_longer_configured_takes_its_own_files_and_brings_them_back(
    library: ScannedLibrary, a: Path, b: Path
) -> None:
    make_album(a / "shared", "Artist", "Shared", 2)
    shutil.copytree(a / "shared", b / "other name")
    make_album(a / "own", "Artist", "Own", 2, seed=1)
    library.configure({"a": a, "b": b})
    await library.scan()
    before = library.nodes()
    library.configure({"b": b})
    assert {p.split("/")[1] for p in library.paths()} == {"Shared (1999) [FLAC]"}
    assert library.nodes().items() <= before.items()
    library.configure({"a": a, "b": b})
    assert library.paths() == sorted(before)


async def test_an_origin_more_changes_neither_names_nor_inode_numbers(
    library: ScannedLibrary, a: Path, b: Path, tmp_path: Path
) -> None:
    make_album(a, "Artist", "Album", 3)
    shutil.copytree(a, b, dirs_exist_ok=True)
    library.configure({"a": a, "b": b})
    await library.scan()
    before = library.nodes()
    for more in ("c", "d"):
        shutil.copytree(a, tmp_path / more)
    library.configure({"a": a, "b": b, "c": tmp_path / "c", "d": tmp_path / "d"})
    await library.scan()
    assert library.nodes() == before
    assert len(library.replicas(next(iter(before)))) == 4


async def test_variants_follow_what_can_be_reached_and_keep_their_inode_numbers(
    library: ScannedLibrary, a: Path, b: Path
) -> None:
    """One track in two contents: one name, and an inode number for each content that it always comes back to."""
    tags = {"title": "Song", "artist": "A", "album": "B"}
    make_audio(a / "song.flac", tags=tags, seed=1)
    make_audio(b / "song.flac", tags=tags, seed=2)
    library.configure({"a": a, "b": b})
    await library.scan()
    (path,) = library.paths()
    first = library.nodes()[path]
    assert library.replicas(path) == [("a", "song.flac")]

    def reach(origin: str, reachable: bool) -> None:
        with library.catalog.transaction():
            library.catalog.set_reachable(origin, reachable)
            library.builder.update((), library.catalog.entries.dirs_with_variants())

    reach("a", False)
    assert library.paths() == [path]
    assert library.replicas(path) == [("b", "song.flac")]
    second = library.nodes()[path]
    assert second != first
    reach("a", True)
    assert library.nodes()[path] == first
    reach("a", False)
    assert library.nodes()[path] == second


async def test_directories_that_become_empty_go(library: ScannedLibrary, a: Path) -> None:
    make_album(a / "1", "Gone", "Album", 1)
    make_album(a / "2", "Here", "Album", 9, seed=1)
    library.configure({"a": a})
    await library.scan()
    shutil.rmtree(a / "1")
    await library.scan()
    names = [row[1] for row in library.view_now().children(1, 0, 10)]
    assert names == ["Here"]


# Links that are left out


async def test_what_links_hide_goes_at_once_however_much_and_is_counted_until_they_are_followed(
    library: ScannedLibrary, a: Path, tmp_path: Path
) -> None:
    """It is refused when it is read, so it is not kept as what has gone is. The rest stays held back as ever."""
    make_album(a, "Artist", "Here", 4)
    make_album(tmp_path / "outside", "Artist", "There", 9)
    (a / "link").symlink_to(tmp_path / "outside")
    library.configure({"a": a}, links="all")
    await library.scan()
    assert len(library.paths()) == 13
    library.configure({"a": a}, links="inside")
    shutil.rmtree(a / "Artist")
    (a / "other.mp3").write_bytes(b"not much")
    (done,) = await library.scan()
    assert (done.removed, done.removals_held, done.links_left_out) == (9, 4, 1)
    assert len(library.paths()) == 5
    (origin,) = library.view_now().origins()
    assert (origin.left_out, origin.hidden, origin.held) == (1, 9, 4)
    (done,) = await library.scan()
    (origin,) = library.view_now().origins()
    assert (done.removed, origin.left_out, origin.hidden) == (0, 1, 9)
    library.configure({"a": a}, links="all")
    (done,) = await library.scan()
    (origin,) = library.view_now().origins()
    assert (done.added, origin.left_out, origin.hidden) == (9, 0, 0)


async def test_a_look_at_one_folder_counts_the_links_of_that_folder_only(
    library: ScannedLibrary, a: Path, tmp_path: Path
) -> None:
    make_album(tmp_path / "outside", "Artist", "There", 2)
    for name in ("x", "xy", "x-z"):
        make_audio(a / name / "song.flac")
        (a / name / "link").symlink_to(tmp_path / "outside")
    library.configure({"a": a}, links="inside")
    assert (await library.scan())[0].links_left_out == 3
    (a / "x/link").unlink()
    assert (await library.scan(under=["x"]))[0].links_left_out == 2
    (a / "x/again").symlink_to("/etc")
    assert (await library.scan(under=["x/again"]))[0].links_left_out == 3
    (a / "x/again").unlink()
    assert (await library.scan(under=["x/again"]))[0].links_left_out == 2


# Whom files belong to


def owner_of(library: ScannedLibrary, path: str) -> tuple[int | None, int | None, int | None]:
    node = library.view_now().owned_inode(library.nodes()[path])
    assert node is not None
    return node.uid, node.gid, node.mode


async def test_another_mode_is_noticed_and_reads_no_file_again(library: ScannedLibrary, a: Path) -> None:
    make_album(a, "Artist", "Album", 2)
    library.configure({"a": a})
    await library.scan()
    path, song = library.paths()[0], next(path for path in sorted(a.rglob("*.flac")))
    nodes = library.nodes()
    assert owner_of(library, path)[:2] == (os.getuid(), os.getgid())
    song.chmod(0o200)  # pytest's own folders are closed to others
    library.changes.clear()
    (done,) = await library.scan()
    assert (done.read, done.changed, done.error) == (0, 0, None)
    assert owner_of(library, path) == (os.getuid(), os.getgid(), 0)
    assert library.nodes() == nodes
    (told,) = [changes for changes in library.changes if changes]
    folder = library.view_now().find(path.rpartition("/")[0])
    assert (told.attributes, told.entries, told.directories) == ({(folder, nodes[path])}, set(), {})


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Every user gets there, as not to pytest's own folders."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


async def test_of_several_copies_the_one_that_most_users_may_read_says_who_may(
    library: ScannedLibrary, open_folder: Path
) -> None:
    """They are the same bytes. A copy at an origin that knows of no owners is marked as such."""
    a, b = open_folder / "a", open_folder / "b"
    make_audio(a / "song.flac", tags={"title": "Song"})
    make_audio(b / "other.flac", tags={"title": "Other"})
    shutil.copy2(a / "song.flac", b / "song.flac")
    (a / "song.flac").chmod(0o600)
    (b / "song.flac").chmod(0o644)
    library.configure({"a": a, "b": b})
    await library.scan()
    path = next(path for path in library.paths() if "song" in path.lower())
    assert owner_of(library, path) == (os.getuid(), os.getgid(), 0o444)
    (b / "song.flac").chmod(0o600)
    await library.scan()
    assert owner_of(library, path) == (os.getuid(), os.getgid(), 0o400)
    library.origins["b"] = OwnerlessOrigin(library.origins["b"])  # type: ignore[assignment]
    await library.scan()
    assert owner_of(library, path) == (os.getuid(), os.getgid(), 0o1400)
    assert owner_of(library, next(path for path in library.paths() if "other" in path.lower())) == (None, None, None)


class OwnerlessOrigin(CountingOrigin):
    """As a remote one."""

    async def scan(self, under: str = "") -> AsyncIterator[Stat]:
        async for stat in self._origin.scan(under):
            yield replace(stat, owner=None)


async def test_a_catalogue_from_before_owners_is_kept_and_learns_them_without_reading(tmp_path: Path, a: Path) -> None:
    make_album(a, "Artist", "Album", 3)
    with scanned_library(tmp_path / "cache") as library:
        library.configure({"a": a})
        await library.scan()
        nodes = library.nodes()
    turn_back(tmp_path / "cache/catalog.sqlite", 4)
    with scanned_library(tmp_path / "cache") as library:
        library.configure({"a": a})
        assert {owner_of(library, path) for path in nodes} == {(None, None, None)}
        (done,) = await library.scan()
        assert (done.read, done.added, done.changed, done.removed) == (0, 0, 0, 0)
        assert library.nodes() == nodes
        assert {owner_of(library, path)[0] for path in nodes} == {os.getuid()}


class StrangersOrigin(CountingOrigin):
    """A folder into which another user puts files: they are listed as that user's, and open to all."""

    async def scan(self, under: str = "") -> AsyncIterator[Stat]:
        async for stat in self._origin.scan(under):
            yield replace(stat, owner=Owner(os.getuid() + 1, os.getgid(), 0o444))


async def test_a_file_of_another_user_in_the_place_of_one_is_read_before_its_mode_counts(
    library: ScannedLibrary, open_folder: Path
) -> None:
    """Of the same size and time: else its mode would open what was private. While it is read it must be that user's."""
    make_audio(open_folder / "song.flac", tags={"title": "Song"})
    (open_folder / "song.flac").chmod(0o600)
    library.configure({"a": open_folder})
    await library.scan()
    (path,) = library.paths()
    strangers = StrangersOrigin(library.origins["a"])
    library.origins["a"] = strangers  # type: ignore[assignment]
    (done,) = await library.scan()
    assert (done.read, done.error) == (0, None), "what was read was our file"
    assert owner_of(library, path) == (os.getuid(), os.getgid(), 0o400)
    listed = [stat async for stat in strangers.scan()]
    with pytest.raises(ReplicaFailed) as failed:
        await strangers.read(Replica.of(OriginId("a"), listed[0]), 0, 1)
    assert failed.value.fault is ReplicaFault.CHANGED
    size, mtime = listed[0].size, listed[0].mtime_ns
    for uid, is_read in ((os.getuid(), True), (os.getuid() + 1, False)):
        file = FileOnDisk("song.flac", "sidecar", size, mtime, uid)
        (found,) = examine_on_disk(DiskFolder(str(open_folder), through_links=True), [file])
        assert (found is not None) is is_read
