"""Files that were only tagged anew: what is cached of them serves again, and what is fetched is counted."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mutagen
import pytest
from mutagen.apev2 import APEv2
from mutagen.flac import Picture
from mutagen.id3 import APIC, ID3, TIT2
from mutagen.mp4 import MP4Cover

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.cache.store import BlockStore
from musicfs.content.audio_region import AudioRegion, FilePages, find_audio
from musicfs.content.checksums import REUSED, Checksums
from musicfs.content.open_content import OpenContent
from musicfs.content.reader import Reader
from musicfs.content.records import digest_of
from musicfs.events import EventBus, ReplicaQuarantined
from musicfs.model import Content
from musicfs.tags.fingerprint import fingerprint
from tests.support.audio import make_audio
from tests.support.fakes import FakeOrigin
from tests.support.federation import federation, settle
from tests.support.library import ScannedLibrary, scanned_library
from tests.support.virtualtime import virtual_time

COVER = random.Random(1).randbytes(300_000)
TAGS = {"title": "Song", "artist": "Artist", "album": "Album", "track": 1}
SECONDS = {"flac": 40, "mp3": 20, "m4a": 40}

Retag = Callable[[Path], None]


def content_of(data: bytes) -> Content:
    return Content(hash(data), fingerprint(len(data), {0: data}), len(data))


@dataclass
class Outcome:
    """data: what was read of the new file; fetched: the bytes that its origin gave. again: what another reader got, and
    what that had to fetch."""

    data: bytes
    fetched: int
    again: bytes
    fetched_again: int


def bytes_given(origin: FakeOrigin) -> int:
    return sum(min(call.size, len(origin.data) - call.offset) for call in origin.calls)


async def audio_of(data: bytes) -> AudioRegion | None:
    async def get(offset: int, size: int) -> bytes:
        return data[offset : offset + size]

    return await find_audio(FilePages(len(data), get))


async def play_retagged(
    cache: Path, old: bytes, new: bytes, *, known: bool = True, heard: int | None = None
) -> Outcome:
    """Plays the old file (its first `heard` bytes), then the new one that took its place."""
    before, after = content_of(old), content_of(new)
    store = BlockStore(cache, 1 << 30, EventBus())
    cache.mkdir(exist_ok=True)
    await store.start()
    checksums = Checksums()
    try:
        for content, data in ((before, old), (after, new)):
            origin = FakeOrigin("nas", data=data)
            async with federation(origin) as made:
                reader = Reader(
                    made.executor, store=store, checksums=checksums,
                    before=lambda content: [before] if known and content == after else [],
                )  # fmt: skip
                opened = OpenContent(content, made.replicas)
                wanted = len(data) if heard is None or data is new else heard
                read = b"".join(
                    [await reader.read(opened, at, min(BLOCK_SIZE, wanted - at)) for at in range(0, wanted, BLOCK_SIZE)]
                )
                while store.waiting:
                    await settle()
                fetched = bytes_given(origin)
                await reader.aclose()
                reader = Reader(made.executor, store=store, checksums=checksums)
                again = await reader.read(opened, 0, len(data) if content == after else 0)
                await reader.aclose()
                fetched_again = bytes_given(origin) - fetched
        return Outcome(read, fetched, again, fetched_again)
    finally:
        await store.aclose()


def flac_cover(path: Path) -> None:
    file: Any = mutagen.File(path)
    picture = Picture()  # type: ignore[no-untyped-call]
    picture.type, picture.mime, picture.data = 3, "image/jpeg", COVER
    file.add_picture(picture)
    file.save()


def flac_metaflac(path: Path) -> None:
    subprocess.run(["metaflac", "--set-tag=COMMENT=" + "x" * 5000, "--add-padding=9000", path], check=True)


def flac_shrunk(path: Path) -> None:
    subprocess.run(["metaflac", "--remove", "--block-type=PICTURE,PADDING", "--dont-use-padding", path], check=True)


def mp3_cover(path: Path) -> None:
    tag: Any = ID3(path)  # type: ignore[no-untyped-call]
    tag.add(APIC(encoding=3, mime="image/jpeg", type=3, desc="", data=COVER))  # type: ignore[no-untyped-call]
    tag.save(path)


def mp3_shrunk(path: Path) -> None:
    tag: Any = ID3(path)  # type: ignore[no-untyped-call]
    tag.delall("APIC")
    tag.save(path, padding=lambda info: 10)


def mp3_id3v1(path: Path) -> None:
    tag: Any = ID3(path)  # type: ignore[no-untyped-call]
    tag.save(path, v1=2)


def mp3_apev2(path: Path) -> None:
    tag: Any = APEv2()  # type: ignore[no-untyped-call]
    tag["Title"] = "Another title"
    tag.save(path)


def m4a_cover(path: Path) -> None:
    file: Any = mutagen.File(path)
    file["covr"] = [MP4Cover(COVER, MP4Cover.FORMAT_JPEG)]  # type: ignore[no-untyped-call]
    file.save()


def m4a_shrunk(path: Path) -> None:
    file: Any = mutagen.File(path)
    file.pop("covr")
    file.save(padding=lambda info: 0)


def ffmpeg(path: Path, *options: str) -> None:
    out = path.with_name("out" + path.suffix)
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", path, "-c", "copy", *options, out], check=True)
    out.replace(path)


def front(path: Path) -> None:
    ffmpeg(path, "-movflags", "+faststart")


def make_song(path: Path, seed: int = 0) -> Path:
    """About 5 MB. An MP3's frames are repeated, since encoding that many takes long."""
    kind = path.suffix[1:]
    codec = "alac" if kind == "m4a" else None
    make_audio(path, seconds=SECONDS[kind], seed=seed, tags=None if kind == "mp3" else TAGS, codec=codec)
    if kind == "mp3":
        path.write_bytes(path.read_bytes() * 15)
        tag: Any = ID3()  # type: ignore[no-untyped-call]
        tag.add(TIT2(encoding=3, text="Song"))  # type: ignore[no-untyped-call]
        tag.save(path)
    return path


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One song of each kind, and each with a cover."""
    folder = tmp_path_factory.mktemp("songs")
    for kind, cover in (("flac", flac_cover), ("mp3", mp3_cover), ("m4a", m4a_cover)):
        make_song(folder / f"plain.{kind}")
        shutil.copyfile(folder / f"plain.{kind}", folder / f"covered.{kind}")
        cover(folder / f"covered.{kind}")
    shutil.copyfile(folder / "plain.m4a", folder / "front.m4a")
    front(folder / "front.m4a")
    return folder


CASES: list[tuple[str, Retag]] = [
    ("plain.flac", flac_cover),
    ("plain.flac", flac_metaflac),
    ("covered.flac", flac_shrunk),
    ("plain.mp3", mp3_cover),
    ("covered.mp3", mp3_shrunk),
    ("plain.mp3", mp3_id3v1),
    ("plain.mp3", mp3_apev2),
    ("plain.m4a", m4a_cover),
    ("front.m4a", m4a_cover),
    ("covered.m4a", m4a_shrunk),
    ("plain.m4a", front),
]


@pytest.mark.parametrize(("name", "retag"), CASES, ids=[f"{name}-{retag.__name__}" for name, retag in CASES])
async def test_a_file_with_new_tags_costs_only_its_tags(songs: Path, tmp_path: Path, name: str, retag: Retag) -> None:
    song = tmp_path / name
    shutil.copyfile(songs / name, song)
    retag(song)
    old, new = (songs / name).read_bytes(), song.read_bytes()
    assert old != new
    got = await play_retagged(tmp_path / "cache", old, new)
    assert got.data == new
    region = await audio_of(new)
    assert region is not None
    assert got.fetched - (len(new) - region.length) < len(new) / 100, "beyond the tags, less than 1 % of the file"
    if len(new) - region.length < len(new) / 20:
        assert got.fetched < len(new) / 10


@pytest.mark.parametrize(("kind", "retag"), [("flac", flac_metaflac), ("mp3", mp3_shrunk), ("m4a", m4a_shrunk)])
async def test_a_part_of_a_file_that_was_heard_serves_again_and_the_rest_is_fetched(
    songs: Path, tmp_path: Path, kind: str, retag: Retag
) -> None:
    song = tmp_path / f"song.{kind}"
    shutil.copyfile(songs / f"covered.{kind}", song)
    retag(song)
    old, new = (songs / f"covered.{kind}").read_bytes(), song.read_bytes()
    heard = len(old) * 2 // 5  # what is read ahead doubles it at most
    got = await play_retagged(tmp_path / "cache", old, new, heard=heard)
    assert got.data == got.again == new
    assert len(new) // 10 < got.fetched < len(new) * 4 // 5


def changed(data: bytes, start: int, piece: bytes) -> bytes:
    return data[:start] + piece + data[start + len(piece) :]


def assert_nothing_reused(got: Outcome, new: bytes) -> None:
    assert got.data == new
    assert got.fetched >= len(new)


async def test_other_audio_under_the_same_tags_is_fetched_whole(songs: Path, tmp_path: Path) -> None:
    for kind in ("flac", "mp3", "m4a"):
        old = (songs / f"plain.{kind}").read_bytes()
        new = make_song(tmp_path / f"other.{kind}", seed=5).read_bytes()
        assert_nothing_reused(await play_retagged(tmp_path / f"cache-{kind}", old, new), new)


async def test_flac_whose_header_names_other_samples_is_fetched_whole(songs: Path, tmp_path: Path) -> None:
    """One sample was changed, the frames around it are as long as before: only the MD5 in the header tells."""
    song = tmp_path / "song.flac"
    shutil.copyfile(songs / "plain.flac", song)
    flac_metaflac(song)
    old, new = (songs / "plain.flac").read_bytes(), song.read_bytes()
    new = changed(new, len(new) // 2 + 5, b"\x55")
    new = changed(new, 8 + 18, random.Random(3).randbytes(16))
    assert_nothing_reused(await play_retagged(tmp_path / "cache", old, new), new)


async def covered_and_its_audio(songs: Path, kind: str) -> tuple[bytes, AudioRegion]:
    data = (songs / f"covered.{kind}").read_bytes()
    region = await audio_of(data)
    assert region is not None
    return data, region


@pytest.mark.parametrize("kind", ["mp3", "m4a"])
async def test_a_passage_that_was_changed_in_place_is_found_out(songs: Path, tmp_path: Path, kind: str) -> None:
    """Between the pieces that are compared first; what was taken from the old file by then is fetched anew."""
    old = (songs / f"plain.{kind}").read_bytes()
    new, audio = await covered_and_its_audio(songs, kind)
    start, end = (audio.start + (audio.length - 1024) * number // 7 for number in (4, 5))
    new = changed(new, start + 1024, random.Random(4).randbytes(end - start - 1024))
    got = await play_retagged(tmp_path / "cache", old, new)
    assert got.again == new
    assert len(new) / 4 < got.fetched < len(new), "it was not found out before"
    assert got.fetched + got.fetched_again > len(new), "nothing of the old file is left"


@pytest.mark.parametrize("kind", ["mp3", "m4a"])
async def test_an_end_that_was_changed_is_found_out_before_anything_is_given(
    songs: Path, tmp_path: Path, kind: str
) -> None:
    old = (songs / f"plain.{kind}").read_bytes()
    new, audio = await covered_and_its_audio(songs, kind)
    new = changed(new, audio.end - 100, bytes(100))
    assert_nothing_reused(await play_retagged(tmp_path / "cache", old, new), new)


@virtual_time
async def test_a_block_that_was_reused_has_no_say_against_an_origin_that_shows_it() -> None:
    data = random.Random(6).randbytes(2 * BLOCK_SIZE)
    content, checksums, origin = content_of(data), Checksums(), FakeOrigin("nas", data=data)
    record, right, wrong = await checksums.record(content), data[:BLOCK_SIZE], bytes(BLOCK_SIZE)
    checksums.put(record, 0, digest_of(wrong), wrong, REUSED)
    checksums.put(record, 1, digest_of(data[BLOCK_SIZE:]), data[BLOCK_SIZE:], REUSED)
    async with federation(origin) as made:
        reader = Reader(made.executor, checksums=checksums)
        assert await reader.read(OpenContent(content, made.replicas), 0, len(data)) == data
        assert made.published(ReplicaQuarantined) == []
    assert record.digest(0) == digest_of(right)
    assert [checksums.witness(record, index) for index in (0, 1)] == ["nas", "nas"], "one origin is no two"


@virtual_time
async def test_files_that_are_nonsense_have_no_audio() -> None:
    rng = random.Random(7)
    for magic in (
        b"fLaC",
        b"\0\0\0\x08ftyp",
        b"ID3\x04\0\0\x7f\x7f\x7f\x7f",
        b"\xff\xfb\x90\0",
        b"ID3\x04\0\x10\0\0\0\0fLaC",
    ):
        for size in (0, 1, 30, 40, 200, 20_000):
            for filling in (
                bytes(size),
                b"\xff" * size,
                rng.randbytes(size),
                bytes(size // 2) + b"APETAGEX" + b"\xff" * 24,
            ):
                region = await audio_of(magic + filling)
                assert region is None or 0 <= region.start < region.end <= len(magic + filling)
        assert await audio_of(magic[:3]) is None


@pytest.mark.parametrize("kind", ["flac", "mp3", "m4a"])
async def test_audio_that_was_cut_short_is_fetched_whole(songs: Path, tmp_path: Path, kind: str) -> None:
    old = (songs / f"covered.{kind}").read_bytes()
    new = old[: len(old) * 3 // 4]
    assert_nothing_reused(await play_retagged(tmp_path / "cache", old, new), new)


async def test_without_the_old_file_all_of_it_is_fetched(songs: Path, tmp_path: Path) -> None:
    old, new = (songs / "plain.mp3").read_bytes(), (songs / "covered.mp3").read_bytes()
    assert_nothing_reused(await play_retagged(tmp_path / "cache", old, new, known=False), new)
    assert_nothing_reused(await play_retagged(tmp_path / "cache2", old, new, heard=0), new)


async def test_the_catalogue_knows_what_a_file_was_before(tmp_path: Path) -> None:
    music = tmp_path / "music"
    song = make_audio(music / "song.flac", tags=TAGS)
    with scanned_library(tmp_path / "cache") as library:
        library.configure({"a": music})
        await library.scan()
        seen = [shown(library)]
        assert library.view_now().predecessors(seen[0]) == []
        for _ in range(6):
            flac_metaflac(song)
            await library.scan()
            seen.append(shown(library))
        found = library.view_now().predecessors(seen[-1])
        assert [each.fingerprint for each in found] == [each.fingerprint for each in reversed(seen[-5:-1])]


def shown(library: ScannedLibrary) -> Content:
    (ino,) = library.nodes().values()
    opened = library.view.open_file(ino)
    assert opened is not None
    return opened[0]
