"""Tags of real files in every format, read from as few bytes as that takes, and what broken files do: little."""

from __future__ import annotations

import json
import random
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import mutagen.id3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutagen.apev2 import APEv2
from mutagen.flac import FLAC

from musicfs.tags.range_file import NeedRange, RangeFile, Unreadable
from musicfs.tags.tags import Role, Tags, read_tags, role_of
from tests.support.audio import (
    FORMATS,
    make_album,
    make_audio,
    make_empty,
    make_garbage,
    make_library,
    make_mislabelled,
    make_truncated,
    picture,
)
from tests.support.partial import answered

KIB = 1024
COVER = picture(2048 * KIB)
GIVEN: dict[str, Any] = {
    "title": "Tïtle",
    "artist": ["One", "Two"],
    "albumartist": "Both",
    "album": "Album",
    "date": "1999-03-01",
    "track": 3,
    "tracktotal": 12,
    "disc": 1,
    "disctotal": 2,
    "disctitle": "Live",
    "genre": ["Rock", "Pop"],
    "composer": "Somebody",
    "compilation": 1,
    "musicbrainz_albumid": "76df3287-6cda-33eb-8e9a-044b5e15ffdd",
    "musicbrainz_trackid": "b1a9c0e9-d987-4042-ae91-78d6a3267d69",
}
READ = Tags(
    format="",
    codec="",
    title="Tïtle",
    artist="One; Two",
    artists=("One", "Two"),
    albumartist="Both",
    album="Album",
    year=1999,
    date="1999-03-01",
    track=3,
    tracktotal=12,
    disc=1,
    disctotal=2,
    disctitle="Live",
    genre="Rock",
    genres=("Rock", "Pop"),
    composer="Somebody",
    compilation=True,
    musicbrainz_albumid="76df3287-6cda-33eb-8e9a-044b5e15ffdd",
    musicbrainz_trackid="b1a9c0e9-d987-4042-ae91-78d6a3267d69",
)
CODECS = {
    "flac": "flac",
    "mp3": "mp3",
    "ogg": "vorbis",
    "opus": "opus",
    "oga": "flac",
    "m4a": "aac",
    "aac": "aac",
    "wav": "pcm",
    "aiff": "pcm",
    "wv": "wavpack",
    "tta": "tta",
    "wma": "wma",
    "ape": "ape",
    "mpc": "musepack",
    "dsf": "dsd",
}
LOSSY = ("mp3", "ogg", "opus", "m4a", "aac", "wma", "mpc")


def read(path: Path) -> Tags:
    return answered(lambda file: read_tags(file, path.name), path.read_bytes())[0]


def read_bytes(data: bytes, name: str = "x.mp3") -> Tags:
    return read_tags(RangeFile(len(data), {0: data}), name)


def cost(path: Path) -> int:
    """How many bytes reading the tags asks for."""
    return sum(size for _, size in answered(lambda file: read_tags(file, path.name), path.read_bytes())[1])


@pytest.mark.parametrize("ext", FORMATS)
def test_every_format_gives_the_same_tags(tmp_path: Path, ext: str) -> None:
    tags = read(make_audio(tmp_path / f"x.{ext}", seconds=5, tags=GIVEN))
    stream: dict[str, Any] = {
        "duration_s": None,
        "bitrate": None,
        "sample_rate": None,
        "bit_depth": None,
        "channels": None,
    }
    assert replace(tags, format="", codec="", **stream) == READ
    assert (tags.format, tags.codec) == (ext, CODECS[ext])


@pytest.mark.parametrize("ext", FORMATS)
def test_every_format_describes_its_stream(tmp_path: Path, ext: str) -> None:
    path = make_audio(tmp_path / f"x.{ext}", seconds=5, tags={"title": "T"})
    tags = read(path)
    rate = {"opus": 48000, "dsf": 2_822_400}.get(ext, 44100)
    assert (tags.channels, tags.sample_rate) == (2, rate)
    assert tags.bit_depth == (None if ext in LOSSY else 1 if ext == "dsf" else 16)
    assert tags.duration_s == pytest.approx(5, rel=0.02)
    assert tags.bitrate == pytest.approx(path.stat().st_size * 8 / 5, rel=0.1)


