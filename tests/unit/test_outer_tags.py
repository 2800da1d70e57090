"""Files with several tags: field by field the richest counts, wherever in the file it is."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import Any

import mutagen
import pytest

from musicfs.tags.tags import Tags, read_tags
from tests.support.audio import make_audio, picture
from tests.support.partial import answered

LONG = "A Title That Is Much Longer Than Thirty Characters"


def read(path: Path) -> Tags:
    return answered(lambda file: read_tags(file, path.name), path.read_bytes())[0]


def id3(title: str | None = None, *, album: str = "", genre: str = "", footer: bool = False) -> bytes:
    frames = b"".join(
        name + struct.pack(">I2x", len(text) + 1) + b"\0" + text.encode()
        for name, text in ((b"TIT2", title), (b"TALB", album), (b"TCON", genre))
        if text
    )
    size = bytes(len(frames) >> shift & 127 for shift in (21, 14, 7, 0))
    rest = bytes((4, 0, 0x10)) + size if footer else bytes((3, 0, 0)) + size
    return b"ID3" + rest + frames + (b"3DI" + rest if footer else b"")


def id3v1(title: str = "", artist: str = "") -> bytes:
    return struct.pack("3s30s30s30s4s30sB", b"TAG", title.encode()[:30], artist.encode(), b"", b"", b"", 255)


def ape(*, header: bool = True, **items: str) -> bytes:
    body = b"".join(
        struct.pack("<II", len(text.encode()), 0) + key.encode() + b"\0" + text.encode() for key, text in items.items()
    )
    ends = [
        struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(body) + 32, len(items), header << 31 | first << 29)
        for first in (True, False)
    ]
    return (ends[0] if header else b"") + body + ends[1]


def lyrics2(text: str = "IND0000210") -> bytes:
    body = b"LYRICSBEGIN" + text.encode()
    return body + b"%06dLYRICS200" % len(body)


@pytest.mark.parametrize("ext", ["mp3", "aac", "tta"])
def test_each_field_is_of_id3v2_else_of_ape_else_of_id3v1(tmp_path: Path, ext: str) -> None:
    path = make_audio(tmp_path / f"x.{ext}")
    path.write_bytes(id3(genre="Rock") + path.read_bytes() + ape(Title=LONG, Genre="Pop") + id3v1(LONG, "Old Artist"))
    tags = read(path)
    assert (tags.genre, tags.title, tags.artist) == ("Rock", LONG, "Old Artist")


@pytest.mark.parametrize(
    "tail",
    [
        ape(Title=LONG) + id3v1("Cut"),
        id3v1("Cut") + ape(Title=LONG),
        ape(header=False, Title=LONG) + id3v1("Cut"),
        ape(Title=LONG) + lyrics2() + id3v1("Cut"),
        ape(Title=LONG) + b"LYRICSBEGINla la laLYRICSEND" + id3v1("Cut"),
        id3(LONG, footer=True) + id3v1("Cut"),
        id3(LONG, footer=True) + ape(Title="Other") + lyrics2() + id3v1("Cut"),
    ],
    ids=["ape", "ape last", "no header", "lyrics2", "lyrics1", "appended id3", "all"],
)
def test_tags_behind_the_audio_are_found_in_any_order(tmp_path: Path, tail: bytes) -> None:
    path = make_audio(tmp_path / "x.mp3")
    path.write_bytes(path.read_bytes() + tail)
    assert read(path).title == LONG


@pytest.mark.parametrize("ext", ["mp3", "mpc", "ape", "tta", "flac"])
def test_tags_before_the_audio_are_found_one_behind_the_other(tmp_path: Path, ext: str) -> None:
    path = make_audio(tmp_path / f"x.{ext}")
    path.write_bytes(id3("First") + id3("Second", album="Album") + ape(Artist="Ape") + path.read_bytes())
    tags = read(path)
    assert (tags.format, tags.title, tags.album, tags.artist) == (ext, "First", "Album", "Ape")
    assert tags.duration_s


@pytest.mark.parametrize("ext", ["wv", "ape", "mpc"])
def test_the_own_tag_of_a_format_wins_over_a_foreign_one(tmp_path: Path, ext: str) -> None:
    path = make_audio(tmp_path / f"x.{ext}", tags={"title": "Own"})
    path.write_bytes(path.read_bytes() + id3v1("Foreign", "Artist"))
    assert (read(path).title, read(path).artist) == ("Own", "Artist")


@pytest.mark.parametrize("behind", [False, True])
def test_a_flac_file_that_says_nothing_itself_has_the_tags_around_it(tmp_path: Path, *, behind: bool) -> None:
    path = make_audio(tmp_path / "x.flac", tags={"artist": "Own"})
    data = path.read_bytes()
    path.write_bytes(data + ape(Title="T", Artist="Foreign") if behind else id3("T") + data)
    assert (read(path).title, read(path).artist) == ("T", "Own")


def _flac_blocks(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    at, blocks = 4, []
    while True:
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        blocks.append((data[at] & 127, data[at + 4 : at + 4 + size]))
        is_last, at = data[at] & 128, at + 4 + size
        if is_last:
            return blocks, data[at:]


@pytest.mark.parametrize("says_something", [0, 1])
def test_the_first_flac_comments_that_say_anything_count(tmp_path: Path, says_something: int) -> None:
    """Before or behind a block that is empty, and always before one that was left from earlier."""
    right, audio = _flac_blocks(make_audio(tmp_path / "x.flac", tags={"title": "Right"}).read_bytes())
    stale, _ = _flac_blocks(make_audio(tmp_path / "y.flac", tags={"title": "Stale", "artist": "S"}).read_bytes())
    comments = [next(body for kind, body in blocks if kind == 4) for blocks in (right, stale)]
    comments.insert(1 - says_something, struct.pack("<I3sI", 3, b"ref", 0))
    blocks = [right[0], *((4, each) for each in comments)]
    data = b"fLaC" + b"".join(
        bytes([kind | (128 if index == 3 else 0)]) + len(body).to_bytes(3, "big") + body
        for index, (kind, body) in enumerate(blocks)
    )
    path = tmp_path / "z.flac"
    path.write_bytes(data + audio)
    assert (read(path).title, read(path).artist) == ("Right", None)


def _chunk(order: str, name: bytes, body: bytes) -> bytes:
    return struct.pack(f"{order}4sI", name, len(body)) + body + b"\0" * (len(body) % 2)


@pytest.mark.parametrize("info_first", [False, True])
def test_the_id3_chunk_of_a_wav_file_wins_over_its_info(tmp_path: Path, *, info_first: bool) -> None:
    path = make_audio(tmp_path / "x.wav")
    info = _chunk("<", b"LIST", b"INFO" + _chunk("<", b"INAM", b"Info") + _chunk("<", b"IART", b"Artist"))
    own = _chunk("<", b"id3 ", id3("Id3"))
    path.write_bytes(path.read_bytes() + (info + own if info_first else own + info))
    assert (read(path).title, read(path).artist) == ("Id3", "Artist")


def test_the_id3_chunk_of_an_aiff_file_wins_over_its_texts(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "x.aiff")
    texts = _chunk(">", b"NAME", b"Text") + _chunk(">", b"AUTH", b"Artist")
    path.write_bytes(path.read_bytes() + texts + _chunk(">", b"ID3 ", id3("Id3")) + _chunk(">", b"ID3 ", id3("Stale")))
    assert (read(path).title, read(path).artist) == ("Id3", "Artist")


def ffmpeg(*arguments: str | Path) -> None:
    command = ["ffmpeg", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def test_the_audio_of_an_ogg_file_counts_though_a_cover_comes_first(tmp_path: Path) -> None:
    png = tmp_path / "cover.png"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x64:d=0.04", "-frames:v", "1", png)
    song = make_audio(tmp_path / "x.flac", tags={"title": "T", "artist": "A"}, cover=png.read_bytes())
    made = tmp_path / "x.ogg"
    ffmpeg("-i", song, "-c:v", "libtheora", made)
    assert b"theora" in made.read_bytes()[:100]
    tags = read(made)
    assert (tags.format, tags.codec, tags.title, tags.artist) == ("ogg", "vorbis", "T", "A")
    assert tags.duration_s == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("ext", ["ogg", "opus", "oga"])
def test_the_audio_of_an_ogg_file_counts_though_a_skeleton_comes_first(tmp_path: Path, ext: str) -> None:
    song = make_audio(tmp_path / f"x.{ext}", tags={"title": "T"}, cover=picture(100_000))
    body = b"fishead\0" + struct.pack("<HH", 3, 0) + bytes(52)
    skeleton = struct.pack("<4sBBqIIIBB", b"OggS", 0, 2, 0, 99, 0, 0, 1, len(body)) + body
    song.write_bytes(skeleton + song.read_bytes())
    assert (read(song).format, read(song).title) == (ext, "T")


def test_speex_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.spx"
    ffmpeg("-f", "lavfi", "-i", "sine=duration=2", "-ar", "16000", "-ac", "1", "-c:a", "libspeex", path)
    file: Any = mutagen.File(path)
    file["title"] = "T"
    file.save()
    tags = read(path)
    assert (tags.format, tags.codec, tags.title, tags.sample_rate, tags.channels) == ("spx", "speex", "T", 16000, 1)
    assert tags.duration_s == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("name", ["free", "skip", "wide", "styp"])
def test_an_mp4_file_may_begin_with_another_atom(tmp_path: Path, name: str) -> None:
    path = make_audio(tmp_path / "x.m4a", tags={"title": "T"})
    path.write_bytes(struct.pack(">I4s8x", 16, name.encode()) + path.read_bytes())
    assert (read(path).format, read(path).title) == ("m4a", "T")


def test_a_video_stays_a_video_and_a_picture_makes_none(tmp_path: Path) -> None:
    video, cover = tmp_path / "v.mp4", make_audio(tmp_path / "c.m4a", tags={"title": "T"}, cover=picture(1000))
    sound = ("-f", "lavfi", "-i", "sine=duration=1", "-metadata", "title=V")
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x64:d=1", *sound, "-c:v", "mpeg4", "-c:a", "aac", video)
    assert (read(video).format, read(video).codec, read(video).title) == ("mp4", "aac", "V")
    assert read(cover).format == "m4a"


def test_ape_adds_what_id3_leaves_out(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "x.mp3", tags={"title": "Front", "artist": "Front Artist"})
    path.write_bytes(path.read_bytes() + ape(Title="Ape", Album="Ape Album"))
    tags = read(path)
    assert (tags.title, tags.artist, tags.album) == ("Front", "Front Artist", "Ape Album")
