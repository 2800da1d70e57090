"""Kinds of files that few libraries have: what can be read of them is, and the name says what the others are."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mutagen.apev2 import APEv2

from musicfs.tags.range_file import RangeFile, Unreadable
from musicfs.tags.tags import Role, Tags, read_tags, role_of
from tests.support.audio import make_audio
from tests.support.partial import answered

FFMPEG = {
    "w64": ("-c:a", "pcm_s16le"),
    "caf": ("-c:a", "pcm_s16be"),
    "ac3": ("-c:a", "ac3"),
    "eac3": ("-c:a", "eac3"),
    "rf64": ("-c:a", "pcm_s16le", "-rf64", "always", "-f", "wav"),
}

# fmt: off
RARE = (
    "dff", "mka", "spx", "ac3", "eac3", "dts", "w64", "caf", "tak", "ofr", "ofs", "shn", "mid", "midi", "mod", "xm",
    "it", "s3m",
)
# fmt: on
BESIDE = ("wvc", "xspf", "elrc", "ttml", "srt", "jxl", "jfif")


def read(data: bytes, name: str) -> Tags:
    return answered(lambda file: read_tags(file, name), data)[0]


def encoded(path: Path, *options: str) -> bytes:
    sound = ("-f", "lavfi", "-i", "sine=duration=2", "-ac", "2", "-ar", "44100", "-metadata", "title=T")
    command = ["ffmpeg", "-v", "error", "-y", *sound, "-metadata", "artist=A", *options, str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return path.read_bytes()


def ape(path: Path) -> bytes:
    tag: Any = APEv2()  # type: ignore[no-untyped-call]
    tag.update({"Title": "T", "Artist": "A"})
    tag.save(path)
    return path.read_bytes()


@pytest.mark.parametrize("kind", FFMPEG)
def test_what_an_encoder_makes_is_described(tmp_path: Path, kind: str) -> None:
    tags = read(encoded(tmp_path / f"x.{kind}", *FFMPEG[kind]), f"x.{kind}")
    assert tags.format == {"rf64": "wav"}.get(kind, kind)
    assert (tags.sample_rate, tags.channels) == (44100, 2)
    assert tags.duration_s == pytest.approx(2, rel=0.05)
    if kind in ("caf", "rf64"):
        assert (tags.title, tags.artist) == ("T", "A")


@pytest.mark.parametrize("kind", ["dts", "mka"])
def test_kinds_without_a_reader_are_named(tmp_path: Path, kind: str) -> None:
    data = encoded(tmp_path / f"x.{kind}", *{"dts": ("-c:a", "dca", "-strict", "-2"), "mka": ()}[kind])
    with pytest.raises(Unreadable, match=f"MusicFS does not read the tags of .{kind}"):
        read(data, "x")


@pytest.mark.parametrize("extension", ["mp3", "flac", "m4a", "wav", "aac"])
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\xef\xbb\xbf\n<!DOCTYPE html><title>404</title>", "a web page"),
        (b"<HTML><body>Sign in", "a web page"),
        (b'{"error": "quota"}', "a text"),
        (b"#EXTM3U\n1.mp3\n", "a playlist"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"PK\x03\x04" + bytes(100), "an archive"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "a picture"),
        (bytes(50_000), "nothing but zeros"),
    ],
)
def test_what_is_no_audio_is_named(data: bytes, kind: str, extension: str) -> None:
    with pytest.raises(Unreadable, match=f"the file is {kind}"):
        read(data, f"x.{extension}")


def test_audio_behind_zeros_or_with_another_name_is_audio(tmp_path: Path) -> None:
    audio = encoded(tmp_path / "x.mp3")
    assert read(bytes(1000) + audio, "x.mp3").codec == "mp3"
    assert read(audio, "x.html").title == "T"


def test_a_fragmented_mp4_file_has_the_duration_of_its_index(tmp_path: Path) -> None:
    data = encoded(tmp_path / "x.m4a", "-c:a", "aac", "-movflags", "dash", "-f", "mp4")
    assert b"moof" in data
    tags = read(data, "x.m4a")
    assert (tags.format, tags.title) == ("m4a", "T")
    assert tags.duration_s == pytest.approx(2, rel=0.05)


def test_a_fragmented_mp4_file_without_an_index_costs_no_read_for_each_fragment(tmp_path: Path) -> None:
    data = encoded(tmp_path / "x.m4a", "-c:a", "aac", "-movflags", "empty_moov", "-frag_duration", "50000", "-f", "mp4")
    assert data.count(b"moof") > 10
    padded = b"".join(
        piece + (struct.pack(">I4s", 200_000, b"free") + bytes(199_992) if index else b"")
        for index, piece in enumerate(_fragments(data))
    )
    tags, asked = answered(lambda file: read_tags(file, "x.m4a"), padded)
    assert tags.title == "T"
    assert len(asked) <= 4


def _fragments(data: bytes) -> list[bytes]:
    """What is before the first fragment, and each of them."""
    places = [at - 4 for at in range(len(data)) if data.startswith(b"moof", at)]
    return [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)], strict=True)]


def wavpack(path: Path) -> bytes:
    made = path.with_suffix(".wv")
    subprocess.run(["wavpack", "-q", "-y", path, "-o", made], check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return made.read_bytes()


def test_wavpack_with_one_bit_samples_is_described(tmp_path: Path) -> None:
    tags = read(wavpack(make_audio(tmp_path / "x.dsf", seconds=2)), "x.wv")
    assert (tags.sample_rate, tags.bit_depth, tags.channels) == (2_822_400, 1, 2)
    assert tags.duration_s == pytest.approx(2, rel=0.01)


def test_wavpack_with_a_rate_of_its_own_is_described(tmp_path: Path) -> None:
    encoded(tmp_path / "x.wav", "-ar", "12345", "-fflags", "+bitexact")
    tags = read(wavpack(tmp_path / "x.wav"), "x.wv")
    assert tags.sample_rate == 12345
    assert tags.duration_s == pytest.approx(2, rel=0.01)


def test_matroska_is_named_as_the_file_is() -> None:
    with pytest.raises(Unreadable, match="weba"):
        read(bytes.fromhex("1a45dfa3") + bytes(100), "x.weba")


def test_musepack_of_before_version_7_is_known_by_its_name() -> None:
    data = struct.pack("<II", 128 << 23 | 5 << 11 | 1, 1000 << 16).ljust(2000, b"\0")
    assert (read(data, "x.mpc").format, read(data, "x.mpc").sample_rate) == ("mpc", 44100)


def test_a_large_rf64_file_has_the_tags_behind_its_data() -> None:
    """Its data is longer than a chunk can say."""
    data_size = 5 << 30
    head = b"RF64\xff\xff\xff\xffWAVE" + struct.pack("<4sIQQQI", b"ds64", 28, 0, data_size, 0, 0)
    head += struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 44100, 176400, 4, 16) + b"data\xff\xff\xff\xff"
    body = b"ID3\3\0\0\0\0\0\x0cTIT2\0\0\0\2\0\0\0T"
    tail = struct.pack("<4sI", b"id3 ", len(body)) + body
    end = len(head) + data_size
    file = RangeFile(
        end + len(tail),
        {0: head, end: tail},
        fetch=lambda offset, size: bytes(size) if offset < end else tail[offset - end : offset - end + size],
    )
    tags = read_tags(file, "x.wav")
    assert tags.title == "T"
    assert tags.duration_s == pytest.approx(data_size / 176400)


def dff() -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return name + struct.pack(">Q", len(body)) + body

    text = struct.pack(">I4s", 1, b"T\0\0\0")
    properties = b"SND " + chunk(b"FS  ", struct.pack(">I", 2_822_400)) + chunk(b"CHNL", struct.pack(">H8s", 2, b""))
    master = chunk(b"DIAR", struct.pack(">I2s", 1, b"A\0")) + chunk(b"DITI", text[:6])
    body = b"DSD " + chunk(b"PROP", properties) + chunk(b"DSD ", bytes(705_600)) + chunk(b"DIIN", master)
    return b"FRM8" + struct.pack(">Q", len(body)) + body


def optimfrog() -> bytes:
    return struct.pack("<4sIIHBBI", b"OFR ", 12, 2 * 88200, 0, 3, 1, 44100).ljust(80, b"\0")


def tak() -> bytes:
    fields = ((0, 6), (0, 4), (0, 4), (88200, 35), (0, 3), (44100 - 6000, 18), (16 - 8, 5), (1, 4), (0, 1))
    bits = width = 0
    for value, size in fields:
        bits, width = bits | value << width, width + size
    body = bits.to_bytes(10, "little") + bytes(3)
    return b"tBaK\x01" + len(body).to_bytes(3, "little") + body + b"\0" * 4


def test_dsdiff_is_read_with_the_names_in_its_own_chunks() -> None:
    tags = read(dff(), "x.dff")
    assert (tags.format, tags.codec, tags.bit_depth, tags.channels) == ("dff", "dsd", 1, 2)
    assert (tags.title, tags.artist, tags.duration_s) == ("T", "A", 1)


@pytest.mark.parametrize(("kind", "data"), [("ofr", optimfrog()), ("ofs", optimfrog()), ("tak", tak())])
def test_streams_with_ape_tags_are_read(tmp_path: Path, kind: str, data: bytes) -> None:
    path = tmp_path / f"x.{kind}"
    path.write_bytes(data)
    tags = read(ape(path), path.name)
    assert (tags.format, tags.title, tags.artist, tags.sample_rate) == (kind, "T", "A", 44100)
    assert (tags.duration_s, tags.bit_depth, tags.channels) == (2, 16, 2)


def test_midi_files_have_a_duration() -> None:
    track = bytes.fromhex("00c000 00903c40 8360803c00 00ff2f00".replace(" ", ""))
    data = struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, 480, b"MTrk", len(track)) + track
    assert read(data, "x.mid").format == "mid"
    assert read(data, "x.mid").duration_s == pytest.approx(0.5)
    with pytest.raises(Unreadable, match="too long"):
        read(data + bytes(200_000), "x.mid")


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("xm", b"Extended Module: " + b"Title".ljust(20) + bytes(100)),
        ("it", b"IMPM" + b"Title".ljust(26, b"\0") + bytes(100)),
        ("s3m", b"Title".ljust(28, b"\0") + bytes(16) + b"SCRM" + bytes(100)),
        ("mod", b"Title".ljust(1080, b"\0") + b"M.K." + bytes(100)),
    ],
)
def test_modules_have_a_title(kind: str, data: bytes) -> None:
    assert (read(data, f"x.{kind}").format, read(data, f"x.{kind}").title) == (kind, "Title")
    with pytest.raises(Unreadable, match="the module has no title"):
        read(data.replace(b"Title", bytes(5)), f"x.{kind}")


@pytest.mark.parametrize("ext", RARE)
def test_rare_kinds_of_music_are_music(ext: str) -> None:
    assert role_of(f"a/x.{ext}") is Role.AUDIO


@pytest.mark.parametrize("ext", BESIDE)
def test_what_belongs_to_music_lies_beside_it(ext: str) -> None:
    assert role_of(f"a/x.{ext}") is Role.SIDECAR
