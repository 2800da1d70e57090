"""Walks through containers find what real encoders wrote, and end in files that are damaged."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicfs.content.audio_region import FilePages, find_audio
from musicfs.tags.containers import (
    ByteSource,
    FlacBlock,
    Segment,
    atoms,
    chunks,
    flac_block,
    from_syncsafe,
    id3_tag,
    id3_tags,
    ogg_last_granule,
    ogg_pages,
    to_syncsafe,
    trailing_tags,
)
from musicfs.tags.range_file import RangeFile
from tests.support.audio import make_audio

TAG = b"TAG" + bytes(125)


def whole(data: bytes) -> RangeFile:
    return RangeFile(len(data), {0: data})


def id3(body: int, flags: int = 0) -> bytes:
    return b"ID3\x04\0" + bytes([flags]) + to_syncsafe(body) + bytes(body) + (b"3DI" + bytes(7) if flags & 16 else b"")


def ape(items: int, *, header: bool) -> bytes:
    footer = struct.pack("<8sIII I8x", b"APETAGEX", 2000, items + 32, 1, 1 << 31 if header else 0)
    return (footer if header else b"") + bytes(items) + footer


@given(st.integers(0, 2**28 - 1))
def test_a_number_of_seven_bits_a_byte_comes_back(number: int) -> None:
    assert from_syncsafe(to_syncsafe(number)) == number
    assert max(to_syncsafe(number)) < 128


def test_tags_at_the_start_are_found_one_behind_the_other_with_their_footers() -> None:
    data = id3(300) + id3(20, flags=16) + id3(0) + b"\xff\xfb\x90\0"
    found = list(id3_tags(whole(data)))
    assert [(tag.start, tag.body, tag.end, tag.stop) for tag in found] == [
        (0, 10, 310, 310), (310, 320, 340, 350), (350, 360, 360, 360),
    ]  # fmt: skip
    assert len(list(id3_tags(whole(id3(0) * 9)))) == 4


@pytest.mark.parametrize("data", [b"", b"ID3\x04\0\0\0\0\0", b"ID3\x04\0\0\x80\0\0\0" + bytes(200), b"TAG" * 9])
def test_what_is_no_tag_at_the_start_is_none(data: bytes) -> None:
    assert id3_tag(whole(data), 0) is None


def test_tags_at_the_end_are_found_in_any_order_the_last_first() -> None:
    audio = b"\xff\xfb" * 500
    for tail, starts in (
        (b"", []),
        (TAG, [1000]),
        (ape(50, header=True) + TAG, [1114, 1000]),
        (TAG + ape(50, header=False), [1128, 1000]),
    ):
        assert [tag.start for tag in trailing_tags(whole(audio + tail))] == starts
    (tag,) = trailing_tags(whole(audio + ape(50, header=True)))
    assert (tag.name, tag.items, tag.stop) == (b"APETAGEX", 1032, 1114)


def test_tags_that_claim_to_be_larger_than_the_file_end_the_walk() -> None:
    (tag,) = trailing_tags(whole(b"x" + ape(50, header=False)[50:]))
    assert tag.start < 0


def test_atoms_that_are_cut_short_say_how_long_they_should_be() -> None:
    data = struct.pack(">I4s", 12, b"free") + b"1234" + struct.pack(">I4sQ", 1, b"mdat", 500) + b"x" * 10
    assert list(atoms(whole(data), 0, len(data))) == [Segment(b"free", 8, 12), Segment(b"mdat", 28, 512)]
    rest = struct.pack(">I4s", 0, b"mdat") + b"x" * 10
    assert list(atoms(whole(rest), 0, len(rest))) == [Segment(b"mdat", 8, 18)]


@pytest.mark.parametrize("size", [2, 7])
def test_an_atom_smaller_than_its_header_ends_the_walk(size: int) -> None:
    data = struct.pack(">I4s", size, b"free") + bytes(100)
    assert list(atoms(whole(data), 0, len(data))) == []


@pytest.mark.parametrize("order", ["<", ">"])
def test_chunks_begin_at_even_places_and_the_last_ends_with_the_file(order: str) -> None:
    head = order + "4sI"
    data = bytes(12) + struct.pack(head, b"fmt ", 3) + b"abc\0" + struct.pack(head, b"data", 10**6) + b"12345"
    assert list(chunks(whole(data), order)) == [Segment(b"fmt ", 20, 23), Segment(b"data", 32, 37)]


@pytest.mark.parametrize("kind", ["flac", "m4a", "mp3", "wav", "aiff", "ogg"])
def test_walks_through_a_real_file_end_where_it_ends(tmp_path: Path, kind: str) -> None:
    data = make_audio(tmp_path / f"song.{kind}", tags={"title": "Song"}).read_bytes()
    file = whole(data)
    if kind == "flac":
        at, blocks = 4, list[FlacBlock]()
        while not blocks or not blocks[-1].is_last:
            block = flac_block(file, at)
            assert block is not None
            blocks.append(block)
            at = block.stop
        assert blocks[0].kind == 0
        assert data[at : at + 2] in (b"\xff\xf8", b"\xff\xf9"), "the first frame"
    elif kind == "m4a":
        found = list(atoms(file, 0, len(data)))
        assert found[-1].stop == len(data)
        assert {b"ftyp", b"moov", b"mdat"} <= {atom.name for atom in found}
    elif kind == "mp3":
        (tag,) = id3_tags(file)
        assert data[tag.stop] == 0xFF
    elif kind == "ogg":
        pages = list(ogg_pages(file))
        assert pages[-1].start + sum(pages[-1].lacing) == len(data)
        assert (ogg_last_granule(file, pages[0].serial) or 0) > 0
        assert ogg_last_granule(file, pages[0].serial + 1) is None
    else:
        segments = list(chunks(file, "<" if kind == "wav" else ">"))
        assert segments[-1].stop + segments[-1].stop % 2 >= len(data)


WALKS: dict[str, Callable[[ByteSource], object]] = {
    "id3": lambda file: list(id3_tags(file)),
    "end": lambda file: list(trailing_tags(file)),
    "atoms": lambda file: list(atoms(file, 0, file.size)),
    "riff": lambda file: list(chunks(file, "<")),
    "ogg": lambda file: [list(page.pieces()) for page in ogg_pages(file)],
    "granule": lambda file: ogg_last_granule(file, 0),
}
MARKS = (b"", b"ID3\4\0\0\0\0\0\1", b"OggS" + bytes(22) + b"\1\0", b"APETAGEX" + bytes(24), TAG, b"\0\0\0\x08ftyp")


@pytest.mark.parametrize("walk", WALKS)
@given(st.lists(st.one_of(st.sampled_from(MARKS), st.binary(max_size=40)), max_size=8))
def test_a_walk_through_garbage_ends(walk: str, pieces: list[bytes]) -> None:
    WALKS[walk](whole(b"".join(pieces)))


async def test_a_page_that_the_walks_need_is_read_once(tmp_path: Path) -> None:
    data = make_audio(tmp_path / "song.flac", tags={"title": "Song"}).read_bytes()
    asked: list[int] = []

    async def get(offset: int, size: int) -> bytes:
        asked.append(offset)
        return data[offset : offset + size]

    assert await find_audio(FilePages(len(data), get)) is not None
    assert len(asked) == len(set(asked))
    assert len(asked) < 10
