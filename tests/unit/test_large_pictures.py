"""Files with pictures larger than all that is read of a file: they have their tags, for few bytes, reads and passes."""

from __future__ import annotations

import base64
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutagen
import pytest
from mutagen.asf._attrs import ASFByteArrayAttribute
from mutagen.flac import Picture
from mutagen.id3 import ID3

from musicfs.tags.range_file import MAX_IN_ALL
from musicfs.tags.tags import Tags, read_tags
from tests.support import hostile
from tests.support.audio import FORMATS, make_audio, picture
from tests.support.partial import answered

LARGE = picture(17_000_000)
TAGS = {"title": "Song", "artist": "A", "album": "B", "track": 2}


def _new(kind: Any, value: bytes) -> Any:
    return kind(value)


def read(path: Path) -> Tags:
    """Reads the tags as a scan of a remote origin does, and checks what that costs."""
    data = path.read_bytes()
    assert len(data) > 3 * MAX_IN_ALL
    started = time.process_time()
    tags, asked = answered(lambda file: read_tags(file, path.name), data)
    assert time.process_time() - started < 1.5
    assert sum(size for _, size in asked) <= MAX_IN_ALL // 2
    assert len(asked) <= 14
    return tags


def check(tags: Tags) -> None:
    assert (tags.title, tags.artist, tags.album, tags.track) == ("Song", "A", "B", 2)


@pytest.mark.parametrize("ext", [ext for ext in FORMATS if ext not in ("flac", "wma")])
def test_every_format(tmp_path: Path, ext: str) -> None:
    tags = read(make_audio(tmp_path / f"x.{ext}", seconds=1, tags=TAGS, cover=LARGE))
    check(tags)
    assert tags.duration_s == pytest.approx(1, rel=0.1)
    assert tags.bitrate is not None
    if ext in ("ogg", "opus", "oga"):
        assert tags.bitrate < 2_000_000, "the picture is no audio"


def flac_with(path: Path, block: Callable[[list[tuple[int, bytes]]], list[bytes]]) -> Path:
    """A FLAC file whose blocks (kind, body) are rewritten."""
    data = make_audio(path, seconds=1, tags=TAGS).read_bytes()
    blocks, at, last = [], 4, 0
    while not last:
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        blocks.append((data[at] & 127, data[at + 4 : at + 4 + size]))
        last, at = data[at] & 128, at + 4 + size
    path.write_bytes(b"fLaC" + b"".join(block(blocks)) + data[at:])
    return path


def block(kind: int, body: bytes, last: bool = False) -> bytes:
    """The length is cut to its 24 bits, as by writers that don't check it."""
    return bytes([kind | 128 * last]) + (len(body) & 0xFFFFFF).to_bytes(3, "big") + body


def image() -> bytes:
    made: Any = Picture()  # type: ignore[no-untyped-call]
    made.type, made.mime, made.data = 3, "image/jpeg", LARGE
    return bytes(made.write())


def test_a_flac_whose_picture_is_longer_than_its_block_can_say(tmp_path: Path) -> None:
    def rewritten(blocks: list[tuple[int, bytes]]) -> list[bytes]:
        named = dict(blocks)
        return [block(0, named[0]), block(6, image()), block(6, image()), block(4, named[4], last=True)]

    check(read(flac_with(tmp_path / "x.flac", rewritten)))


def test_a_flac_whose_picture_is_among_its_comments(tmp_path: Path) -> None:
    def rewritten(blocks: list[tuple[int, bytes]]) -> list[bytes]:
        cover = b"METADATA_BLOCK_PICTURE=" + base64.b64encode(image())
        pairs = [b"TITLE=Song", cover, b"ARTIST=A", b"ALBUM=B", b"TRACKNUMBER=2"]
        return [block(0, dict(blocks)[0]), block(4, hostile.comments(pairs), last=True)]

    check(read(flac_with(tmp_path / "x.flac", rewritten)))