@pytest.mark.parametrize("ext", FORMATS)
def test_tags_cost_little_without_a_cover(tmp_path: Path, ext: str) -> None:
    path = make_audio(tmp_path / f"x.{ext}", seconds=30, tags=GIVEN)
    assert path.stat().st_size > 300 * KIB
    assert cost(path) <= 140 * KIB


@pytest.mark.parametrize("ext", [ext for ext in FORMATS if ext != "wma"])
def test_a_large_cover_is_stepped_over(tmp_path: Path, ext: str) -> None:
    path = make_audio(tmp_path / f"x.{ext}", seconds=5, tags=GIVEN, cover=COVER)
    assert path.stat().st_size > len(COVER)
    assert cost(path) <= 200 * KIB
    assert (read(path).title, read(path).musicbrainz_trackid) == (READ.title, READ.musicbrainz_trackid)


@pytest.mark.parametrize("ext", ["ogg", "opus", "oga"])
def test_a_large_cover_before_other_comments_in_ogg_takes_few_questions(tmp_path: Path, ext: str) -> None:
    """Its pages can't be stepped over."""
    path = make_audio(tmp_path / f"x.{ext}", tags={"artist": "A"}, cover=COVER)
    file: Any = mutagen.File(path)
    file["title"] = "Last"
    file.save()
    tags, asked = answered(lambda file: read_tags(file, "x"), path.read_bytes())
    assert (tags.artist, tags.title) == ("A", "Last")
    assert len(asked) <= 9


def test_alac_and_aac_are_told_apart_in_the_same_container(tmp_path: Path) -> None:
    alac = read(make_audio(tmp_path / "x.m4a", codec="alac"))
    assert (alac.format, alac.codec, alac.bit_depth) == ("m4a", "alac", 16)


def test_an_audiobook_keeps_its_extension(tmp_path: Path) -> None:
    assert read(make_audio(tmp_path / "x.m4b")).format == "m4b"
    assert read(make_audio(tmp_path / "x.mp4")).format == "m4a"


@pytest.mark.parametrize("ext", FORMATS)
def test_a_file_without_tags_is_still_described(tmp_path: Path, ext: str) -> None:
    tags = read(make_audio(tmp_path / f"x.{ext}"))
    assert (tags.format, tags.title, tags.year, tags.compilation) == (ext, None, None, False)
    assert tags.duration_s


@pytest.mark.parametrize("real", FORMATS)
def test_the_content_decides_whatever_the_name_says(tmp_path: Path, real: str) -> None:
    named = "mp3" if real == "flac" else "flac"
    tags = read(make_mislabelled(tmp_path / f"x.{named}", real, tags=GIVEN))
    assert (tags.format, tags.title) == (real, "Tïtle")


@pytest.mark.parametrize("ext", ["flac", "mp3", "ogg", "opus", "oga", "aac", "wma"])
def test_a_truncated_file_keeps_the_tags_of_its_head(tmp_path: Path, ext: str) -> None:
    tags = read(make_truncated(tmp_path / f"x.{ext}", 0.6, seconds=5, tags=GIVEN))
    assert (tags.format, tags.title, tags.track) == (ext, "Tïtle", 3)


@pytest.mark.parametrize("ext", ["wav", "aiff", "wv", "tta", "ape", "mpc", "dsf"])
def test_a_truncated_file_whose_tags_are_lost_is_still_described(tmp_path: Path, ext: str) -> None:
    tags = read(make_truncated(tmp_path / f"x.{ext}", 0.6, seconds=5))
    assert (tags.format, tags.sample_rate) == (ext, 2_822_400 if ext == "dsf" else 44100)


