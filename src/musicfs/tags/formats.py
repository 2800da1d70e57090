"""One reader per audio format, chosen by what the file holds; each reads as little of it as it can.

A reader returns `TagValues` even when only the tags, or only the stream, could be read. tags.py turns what it raises
into `Unreadable`.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Mapping

from mutagen import MutagenError
from mutagen.aac import AACInfo
from mutagen.flac import StreamInfo
from mutagen.mp3 import MPEGInfo
from mutagen.mp4 import MP4

from musicfs.tags import bare_streams, chunked, skeletons
from musicfs.tags.asf import asf_header
from musicfs.tags.comments import vorbis_comments
from musicfs.tags.containers import (
    MAX_STEPS,
    flac_block,
    flac_picture_stop,
    fragments_duration,
    id3_tags,
    leading_ape_tag,
    ogg_last_granule,
)
from musicfs.tags.fields import Values, asf_values, merged, mp4_values, named, parse
from musicfs.tags.ogg import ogg_headers
from musicfs.tags.other_content import other_content
from musicfs.tags.outer_tags import outer_values
from musicfs.tags.range_file import AHEAD, RangeFile, Unreadable
from musicfs.tags.sources import Reader, TagSource, TagValues, average, describe


def read(file: RangeFile, extension: str) -> TagValues:
    """The tags and the stream of `file`; `extension` (lower case) decides only what the content leaves open."""
    if not file.size:
        raise Unreadable("the file is empty")
    source, head = _source(file, extension)
    try:
        return _read(source, head, extension)
    except (Unreadable, MutagenError):
        has_mark = _reader_of(head) is not None or extension == "mod"  # a module's mark is further in
        other = None if has_mark else other_content(head)
        if other is None:
            raise
        raise Unreadable(f"the file is {other}") from None


def _read(source: TagSource, head: bytes, extension: str) -> TagValues:
    reader = _reader_of(head) or _reader_by_name(extension, bool(source.id3 or source.ape))
    if reader is None:
        kind = _unread_kind(head, extension) or (extension if extension in _UNREAD else None)
        if kind is not None:
            raise Unreadable(f"MusicFS does not read the tags of .{kind}")
        raise Unreadable("the content is no kind of audio that MusicFS knows")
    found = reader(source)
    if not (found.duration_s or found.bitrate or found.bit_depth or found.values):
        raise Unreadable(f"the file looks like {found.format}, but holds neither tags nor audio")
    return found


def _source(file: RangeFile, extension: str) -> tuple[TagSource, bytes]:
    """The file, and its first bytes behind the tags in front."""
    start, tags, values = 0, list[bytes](), Values()
    head = file.read_at(0, _HEAD)
    if head.startswith(b"ID3"):
        for each in id3_tags(file):
            tags.append(skeletons.id3(file, each.start))
            start = each.stop
        head = file.read_at(start, _HEAD)
    if head.startswith(b"APETAGEX"):
        ape = leading_ape_tag(file, start)
        if ape is not None:
            values, start = named(skeletons.ape_items(file, ape.items, ape.end), "APEv2"), ape.stop
            head = file.read_at(start, _HEAD)
    return TagSource(file, start, tuple(filter(None, tags)), values, extension), head


def _reader_of(head: bytes) -> Reader | None:
    reader = _FIRST_FOUR.get(head[:4])
    if reader is not None:
        return reader
    for offset, magic, reader in _MAGIC:
        if head.startswith(magic, offset):
            return reader
    if len(head) >= 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return _aac if head[1] & 0xF6 == 0xF0 else _mp3
    return None


def _unread_kind(head: bytes, extension: str) -> str | None:
    kind = next((kind for magic, kind in _UNREAD_MAGIC if head.startswith(magic)), None)
    return extension if kind == "mka" and extension in _MATROSKA else kind


def _reader_by_name(extension: str, tagged: bool) -> Reader | None:
    """The reader for streams without a mark at their start: MPEG frames may follow padding or junk."""
    if extension == "aac":
        return _aac
    if extension in ("mpc", "mp+") and not tagged:  # before version 7
        return bare_streams.musepack
    if extension == "mod":
        return bare_streams.module
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
            found.values = found.values or named(comments.values, "Vorbis comments")
            end = max(comments.end, end)
        elif block.kind == 6:
            end = flac_picture_stop(file, block)
        large, at = end - at > AHEAD, end
        if block.is_last or (found.values and large):  # the audio starts behind it, or soon after
            break
    if stream is None:
        raise Unreadable("the FLAC file has no stream information")
    describe(found, stream)
    found.bit_depth = stream.bits_per_sample
    found.bitrate = average(file.size - at, found.duration_s)
    found.values = merged(found.values, outer_values(source))
    return found


def _mp3(source: TagSource) -> TagValues:
    file = source.file
    found = TagValues("mp3", "mp3", outer_values(source))
    try:
        info = MPEGInfo(file, source.start)
    except MutagenError:
        if not found.values:
            raise Unreadable("the file holds no MPEG audio") from None
        return found
    found.format = found.codec = f"mp{info.layer}" if info.layer == 2 else "mp3"
    describe(found, info)
    return found


def _aac(source: TagSource) -> TagValues:
    found = TagValues("aac", "aac", outer_values(source))
    source.file.seek(0)
    describe(found, AACInfo(source.file))
    return found


def _ogg(source: TagSource) -> TagValues:
    header, packet, serial, is_alone = ogg_headers(source.file, source.start)
    granule = ogg_last_granule(source.file, serial)
    if header[:7] == b"\x01vorbis":
        channels, rate, _, nominal = struct.unpack("<BIiI", header[11:24])
        found = TagValues("ogg", "vorbis", sample_rate=rate, channels=channels, bitrate=nominal)
        skipped, clock = 7, rate
    elif header[:8] == b"OpusHead":
        channels, preskip = struct.unpack("<BH", header[9:12])
        found = TagValues("opus", "opus", sample_rate=48000, channels=channels)
        skipped, clock, granule = 8, 48000, granule and max(granule - preskip, 0)
    elif header[:8] == b"Speex   ":
        rate, _, _, channels, nominal = struct.unpack("<IIIIi", header[36:56])
        found = TagValues("spx", "speex", sample_rate=rate, channels=channels, bitrate=nominal)
        skipped, clock = 0, rate
    elif header[:5] == b"\x7fFLAC":
        stream = parse(StreamInfo, header[17:51])
        found = TagValues("oga", "flac", bit_depth=stream.bits_per_sample)
        describe(found, stream)
        skipped, clock = 4, stream.sample_rate
    else:
        raise Unreadable("the Ogg file holds no Vorbis, Opus, FLAC or Speex stream")
    comments = vorbis_comments(packet, skipped)
    found.values = merged(named(comments.values, "Vorbis comments"), outer_values(source))
    found.duration_s = found.duration_s or (granule / clock if granule and clock else None)
    if is_alone:
        size = source.file.size - packet.place(comments.end)
        found.bitrate = average(size, found.duration_s) or found.bitrate
    return found


def _mp4(source: TagSource) -> TagValues:
    skeleton = skeletons.mp4(source.file, source.start)
    if not skeleton:
        raise Unreadable("the MP4 file has no index (moov), as when a download broke off")
    movie = parse(MP4, fileobj=io.BytesIO(skeleton))
    info = movie.info
    codec = info.codec.partition(".")[0].lower().replace("-", "")
    codec = {"mp4a": "aac", "": "aac"}.get(codec, codec)
    if info.codec.lower() in ("mp4a.6b", "mp4a.69"):
        codec = "mp3"
    kind = "mp4" if _VIDEO.search(skeleton) else "m4b" if source.extension == "m4b" else "m4a"
    found = TagValues(kind, codec, merged(mp4_values(movie.tags or {}), outer_values(source)))
    describe(found, info)
    found.duration_s = found.duration_s or fragments_duration(source.file, source.start)
    if codec in ("alac", "flac"):
        found.bit_depth, found.bitrate = info.bits_per_sample, None  # what is recorded is an upper bound
    found.bitrate = found.bitrate or average(source.file.size, found.duration_s)
    return found


def _asf(source: TagSource) -> TagValues:
    header = asf_header(source.file)
    found = TagValues("wma", "wma", asf_values(header.attributes))
    describe(found, header)
    return found


_FIRST_FOUR: Mapping[bytes, Reader] = {
    b"fLaC": _flac,
    b"OggS": _ogg,
    b"wvpk": bare_streams.wavpack,
    b"MAC ": bare_streams.ape,
    b"MPCK": bare_streams.musepack,
    b"TTA1": bare_streams.tta,
    b"DSD ": chunked.dsf,
    b"ADIF": _aac,
    bytes.fromhex("3026b275"): _asf,
    b"FRM8": chunked.dff,
    b"riff": chunked.w64,
    b"caff": chunked.caf,
    b"tBaK": bare_streams.tak,
    b"OFR ": bare_streams.optimfrog,
    b"MThd": bare_streams.midi,
    b"IMPM": bare_streams.module,
}
_MAGIC: tuple[tuple[int, bytes | tuple[bytes, ...], Reader], ...] = (
    (4, (b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"), _mp4),
    (8, b"WAVE", chunked.wav),
    (8, (b"AIFF", b"AIFC"), chunked.aiff),
    (0, b"MP+", bare_streams.musepack),
    (0, b"\x0bw", bare_streams.ac3),
    (0, b"Extended Module: ", bare_streams.module),
    (44, b"SCRM", bare_streams.module),
)
_HEAD = 64
_VIDEO = re.compile(rb"stsd.{12}(?:avc[1-4]|hvc1|hev1|mp4v|av01|vp0[89]|dvh[1e]|s263)", re.DOTALL)
"""A description of moving pictures; a cover or the pictures of chapters are JPEG or PNG."""
_UNREAD_MAGIC = (
    (b"\x1aE\xdf\xa3", "mka"),
    (b"ajkg", "shn"),
    (b"\x7f\xfe\x80\x01", "dts"),
    (b"\xfe\x7f\x01\x80", "dts"),
    (b"\x1f\xff\xe8\x00", "dts"),
    (b"\xff\x1f\x00\xe8", "dts"),
    (b".ra\xfd", "ra"),
    (b".RMF", "rm"),
    (b".snd", "au"),
    (b"#!AMR", "amr"),
)
_MATROSKA = "webm", "weba", "mkv"
_UNREAD = frozenset(("mka", "webm", "shn", "dts", "ra", "rm", "au", "amr"))