def test_a_picture_block_that_only_looks_too_long_is_believed(tmp_path: Path) -> None:
    """Its own length is garbage, and the block's is right."""

    def rewritten(blocks: list[tuple[int, bytes]]) -> list[bytes]:
        named = dict(blocks)
        body = struct.pack(">III", 3, 0, 0) + bytes(16) + struct.pack(">I", 5_000_000) + bytes(100)
        padding = [block(1, bytes(9_000_000)), block(1, bytes(9_000_000))]
        return [block(0, named[0]), block(6, body), *padding, block(4, named[4], last=True)]

    check(read(flac_with(tmp_path / "x.flac", rewritten)))


def test_wma(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "x.wma", seconds=1, tags=TAGS)
    file: Any = mutagen.File(path)
    file["WM/Picture"] = [_new(ASFByteArrayAttribute, b"\3" + struct.pack("<I", len(LARGE)) + bytes(4) + LARGE)]
    file.save()
    check(read(path))


@pytest.mark.parametrize("version", [3, 4])
def test_mp3_with_each_version_of_tags(tmp_path: Path, version: int) -> None:
    path = make_audio(tmp_path / "x.mp3", seconds=1, tags=TAGS, cover=LARGE)
    ID3(path).save(path, v2_version=version)  # type: ignore[no-untyped-call]
    check(read(path))


def test_an_unsynchronised_mp3_of_which_only_the_start_can_be_read(tmp_path: Path) -> None:
    frames = [(b"TIT2", b"\0Song"), (b"TPE1", b"\0A"), (b"TALB", b"\0B"), (b"TRCK", b"\x002")]
    whole = b"".join(hostile.frame(*each) for each in [*frames, (b"APIC", b"\0image/jpeg\0\3\0" + LARGE)])
    tag = bytearray(hostile.id3(whole.replace(b"\xff\x00", b"\xff\x00\x00")))
    tag[5] = 0x80
    (tmp_path / "x.mp3").write_bytes(tag)
    check(read(tmp_path / "x.mp3"))


@pytest.mark.parametrize("segments", [255, 16, 100])
@pytest.mark.parametrize("others", [0, 1])
def test_opus_with_pictures_before_its_tags_in_pages_of_any_size(tmp_path: Path, segments: int, others: int) -> None:
    cover = b"METADATA_BLOCK_PICTURE=" + base64.b64encode(image()[: 9_000_000 if segments < 255 else 17_000_000])
    pairs = [cover, b"TITLE=Song", *[cover] * (1 + others), b"ARTIST=A", b"ALBUM=B", b"TRACKNUMBER=2"]
    (tmp_path / "x.opus").write_bytes(ogg(b"OpusTags" + hostile.comments(pairs), segments))
    check(read(tmp_path / "x.opus"))


def ogg(packet: bytes, segments: int) -> bytes:
    """Numbered pages, the last of which may be larger than those before it."""
    pages, number = [hostile.ogg_page(0, bytes([len(hostile.OPUS)]), hostile.OPUS)], 0
    step = segments * 255
    for start in range(0, len(packet), step):
        part, number = packet[start : start + step], number + 1
        lacing = bytes([255] * (len(part) // 255) + ([len(part) % 255] if len(part) < step else []))
        page = bytearray(hostile.ogg_page(number, lacing, part))
        page[5] = start > 0
        pages.append(bytes(page))
    return b"".join(pages)


def test_pages_that_only_seem_to_be_of_one_size_are_not_skipped(tmp_path: Path) -> None:
    """The number of the page at the place does not fit, or it is of another stream."""
    cover = b"METADATA_BLOCK_PICTURE=" + b"x" * 600_000
    packet = b"OpusTags" + hostile.comments([cover, b"TITLE=Song", b"ARTIST=A", b"ALBUM=B", b"TRACKNUMBER=2"])
    good = ogg(packet, 50)
    spoilt = bytearray(good)
    at = good.find(b"OggS", 300_000)
    while at >= 0:
        spoilt[at + 18 : at + 22] = b"\xee\xee\xee\xee"
        at = good.find(b"OggS", at + 1)
    for data in (good, bytes(spoilt)):
        tags, _ = answered(lambda file: read_tags(file, "x.opus"), data)
        check(tags)