@pytest.mark.parametrize(
    ("date", "year"),
    [
        ("1999", 1999),
        ("1999-03-01", 1999),
        ("1999/03", 1999),
        ("19990301", 1999),
        ("c1999", 1999),
        ("01.03.1999", 1999),
        ("0000", None),
        ("99", None),
        ("123456", None),
        ("soon", None),
        ("", None),
    ],
)
def test_years_are_found_in_any_spelling_of_a_date(tmp_path: Path, date: str, year: int | None) -> None:
    assert read(make_audio(tmp_path / "x.flac", tags={"date": date})).year == year


@pytest.mark.parametrize("ext", ["flac", "mp3", "m4a", "wma"])
def test_the_original_date_is_used_when_there_is_no_other(tmp_path: Path, ext: str) -> None:
    both = {"date": "2011", "originaldate": "1973"}
    assert read(make_audio(tmp_path / f"a.{ext}", tags=both)).year == 2011
    assert read(make_audio(tmp_path / f"b.{ext}", tags={"originaldate": "1973"})).year == 1973
    assert read(make_audio(tmp_path / f"c.{ext}", tags={"date": "0000", "originaldate": "1973"})).year == 1973


@pytest.mark.parametrize(
    ("track", "number", "total"),
    [
        ("3", 3, None),
        ("03", 3, None),
        ("3/12", 3, 12),
        (" 3 of 12", 3, 12),
        ("3/0", 3, None),
        ("0", 0, None),
        ("A1", None, None),
        ("A1/10", None, 10),
        ("1-02", 2, None),
        ("1.02/9", 2, 9),
        ("999999", None, None),
        ("#3", 3, None),
        ("Track 4", 4, None),
        ("No. 5 of 9", 5, 9),
        ("Nothing 5", None, None),
    ],
)
def test_track_numbers_may_carry_their_total(tmp_path: Path, track: str, number: int | None, total: int | None) -> None:
    tags = read(make_audio(tmp_path / "x.flac", tags={"track": track}))
    assert (tags.track, tags.tracktotal) == (number, total)


@pytest.mark.parametrize(
    ("track", "label"),
    [
        ("A1", "A1"),
        ("B2/12", "B2"),
        ("AA", "AA"),
        ("3b", "3b"),
        ("3", None),
        ("03/12", None),
        ("7.", None),
        ("1-02", None),
        ("x" * 16, "x" * 16),
        ("x" * 17, None),
    ],
)
def test_what_stands_in_place_of_a_track_number_is_kept(tmp_path: Path, track: str, label: str | None) -> None:
    assert read(make_audio(tmp_path / "x.flac", tags={"track": track})).track_label == label


def test_a_track_number_may_carry_its_disc_unless_a_tag_says_otherwise(tmp_path: Path) -> None:
    both = read(make_audio(tmp_path / "a.flac", tags={"track": "2-05"}))
    own = read(make_audio(tmp_path / "b.flac", tags={"track": "2-05", "disc": 3}))
    assert (both.disc, both.track, own.disc, own.track) == (2, 5, 3, 5)


def test_the_single_artists_count_where_a_file_names_them_beside_how_they_are_shown(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "x.flac", tags={"artist": "Ada feat. Bob", "artists": ["Ada", "Bob"]})
    assert (read(path).artist, read(path).artists) == ("Ada feat. Bob", ("Ada", "Bob"))


@pytest.mark.parametrize(
    ("disc", "number", "total"), [("Disc 2", 2, None), ("CD2", 2, None), ("Disk 2 of 3", 2, 3), ("discs", None, None)]
)
def test_discs_may_carry_their_word(tmp_path: Path, disc: str, number: int | None, total: int | None) -> None:
    path = make_audio(tmp_path / "x.flac")
    flac = FLAC(path)  # type: ignore[no-untyped-call]
    flac["discnumber"] = disc
    flac.save()
    assert (read(path).disc, read(path).disctotal) == (number, total)


