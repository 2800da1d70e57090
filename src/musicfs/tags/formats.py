"""One reader per audio format, chosen by what the file holds; each reads as little of it as it can.

A reader returns `TagValues` even when only the tags, or only the stream, could be read. tags.py turns what it raises
into `Unreadable`.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mutagen import MutagenError
from mutagen.aac import AACInfo
from mutagen.flac import StreamInfo
from mutagen.monkeysaudio import MonkeysAudioInfo
from mutagen.mp3 import MPEGInfo
from mutagen.mp4 import MP4
from mutagen.musepack import MusepackInfo
from mutagen.trueaudio import TrueAudioInfo

from musicfs.tags import skeletons
from musicfs.tags.asf import asf_header
from musicfs.tags.comments import vorbis_comments
from musicfs.tags.containers import MAX_STEPS, chunks, flac_block, flac_picture_stop, id3_tags, ogg_last_granule
from musicfs.tags.fields import Values, asf_values, id3_values, mp4_values, named, parse
from musicfs.tags.ogg import ogg_headers
from musicfs.tags.range_file import AHEAD, RangeFile, Unreadable


@dataclass(slots=True)
class TagValues:
    """What a reader found: tag values as they are written, by the field names of `Tags`, and the stream.

    Durations are in seconds, bit rates in bits per second, sample rates in hertz.
    """

    format: str
    codec: str
    values: Values = field(default_factory=dict)
    duration_s: float | None = None
    bitrate: float | None = None
    sample_rate: int | None = None
    bit_depth: int | None = None
    channels: int | None = None


def read(file: RangeFile, extension: str) -> TagValues:
    """The tags and the stream of `file`; `extension` (lower case) decides only what the content leaves open."""
    if not file.size:
        raise Unreadable("the file is empty")
    after_id3, tag = 0, b""
    for each in id3_tags(file):
        tag = tag or skeletons.id3(file, each.start)
        after_id3 = each.stop
    head = file.read_at(after_id3, 64)
    reader = _reader_of(head) or _reader_by_name(extension, bool(tag))
    if reader is None:
        raise Unreadable("the content is no kind of audio that MusicFS knows")
    found = reader(TagSource(file, after_id3, tag, extension))
    if not (found.duration_s or found.bitrate or found.bit_depth or found.values):
        raise Unreadable(f"the file looks like {found.format}, but holds neither tags nor audio")
    return found


@dataclass(frozen=True, slots=True)
class TagSource:
    """What a reader works on. start: where the ID3v2 tags end; id3: the skeleton of the first of them, or b""."""

    file: RangeFile
    start: int
    id3: bytes
    extension: str


Reader = Callable[[TagSource], TagValues]


def _reader_of(head: bytes) -> Reader | None:
    for offset, magic, reader in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return reader
    if len(head) >= 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return _aac if head[1] & 0xF6 == 0xF0 else _mp3
    return None


def _reader_by_name(extension: str, tagged: bool) -> Reader | None:
    """The reader for streams without a mark at their start: MPEG frames may follow padding or junk."""
    if extension == "aac":
        return _aac
    return _mp3 if tagged or extension in ("mp3", "mp2") else None


def _flac(source: TagSource) -> TagValues:
    file, at = source.file, source.start + 4
    found = TagValues("flac", "flac")
    stream = None
    for _ in range(MAX_STEPS):
        block = flac_block(file, at)
        if block is None:
            break
        end = block.stop
        if block.kind == 0:
            stream = parse(StreamInfo, file.read_at(block.start, 34))
        elif block.kind == 4:
            # some writers record a wrong length here, so the comments' own lengths count
            comments = vorbis_comments(file, block.start)
            found.values = named(comments.values)
            end = max(comments.end, end)
        elif block.kind == 6:
            end = flac_picture_stop(file, block)
        large, at = end - at > AHEAD, end
        if block.is_last or (found.values and large):  # the audio starts behind it, or soon after
            break
    if stream is None:
        raise Unreadable("the FLAC file has no stream information")
    _describe(found, stream)
    found.bit_depth = stream.bits_per_sample
    found.bitrate = _average(file.size - at, found.duration_s)
    return found


def _mp3(source: TagSource) -> TagValues:
    file = source.file
    found = TagValues("mp3", "mp3", _id3_and_v1(source) or named(skeletons.ape_items(file)))
    try:
        info = MPEGInfo(file, source.start)
    except MutagenError:
        if not found.values:
            raise Unreadable("the file holds no MPEG audio") from None
        return found
    found.format = found.codec = f"mp{info.layer}" if info.layer == 2 else "mp3"
    _describe(found, info)
    return found


def _aac(source: TagSource) -> TagValues:
    found = TagValues("aac", "aac", _id3_and_v1(source) or named(skeletons.ape_items(source.file)))
    source.file.seek(0)
    _describe(found, AACInfo(source.file))
    return found


def _ogg(source: TagSource) -> TagValues:
    header, packet, serial = ogg_headers(source.file)
    granule = ogg_last_granule(source.file, serial)
    if header[:7] == b"\x01vorbis":
        channels, rate, _, nominal = struct.unpack("<BIiI", header[11:24])
        found = TagValues("ogg", "vorbis", sample_rate=rate, channels=channels, bitrate=nominal)
        skipped, clock = 7, rate
    elif header[:8] == b"OpusHead":
        channels, preskip = struct.unpack("<BH", header[9:12])
        found = TagValues("opus", "opus", sample_rate=48000, channels=channels)
        skipped, clock, granule = 8, 48000, granule and max(granule - preskip, 0)
    elif header[:5] == b"\x7fFLAC":
        stream = parse(StreamInfo, header[17:51])
        found = TagValues("oga", "flac", bit_depth=stream.bits_per_sample)
        _describe(found, stream)
        skipped, clock = 4, stream.sample_rate
    else:
        raise Unreadable("the Ogg file holds no Vorbis, Opus or FLAC stream")
    comments = vorbis_comments(packet, skipped)
    found.values = named(comments.values)
    found.duration_s = found.duration_s or (granule / clock if granule and clock else None)
    found.bitrate = _average(source.file.size - packet.place(comments.end), found.duration_s) or found.bitrate
    return found


def _mp4(source: TagSource) -> TagValues:
    skeleton = skeletons.mp4(source.file)
    if not skeleton:
        raise Unreadable("the MP4 file has no index (moov), as when a download broke off")
    movie = parse(MP4, fileobj=io.BytesIO(skeleton))
    info = movie.info
    codec = info.codec.partition(".")[0].lower().replace("-", "")
    codec = {"mp4a": "aac", "": "aac"}.get(codec, codec)
    if info.codec.lower() in ("mp4a.6b", "mp4a.69"):
        codec = "mp3"
    found = TagValues("m4b" if source.extension == "m4b" else "m4a", codec, mp4_values(movie.tags or {}))
    _describe(found, info)
    if codec in ("alac", "flac"):
        found.bit_depth, found.bitrate = info.bits_per_sample, None  # what is recorded is an upper bound
    found.bitrate = found.bitrate or _average(source.file.size, found.duration_s)
    return found


def _wav(source: TagSource) -> TagValues:
    file, found, data = source.file, TagValues("wav", "pcm"), 0
    byte_rate = 0
    for name, start, stop in chunks(file, "<"):
        if name == b"fmt ":
            code, channels, rate, byte_rate, _, bits = struct.unpack("<HHIIHH", file.read_at(start, 16))
            found.codec = {0x55: "mp3", 0x50: "mp2", 0xFF: "aac"}.get(code, "pcm")
            found.channels, found.sample_rate, found.bitrate = channels, rate, byte_rate * 8
            found.bit_depth = bits if found.codec == "pcm" else None
        elif name == b"data":
            data = stop - start
        elif name.lower() == b"id3 ":
            found.values = id3_values(skeletons.id3(file, start)) | found.values
        elif name == b"LIST" and file.read_at(start, 4) == b"INFO":
            info = file.read_at(start + 4, min(stop - start - 4, skeletons.MAX_TEXT))
            found.values = found.values or named(_riff_info(info))
    found.duration_s = data / byte_rate if byte_rate else None
    return found


def _riff_info(data: bytes) -> dict[str, list[str]]:
    items = {}
    for name, start, stop in chunks(RangeFile(len(data), {0: data}), "<", at=0):
        raw = data[start:stop].rstrip(b"\0")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = raw.decode("cp1252", "replace")
        items[name.decode("latin-1").lower()] = [text]
    return items


def _aiff(source: TagSource) -> TagValues:
    file, found = source.file, TagValues("aiff", "pcm")
    for name, start, _ in chunks(file, ">"):
        if name == b"COMM":
            channels, frames, bits, exponent, mantissa = struct.unpack(">hIhHQ", file.read_at(start, 18))
            rate = mantissa * 2.0 ** ((exponent & 0x7FFF) - 16383 - 63)  # an 80-bit extended float
            found.channels, found.bit_depth, found.sample_rate = channels, bits, round(rate)
            found.duration_s = frames / rate if rate else None
            found.bitrate = round(rate * channels * bits)
        elif name in (b"ID3 ", b"id3 "):
            found.values = id3_values(skeletons.id3(file, start))
    return found


def _wavpack(source: TagSource) -> TagValues:
    file = source.file
    samples, flags = struct.unpack("<12xI8xI", file.read_at(source.start, 28))
    rate = _WAVPACK_RATES.get(flags >> 23 & 15)
    found = TagValues("wv", "wavpack", named(skeletons.ape_items(file)), sample_rate=rate)
    found.channels, found.bit_depth = 1 if flags & 4 else 2, ((flags & 3) + 1) * 8
    if rate and flags >> 31:  # DSD: one-bit samples, counted by eight
        found.sample_rate, found.bit_depth = rate * 8, 1
    found.duration_s = samples / rate if rate and samples != 0xFFFFFFFF else None
    found.bitrate = _average(file.size, found.duration_s)
    return found


def _ape(source: TagSource) -> TagValues:
    found = TagValues("ape", "ape", named(skeletons.ape_items(source.file)))
    source.file.seek(source.start)
    info = MonkeysAudioInfo(source.file)
    _describe(found, info)
    found.bit_depth = info.bits_per_sample
    found.bitrate = _average(source.file.size, found.duration_s)
    return found


def _musepack(source: TagSource) -> TagValues:
    found = TagValues("mpc", "musepack", named(skeletons.ape_items(source.file)))
    source.file.seek(source.start)
    _describe(found, MusepackInfo(source.file))
    return found


def _tta(source: TagSource) -> TagValues:
    found = TagValues("tta", "tta", _id3_and_v1(source) or named(skeletons.ape_items(source.file)))
    _describe(found, TrueAudioInfo(source.file, source.start))
    found.channels, found.bit_depth = struct.unpack("<HH", source.file.read_at(source.start + 6, 4))
    found.bitrate = _average(source.file.size, found.duration_s)
    return found


def _dsf(source: TagSource) -> TagValues:
    pointer, channels, rate, bits, samples = struct.unpack("<20xQ24xIIIQ", source.file.read_at(0, 72))
    found = TagValues("dsf", "dsd", sample_rate=rate, channels=channels, bit_depth=bits, bitrate=rate * channels)
    found.duration_s = samples / rate if rate else None
    if pointer:
        found.values = id3_values(skeletons.id3(source.file, pointer))
    return found


def _asf(source: TagSource) -> TagValues:
    header = asf_header(source.file)
    found = TagValues("wma", "wma", asf_values(header.attributes))
    _describe(found, header)
    return found


_MAGIC: tuple[tuple[int, bytes, Reader], ...] = (
    (0, b"fLaC", _flac),
    (0, b"OggS", _ogg),
    (4, b"ftyp", _mp4),
    (4, b"moov", _mp4),
    (4, b"mdat", _mp4),
    (4, b"wide", _mp4),
    (8, b"WAVE", _wav),
    (8, b"AIFF", _aiff),
    (8, b"AIFC", _aiff),
    (0, b"wvpk", _wavpack),
    (0, b"MAC ", _ape),
    (0, b"MPCK", _musepack),
    (0, b"MP+", _musepack),
    (0, b"TTA1", _tta),
    (0, b"DSD ", _dsf),
    (0, b"ADIF", _aac),
    (0, bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), _asf),
)

_WAVPACK_RATES = dict(
    enumerate((6000, 8000, 9600, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000, 192000))
)


def _describe(found: TagValues, info: Any) -> None:
    """Copies what mutagen knows of the stream, under the names that its classes share."""
    found.duration_s = getattr(info, "length", None)
    found.bitrate = getattr(info, "bitrate", None)
    found.sample_rate = getattr(info, "sample_rate", None)
    found.channels = getattr(info, "channels", None)


def _average(size: int, duration_s: float | None) -> int | None:
    return int(size * 8 / duration_s) if duration_s else None


def _id3_and_v1(source: TagSource) -> Values:
    """The ID3v2 tag before the audio, and what an ID3v1 tag at the end adds to it."""
    last = source.file.read_at(max(source.file.size - 128, 0), 128)
    return id3_values(source.id3 + (last if last[:3] == b"TAG" else b""))