def test_what_shows_nothing_is_no_value(tmp_path: Path) -> None:
    tags = read(make_audio(tmp_path / "x.flac", tags={"album": "\u200b\u2060", "artist": ["\u200e", "Ada"]}))
    assert (tags.album, tags.artist) == (None, "Ada")


def test_text_is_cleaned(tmp_path: Path) -> None:
    raw = {"title": " cafe\u0301 \0", "artist": "A\0B\0A", "album": " \0 ", "composer": "x" * 9000}
    tags = read(make_audio(tmp_path / "x.flac", tags=raw))
    assert (tags.title, tags.artist, tags.album) == ("café", "A; B", None)
    assert tags.composer == "x" * 2000


@pytest.mark.parametrize("ext", ["flac", "mp3", "m4a", "wma", "wv"])
def test_what_a_release_says_about_itself_is_read(tmp_path: Path, ext: str) -> None:
    path = make_audio(tmp_path / f"x.{ext}", tags={"title": "T"})
    said = {
        "label": "Blue",
        "catalognum": "B 12",
        "isrc": "GBAAA9900001",
        "media": "Vinyl",
        "language": "eng",
        "bpm": "98",
    }
    _say(path, ext, said)
    tags = read(path)
    assert {name: str(getattr(tags, name)) for name in said} == said


def _say(path: Path, ext: str, said: dict[str, str]) -> None:
    """Writes each field as the usual programs do."""
    if ext == "mp3":
        tag: Any = mutagen.id3.ID3(path)  # type: ignore[no-untyped-call]
        for frame_name, field in (("TPUB", "label"), ("TSRC", "isrc"), ("TMED", "media"), ("TLAN", "language")):
            tag.add(getattr(mutagen.id3, frame_name)(encoding=3, text=[said[field]]))
        tag.add(mutagen.id3.TBPM(encoding=3, text=[said["bpm"]]))  # type: ignore[no-untyped-call]
        tag.add(mutagen.id3.TXXX(encoding=3, desc="CATALOGNUMBER", text=[said["catalognum"]]))  # type: ignore[no-untyped-call]
        tag.save(path)
        return
    file: Any = mutagen.File(path)
    for field, text in said.items():
        name = _RELEASE_KEYS.get(ext, {}).get(field, {"catalognum": "catalognumber"}.get(field, field))
        file[name] = [int(text)] if name == "tmpo" else [text.encode()] if ext == "m4a" else [text]
    file.save()


_RELEASE_KEYS = {
    "m4a": {"bpm": "tmpo"}
    | {
        name: f"----:com.apple.iTunes:{key}"
        for name, key in (
            *(("label", "LABEL"), ("catalognum", "CATALOGNUMBER"), ("isrc", "ISRC"), ("media", "MEDIA")),
            ("language", "LANGUAGE"),
        )
    },
    "wma": {
        "label": "WM/Publisher",
        "catalognum": "WM/CatalogNo",
        "isrc": "WM/ISRC",
        "media": "WM/Media",
        "language": "WM/Language",
        "bpm": "WM/BeatsPerMinute",
    },
}


def test_numeric_id3_genres_are_spelled_out(tmp_path: Path) -> None:
    assert read(make_audio(tmp_path / "x.mp3", tags={"genre": "(17)"})).genre == "Rock"


def test_id3v1_fills_what_id3v2_leaves_out(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "x.mp3", tags={"title": "Long title"})
    v1 = struct.pack("3s30s30s30s4s30sB", b"TAG", b"Short title", b"Artist", b"Album", b"1987", b"", 17)
    path.write_bytes(path.read_bytes() + v1)
    tags = read(path)
    assert (tags.title, tags.artist, tags.year) == ("Long title", "Artist", 1987)


@pytest.mark.parametrize("ext", ["mp3", "aac", "tta"])
def test_ape_tags_serve_where_there_is_no_id3(tmp_path: Path, ext: str) -> None:
    path = make_audio(tmp_path / f"x.{ext}")
    tag: Any = APEv2()  # type: ignore[no-untyped-call]
    tag["Title"] = "From APE"
    tag.save(path)
    assert read(path).title == "From APE"


def test_wav_info_chunks_serve_where_there_is_no_id3(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "x.wav")
    info = b"INFO" + struct.pack("<4sI6s", b"INAM", 5, b"Caf\xe9\0\0") + struct.pack("<4sI2s", b"ITRK", 2, b"7\0")
    path.write_bytes(path.read_bytes() + struct.pack("<4sI", b"LIST", len(info)) + info)
    assert (read(path).title, read(path).track) == ("Café", 7)


@pytest.mark.parametrize("version", [3, 4])
def test_both_id3_versions_are_read(tmp_path: Path, version: int) -> None:
    path = make_audio(tmp_path / "x.mp3", tags=GIVEN, cover=COVER)
    tag: Any = mutagen.id3.ID3(path)  # type: ignore[no-untyped-call]
    if version == 3:
        tag.update_to_v23()
    tag.save(path, v2_version=version, v23_sep=None)
    assert read(path).artist == "One; Two"
    assert read(path).year == 1999
    assert cost(path) < 200 * KIB


def frame(name: bytes, body: bytes, size: bytes | None = None, flags: bytes = b"\0\0") -> bytes:
    return name + (size or len(body).to_bytes(4, "big")) + flags + body


def id3(frames: bytes, major: int = 3, flags: int = 0) -> bytes:
    size = bytes(len(frames) >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3" + bytes((major, 0, flags)) + size + frames


def test_an_unsynchronised_tag_is_read() -> None:
    title = frame(b"TIT2", b"\x01\xff\xfeH\0i\0", b"\0\0\0\x07")
    artist = frame(b"TPE1", b"\x00Artist")
    tag = (title + artist).replace(b"\xff", b"\xff\0")
    tags = read_bytes(id3(tag, flags=0x80))
    assert (tags.title, tags.artist) == ("Hi", "Artist")


def test_an_extended_header_is_stepped_over_and_one_that_is_missing_is_not() -> None:
    title = frame(b"TIT2", b"\x00Title")
    assert read_bytes(id3(b"\0\0\0\x06" + bytes(6) + title, flags=0x40)).title == "Title"
    assert read_bytes(id3(title, flags=0x40)).title == "Title"


def test_plain_sizes_in_version_4_are_understood() -> None:
    """Early iTunes wrote them."""
    tag = frame(b"TPE1", b"\x00" + b"x" * 199) + frame(b"TIT2", b"\x00Title") + bytes(50)
    assert read_bytes(id3(tag, major=4)).title == "Title"


def test_a_second_tag_before_the_audio_is_stepped_over(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "x.mp3", tags={"title": "Second"})
    path.write_bytes(id3(frame(b"TIT2", b"\x00First")) + path.read_bytes())
    tags = read(path)
    assert tags.title == "First"
    assert tags.duration_s


def test_a_flac_file_behind_an_id3_tag_is_a_flac_file(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "x.flac", tags={"title": "Own"})
    path.write_bytes(id3(frame(b"TIT2", b"\x00Foreign")) + path.read_bytes())
    assert (read(path).format, read(path).title) == ("flac", "Own")


def test_a_compressed_frame_cannot_blow_up_memory() -> None:
    bomb = zlib.compress(bytes(50_000_000))
    tag = frame(b"TIT2", struct.pack(">I", 50_000_001) + bomb, flags=b"\0\x80") + frame(b"TPE1", b"\x00Artist")
    tags = read_bytes(id3(tag))
    assert (tags.title, tags.artist) == (None, "Artist")


def test_an_mp4_of_endless_boxes_ends() -> None:
    boxes = struct.pack(">I4s", 8, b"free") * 2_000_000
    with pytest.raises(Unreadable):
        read_bytes(struct.pack(">I4s8s", 16, b"ftyp", b"M4A \0\0\0\0") + boxes)
    deep = b"".join(struct.pack(">I4s", 80_000 - 8 * depth, b"moov") for depth in range(10_000))
    with pytest.raises(Unreadable):
        read_bytes(struct.pack(">I4s8s", 16, b"ftyp", b"M4A \0\0\0\0") + deep)


def test_a_length_that_no_file_has_is_not_asked_for() -> None:
    """A FLAC comment of four gigabytes, in a file that would be large enough."""
    head = b"fLaC" + bytes.fromhex("00000022") + bytes(10) + bytes.fromhex("0ac442f0") + bytes(20)
    head += b"\x84\xff\xff\xff" + b"\xff\xff\xff\x7f" + bytes(1000)
    with pytest.raises(Unreadable):
        read_tags(RangeFile(2**40, {0: head.ljust(64 * KIB, b"\0")}), "x.flac")


@pytest.mark.parametrize("name", ["x.flac", "x.mp3", "x.m4a", "x.wav", "x.aac", "x"])
def test_empty_and_garbage_files_are_unreadable_in_one_sentence(tmp_path: Path, name: str) -> None:
    for path in (make_empty(tmp_path / name), make_garbage(tmp_path / f"g{name}")):
        with pytest.raises(Unreadable) as caught:
            read(path)
        assert caught.value.reason == str(caught.value)
        assert "\n" not in caught.value.reason
        assert caught.value.reason.startswith("the ")


def test_an_html_error_page_is_not_music() -> None:
    with pytest.raises(Unreadable):
        read_bytes(b"<!doctype html><html><body>404 Not Found</body></html>" * 50, "song.mp3")


MAGIC = (
    *(
        b"",
        b"fLaC",
        b"OggS",
        b"ID3\x03\0\0\0\0\x10\0",
        b"ID3\x04\0\0\0\0\x10\0",
        b"\0\0\0\x20ftypM4A ",
        b"RIFF\0\0\0\0WAVE",
    ),
    *(b"FORM\0\0\0\0AIFF", b"wvpk", b"MAC ", b"MPCK", b"MP+\x07", b"TTA1", b"DSD ", b"\xff\xfb", b"\xff\xf1", b"ADIF"),
    bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
)
SHARING = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def tags_or_unreadable(data: bytes, name: str) -> None:
    try:
        tags, _ = answered(lambda file: read_tags(file, name), data)
    except Unreadable:
        return
    assert Tags.from_json(json.loads(json.dumps(tags.to_json()))) == tags


@SHARING
@given(st.sampled_from(MAGIC), st.binary(max_size=3000), st.sampled_from(["x.mp3", "x.aac", "x.flac"]))
def test_garbage_is_never_more_than_unreadable(magic: bytes, body: bytes, name: str) -> None:
    tags_or_unreadable(magic + body, name)


@pytest.fixture(scope="module")
def real_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A short tagged file of every format."""
    root = tmp_path_factory.mktemp("real")
    cover = picture(5000)
    return {ext: make_audio(root / f"x.{ext}", seconds=0.3, tags=GIVEN, cover=cover).read_bytes() for ext in FORMATS}


@settings(SHARING, max_examples=40)
@given(seed=st.integers(0, 2**32), cut=st.none() | st.floats(0, 1))
@pytest.mark.parametrize("ext", FORMATS)
def test_damaged_files_are_never_more_than_unreadable(
    real_files: dict[str, bytes], ext: str, seed: int, cut: float | None
) -> None:
    chance = random.Random(seed)
    data = bytearray(real_files[ext])
    for _ in range(chance.choice((1, 5, 50))):
        # damage where it matters: the structure is at the ends
        at = chance.choice(
            (chance.randrange(min(len(data), 600)), chance.randrange(len(data)), -chance.randint(1, 600))
        )
        data[at] = chance.choice((0, 0xFF, 0x7F, chance.randrange(256)))
    tags_or_unreadable(bytes(data[: int(len(data) * cut)] if cut is not None else data), f"x.{ext}")


@given(st.builds(Tags, st.sampled_from(FORMATS), st.text(), st.none() | st.text(), year=st.none() | st.integers()))
def test_tags_survive_json(tags: Tags) -> None:
    assert Tags.from_json(tags.to_json()) == tags


def test_json_is_compact_and_takes_unknown_keys() -> None:
    assert Tags("flac", "flac", title="T").to_json() == {"format": "flac", "codec": "flac", "title": "T"}
    assert Tags.from_json({"format": "mp3", "codec": "mp3", "mood": "blue"}) == Tags("mp3", "mp3")


def test_json_keeps_several_values_as_a_list() -> None:
    tags = Tags("flac", "flac", artist="A; B", artists=("A", "B"))
    assert tags.to_json() == {"format": "flac", "codec": "flac", "artist": "A; B", "artists": ["A", "B"]}
    assert Tags.from_json(tags.to_json()) == tags


def test_an_unreadable_file_is_known_by_its_name_alone() -> None:
    assert Tags.unknown("a/b.FLAC") == Tags("flac", "flac")


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("a/b/01 x.flac", Role.AUDIO),
        ("x.MP3", Role.AUDIO),
        ("book.m4b", Role.AUDIO),
        ("...Baby One More Time.mp3", Role.AUDIO),
        ("...And Justice for All/x.mp3", Role.AUDIO),
        ("a/cover.JPG", Role.SIDECAR),
        ("a/x.cue", Role.SIDECAR),
        ("a/x.lrc", Role.SIDECAR),
        ("a/booklet.pdf", Role.SIDECAR),
        ("a/x.accurip", Role.SIDECAR),
        (".38 Special - Hold On.flac", Role.AUDIO),  # whether hidden files are shown is no matter of their kind
        (".DS_Store", None),
        ("Thumbs.db", None),
        ("desktop.ini", None),
        ("x.flac.part", None),
        ("x.mp3.crdownload", None),
        ("x.flac.!qB", None),
        ("~syncthing~x.flac", None),
        ("x.exe", None),
        ("flac", None),
        ("", None),
    ],
)
def test_names_tell_music_from_what_lies_beside_it_and_from_litter(path: str, role: Role | None) -> None:
    assert role_of(path) is role


def test_reading_asks_before_it_knows_anything() -> None:
    with pytest.raises(NeedRange):
        read_tags(RangeFile(10_000_000, {}), "x.flac")


def test_made_files_are_the_same_for_equal_arguments_and_differ_by_seed(tmp_path: Path) -> None:
    for ext in FORMATS:
        one, two, other = (make_audio(tmp_path / f"{n}.{ext}", seed=s) for n, s in ((1, 0), (2, 0), (3, 1)))
        assert one.read_bytes() == two.read_bytes() != other.read_bytes()


def test_made_albums_and_libraries_are_tagged_throughout(tmp_path: Path) -> None:
    discs = make_album(tmp_path, "A", "B", 2, disc=2, folder="A/B/CD2", genre="Jazz")
    assert [path.relative_to(tmp_path).as_posix() for path in discs] == [
        "A/B/CD2/01 - Title 1.flac",
        "A/B/CD2/02 - Title 2.flac",
    ]
    assert [(t.track, t.disc, t.genre) for t in map(read, discs)] == [(1, 2, "Jazz"), (2, 2, "Jazz")]
    library = make_library(tmp_path, {"X": {"One": 1, "Two": 2}, "Y": {"Three": 1}}, ext="mp3")
    assert [(t.artist, t.album) for t in map(read, library)] == [
        ("X", "One"),
        ("X", "Two"),
        ("X", "Two"),
        ("Y", "Three"),
    ]
